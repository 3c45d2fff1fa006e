"""Very large, very many, none at all."""

from __future__ import annotations

import time

import pytest

import minibatch as mb
from tests.support.waiting import patience
from tests.support.world import World, at

MEGABYTE = 1 << 20


@pytest.mark.parametrize('keep', [False, True], ids=['moved', 'kept'])
def test_a_window_above_16_mb(world: World, keep: bool) -> None:
    """24 messages of a megabyte in one window, at the first attempt and at the second."""
    world.keep = keep
    producer = world.producer('big', 48, batch=12, size=MEGABYTE)
    assert producer.wait(30) == 0, producer.said
    world.consumer(size=24, function={'fault': 'raise', 'on': 'big:3', 'attempts': 1})
    world.wait_drained(30)
    verdict = world.judge()
    assert (verdict.acknowledged, verdict.windows) == (48, 2)


def test_killed_with_a_window_above_16_mb(world: World) -> None:
    producer = world.producer('big', 24, batch=12, size=MEGABYTE)
    assert producer.wait(30) == 0, producer.said
    world.consumer(size=24, at=[at('mark:marked')]).wait_killed()
    world.consumer(size=24)
    world.wait_drained(30)
    assert world.judge().windows == 1


def test_the_largest_message(world: World) -> None:
    """A message just below the limit is accepted, cut, failed, retried and committed."""
    mb.stream(world.stream, url=world.url).append({'id': 'big:0', 'pad': 'x' * (16 * MEGABYTE - 17_000)})
    world.log.write('ack', ids=['big:0'])
    world.consumer(size=1, function={'fault': 'raise', 'attempts': 1})
    world.wait_drained(30)
    world.judge()


def test_many_windows_of_one_message(world: World) -> None:
    """10,000 windows, by three consumers."""
    world.append(10_000)
    for _ in range(3):
        world.consumer(size=1, lease=5)
    world.wait_drained(60)
    verdict = world.judge()
    assert (verdict.acknowledged, verdict.windows, verdict.again) == (10_000, 10_000, 0)


def test_a_backlog(world: World) -> None:
    """50,000 messages that wait before the first consumer starts."""
    producer = world.producer('many', 50_000, batch=10_000)
    assert producer.wait(30) == 0, producer.said
    world.consumer(size=1000)
    world.wait_drained(40)
    verdict = world.judge()
    assert (verdict.acknowledged, verdict.windows) == (50_000, 50)


def test_an_empty_stream(world: World) -> None:
    """Nothing runs, nothing is written, and one pass over it returns at once."""
    since = time.monotonic()
    once = world.consumer(blocking=False)
    assert once.wait(10) == 0, once.said
    assert time.monotonic() - since < patience(8)
    world.consumer()
    world.patiently(lambda: len(list(world.log.read('started'))) == 2, 10, 'the second consumer to start')
    world.append(10)
    world.wait_drained()
    assert world.judge().windows == 1
