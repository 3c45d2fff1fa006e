"""What every test may use: a real MongoDB, a database of the test's own, and a stream's name.

One ``mongod`` as a replica set of one serves the whole session; it ends with pytest, however that ends.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Generator, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from tests.support import brokers, mongod, oracle, pages
from tests.support.scripts import Person
from tests.support.world import World

_numbers = itertools.count()


@pytest.fixture(scope='session')
def server() -> Iterator[mongod.Deployment]:
    """The session's replica set of one node."""
    with mongod.Deployment(1, 'rs0', {'minSnapshotHistoryWindowInSeconds': 0}) as deployment:
        yield deployment


@pytest.fixture(scope='session')
def alone() -> Iterator[mongod.Deployment]:
    """A standalone server: no transactions, no change streams."""
    with mongod.standalone() as deployment:
        yield deployment


@pytest.fixture(scope='session')
def lonely() -> Iterator[mongod.Deployment]:
    with mongod.replica_set(1) as deployment:
        yield deployment


@pytest.fixture
def solo(lonely: mongod.Deployment) -> Iterator[mongod.Deployment]:
    """A replica set of one that may be killed, paused and told to fail, unlike the session's."""
    yield from _whole(lonely)


@pytest.fixture(scope='session')
def three_nodes() -> Iterator[mongod.Deployment]:
    with mongod.replica_set(3) as deployment:
        yield deployment


@pytest.fixture
def trio(three_nodes: mongod.Deployment) -> Iterator[mongod.Deployment]:
    """A replica set of three, likewise."""
    yield from _whole(three_nodes)


class _Breakable(Protocol):
    def repair(self) -> None: ...


B = TypeVar('B', bound=_Breakable)


def _whole(server: B) -> Iterator[B]:
    """A healthy server; whatever the test breaks is repaired for the next one."""
    server.repair()
    yield server
    server.repair()


@pytest.fixture
def dbname(request: pytest.FixtureRequest) -> str:
    name = re.sub(r'[^a-z0-9]+', '_', request.node.name.lower()).strip('_')
    return f'{name[:40]}_{next(_numbers)}'


@pytest.fixture
def url(server: mongod.Deployment, dbname: str) -> Iterator[str]:
    """A connection string with a database of the test's own, dropped afterwards."""
    url = server.url(dbname)
    yield url
    with contextlib.suppress(ImportError):
        from minibatch.connection import disconnect
        disconnect(url)
    server.client.drop_database(dbname)


@pytest.fixture
def db(server: mongod.Deployment, url: str, dbname: str) -> Any:
    """The test's database, by a plain pymongo client."""
    return server.client[dbname]


@pytest.fixture
def stream_name() -> str:
    return 'clicks'


@pytest.fixture
def world(server: mongod.Deployment, dbname: str, tmp_path: Path) -> Iterator[World]:
    """Processes and an oracle on the session's server."""
    world = World(server, dbname, tmp_path)
    yield world
    world.close()


@pytest.fixture
def world_alone(alone: mongod.Deployment, dbname: str, tmp_path: Path) -> Iterator[World]:
    """The same on a standalone server."""
    world = World(alone, dbname, tmp_path)
    yield world
    world.close()


@pytest.fixture
def world_solo(solo: mongod.Deployment, dbname: str, tmp_path: Path) -> Iterator[World]:
    """The same on a server that may be broken."""
    world = World(solo, dbname, tmp_path)
    yield world
    solo.repair()
    world.close()


@pytest.fixture
def world_of_three(trio: mongod.Deployment, dbname: str, tmp_path: Path) -> Iterator[World]:
    """The same on a replica set of three."""
    world = World(trio, dbname, tmp_path)
    yield world
    trio.repair()
    world.close()


@pytest.fixture(scope='session')
def kafka_broker() -> Iterator[brokers.Kafka]:
    with brokers.kafka() as broker:
        yield broker


