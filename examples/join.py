"""A join: payments and the orders that they are for, which come within an hour of each other, in any order.

Orders that nobody paid for come alone, after that hour, also if there are no payments at all.
"""

import minibatch as mb

orders, payments = mb.stream('orders'), mb.stream('payments')


def settled(order, payment):
    return {'order': order['order'], 'paid': payment is not None and payment['amount'] >= order['price']}


pairs = orders.join(payments, on='order', within=3600, how='left', merge=settled)

if __name__ == '__main__':
    pairs.to('settled', print).run()
