"""MongoDB, by polling and by change stream, and as a sink; behind a gate, so that it can be away."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bson import ObjectId
from pymongo import MongoClient

from minibatch.contrib.mongodb import MongoReplicasetSource, MongoSink, MongoSource
from tests.support.gate import Gate
from tests.support.mongod import Deployment
from tests.support.waiting import wait_until

from .adapters import SinkAdapter, SourceAdapter

_clients: dict[str, Any] = {}


class _Upstream:
    """A collection in a database of the test's own."""

    def __init__(self, server: Deployment) -> None:
        self.direct: Any = server.client
        self.database = f'upstream_{ObjectId()}'
        self.gate = Gate(server.nodes[0].port)
        self.url = f'mongodb://127.0.0.1:{self.gate.port}/?directConnection=true'
        self.collection = self.direct[self.database]['numbers']
        self.clients: list[Any] = []

    def through(self) -> Any:
        client: Any = MongoClient(self.url, serverSelectionTimeoutMS=500)
        self.clients.append(client)
        return client[self.database]['numbers']

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        self.gate.shut()
        try:
            yield
        finally:
            self.gate.open()

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.gate.close()
        self.direct.drop_database(self.database)


class Polling(SourceAdapter):
    """A collection that is asked again and again; its ids come from several producers, in no order."""

    name = 'mongo'
    garbage = None
    ordered = True

    def __init__(self, request: Any) -> None:
        super().__init__(request)
        self.upstream = _Upstream(request.getfixturevalue('server'))

    def config(self) -> dict[str, Any]:
        return {'url': self.upstream.url, 'database': self.upstream.database}

    @staticmethod
    def make(config: dict[str, Any], **options: Any) -> MongoSource:
        return MongoSource(_collection(config), delay=0.02, **options)

    def feed(self, numbers: Iterable[int]) -> None:
        docs = [{'n': n} for n in numbers]
        if docs:
            self.upstream.collection.insert_many(docs)

    def away(self) -> Any:
        return self.upstream.away()

    def close(self) -> None:
        for client in _clients.values():
            client.close()
        _clients.clear()
        self.upstream.close()


class Producers(Polling):
    """The same, with ids that become visible in no order."""

    name = 'mongo-unordered'
    ordered = False

    def feed(self, numbers: Iterable[int]) -> None:
        docs = [{'_id': ObjectId(), 'n': n} for n in numbers]
        random.shuffle(docs)
        for at in range(0, len(docs), 100):
            self.upstream.collection.insert_many(docs[at:at + 100])


class Unindexed(Polling):
    """In the order of a field that is not unique."""

    name = 'mongo-idcol'

    @staticmethod
    def make(config: dict[str, Any], **options: Any) -> MongoSource:
        return MongoSource(_collection(config), delay=0.02, idcol='at.tens', **options)

    def feed(self, numbers: Iterable[int]) -> None:
        self.upstream.collection.create_index('at.tens')
        docs = [{'at': {'tens': n // 10}, 'n': n} for n in numbers]
        self.upstream.collection.insert_many(docs)


class Changes(Polling):
    """The change stream of a collection."""

    name = 'changes'

    def __init__(self, request: Any) -> None:
        super().__init__(request)
        now = self.upstream.direct.admin.command('ping')['operationTime']
        self.since = [now.time, now.inc + 1]

    def config(self) -> dict[str, Any]:
        return {**super().config(), 'since': self.since}

    @staticmethod
    def make(config: dict[str, Any], **options: Any) -> Any:
        from bson import Timestamp
        return MongoReplicasetSource(_collection(config), since=Timestamp(*config['since']), **options)


def _collection(config: dict[str, Any]) -> Any:
    """By one client for each process: a source does not close what it was given."""
    if config['url'] not in _clients:
        _clients[config['url']] = MongoClient(config['url'])
    return _clients[config['url']][config['database']]['numbers']


class Documents(SinkAdapter):
    """A collection."""

    name = 'mongo'
    expands = False
    unencodable = 5

    def __init__(self, request: Any) -> None:
        super().__init__(request)
        self.upstream = _Upstream(request.getfixturevalue('server'))

    def sink(self, **options: Any) -> MongoSink:
        return MongoSink(self.upstream.through(), **options)

    def read(self, count: int) -> Sequence[Any]:
        wait_until(lambda: self.upstream.collection.count_documents({}) >= count, 20)
        return list(self.upstream.collection.find({}, {'_id': 0}))

    def away(self) -> Any:
        return self.upstream.away()

    def close(self) -> None:
        self.upstream.close()


SOURCES = [Polling, Producers, Unindexed, Changes]
SINKS = [Documents]
