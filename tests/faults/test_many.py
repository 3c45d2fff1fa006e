"""Many consumers of one stream: they share its windows, come, go, and disagree about the time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.support.world import World

HOUR = 3600.0


@pytest.mark.parametrize('consumers', [2, 5])
def test_from_the_start(world: World, consumers: int) -> None:
    """All start at once on a stream that two producers fill; every window has its exact size, and all take part."""
    started = [world.consumer(size=10, function={'seconds': 0.05}) for _ in range(consumers)]
    world.patiently(lambda: world.db.consumer.count_documents({}) == consumers, 30, 'all of them to be there')
    producers = [world.producer(name, 1000, batch=50, pause=0.02) for name in ('a', 'b')]
    for producer in producers:
        assert producer.wait() == 0, producer.said
    world.wait_drained()

    verdict = world.judge()
    assert verdict.acknowledged == 2000
    assert verdict.windows == 200, 'windows of another size than asked for'
    took_part = Counter(r['pid'] for r in world.log.read('run'))
    assert len(took_part) == len(started), f'only {took_part} of {consumers} ran windows'


def test_joining_and_leaving(world: World) -> None:
    """Consumers come and go while messages flow, one of them by force."""
    producer = world.producer('a', pause=0.002)
    first = world.consumer(size=5)
    world.wait_effects(50)
    second = world.consumer(size=5)
    world.wait_effects(world.effects() + 100)
    first.send(15)
    assert first.wait() == 0, first.said[-3000:]
    world.wait_effects(world.effects() + 100)
    third = world.consumer(size=5)
    world.wait_effects(world.effects() + 100)
    second.kill()
    world.wait_effects(world.effects() + 100)
    producer.kill()
    world.wait_drained(rest=4)  # what does not fill a window waits

    assert third.alive
    world.judge_finished(5)


@pytest.mark.parametrize('options', [{'size': 10}, {'size': None, 'interval': 0.5}], ids=['count', 'time'])
def test_clocks_an_hour_wrong(world: World, options: dict[str, Any]) -> None:
    """Leases, time windows and retries go by the server's clock, whatever the machines believe."""
    world.consumer(clock=HOUR, **options)
    world.consumer(clock=-HOUR, **options)
    producers = [world.producer('early', 300, batch=10, pause=0.01, clock=-HOUR),
                 world.producer('late', 300, batch=10, pause=0.01, clock=HOUR)]
    for producer in producers:
        assert producer.wait() == 0, producer.said
    world.wait_drained()
    assert world.judge().acknowledged == 600


def test_a_dead_consumer_an_hour_ahead(world: World) -> None:
    """The lease of one whose clock is an hour ahead ends when it should, not an hour later."""
    world.append(100)
    victim = world.consumer(clock=HOUR, function={'seconds': 0.2})
    world.patiently(lambda: any(world.log.read('run')), 20, 'a window to run')
    victim.kill()
    world.consumer(clock=-HOUR)
    world.wait_drained(timeout=10)
    world.judge()
