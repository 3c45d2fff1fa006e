"""A pipeline is killed where one stream hands messages to the next: each is there once, and so is what was counted."""

from __future__ import annotations

from collections import Counter

import pytest

import minibatch as mb
from tests.support.world import World, at


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
