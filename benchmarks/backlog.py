"""Backlog: whether a long one slows a consumer down, or makes it grow.

A drain of 10,000 messages is over before it has a rate: most of it is the start. So the short backlogs come to a
consumer that is warm, one after another, each as a whole (in one transaction), and their rate is that from there to the
last commit. The middle and the long one are drains like those of the part "drain", and compare with each other.
"""

from __future__ import annotations

import statistics
import time
from itertools import count
from typing import Any

from pymongo import MongoClient

from benchmarks.consumers import consumers
from benchmarks.drain import LIMIT, Drained, drain
from benchmarks.engines import HANDWRITTEN_DB, MINIBATCH_DB, MOVE, PROCESS, Engine, Job, fill
from benchmarks.figures import HANDWRITTEN, Figures, TrialFailed, progress
from benchmarks.messages import rows, stored

PART, RATE, MEMORY = 'backlog', 'msg/s', 'MB'
SIZE = 1_000
SHORT, MIDDLE = 10_000, 100_000
WAVES = 12
WARM_UP_WAVES = 2

_trials = count(1)


def case_of(backlog: int) -> str:
    """
    >>> case_of(10000)
    'backlog of 10,000'
    """
    return f'backlog of {backlog:,}'


def run(figures: Figures, server: str, client: MongoClient[dict[str, Any]], *, long: int, reps: int) -> None:
    """Drain at size 1,000 with one consumer: its rate, and the peak memory of the consumer's processes."""
    for rep in range(reps):
        for backlog in (SHORT, MIDDLE, long):
            for engine in (PROCESS, MOVE):
                subject = HANDWRITTEN if engine is MOVE else engine.subject

                def trial(backlog: int = backlog, engine: Engine = engine, subject: str = subject,
                          rep: int = rep) -> None:
                    result = (waves(engine, server, client) if backlog == SHORT
                              else drain(engine, server, client, SIZE, backlog, 1))
                    figures.add(PART, case_of(backlog), subject, RATE, result.rate)
                    figures.add(PART, case_of(backlog), subject, MEMORY, result.memory)
                    progress(f'{PART}, {case_of(backlog)}, {subject} [{rep + 1}]: {result.rate:,.0f} {RATE}, '
                             f'{result.memory:.0f} {MEMORY}')

                figures.attempt(f'{PART}, {case_of(backlog)}, {subject}', trial)


def waves(engine: Engine, server: str, client: MongoClient[dict[str, Any]]) -> Drained:
    """The median rate of short backlogs that come to a warm consumer."""
    job = Job(engine, server, f'waves_{time.time_ns()}_{next(_trials)}', SIZE)
    is_empty = fill(job, client, 0)
    seconds = []
    with consumers(job) as group:
        group.go()
        for wave in range(1, WAVES + 1):
            began = _put_at_once(job, client)
            group.wait(lambda wave=wave: group.seen >= wave * SHORT and is_empty(), LIMIT)  # type: ignore[misc]
            seconds.append(time.monotonic() - began)
        memory = group.members[0].peak_memory()
        reports = group.stop()
    events = reports[0].events
    if (arrived := sum(n for _, n in events)) != WAVES * SHORT:
        raise TrialFailed(f'{arrived:,} messages of {WAVES * SHORT:,} arrived')
    return Drained(SHORT / statistics.median(seconds[WARM_UP_WAVES:]), memory, sum(seconds), events)


def _put_at_once(job: Job, client: MongoClient[dict[str, Any]]) -> float:
    """A whole backlog that becomes visible in one moment; returns the time just before it."""
    if job.engine.kind == 'minibatch':
        collection, documents = client[MINIBATCH_DB]['buffer'], stored(SHORT, job.stream)
    else:
        collection = client[HANDWRITTEN_DB][f'{job.stream}.messages']
        documents = [{'data': row, 'window': None, 'until': None} for row in rows(SHORT)]
    with client.start_session() as session, session.start_transaction():
        collection.insert_many(documents, session=session)
        began = time.monotonic()
    return began
