"""A consumer stops (SIGSTOP) for longer than its lease and wakes up after another took over: it is fenced out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.world import World, at


def sleep_and_wake(world: World, point: str, nth: int = 1, **options: Any) -> None:
    world.append(100)
    zombie = world.consumer(at=[at(point, 'stop', nth)], **options)
    zombie.wait_stopped()

    world.consumer(**options)
    world.wait_drained(timeout=15)
    zombie.resume()
    # the zombie lives on as one of two consumers, after it found out
    world.append(50, 'later')
    world.wait_drained()

    assert zombie.alive, zombie.said[-3000:]
    assert world.faults() == [point]
    verdict = world.judge()
    assert verdict.acknowledged == 150


@pytest.mark.parametrize('point', ['lead:taken', 'cut:allocated', 'cut:deleted', 'cut:inserted', 'cut:committed'])
def test_the_cutter_of_moved_windows(world: World, point: str) -> None:
    sleep_and_wake(world, point)


@pytest.mark.parametrize('point', ['cut:allocated', 'mark:intended', 'mark:published'])
def test_the_cutter_of_kept_windows(world: World, point: str) -> None:
    world.keep = True
    sleep_and_wake(world, point)


def test_a_late_cutter_dies_with_its_windows_half_cut(world: World) -> None:
    """It wakes up, writes windows of messages that others have cut meanwhile, and is killed before it notices."""
    world.keep = True
    world.append(100)
    zombie = world.consumer(at=[at('cut:allocated', 'stop'), at('mark:intended')])
    zombie.wait_stopped()
    world.consumer()
    world.wait_drained(timeout=15)
    zombie.resume()
    zombie.wait_killed()
    world.append(50, 'later')
    world.wait_drained(timeout=15)
    world.judge()


@pytest.mark.parametrize(('point', 'keep'), [
    ('run:submitted', False), ('sink:done', False), ('commit:done', False), ('run:done', True),
    ('commit:before', True)])
def test_the_runner(world: World, point: str, keep: bool) -> None:
    world.keep = keep
    sleep_and_wake(world, point)


@pytest.mark.parametrize(('point', 'keep'), [
    ('run:done', True), ('commit:before', False), ('commit:before', True), ('commit:effects', False),
    ('commit:effects', True), ('commit:done', True)])
def test_the_runner_with_an_exactly_once_sink(world: World, point: str, keep: bool) -> None:
    world.sink = 'exactly_once'
    world.keep = keep
    sleep_and_wake(world, point)


def test_a_whole_consumer_with_its_pool(world: World) -> None:
    """SIGSTOP from outside while worker processes go on: their results come home too late."""
    world.append(100)
    zombie = world.consumer(executor='process', workers=2, function={'seconds': 0.2})
    world.patiently(lambda: any(world.log.read('run')), 20, 'a worker to run')
    zombie.pause()

    world.consumer(executor='thread', workers=2)
    world.wait_drained()
    zombie.resume()
    world.append(50, 'later')
    world.wait_drained()
    assert zombie.alive, zombie.said[-3000:]
    world.judge()


def test_who_puts_a_failed_window_back(world: World) -> None:
    sleep_and_wake(world, 'fail:copied', function={'fault': 'raise', 'on': 't:5', 'attempts': 1})


def test_what_a_killed_rescuer_copied_goes_soon(world: World) -> None:
    """The owner committed after all, nobody lives who knows of the copies, and the leader has looked before."""
    world.append(50)
    world.consumer()
    world.wait_drained()
    world.db.buffer.insert_one({'stream': world.stream, 'data': {'id': 't:1'}, 'processed': True,
                                'window': f'{world.stream}:1', 'copied': True})
    world.wait_drained()
    world.judge()
