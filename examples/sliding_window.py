"""A sliding window: at each trade, the mean price of its share in the minute before, in the time of the trades.

Trades that come up to 2 seconds late are put where they belong. Those that come later are kept, as dead letters.
"""

import minibatch as mb

trades = mb.stream('trades')
minutes = trades.window(interval=60, sliding=True, time='at', key='share', lateness=2)
means = minutes.aggregate(price=('last', 'price'), mean=('mean', 'price'), trades='count')

if __name__ == '__main__':
    means.to(lambda now: print(now['key'], now['price'], now['mean'], now['trades'])).run()
