"""The tools of the fault tests themselves: an oracle that cannot fail, or a proxy that cuts nothing, proves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, OperationFailure

from tests.support import oracle
from tests.support.log import Log
from tests.support.mongod import Deployment
from tests.support.proxy import Proxy


def run(log: Log, window: str, *members: str, attempt: int = 1, start: str = 's') -> None:
    log.write('run', window=window, attempt=attempt, members=list(members), start=start, end='e')


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """One message in a window of its own, acknowledged, run and put."""
    log = Log(tmp_path / 'log')
    log.write('ack', ids=['a', 'b'])
    run(log, 'w:1', 'a', 'b')
    log.write('put', ids=['a', 'b'])
    return log


def test_nothing_wrong(log: Log) -> None:
    assert not oracle.judge(log).wrongs
    assert not oracle.judge(log, exactly_once=['a', 'b'], committed=[['a', 'b']]).wrongs


def test_an_attempt_more_is_not_wrong(log: Log) -> None:
    run(log, 'w:1', 'a', 'b', attempt=2)
    log.write('put', ids=['a', 'b'])
    verdict = oracle.judge(log)
    assert not verdict.wrongs
    assert verdict.again == 2


def test_lost(log: Log) -> None:
    log.write('ack', ids=['c'])
    assert oracle.judge(log).wrongs == {'lost': 1}
    assert oracle.judge(log, exactly_once=['a', 'b']).wrongs == {'missing': 1}


def test_doubled(log: Log) -> None:
    assert oracle.judge(log, exactly_once=['a', 'b', 'b']).wrongs == {'doubled': 1}


def test_in_two_windows(log: Log) -> None:
    run(log, 'w:2', 'b', 'c')
    assert oracle.judge(log).wrongs == {'in_two_windows': 1}


def test_in_two_kept_windows(log: Log) -> None:
    assert oracle.judge(log, committed=[['a', 'b'], ['b']]).wrongs == {'in_two_windows': 1}


@pytest.mark.parametrize('members', [('a',), ('b', 'a'), ('a', 'b', 'c')])
def test_changed_members(log: Log, members: tuple[str, ...]) -> None:
    run(log, 'w:1', *members, attempt=2)
    assert oracle.judge(log).wrongs == {'changed': 1}


def test_changed_start(log: Log) -> None:
    run(log, 'w:1', 'a', 'b', attempt=2, start='other')
    assert oracle.judge(log).wrongs == {'changed': 1}


@pytest.mark.parametrize('windows', [(['p:1', 'p:0'], ['p:2']), (['p:0', 'p:2'], ['p:1', 'p:3'])])
def test_out_of_order(log: Log, windows: tuple[list[str], list[str]]) -> None:
    for n, members in enumerate(windows):
        run(log, f'w:{n + 2}', *members)
    assert oracle.judge(log).wrongs == {'disordered': 1}


def test_left_behind(log: Log) -> None:
    assert oracle.judge(log, left=3).wrongs == {'left': 3}


def test_a_torn_record_spoils_nothing(log: Log) -> None:
    with open(log.path, 'ab') as file:
        file.write(b'\n{"event": "put", "ids": ["')
    log.write('ack', ids=['c'])
    assert oracle.judge(log).wrongs == {'lost': 1}


@pytest.mark.parametrize(('where', 'stored'), [('before', 0), ('middle', 0), ('after', 1000)])
def test_the_proxy_cuts(server: Deployment, dbname: str, db: Any, where: Any, stored: int) -> None:
    with Proxy(server.nodes[0].port) as proxy:
        client: MongoClient[dict[str, Any]] = MongoClient(proxy.url(dbname), retryWrites=False)
        rule = proxy.rule('insert', where)
        with pytest.raises(AutoReconnect):
            client[dbname].cut.insert_many([{'n': n} for n in range(1000)])
        assert rule.hits == 1
        assert db.cut.count_documents({}) == stored
        client.close()


def test_the_server_fails_on_demand(solo: Deployment) -> None:
    with solo.fail_command(['insert'], times=1, errorCode=14031), pytest.raises(OperationFailure):
        solo.client.support.things.insert_one({})


def test_a_primary_is_replaced(trio: Deployment) -> None:
    old = trio.primary
    old.kill()
    assert trio.primary is not old
