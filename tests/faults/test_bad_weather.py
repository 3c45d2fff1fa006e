"""MongoDB goes away, comes back, fails single commands, or the connection is cut in the middle of something."""

from __future__ import annotations

import time
from typing import Any

import pytest

import minibatch as mb
from minibatch.errors import MinibatchError, StoreUnavailable
from tests.support.mongod import Deployment
from tests.support.proxy import Proxy
from tests.support.waiting import patience
from tests.support.world import APP, World, at

TRANSIENT: dict[str, Any] = {'errorCode': 112, 'errorLabels': ['TransientTransactionError']}
# The codes of a real shutdown or step-down would make the driver wait for news that a failpoint does not send.
NOT_CONFIRMED: dict[str, Any] = {'writeConcernError': {'code': 89, 'errmsg': 'timed out'},
                                 'errorLabels': ['RetryableWriteError']}


@pytest.mark.parametrize('gone', ['killed', 'paused'])
def test_gone_for_a_while(world_solo: World, solo: Deployment, gone: str) -> None:
    """Producers raise, or wait, or repeat; consumers go on by themselves when it is back; nothing is lost."""
    world = world_solo
    node = solo.nodes[0]
    consumers = [world.consumer(), world.consumer(executor='process', workers=1)]
    producers = [world.producer('one', pause=0.005), world.producer('bulk', batch=20, pause=0.02)]
    world.wait_effects(300)

    {'killed': node.kill, 'paused': node.pause}[gone]()
    end = time.monotonic() + 3
    world.patiently(lambda: time.monotonic() > end, 4, 'three seconds without a database')
    if gone == 'paused':
        node.resume()
    else:
        node.start()
    before = world.acknowledged()
    world.patiently(lambda: world.acknowledged() > before + 300, 30, 'appends to go on')
    for producer in producers:
        assert producer.alive, producer.said[-3000:]
        producer.kill()
    world.wait_drained(30, rest=9)
    for consumer in consumers:
        assert consumer.alive, consumer.said[-3000:]
    world.judge_finished()


def test_a_consumer_that_starts_while_it_is_gone(world_solo: World, solo: Deployment) -> None:
    """It ends with a clear error within seconds, rather than hanging."""
    world = world_solo
    solo.nodes[0].kill()
    since = time.monotonic()
    consumer = world.consumer()
    assert consumer.wait(15) != 0
    assert time.monotonic() - since < patience(12)
    assert 'ConnectError' in consumer.said or 'StoreUnavailable' in consumer.said


FAULTS: dict[str, tuple[list[str], dict[str, Any]]] = {
    'commits conflict': (['commitTransaction'], {'times': 3, **TRANSIENT}),
    'commit is done but not confirmed': (['commitTransaction'], {'times': 2, **NOT_CONFIRMED}),
    'connection closed at commit': (['commitTransaction'], {'times': 2, 'closeConnection': True}),
    'write conflicts': (['insert', 'update', 'delete', 'findAndModify'], {'times': 12, **TRANSIENT}),
    'connections closed': (['update', 'delete', 'findAndModify', 'find', 'aggregate'],
                           {'times': 12, 'closeConnection': True}),
    'done but not confirmed': (['update', 'delete', 'findAndModify'], {'times': 6, **NOT_CONFIRMED}),
    'disk full': (['update', 'delete', 'insert', 'findAndModify'], {'times': 8, 'errorCode': 14031}),
    'interrupted': (['update', 'delete', 'findAndModify', 'getMore', 'find'], {'times': 12, 'errorCode': 11601}),
}


