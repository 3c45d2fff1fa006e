"""A consumer is killed (SIGKILL) right after a step of the protocol; another one starts: nothing is lost or changed.

Whoever comes afterwards must finish everything within the lease and some seconds, whatever step it was.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.waiting import patience
from tests.support.world import LEASE, World, at

#: a window fails once, so that it goes back to the buffer, is taken again and cleaned up
RAISES = {'fault': 'raise', 'on': 't:5', 'attempts': 1}

MOVED = [
    'lead:taken', 'cut:found', 'cut:allocated', 'cut:deleted', 'cut:inserted', 'cut:committed', 'run:submitted',
    'run:done', 'sink:done', 'commit:before', 'commit:done',
]
FAILED_ONCE = ['fail:copied', 'take:taken', 'clean:messages', 'clean:windows']
MARKED = [
    'cut:allocated', 'mark:intended', 'mark:marked', 'mark:advanced', 'mark:published', 'run:done', 'commit:done',
]
PLACED = ['place:before', 'place:advanced', 'place:deleted', 'place:inserted', 'place:committed']
STANDALONE = ['mark:intended', 'mark:marked', 'run:done', 'commit:done', 'clean:messages']


def kill_and_recover(world: World, point: str, **options: Any) -> None:
    world.append(100)
    world.consumer(at=[at(point)], **options).wait_killed()

    since = time.monotonic()
    world.consumer(**options)
    world.wait_drained(timeout=15)
    took = time.monotonic() - since

    assert world.faults() == [point]
    verdict = world.judge()
    assert verdict.acknowledged == 100
    assert took < patience(2 * LEASE + 5), f'recovery took {took:.1f} s'


@pytest.mark.parametrize('point', MOVED)
def test_moved_windows(world: World, point: str) -> None:
    kill_and_recover(world, point)


@pytest.mark.parametrize('point', FAILED_ONCE)
def test_a_moved_window_that_failed_before(world: World, point: str) -> None:
    kill_and_recover(world, point, function=RAISES)


@pytest.mark.parametrize('point', MARKED)
def test_kept_windows(world: World, point: str) -> None:
    world.keep = True
    kill_and_recover(world, point)


@pytest.mark.parametrize('point', STANDALONE)
def test_a_server_without_transactions(world_alone: World, point: str) -> None:
    kill_and_recover(world_alone, point)


@pytest.mark.parametrize('point', ['cut:inserted', 'cut:committed', 'mark:intended'])
def test_time_windows(world: World, point: str) -> None:
    world.keep = point.startswith('mark')
    kill_and_recover(world, point, size=None, interval=0.3)


@pytest.mark.parametrize('point', PLACED)
def test_placed_windows(world: World, point: str) -> None:
    kill_and_recover(world, point, size=None, interval=0.3, offset=0.0)


@pytest.mark.parametrize('point', ['mark:intended', 'mark:marked', 'mark:advanced'])
def test_kept_placed_windows(world: World, point: str) -> None:
    world.keep = True
    kill_and_recover(world, point, size=None, interval=0.3, offset=0.0)


@pytest.mark.parametrize('point', ['append:before', 'append:after'])
@pytest.mark.parametrize('batch', [1, 20])
def test_a_killed_producer(world: World, point: str, batch: int) -> None:
    world.consumer(size=1)
    world.producer('p', 200, batch=batch, at=[at(point, nth=5)]).wait_killed()
    world.wait_drained()

    verdict = world.judge()
    assert verdict.acknowledged == 4 * batch
    arrived = world.effects()
    # what was on its way may have arrived or not, but whole, and nothing beyond it
    assert arrived in (4 * batch, 5 * batch)


def test_killed_in_its_pool(world: World) -> None:
    """The consumer dies while worker processes run its function: they must not outlive it, nor run on."""
    world.append(100)
    victim = world.consumer(executor='process', workers=2, function={'seconds': 0.3}, size=10)
    world.patiently(lambda: any(world.log.read('run')), 20, 'a worker to run')
    victim.kill()
    world.patiently(lambda: not victim.family(), 5, 'the workers to follow their consumer')

    world.consumer(executor='process', workers=2)
    world.wait_drained()
    world.judge()
