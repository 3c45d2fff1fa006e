"""Redis in the suites: a stream as a source, and all four kinds of sinks."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from tests.support.brokers import Redis
from tests.support.waiting import wait_until

from .adapters import SinkAdapter, SourceAdapter


def client(broker: Redis) -> Any:
    """Straight to the server, also while it is away for others."""
    library = pytest.importorskip('redis', reason="pip install 'minibatch[redis]'")
    return library.Redis(port=broker.direct)


class Stream(SourceAdapter):
    name = 'redis'
    group = 'redis_broker'

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.redis: Redis = request.getfixturevalue('redis')
        self.client = client(self.redis)

    def config(self) -> dict[str, Any]:
        return {'key': 'numbers', 'url': self.redis.url}

    @staticmethod
    def make(config: dict[str, Any], **options: Any) -> Any:
        from minibatch.contrib.redis import RedisSource
        return RedisSource(**config, **options)

    def feed(self, numbers: Iterable[int]) -> None:
        pipeline = self.client.pipeline(transaction=False)
        for n in numbers:
            pipeline.xadd('numbers', {'data': b'{"n": %d}' % n})
        pipeline.execute()

    def feed_raw(self, raw: bytes) -> None:
        self.client.xadd('numbers', {'data': raw})

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        with self.redis.away():
            yield

    def close(self) -> None:
        self.client.close()


class Unsure(Stream):
    """The same where nobody may ask who is connected: who is dead is known by the time only."""

    name = 'redis-unsure'
    ordered = False

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.client.acl_setuser('ann', enabled=True, passwords=['+secret'], keys=['*'], channels=['*'],
                                commands=['+@all', '-client'])

    def config(self) -> dict[str, Any]:
        return {'key': 'numbers', 'url': self.redis.url.replace('//', '//ann:secret@'), 'claim_after': 0.6}


class Entries(SinkAdapter):
    """A stream."""

    name = 'redis-stream'
    group = 'redis_broker'

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.redis: Redis = request.getfixturevalue('redis')
        self.client = client(self.redis)

    def sink(self, **options: Any) -> Any:
        from minibatch.contrib.redis import RedisSink
        return RedisSink('results', self.redis.url, **options)

    def values(self) -> list[bytes]:
        return [fields[b'data'] for _, fields in self.client.xrange('results')]

    def read(self, count: int) -> Sequence[Any]:
        wait_until(lambda: len(self.values()) >= count, 20, what=f'{count} results')
        return [json.loads(value) for value in self.values()]

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        with self.redis.away():
            yield

    def close(self) -> None:
        self.client.close()


class Items(Entries):
    """A list."""

    name = 'redis-list'

    def sink(self, **options: Any) -> Any:
        return self._sink('results', kind='list', **options)

    def _sink(self, key: Any, **options: Any) -> Any:
        from minibatch.contrib.redis import RedisSink
        return RedisSink(key, self.redis.url, **options)

    def values(self) -> list[bytes]:
        return list(self.client.lrange('results', 0, -1))


class Published(Items):
    """A channel, with somebody who listens from the beginning."""

    name = 'redis-channel'

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.heard: list[bytes] = []
        self.marks = itertools.count()
        self.subscriber = client(self.redis).pubsub(ignore_subscribe_messages=True)
        self.subscriber.subscribe('results')
        wait_until(lambda: self.client.pubsub_numsub('results')[0][1], what='the subscription')
        self.over = threading.Event()
        self.listener = threading.Thread(target=self.listen)
        self.listener.start()

    def listen(self) -> None:
        while not self.over.is_set():
            message = self.subscriber.get_message(timeout=0.1)
            if message is not None:
                self.heard.append(message['data'])

    def sink(self, **options: Any) -> Any:
        return self._sink('results', kind='channel', **options)

    def values(self) -> list[bytes]:
        # What was published is on its way to who listens, before this.
        mark = f'mark {next(self.marks)}'.encode()
        self.client.publish('results', mark)
        wait_until(lambda: mark in self.heard, what='the mark')
        return [each for each in self.heard if not each.startswith(b'mark')]

    def close(self) -> None:
        self.over.set()
        self.listener.join()
        self.subscriber.close()
        super().close()


class Keys(Items):
    """A key for each result."""

    name = 'redis-keys'

    def sink(self, **options: Any) -> Any:
        return self._sink(key_of, kind='keys', **options)

    def values(self) -> list[bytes]:
        keys = sorted(self.client.keys('result:*'), key=lambda key: int(key.rpartition(b':')[2]))
        return list(self.client.mget(keys)) if keys else []


def key_of(result: Any) -> str:
    """The number in a result, or in the first of a list of them."""
    first = result[0] if isinstance(result, list) else result
    return f'result:{first["n"]}'


SOURCES = [Stream, Unsure]
SINKS = [Entries, Items, Published, Keys]
