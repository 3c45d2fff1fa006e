"""A replica set of three under load: its primary is killed, stepped down, restarted, paused, or left alone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pymongo
import pytest
from pymongo import WriteConcern
from pymongo.errors import PyMongoError

import minibatch as mb
from minibatch.connection import connect
from minibatch.errors import StoreUnavailable
from minibatch.store import Store
from tests.store.bench import Bench
from tests.support.mongod import Deployment
from tests.support.waiting import wait_until
from tests.support.world import World, at


def kill(trio: Deployment) -> None:
    trio.primary.kill()


def step_down(trio: Deployment) -> None:
    trio.step_down()


def restart(trio: Deployment) -> None:
    node = trio.primary
    node.stop()
    node.start()


def pause(trio: Deployment) -> None:
    node = trio.primary
    node.pause()
    end = time.monotonic() + 10
    wait_until(lambda: time.monotonic() > end, 11)  # the fault itself is ten seconds long
    node.resume()


@pytest.mark.parametrize(('fault', 'sink'), [
    (kill, 'plain'), (kill, 'exactly_once'), (step_down, 'exactly_once'), (restart, 'plain'), (pause, 'exactly_once')])
def test_the_primary_fails_under_load(
    world_of_three: World, trio: Deployment, fault: Callable[[Deployment], None], sink: str,
) -> None:
    world = world_of_three
    world.sink = sink
    consumers = [world.consumer(lease=2), world.consumer(lease=2)]
    producers = [world.producer('one', pause=0.005), world.producer('bulk', batch=50, pause=0.05)]
    world.wait_effects(300)

    fault(trio)
    before = world.acknowledged()
    world.patiently(lambda: world.acknowledged() > before + 300, 30, 'appends to go on')
    for producer in producers:
        assert producer.alive, producer.said[-3000:]
        producer.kill()
    trio.repair()
    world.wait_drained(30, rest=9)

    for consumer in consumers:
        assert consumer.alive, consumer.said[-3000:]
    world.judge_finished()


def test_two_of_three_are_down(world_of_three: World, trio: Deployment) -> None:
    """No majority: an append raises within the timeout and says so; when they are back, all goes on."""
    world = world_of_three
    consumer = world.consumer(lease=2)
    world.append(100)
    world.wait_effects(100)
    stream = mb.stream(world.stream, url=world.url)

    for node in trio.secondaries:
        node.kill()
    since = time.monotonic()
    with pytest.raises(StoreUnavailable):
        stream.append({'id': 'lost:0'})
    assert time.monotonic() - since < 35

    trio.repair()
    accepted = [f'back:{n}' for n in range(100)]
    stream.extend([{'id': i} for i in accepted])
    world.log.write('ack', ids=accepted)
    world.wait_effects(200, 30)
    world.wait_drained(rest=1)  # the refused one may have been stored, so that one waits for nine others
    assert consumer.alive, consumer.said[-3000:]
    world.judge_finished()


def test_an_acknowledged_append_is_never_rolled_back(world_of_three: World, trio: Deployment) -> None:
    """What only the old primary has is not acknowledged; what is acknowledged survives it."""
    world = world_of_three
    stream = mb.stream(world.stream, url=world.url)
    stream.extend([{'id': f'safe:{n}'} for n in range(50)])
    world.log.write('ack', ids=[f'safe:{n}' for n in range(50)])

    old, others = trio.primary, trio.secondaries
    for node in others:
        node.kill()
    with pytest.raises(StoreUnavailable):
        stream.extend([{'id': f'unsafe:{n}'} for n in range(50)])
    old.kill()
    for node in others:
        node.start()
    trio.primary  # noqa: B018 -- it is waited for
    old.start()
    trio.wait_healthy()

    more = [f'more:{n}' for n in range(50)]
    stream.extend([{'id': i} for i in more])
    world.log.write('ack', ids=more)
    world.consumer(lease=2)
    world.wait_effects(100, 30)
    with contextlib.suppress(PyMongoError):
        world.wait_drained()
    world.judge()


@pytest.mark.parametrize('mutations', [[], ['numbers']], ids=['', 'without the guard'])
def test_window_numbers_survive_a_failover(world_of_three: World, trio: Deployment, mutations: list[str]) -> None:
    """Numbers are taken on a primary that dies before anybody has copied that: they are not given out again."""
    world = world_of_three
    world.append(250)
    consumer = world.consumer(at=[at('cut:found', 'stop'), at('cut:allocated', 'stop')], size=1, lease=20,
                              mutate=mutations)
    consumer.wait_stopped()
    old, others = trio.primary, trio.secondaries
    trio.replicate(False)
    consumer.resume()
    early = False
    with contextlib.suppress(AssertionError):  # it should wait for the others before it goes on
        early = wait_until(lambda: 'cut:allocated' in world.faults(), 2)
    old.kill()
    trio.replicate(True, others)
    wait_until(lambda: 'cut:allocated' in world.faults(), 20)
    consumer.wait_stopped()
    consumer.resume()
    trio.repair()
    world.patiently(lambda: world.left() == 0, 30, 'an empty stream')
    assert consumer.alive, consumer.said[-3000:]
    if mutations:
        assert early
        assert world.verdict().wrongs, 'nobody noticed that window ids were used twice'
    else:
        world.judge()


@pytest.mark.parametrize(('state', 'left'), [('done', 0), ('void', 2), ('cutting', 2)])
def test_nobody_tidies_up_after_what_a_failover_may_take_back(
    world_of_three: World, trio: Deployment, state: str, left: int,
) -> None:
    """A window has a state that only the primary knows of; who removed its messages then could not bring them back."""
    bench = Bench(Store(connect(world_of_three.url)), 'marked')
    record = bench.running(2)
    messages = bench.store.buffer
    if state == 'cutting':
        messages.update_many({}, {'$set': {'processed': False, 'window': None}})

    def tidied() -> tuple[int, int]:
        for tidy in (bench.store.sweep, bench.store.roll_forward):
            with contextlib.suppress(StoreUnavailable), pymongo.timeout(1):  # even a write of nothing is not confirmed
                tidy(bench.stream)
        return messages.count_documents({}), messages.count_documents({'window': record.id})

    before = 0 if state == 'cutting' else 2
    trio.replicate(False)
    try:
        bench.store.windows.with_options(write_concern=WriteConcern(1)).update_one(
            {'_id': record.id}, {'$set': {'state': state}})
        assert tidied() == (2, before)
    finally:
        trio.replicate(True)
    wait_until(lambda: tidied() == (left, 2 if state == 'cutting' else 0), 10)
