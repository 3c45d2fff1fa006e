"""Filtering: of the readings of all sensors, those that are too hot, to where somebody looks at them."""

import minibatch as mb

readings = mb.stream('readings')
alarms = readings.filter(lambda reading: reading['celsius'] > 30).to('alarms', print)

if __name__ == '__main__':
    alarms.run()
