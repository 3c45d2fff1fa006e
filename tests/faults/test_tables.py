"""Tables whose consumers are killed: what they count is what there was to count, exactly."""

from __future__ import annotations

import os
import random
import time
from typing import Any

import pytest

import minibatch as mb
from tests.support.waiting import patience
from tests.support.world import LEASE, World, at

#: What is lost or doubled once is so: nothing here is tried once more.
pytestmark = pytest.mark.flaky(reruns=0)

SEED = int(os.environ.get('MINIBATCH_CHAOS_SEED', '0')) or random.randrange(1, 1 << 30)


def fill(world: World, n: int) -> None:
    mb.stream(world.stream, url=world.url).extend({'n': each} for each in range(n))


def counted(world: World) -> dict[Any, int]:
    return dict(mb.table('counts', url=world.url).items())


@pytest.mark.parametrize(('keys', 'n'), [(1, 100_000), (50, 10_000)])
def test_consumers_killed_at_random_count_exactly(world: World, keys: int, n: int) -> None:
    print(f'MINIBATCH_CHAOS_SEED={SEED}')
    chance = random.Random(SEED)
    world.sink = None
    fill(world, n)

    def consumer() -> Any:
        return world.consumer(size=500, function={'count': 'counts', 'keys': keys}, max_attempts=1000, workers=2,
                              executor=chance.choice(['inline', 'inline', 'process']))

    consumers = [consumer() for _ in range(3)]
    kills = 0

    def all_counted() -> bool:
        nonlocal kills, next_at
        total = counted(world).get('all', 0)
        if total and kills < 6 and time.monotonic() > next_at:
            kills += 1
            consumers.pop(0).kill()
            consumers.append(consumer())
            next_at = time.monotonic() + chance.uniform(0.3, 0.9)
        return total >= n

    next_at = time.monotonic()
    world.patiently(all_counted, 150, 'all to be counted')
    world.patiently(lambda: world.waiting() == 0, 20, 'nothing to be left')
    print(f'{kills} killed')
    assert counted(world) == {'all': n, **dict.fromkeys(range(keys), n // keys)}
    assert kills >= 2, 'nothing was tested'


@pytest.mark.parametrize(('point', 'keep'), [
    ('commit:before', False), ('commit:tables', False), ('commit:tables', True), ('commit:done', True)])
def test_a_consumer_killed_at_a_step_of_the_commit(world: World, point: str, keep: bool) -> None:
    world.sink, world.keep = None, keep
    fill(world, 100)
    world.consumer(function={'count': 'counts'}, at=[at(point)]).wait_killed()
    since = time.monotonic()
    world.consumer(function={'count': 'counts'})
    world.wait_drained(timeout=15)
    assert counted(world) == {0: 100, 'all': 100}
    assert time.monotonic() - since < patience(2 * LEASE + 5), 'the locks of the dead one are gone with its session'


@pytest.mark.parametrize('point', ['commit:before', 'commit:tables'])
def test_a_consumer_that_wakes_up_after_another_took_over(world: World, point: str) -> None:
    world.sink = None
    fill(world, 100)
    zombie = world.consumer(function={'count': 'counts'}, at=[at(point, 'stop')])
    zombie.wait_stopped()
    world.consumer(function={'count': 'counts'})
    world.wait_drained(timeout=15)
    assert counted(world) == {0: 100, 'all': 100}
    zombie.resume()
    fill(world, 50)
    world.wait_drained()
    assert counted(world) == {0: 150, 'all': 150}
    assert zombie.alive, zombie.said[-3000:]


@pytest.mark.parametrize('point', ['close:marked', 'close:called', 'close:changed', 'close:done'])
def test_a_consumer_killed_while_it_closes_windows(world: World, point: str) -> None:
    world.sink = None
    rows = [{'n': n, 'ts': 1000 * 60 + n} for n in range(300)]
    mb.stream(world.stream, url=world.url).extend([*rows, *({'n': n, 'ts': 2000 * 60} for n in range(10))])
    world.consumer(function={'close': 'counts'}, at=[at(point, nth=1 if point == 'close:marked' else 3)]).wait_killed()
    world.consumer(function={'close': 'counts'})
    world.wait_drained()
    windowed = mb.table('counts', default=int, url=world.url).tumbling(60)
    world.patiently(lambda: len(list(windowed.windows())) == 2, 15, 'five minutes to be closed')
    assert dict(mb.table('totals', url=world.url)) == {0: 150, 1: 150}
    calls = [(each['start'], each['key']) for each in world.log.read('closed')]
    assert len(set(calls)) == 10
    assert len(calls) <= 10 + 1, 'again for the key at which it was killed, if at all'
