"""Some seconds of random SIGKILL and SIGSTOP, from a seed that the failure's message names."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from functools import partial

import pytest
from pymongo.errors import PyMongoError

from tests.support.mongod import Deployment
from tests.support.processes import Child
from tests.support.waiting import wait_until
from tests.support.world import LEASE, World

SECONDS = float(os.environ.get('MINIBATCH_CHAOS_SECONDS', '5'))
SEED = int(os.environ.get('MINIBATCH_CHAOS_SEED', '0')) or random.randrange(1, 1 << 30)


@pytest.mark.parametrize(('sink', 'keep'), [('plain', False), ('exactly_once', False), ('exactly_once', True)])
def test_chaos(world: World, sink: str, keep: bool) -> None:
    chaos(world, sink, keep)


def test_chaos_with_elections(world_of_three: World, trio: Deployment) -> None:
    """As well as consumers and producers, the primary is killed now and then."""
    chaos(world_of_three, 'exactly_once', False, trio)


def past(moment: float) -> bool:
    return time.monotonic() > moment


def chaos(world: World, sink: str, keep: bool, trio: Deployment | None = None) -> None:
    world.sink, world.keep = sink, keep
    chance = random.Random(SEED)
    print(f'MINIBATCH_CHAOS_SEED={SEED}')
    numbers = iter(range(1_000_000))
    done: Counter[str] = Counter()

    def consumer() -> Child:
        return world.consumer(size=chance.choice([7, 10, 50]), function={'seconds': 0.002}, max_attempts=100,
                              executor=chance.choice(['inline', 'inline', 'process']), workers=2)

    def producer() -> Child:
        return world.producer(f'p{next(numbers)}', batch=chance.choice([1, 20]), pause=0.01)

    consumers, producers = [consumer() for _ in range(3)], [producer() for _ in range(2)]
    world.wait_effects(50)
    end = time.monotonic() + SECONDS
    wake: list[tuple[float, Child]] = []
    elections = [end - SECONDS * 0.8, end - SECONDS * 0.3] if trio else []
    while time.monotonic() < end:
        pause = time.monotonic() + chance.uniform(0.1, 0.6)
        wait_until(partial(past, pause), 2)
        for at, child in list(wake):
            if time.monotonic() > at:
                child.resume()
                wake.remove((at, child))
        if trio and elections and time.monotonic() > elections[0]:
            elections.pop(0)
            done['kill primary'] += 1
            trio.primary.kill()
            trio.primary  # noqa: B018 -- it is waited for
            for node in trio.nodes:
                if not node.alive:
                    node.start()
            continue
        fault = chance.choice(['kill', 'kill', 'stop', 'kill producer'])
        done[fault] += 1
        if fault == 'kill producer':
            i = chance.randrange(len(producers))
            producers[i].kill()
            producers[i] = producer()
        else:
            i = chance.randrange(len(consumers))
            if fault == 'kill':
                wake = [(at, child) for at, child in wake if child is not consumers[i]]
                consumers[i].kill()
                consumers[i] = consumer()
            elif all(child is not consumers[i] for _, child in wake):
                consumers[i].pause()
                wake.append((time.monotonic() + chance.uniform(0.2, 2) * LEASE, consumers[i]))
    for _, child in wake:
        child.resume()
    for child in producers:
        child.kill()
    for child in consumers:
        assert child.alive, f'{child.process.returncode} {child.said[-3000:]}'
    if trio:
        trio.repair()
    # a rest smaller than any window's size waits; give it company, so that all must go through
    world.append(50, 'last')
    with contextlib.suppress(PyMongoError):
        world.wait_drained(30, rest=49)

    verdict = world.judge_finished(50)
    print(f'seed {SEED}: {dict(done)}; {verdict}')
    assert verdict.acknowledged > 200
