"""A pipeline is killed where one stream hands messages to the next: each is there once, and so is what was counted."""

from __future__ import annotations

from collections import Counter

import pytest

import minibatch as mb
from tests.support.chains import joining
from tests.support.world import World, at

#: What is lost or doubled once is so: nothing here is tried once more.
pytestmark = pytest.mark.flaky(reruns=0)


@pytest.mark.parametrize(('point', 'nth'), [('flow:inserted', 2), ('commit:before', 3), ('commit:done', 2)])
def test_killed_between_two_streams(world: World, point: str, nth: int) -> None:
    """Whatever was not committed is done again, from the messages; what was, is not."""
    world.append(100)
    world.pipeline('counting', at=[at(point, nth=nth)]).wait_killed()
    child = world.pipeline('counting')
    counts = mb.table('counts', url=world.url)
    world.patiently(lambda: sum(counts.values()) >= 100 and not world.db.buffer.count_documents({'stream': 'between'}),
                    15, 'all to be counted')
    assert world.faults() == [point]
    assert dict(counts) == {str(n): 10 for n in range(10)}
    told = [(doc['data']['key'], doc['data']['count']) for doc in world.db.buffer.find({'stream': 'out'})]
    assert len(told) == len(set(told)), 'no result is there twice'
    assert max(Counter(key for key, _ in told).values()) <= 10
    assert {key: max(count for of, count in told if of == key) for key, _ in told} == dict(counts)
    assert child.alive


@pytest.mark.parametrize('point', ['place:deleted', 'commit:effects'])
def test_killed_in_a_join(world: World, point: str) -> None:
    """Messages of both sides wait in the stream; which of them have met is known after a crash, too."""
    world.append(120)
    # All are in the stream of the join then, and wait there until event time has passed them.
    joining(mb.stream(world.stream, url=world.url)).run(blocking=False, executor='inline')
    world.pipeline('joining', at=[at(point)]).wait_killed()
    world.pipeline('joining')
    world.patiently(lambda: world.db.buffer.count_documents({'stream': 'out'}) >= 120, 20, 'all to be joined')
    pairs = [doc['data'] for doc in world.db.buffer.find({'stream': 'out'})]
    assert len(pairs) == 120
    assert {each['key'] for each in pairs} == set(range(120))
    assert sum(each['left'] is None for each in pairs) == sum(each['right'] is None for each in pairs) == 40
    assert world.db.buffer.count_documents({'stream': {'$ne': 'out'}}) == 0


def test_ended_by_a_signal(world: World) -> None:
    """SIGTERM: what runs is finished and committed in all passes, and what waits stays."""
    world.append(500)
    child = world.pipeline('counting', at=[at('flow:inserted', do='SIGTERM', nth=3)])
    assert child.wait() == 0
    assert any(world.log.read('ended'))
    assert world.db.window.count_documents({'state': {'$ne': 'ready'}}) == 0
    counted = sum(mb.table('counts', url=world.url).values())
    left = world.db.buffer.count_documents({'stream': {'$in': [world.stream, 'between']}})
    waiting = sum(window['n'] for window in world.db.window.find({'state': 'ready'}))
    assert counted + left + waiting == 500
