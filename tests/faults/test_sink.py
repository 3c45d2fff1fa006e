"""The sink misbehaves, or the process dies around it: a commit never comes before its effects, nor without them."""

from __future__ import annotations

from pathlib import Path

import pytest

import minibatch as mb
from tests.support.waiting import wait_until
from tests.support.world import LEASE, World, at


@pytest.mark.parametrize(('point', 'keep'), [
    ('cut:committed', False), ('run:submitted', True), ('run:done', False), ('commit:before', True),
    ('commit:effects', False), ('commit:effects', True), ('commit:done', False), ('commit:done', True)])
def test_killed_around_an_exactly_once_commit(world: World, point: str, keep: bool) -> None:
    """Also in the open transaction, whose locks a rescuer must not wait for."""
    world.sink = 'exactly_once'
    world.keep = keep
    world.append(100)
    world.consumer(at=[at(point)]).wait_killed()
    world.consumer()
    world.wait_drained(timeout=10)
    verdict = world.judge()
    assert (verdict.missing, verdict.doubled) == (0, 0)
    assert world.effects() == 100


def test_killed_again_and_again(world: World) -> None:
    """Each consumer is killed in its open transaction; every one of them makes some progress."""
    world.sink = 'exactly_once'
    world.append(60)
    for nth in (1, 2, 1):
        world.consumer(at=[at('commit:effects', nth=nth)], lease=0.5).wait_killed()
    world.consumer(lease=0.5)
    world.wait_drained(timeout=10)
    world.judge()
    assert world.effects() == 60


def test_a_window_that_failed_before(world: World) -> None:
    """Retried windows reach an exactly-once sink once, too."""
    world.sink = 'exactly_once'
    world.append(100)
    raises = {'fault': 'raise', 'on': 't:25', 'attempts': 1}
    world.consumer(function=raises, at=[at('commit:effects', nth=3)]).wait_killed()
    world.consumer(function=raises)
    world.wait_drained(timeout=10)
    world.judge()
    assert world.effects() == 100


def test_raises_once_in_two(world: World) -> None:
    world.append(100)
    consumer = world.consumer(sink={'fail': 'once in two'}, max_attempts=50)
    world.wait_drained()
    assert consumer.alive, consumer.said[-3000:]
    assert any(world.log.read('sink failed'))
    world.judge()


def test_is_down_for_a_while(world: World, tmp_path: Path) -> None:
    """While it is down nothing is committed; when it is back everything arrives."""
    down = tmp_path / 'down'
    down.touch()
    world.append(100)
    consumer = world.consumer(sink={'fail': str(down)}, max_attempts=100)
    world.patiently(lambda: len(list(world.log.read('sink failed'))) >= 20, 20, 'the sink to be tried')
    assert world.effects() == 0
    assert world.left() >= 10
    down.unlink()
    world.wait_drained()
    assert consumer.alive
    world.judge()


def test_raises_always(world: World) -> None:
    """Its windows end among the dead with the sink's own words; nothing is lost, and a mended sink gets all of it."""
    world.append(30)
    broken = world.consumer(sink={'fail': 'always'}, max_attempts=3)
    stream = mb.stream(world.stream, url=world.url)
    world.patiently(lambda: len(stream.dead.list()) == 3, 20, 'three dead windows')
    assert broken.alive
    assert 'the sink is down, as told' in str(stream.dead.list())
    broken.kill()
    assert world.effects() == 0

    stream.dead.redrive()
    world.consumer()
    world.wait_drained()
    world.judge()


def test_hangs(world: World) -> None:
    """A consumer whose sink hangs keeps its window as long as it lives, and loses it when it dies."""
    world.append(50)
    hanging = world.consumer(sink={'fail': 'hang'})
    world.patiently(lambda: any(world.log.read('returned')), 20, 'a window to reach the sink')
    hanging.kill()
    world.consumer()
    world.wait_drained(timeout=2 * LEASE + 10)
    world.judge()


def test_other_consumers_go_on_while_one_hangs(world: World) -> None:
    """It holds no more than what it has taken, and the stream's lease goes to somebody who works."""
    world.append(20)
    hanging = world.consumer(sink={'fail': 'hang'})
    world.patiently(lambda: any(world.log.read('returned')), 20, 'a window to reach the sink')
    world.consumer()
    world.append(100, 'more')
    wait_until(lambda: {i for r in world.log.read('put') for i in r['ids']} >= {f'more:{n}' for n in range(90)}, 15,
               what='the messages that came later')
    hanging.kill()
    world.wait_drained()
    world.judge()


def test_a_poisonous_effect_ends_among_the_dead(world: World) -> None:
    """An exactly-once sink that MongoDB refuses (a unique index) fails its windows, and no others."""
    world.sink = 'exactly_once'
    world.db.effects.create_index('id', unique=True)
    world.db.effects.insert_one({'id': 't:15'})
    world.append(40)
    consumer = world.consumer(max_attempts=2)
    stream = mb.stream(world.stream, url=world.url)
    world.patiently(stream.dead.list, 20, 'a dead window')
    world.wait_effects(31)
    assert consumer.alive
    world.judge([f't:{n}' for n in range(40) if not 10 <= n < 20], rest=world.left())
