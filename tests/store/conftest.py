"""A store on a replica set, which moves windows, and one on a standalone server; emptied before each test.

To make and to drop a database takes ten times as long as most of these tests, so all of them share one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from minibatch.connection import connect, disconnect
from minibatch.store import Store
from tests.store.bench import Bench
from tests.support.mongod import Deployment

_DATABASE = 'test_store'


@pytest.fixture(scope='session')
def stores() -> Iterator[dict[str, Store]]:
    stores: dict[str, Store] = {}
    yield stores
    for store in stores.values():
        disconnect(store.connection.url)


def bench_on(deployment: Deployment, stores: dict[str, Store], way: str) -> Bench:
    url = deployment.url(_DATABASE)
    connection = connect(url)  # other tests close all there are
    if url not in stores or stores[url].connection is not connection:
        stores[url] = Store(connection)
    store = stores[url]
    for name in store.db.list_collection_names():
        store.db[name].delete_many({})
    return Bench(store, way)


@pytest.fixture(params=['moved', 'marked', 'standalone'])
def bench(request: pytest.FixtureRequest, stores: dict[str, Any]) -> Bench:
    """Each way in which windows are cut: a test that takes this runs three times."""
    server = request.getfixturevalue('alone' if request.param == 'standalone' else 'server')
    return bench_on(server, stores, 'moved' if request.param == 'moved' else 'marked')


@pytest.fixture(params=['replica set', 'standalone'])
def marked(request: pytest.FixtureRequest, stores: dict[str, Any]) -> Bench:
    """Windows that are cut by marking, on both kinds of server."""
    return bench_on(request.getfixturevalue('alone' if request.param == 'standalone' else 'server'), stores, 'marked')


@pytest.fixture
def moved(server: Deployment, stores: dict[str, Any]) -> Bench:
    """Windows that are cut by moving, which needs transactions."""
    return bench_on(server, stores, 'moved')
