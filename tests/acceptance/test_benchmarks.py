"""The yardstick is honest: the hand-written loop keeps the promises that it is compared by. And the table tells."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import Any

import pytest

from benchmarks import drain, report
from benchmarks.engines import client_of
from benchmarks.figures import HANDWRITTEN, MINIBATCH, Figures
from benchmarks.handwritten import Claimed, Queue
from tests.support import mongod

LEASE = 1.0
MESSAGES = 60
SIZE = {'each': 1, 'mark': 10, 'move': 10}


def numbers(window: Claimed) -> list[int]:
    return [row['n'] for row in window.data]


def consume_until_killed(server: str, database: str, variant: str, where: str) -> None:
    """A consumer that dies in its third window: while it claims it, or after it ran and before it commits."""
    queue = Queue(client_of(server), database, 'queue', variant, SIZE[variant], LEASE)
    windows = 0

    def done(result: Any) -> None:
        nonlocal windows
        windows += 1
        if windows == 3 and where == 'commit':
            os.kill(os.getpid(), signal.SIGKILL)
        if windows == 2 and where == 'claim':
            queue._insert = lambda *args: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]

    queue.run(numbers, done, lambda: False)


@pytest.mark.parametrize(('variant', 'where'), [('each', 'commit'), ('mark', 'commit'), ('move', 'commit'),
                                                ('mark', 'claim'), ('move', 'claim')])
def test_the_hand_written_loop_survives_a_kill(server: mongod.Deployment, url: str, dbname: str, variant: str,
                                               where: str) -> None:
    """Given a consumer that was killed, when another one drains, then it gets every message that was not committed."""
    queue = Queue(server.client, dbname, 'queue', variant, SIZE[variant], LEASE)
    queue.create()
    queue.put([{'n': n} for n in range(MESSAGES)])
    victim = multiprocessing.get_context('spawn').Process(target=consume_until_killed,
                                                          args=(url, dbname, variant, where))
    victim.start()
    victim.join(60)
    assert victim.exitcode == -signal.SIGKILL
    seen: list[int] = []
    until = time.monotonic() + 30

    def drained() -> bool:
        left = queue.messages.count_documents({}) + queue.windows.count_documents({})
        return left == 0 or time.monotonic() > until

    queue.run(numbers, seen.extend, drained)

    assert seen, 'nothing was left to the survivor'
    assert queue.messages.count_documents({}) == 0
    committed_before = 2 * SIZE[variant]
    assert sorted(seen) == list(range(committed_before, MESSAGES))


def test_a_ratio_below_its_target_is_told() -> None:
    """Given figures of one case, when reported, then its ratio fails, and what was not measured is not judged."""
    figures = Figures()
    case = drain.case_of(100, 1)
    figures.add(drain.PART, case, MINIBATCH, drain.UNIT, 700.0)
    figures.add(drain.PART, case, HANDWRITTEN, drain.UNIT, 1_000.0)

    text = report.markdown(figures, {'CPUs': '2'})

    [line] = [line for line in text.splitlines() if f'{case}: minibatch to {HANDWRITTEN}' in line]
    assert '0.70' in line
    assert 'FAIL' in line
    assert 'not measured' in text
