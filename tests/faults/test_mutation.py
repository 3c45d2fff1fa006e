"""Remove a guard, and the oracle must say so.

Random faults alone prove little: without its fence a prototype of this engine survived 80 s of them. So each guard has
a schedule that needs it (see ``tests/support/mutations.py``).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.oracle import Verdict
from tests.support.world import World, at

#: longer than the lease, the recovery and the work need, and far shorter than the server's own patience
SOON = 5.0


def wake_up_late(world: World, point: str, mutations: list[str]) -> Verdict:
    """One is stopped at *point* and wakes up when another has done all the work."""
    world.append(100)
    zombie = world.consumer(at=[at(point, 'stop')], mutate=mutations)
    zombie.wait_stopped()
    world.consumer(mutate=mutations)
    world.wait_effects(100)
    zombie.resume()
    world.append(50, 'later')
    try:
        world.wait_effects(150, SOON)
        world.wait_drained(SOON)
    except AssertionError:
        return Verdict(left=1)
    return world.verdict()


def die(world: World, point: str, mutations: list[str]) -> Verdict:
    """One dies at *point*; another has some seconds to do all the work."""
    world.append(100)
    world.consumer(at=[at(point)], mutate=mutations).wait_killed()
    world.consumer(mutate=mutations)
    try:
        world.wait_drained(SOON)
    except AssertionError:
        return Verdict(left=1)
    return world.verdict()


def wake_up_meanwhile(world: World, point: str, mutations: list[str]) -> Verdict:
    """One is stopped at *point* and wakes up while another runs the window: it may not end that run."""
    world.append(10)
    zombie = world.consumer(at=[at(point, 'stop')], mutate=mutations, trace=True, lease=0.5)
    zombie.wait_stopped()
    other = world.consumer(mutate=mutations, function={'seconds': 3.0}, lease=5)
    world.patiently(lambda: [r for r in world.log.read('run') if r['pid'] == other.pid], 10, 'the other to run it')
    zombie.resume()
    world.patiently(lambda: [r for r in world.log.read('point')
                              if r['pid'] == zombie.pid and r['name'] == 'commit:done'], 10, 'the late commit')
    state = world.db.window.find_one({'stream': world.stream})['state']
    assert not [r for r in world.log.read('returned') if r['pid'] == other.pid], 'too late to tell'
    if state != 'running':
        return Verdict(in_two_windows=1, examples=[f'the late one made it {state}'])
    world.wait_drained(SOON)
    return world.verdict()


@pytest.mark.parametrize(('guard', 'schedule', 'point', 'keep', 'sink'), [
    ('token', wake_up_meanwhile, 'run:done', True, 'plain'),
    ('fence', wake_up_late, 'commit:before', True, 'exactly_once'),
    ('mark', wake_up_late, 'cut:allocated', True, 'plain'),
    ('move', wake_up_late, 'cut:allocated', False, 'plain'),
    ('killSessions', die, 'commit:effects', False, 'exactly_once'),
    ('roll forward', die, 'mark:intended', True, 'plain'),
    ('recover', die, 'run:done', False, 'plain'),
    ('all or nothing', wake_up_late, 'commit:before', False, 'exactly_once'),
])
def test_a_guard_is_needed(
    world: World, guard: str, schedule: Callable[[World, str, list[str]], Verdict], point: str, keep: bool, sink: str,
) -> None:
    world.keep, world.sink = keep, sink
    verdict = schedule(world, point, [guard])
    assert verdict.wrongs, f'nobody noticed that the guard is missing: {verdict}\n{world.describe()}'


@pytest.mark.parametrize(('schedule', 'point', 'keep', 'sink'), [
    (wake_up_meanwhile, 'run:done', True, 'plain'), (wake_up_late, 'commit:before', True, 'exactly_once')])
def test_the_same_with_all_guards(
    world: World, schedule: Callable[[World, str, list[str]], Verdict], point: str, keep: bool, sink: str,
) -> None:
    """The other schedules are, without their mutation, tests of the other modules."""
    world.keep, world.sink = keep, sink
    verdict = schedule(world, point, [])
    assert not verdict.wrongs, f'{verdict}\n{world.describe()}'