@pytest.fixture
def kafka(kafka_broker: brokers.Kafka) -> Iterator[brokers.Kafka]:
    """A Kafka that may be broken."""
    yield from _whole(kafka_broker)


@pytest.fixture(scope='session')
def locked_kafka() -> Iterator[brokers.Kafka]:
    """A Kafka that lets nobody in."""
    with brokers.kafka(locked=True) as broker:
        yield broker


@pytest.fixture(scope='session')
def mqtt_broker() -> Iterator[brokers.Mqtt]:
    with brokers.mqtt() as broker:
        yield broker


@pytest.fixture
def mqtt(mqtt_broker: brokers.Mqtt) -> Iterator[brokers.Mqtt]:
    """An MQTT broker that may be broken."""
    yield from _whole(mqtt_broker)


@pytest.fixture(scope='session')
def redis_broker() -> Iterator[brokers.Redis]:
    with brokers.redis() as broker:
        yield broker


@pytest.fixture
def redis(redis_broker: brokers.Redis) -> Iterator[brokers.Redis]:
    """A Redis server that may be broken; it starts each test empty."""
    for broker in _whole(redis_broker):
        broker.restart_empty()
        yield broker


@pytest.fixture
def person(tmp_path: Path, url: str) -> Iterator[Person]:
    """Somebody at a terminal, with a MongoDB."""
    somebody = Person(tmp_path, url)
    yield somebody
    somebody.leave()


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Person]:
    """Somebody at a terminal, with an empty home directory and no MongoDB."""
    somebody = Person(tmp_path)
    yield somebody
    somebody.leave()


#: Servers that are dear to start and that tests break: with pytest-xdist, all tests on one of them go to one worker.
_DEAR = ('three_nodes', 'lonely', 'alone', 'kafka_broker', 'locked_kafka', 'mqtt_broker', 'redis_broker')


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests together that share a server (``--dist loadgroup``)."""
    for item in items:
        for name in _DEAR:
            if name in getattr(item, 'fixturenames', ()):
                item.add_marker(pytest.mark.xdist_group(name))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a report travel from worker to worker although the test has printed half a character."""
    report = yield
    report.sections = [(name, _printable(text)) for name, text in report.sections]
    if report.longrepr is not None and _printable(str(report.longrepr)) != str(report.longrepr):
        report.longrepr = _printable(str(report.longrepr))
    return report


def _printable(text: str) -> str:
    return text.encode(errors='backslashreplace').decode()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands its counts to the process that prints them."""
    output = getattr(session.config, 'workeroutput', None)
    if output is not None:
        output['verdict'] = asdict(oracle.total)
        output['judged'] = oracle.judged


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """The other end of it."""
    output = getattr(node, 'workeroutput', {})
    if output.get('judged'):
        oracle.add(oracle.Verdict(**output['verdict']), output['judged'])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what the fault tests counted, how much of the documentation was run, and what was tried once more."""
    _code_blocks(terminalreporter)
    _retried(terminalreporter)
    if not oracle.judged:
        return
    terminalreporter.section('what the fault tests counted')
    terminalreporter.write_line(f'tests judged by the oracle: {oracle.judged}')
    for f in fields(oracle.Verdict):
        if f.name != 'examples':
            terminalreporter.write_line(f'{f.name.replace("_", " ")}: {getattr(oracle.total, f.name)}')


def _retried(terminalreporter: Any) -> None:
    """Nothing that failed goes unseen, though it passed when it was tried again (RETRY in the Makefile)."""
    for report in terminalreporter.stats.get('rerun', []):
        terminalreporter.section(f'failed, and was tried once more: {report.nodeid}')
        terminalreporter.write_line(report.longreprtext)


def _code_blocks(terminalreporter: Any) -> None:
    passed = [report for report in terminalreporter.stats.get('passed', []) if report.when == 'call']
    ran = sum(value for report in passed for name, value in report.user_properties if name == 'code blocks')
    if not ran:
        return
    pages.tell(terminalreporter, ran, sum(report.nodeid.startswith('minibatch/') for report in passed))
