"""Latency: from an append to the function, on the clock that all processes of one machine share."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Any

from pymongo import MongoClient

import minibatch as mb
from benchmarks.consumers import consumers
from benchmarks.engines import (
    EACH,
    HANDWRITTEN_DB,
    INLINE_ENGINE,
    MINIBATCH_DB,
    PROCESS,
    Engine,
    Job,
    database_url,
    fill,
)
from benchmarks.figures import HANDWRITTEN, Figures, percentile, progress
from benchmarks.handwritten import Queue

PART, UNIT = 'latency', 'ms'
PER_SECOND = 50
WARM_UP = 25
"""The first appends pay for the start of pools and connections."""
SETTLE = 2.0
LIMIT = 30.0
FROM_CALL, FROM_RETURN = 'append called to function', 'append returned to function'

_trials = count(1)


def case_of(what: str, percent: int) -> str:
    """
    >>> case_of('append called to function', 50)
    'append called to function, p50'
    """
    return f'{what}, p{percent}'


def run(figures: Figures, server: str, client: MongoClient[dict[str, Any]], *, appends: int, reps: int) -> None:
    """Single appends at 50 a second to an idle consumer of windows of one."""
    for rep in range(reps):
        for engine in (PROCESS, INLINE_ENGINE, EACH):
            subject = HANDWRITTEN if engine is EACH else engine.subject

            def trial(engine: Engine = engine, subject: str = subject, rep: int = rep) -> None:
                for what, values in measure(engine, server, client, appends).items():
                    for percent in (50, 99):
                        figures.add(PART, case_of(what, percent), subject, UNIT, percentile(values, percent))
                    progress(f'{PART}, {what}, {subject} [{rep + 1}]: '
                             f'p50 {percentile(values, 50):.1f}, p99 {percentile(values, 99):.1f} {UNIT}')

            figures.attempt(f'{PART}, {subject}', trial)


def measure(engine: Engine, server: str, client: MongoClient[dict[str, Any]], appends: int) -> dict[str, list[float]]:
    """Milliseconds from before each append, and from its return, to the call of the function."""
    job = Job(engine, server, f'latency_{time.time_ns()}_{next(_trials)}', 1, latency=True)
    fill(job, client, 0)
    append = _append_of(job, client)
    times: list[tuple[int, int]] = []
    with consumers(job) as group:
        group.go()
        time.sleep(SETTLE)
        due = time.monotonic()
        for n in range(WARM_UP + appends):
            called = time.monotonic_ns()
            append({'n': n})
            times.append((called, time.monotonic_ns()))
            due += 1 / PER_SECOND
            time.sleep(max(0.0, due - time.monotonic()))
        group.wait(lambda: group.seen >= len(times), LIMIT)
        stamps = group.stop()[0].stamps
    seen = {stamp['n']: stamp['called'] for stamp in stamps}
    measured = range(WARM_UP, len(times))
    return {
        FROM_CALL: [(seen[n] - times[n][0]) / 1e6 for n in measured],
        # The function may be called before the append's answer has come back; then it took no time at all.
        FROM_RETURN: [max(0, seen[n] - times[n][1]) / 1e6 for n in measured],
    }


def _append_of(job: Job, client: MongoClient[dict[str, Any]]) -> Callable[[dict[str, Any]], None]:
    if job.engine.kind == 'minibatch':
        stream = mb.stream(job.stream, url=database_url(job.server, MINIBATCH_DB))
        return lambda row: stream.append(row)
    queue = Queue(client, HANDWRITTEN_DB, job.stream, job.engine.option, job.size)
    return lambda row: queue.put([row])
