"""MongoDB at both ends: collections as sources and as sinks.

As a source, a collection is read in the order of its ids, or by its change stream; either way each document is in the
stream exactly once:

>>> import minibatch as mb
>>> from minibatch.contrib.mongodb import MongoReplicasetSource, MongoSource
>>> mb.stream('orders').attach(MongoSource(shop.orders))                                        # doctest: +SKIP
>>> mb.stream('orders').attach(MongoReplicasetSource(shop.orders))                              # doctest: +SKIP

As a sink, it gets what windows result in:


>>> from minibatch.contrib.mongodb import MongoSink
>>> @mb.streaming('clicks', size=100, sink=MongoSink('clicks_by_user', exactly_once=True))      # doctest: +SKIP
... def count(window):
...     counts = Counter(click['user'] for click in window.data)
...     return [{'user': user, 'clicks': n} for user, n in counts.items()]

How often a result is written, when consumers die at the worst moment:

======================================  ========================================================================
``MongoSink(c)``                        at least once: a window that runs again inserts its results again
``MongoSink(c, 'upsert', key='user')``  at least once, but to the same effect: the document of that key is replaced
``MongoSink(c, exactly_once=True)``     once: results and commit are one transaction
======================================  ========================================================================

Without ``exactly_once`` an insert gets a new ``_id`` each time and this module does not make one up: an ``_id`` made of
the window's would turn the repeat into an error, and take the choice of it away from those who have one of
their own. A function that wants repeats to be harmless gives its results a stable ``_id``, such as
``f'{window.id}:{n}'`` (a window keeps its id and its members for ever), and writes them with
``MongoSink(c, 'upsert', key='_id')``. Upserts replace whole documents, and windows run in parallel: when two of them
write the same key, the one that finishes last wins.
"""

from minibatch.contrib.mongodb.changes import MongoReplicasetSource
from minibatch.contrib.mongodb.polling import MongoSource
from minibatch.contrib.mongodb.sink import MongoSink

__all__ = ['MongoReplicasetSource', 'MongoSink', 'MongoSource']
