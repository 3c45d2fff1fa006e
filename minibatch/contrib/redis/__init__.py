"""Redis as a source and as a sink, by redis-py (``pip install 'minibatch[redis]'``), on Redis 6.2 or later.

>>> import minibatch as mb
>>> from minibatch.contrib.redis import RedisSink, RedisSource
>>> mb.stream('clicks').attach(RedisSource('clicks', 'redis://redis:6379/0'))                          # doctest: +SKIP
>>> @mb.streaming('clicks', size=100, sink=RedisSink('clicks-of:{user}', kind='keys', ttl=3600))       # doctest: +SKIP
... def count(window):
...     counts = Counter(click['user'] for click in window.data)
...     return [{'user': user, 'clicks': n} for user, n in counts.items()]

The source reads a Redis Stream with a consumer group, and brings each entry into the stream exactly once; any number of
processes may share the work. The sink adds to a stream or a list, publishes to a channel, or sets keys.
"""

from __future__ import annotations

from minibatch.contrib.redis.sink import RedisSink
from minibatch.contrib.redis.source import RedisSource

__all__ = ['RedisSink', 'RedisSource']
