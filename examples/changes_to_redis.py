"""Change stream to stream to function to Redis: new orders to the shipping department. ``REDIS`` says where it is."""

import os

import minibatch as mb
from minibatch.contrib.mongodb import MongoReplicasetSource
from minibatch.contrib.redis import RedisSink

stream = mb.stream('orders')
stream.attach(MongoReplicasetSource('shop_orders'))  # a collection next to the stream's own


@mb.streaming('orders', size=10, within=1, sink=RedisSink('shipping', os.environ.get('REDIS', 'redis://localhost')))
def to_ship(window):
    """Each result is an entry of the Redis Stream; Redis has it before the orders leave the stream."""
    return [{'order': str(order['_id']), 'items': order['items']} for order in window if order['paid']]