@pytest.mark.parametrize(('fault', 'sink', 'keep'), [
    *[(name, 'plain', False) for name in list(FAULTS)[1:]],
    *[(name, 'exactly_once', False) for name in list(FAULTS)[:4]],
    *[(name, 'exactly_once', True) for name in list(FAULTS)[:3]],
    ('connections closed', 'exactly_once', True), ('interrupted', 'exactly_once', True),
    ('disk full', 'exactly_once', True),
])
def test_single_commands_fail(world_solo: World, solo: Deployment, fault: str, sink: str,
                              keep: bool) -> None:
    """The consumer goes on; with an exactly-once sink there is exactly one effect, however the commit was answered."""
    commands, data = FAULTS[fault]
    world = world_solo
    world.sink, world.keep = sink, keep
    world.append(100, 'first')
    consumer = world.consumer(max_attempts=20)
    world.wait_effects(100)
    world.append(200, 'then')
    with solo.fail_command(commands, appName=APP, **data):
        world.wait_effects(300)
        world.wait_drained()
    assert consumer.alive, consumer.said[-3000:]
    assert world.judge().acknowledged == 300


@pytest.mark.parametrize(('command', 'where', 'sink', 'keep'), [
    ('commitTransaction', 'middle', 'exactly_once', False), ('commitTransaction', 'after', 'plain', False),
    ('commitTransaction', 'after', 'exactly_once', False), ('commitTransaction', 'after', 'exactly_once', True),
    ('insert', 'middle', 'plain', False), ('insert', 'after', 'plain', False),
    ('insert', 'after', 'exactly_once', True), ('delete', 'after', 'plain', False),
    ('update', 'after', 'exactly_once', True),
    ('update', 'after', 'plain', False), ('findAndModify', 'after', 'plain', False),
])
def test_the_consumers_connection_is_cut(world_solo: World, solo: Deployment, command: str, where: Any,
                                         sink: str, keep: bool) -> None:
    """In the middle of the request's bytes, or after it was executed with the reply lost; three times each."""
    world = world_solo
    world.sink, world.keep = sink, keep
    world.append(100)
    with Proxy(solo.nodes[0].port) as proxy:
        world.url, direct = proxy.url(world.dbname), world.url
        rule = proxy.rule(command, where, times=3, skip=1)
        consumer = world.consumer(max_attempts=20)
        world.url = direct
        world.wait_drained()
        assert rule.hits, f'the consumer never sent {command}'
        assert consumer.alive, consumer.said[-3000:]
        consumer.close()
    world.judge()


@pytest.mark.parametrize('where', ['middle', 'after'])
def test_cut_in_the_middle_of_extend(world_solo: World, solo: Deployment, where: Any) -> None:
    """The driver's own retry, and ours, store each message once; an extend that returned has stored all of them."""
    world = world_solo
    with Proxy(solo.nodes[0].port) as proxy:
        world.url, direct = proxy.url(world.dbname), world.url
        rule = proxy.rule('insert', where, times=5, skip=1)
        producer = world.producer('bulk', 20_000, batch=5000, size=100)
        assert producer.wait(30) == 0, producer.said
        world.url = direct
    assert rule.hits == 5
    world.consumer(size=500)
    acknowledged = {i for r in world.log.read('ack') for i in r['ids']}
    world.patiently(lambda: {i for r in world.log.read('put') for i in r['ids']} >= acknowledged, 30, 'all of them')
    verdict = world.judge(sorted(acknowledged), rest=world.left())
    assert verdict.again == 0, 'a message was stored twice'


@pytest.mark.parametrize('lost', [1, 2, 3])
def test_the_answer_to_an_append_is_lost(world_solo: World, solo: Deployment, lost: int) -> None:
    """It is repeated, while the message is on its way already, or even gone: it comes into one window all the same."""
    world = world_solo
    world.consumer(size=1)
    world.append(1)
    world.wait_drained()
    with Proxy(solo.nodes[0].port) as proxy:
        world.url, direct = proxy.url(world.dbname), world.url
        rule = proxy.rule('insert', 'after', times=lost, skip=1)
        producer = world.producer('one', 5)
        assert producer.wait(30) == 0, producer.said
        world.url = direct
    assert rule.hits == lost
    world.wait_drained()
    assert world.judge().again == 0, 'a message went through twice'


