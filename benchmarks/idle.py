"""Idle cost: the commands that a consumer sends while there is nothing to do."""

from __future__ import annotations

import time
from collections import Counter
from itertools import count
from typing import Any

from pymongo import MongoClient

from benchmarks.consumers import consumers
from benchmarks.engines import MOVE, PROCESS, Engine, Job, fill
from benchmarks.figures import HANDWRITTEN, Figures, progress

PART, UNIT = 'idle', 'commands/s'
CASE = 'one idle consumer'
SETTLE = 6.0
"""Polls back off: the cost is that of a consumer that has been idle for a while."""
DRAINED = 1_000

_trials = count(1)


def run(figures: Figures, server: str, client: MongoClient[dict[str, Any]], *, seconds: float, reps: int) -> None:
    """Count the commands of an idle consumer that has drained a little before."""
    for rep in range(reps):
        for engine in (PROCESS, MOVE):
            subject = HANDWRITTEN if engine is MOVE else engine.subject

            def trial(engine: Engine = engine, subject: str = subject, rep: int = rep) -> None:
                names = measure(engine, server, client, seconds)
                rate = sum(names.values()) / seconds
                figures.add(PART, CASE, subject, UNIT, rate)
                progress(f'{PART}, {subject} [{rep + 1}]: {rate:.2f} {UNIT} {dict(names)}')

            figures.attempt(f'{PART}, {subject}', trial)


def measure(engine: Engine, server: str, client: MongoClient[dict[str, Any]], seconds: float) -> Counter[str]:
    """The commands of the driver in the consumer's process, by name, in *seconds*; its heartbeats are not in it."""
    job = Job(engine, server, f'idle_{time.time_ns()}_{next(_trials)}', 100, listen=True)
    is_empty = fill(job, client, DRAINED)
    with consumers(job) as group:
        group.go()
        group.wait(lambda: group.seen >= DRAINED and is_empty(), 60.0)
        time.sleep(SETTLE)
        begin = time.monotonic()
        time.sleep(seconds)
        end = time.monotonic()
        sent = group.stop()[0].commands
    return Counter(name for when, name in sent if begin <= when < end)
