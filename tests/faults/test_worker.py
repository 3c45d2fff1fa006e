"""The function misbehaves in every way a function can; the consumer lives on, and other windows are unharmed."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

import minibatch as mb
from tests.support.world import LEASE, World

POOL: dict[str, Any] = {'executor': 'process', 'workers': 2, 'timeout': 1.0, 'lease': 5.0}


def misbehave_twice(world: World, fault: str, **options: Any) -> None:
    """The window with message t:25 fails in its first two attempts, then succeeds."""
    world.append(100)
    consumer = world.consumer(function={'fault': fault, 'on': 't:25', 'attempts': 2}, **options)
    world.wait_drained(timeout=20)
    assert consumer.alive, consumer.said[-3000:]
    assert world.judge().acknowledged == 100
    runs = [r for r in world.log.read('run') if 't:25' in r['members']]
    assert len(runs) >= 3
    assert sorted({r['attempt'] for r in runs}) == [1, 2, 3]
    # the others are run once, except for what shared a dying worker
    assert len(list(world.log.read('run'))) <= 10 + 12


@pytest.mark.parametrize('fault', ['raise', 'hang', 'exit', 'kill', 'memory', 'unpicklable'])
def test_in_worker_processes(world: World, fault: str) -> None:
    misbehave_twice(world, fault, **POOL)


@pytest.mark.parametrize('executor', ['thread', 'inline'])
def test_raising_elsewhere(world: World, executor: str) -> None:
    misbehave_twice(world, 'raise', executor=executor)


@pytest.mark.parametrize(('fault', 'keep'), [
    ('raise', False), ('raise', True), ('exit', False), ('unpicklable', True), ('hang', False)])
def test_a_poison_message_stops_nothing(world: World, fault: str, keep: bool) -> None:
    """It ends among the dead, with its traceback, after as many attempts as allowed; the others flow."""
    world.keep = keep
    world.append(100)
    consumer = world.consumer(function={'fault': fault, 'on': 't:25'}, max_attempts=3,
                              **{**POOL, 'timeout': 0.5})
    world.wait_effects(90)
    stream = mb.stream(world.stream, url=world.url)
    world.patiently(lambda: stream.dead.list(), 20, 'a dead window')

    dead = stream.dead.list()
    assert len(dead) == 1
    runs = [r for r in world.log.read('run') if 't:25' in r['members']]
    assert [r['attempt'] for r in runs] == [1, 2, 3]
    assert consumer.alive
    poisoned = set(runs[0]['members'])
    acknowledged = {i for r in world.log.read('ack') for i in r['ids']}
    world.patiently(lambda: world.left() <= 10, 10, 'only the dead window to be left')
    world.judge(sorted(acknowledged - poisoned), rest=10)


def test_a_poison_message_is_redriven(world: World) -> None:
    """Nothing of a dead window is lost: once the function is mended it goes through, unchanged."""
    world.append(30)
    broken = world.consumer(function={'fault': 'raise', 'on': 't:25'}, max_attempts=2, executor='thread')
    stream = mb.stream(world.stream, url=world.url)
    world.patiently(lambda: stream.dead.list(), 20, 'a dead window')
    assert 'as told' in str(stream.dead.show(_id(stream.dead.list()[0])))
    broken.send(signal.SIGTERM)
    assert broken.wait() == 0, broken.said[-3000:]

    world.consumer(executor='thread')
    stream.dead.redrive()
    world.wait_drained()
    assert not stream.dead.list()
    world.judge()


def _id(dead: Any) -> str:
    return str(dead['_id'] if isinstance(dead, dict) and '_id' in dead else
               dead['id'] if isinstance(dead, dict) else dead.id)


def test_a_consumer_that_always_dies_does_not_loop_for_ever(world: World) -> None:
    """The function kills the whole consumer: the crash counts as an attempt, and the window dies in the end."""
    world.append(20)
    options: dict[str, Any] = {'function': {'fault': 'kill', 'on': 't:5'}, 'max_attempts': 2, 'lease': 0.5}
    for _ in range(2):
        world.consumer(**options).wait_killed()
    world.consumer(**options)
    stream = mb.stream(world.stream, url=world.url)
    world.patiently(lambda: stream.dead.list(), 20, 'a dead window')
    world.wait_effects(10)
    world.judge([f't:{n}' for n in range(10, 20)], rest=world.left())


def test_a_worker_is_killed(world: World) -> None:
    """One process of the pool is killed from outside: the pool is made anew, and the window run again."""
    world.append(200)
    consumer = world.consumer(function={'seconds': 0.05}, **POOL)
    for _ in range(3):
        seen = len(list(world.log.read('run')))
        world.patiently(lambda seen=seen: len(list(world.log.read('run'))) > seen, 20, 'a worker to run')
        last = list(world.log.read('run'))[-1]['pid']
        assert last != consumer.pid, 'the function ran in the consumer itself'
        try:
            os.kill(last, signal.SIGKILL)
        except ProcessLookupError:
            continue
    world.wait_drained()
    assert consumer.alive
    world.judge()


def test_the_pool_is_killed_as_a_group(world: World) -> None:
    """Everything is killed at once, consumer and workers; a new consumer finishes."""
    world.append(100)
    victim = world.consumer(function={'seconds': 0.1}, **{**POOL, 'lease': LEASE})
    world.patiently(lambda: any(world.log.read('run')), 20, 'a worker to run')
    for pid in victim.family():
        os.kill(pid, signal.SIGKILL)
    victim.wait()
    world.consumer(**POOL)
    world.wait_drained()
    world.judge()


def test_a_long_run_is_not_taken_away(world: World) -> None:
    """A function that runs for three leases is renewed meanwhile: a second consumer does not run it too."""
    world.append(10)
    world.consumer(function={'seconds': 2.0}, executor='process', workers=1, lease=0.7)
    world.patiently(lambda: any(world.log.read('run')), 20, 'a worker to run')
    world.consumer(executor='thread', lease=0.7)
    world.wait_drained()
    assert len(list(world.log.read('run'))) == 1
    assert world.judge().again == 0


def test_a_killed_worker_with_an_exactly_once_sink(world: World) -> None:
    world.sink = 'exactly_once'
    misbehave_twice(world, 'kill', **POOL)