def test_an_append_is_repeated_by_itself(world_solo: World, solo: Deployment) -> None:
    """Single transient errors never reach the program."""
    stream = mb.stream(world_solo.stream, url=world_solo.url)
    with solo.fail_command(['insert'], times=1, closeConnection=True):
        stream.append({'id': 't:0'})
    with solo.fail_command(['insert'], times=1, errorCode=89, errorLabels=['RetryableWriteError']):
        stream.append({'id': 't:1'})
    assert world_solo.db.buffer.count_documents({}) == 2


def test_a_full_disk(world_solo: World, solo: Deployment) -> None:
    """The append says so with an error of ours, and stores nothing; when there is space again all goes on."""
    world = world_solo
    stream = mb.stream(world.stream, url=world.url)
    stream.append({'id': 't:0'})
    with (solo.fail_command(['insert'], errorCode=14031, errmsg='No space left on device'),
          pytest.raises(MinibatchError)):
        stream.append({'id': 't:1'})
    stream.append({'id': 't:2'})
    assert sorted(d['data']['id'] for d in world.db.buffer.find()) == ['t:0', 't:2']


def test_a_write_that_cannot_be_made_durable(world_solo: World, solo: Deployment) -> None:
    """A write concern that is not satisfied is no acknowledgement."""
    stream = mb.stream(world_solo.stream, url=world_solo.url)
    with (solo.fail_command(['insert'], writeConcernError={'code': 64, 'errmsg': 'waiting for replication timed out'}),
          pytest.raises(StoreUnavailable)):
        stream.append({'id': 't:0'})


def test_a_cable_is_cut(world_solo: World, solo: Deployment) -> None:
    """Connections stay open and nothing passes, longer than the lease: another consumer takes over, with no clash."""
    world = world_solo
    producer = world.producer('one', pause=0.005)
    with Proxy(solo.nodes[0].port) as proxy:
        world.url, direct = proxy.url(world.dbname), world.url
        cut_off = world.consumer()
        world.url = direct
        world.wait_effects(100)
        proxy.hang()
        world.consumer()
        before = world.effects()
        world.wait_effects(before + 300)
        proxy.flow()
        world.wait_effects(before + 600)
        producer.kill()
        world.wait_drained(rest=9)
        assert cut_off.alive, cut_off.said[-3000:]
        cut_off.close()
    world.judge_finished()


def test_the_change_stream_is_lost(world_solo: World, solo: Deployment) -> None:
    """It is a hint and nothing else: without it a consumer polls, and with the next one it is quick again."""
    world = world_solo
    consumer = world.consumer()
    world.append(10, 'a')
    world.wait_drained()
    with solo.fail_command(['getMore'], appName=APP, errorCode=286):
        for n in range(3):
            world.append(10, f'b{n}')
            world.wait_drained(timeout=12)
    world.append(10, 'c')
    world.wait_drained(timeout=8)
    assert consumer.alive, consumer.said[-3000:]
    world.judge()


def test_collections_are_dropped_while_it_runs(world: World) -> None:
    """Somebody drops the window collection's index: slower, not wrong."""
    consumer = world.consumer()
    world.append(100, 'a')
    world.wait_drained()
    world.db.buffer.drop_indexes()
    world.db.window.drop_indexes()
    world.append(100, 'b')
    world.wait_drained()
    assert consumer.alive, consumer.said[-3000:]
    world.judge()


def test_a_late_mark(world_solo: World, solo: Deployment) -> None:
    """A cutter's marking is held up on the server beyond its lease, and lands after the take-over."""
    world = world_solo
    world.keep = True
    world.append(100)
    victim = world.consumer(at=[at('mark:intended', 'sleep', seconds=2.5)])
    world.patiently(lambda: world.faults(), 20, 'the cutter to linger')
    world.consumer()
    world.wait_drained()
    assert victim.alive, victim.said[-3000:]
    world.judge()
