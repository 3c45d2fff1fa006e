"""Faust's ``take(100, within=10)``: 100 values at a time, or those there after 10 seconds.

The seconds count from the first value on, and a crash does not start them anew.
"""

import minibatch as mb

app = mb.App('take', workers=1)


@app.agent('readings', size=100, within=10, sinks=[print])
def mean(window):
    return f'{len(window)} readings, {sum(reading["celsius"] for reading in window) / len(window):.1f} degrees'


if __name__ == '__main__':
    app.main()
