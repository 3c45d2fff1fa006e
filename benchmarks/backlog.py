"""Backlog: whether a long one slows a consumer down, or makes it grow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pymongo import MongoClient

from benchmarks.drain import drain
from benchmarks.engines import MOVE, PROCESS, Engine
from benchmarks.figures import HANDWRITTEN, Figures, progress

PART, RATE, MEMORY = 'backlog', 'msg/s', 'MB'
SIZE = 1_000


def case_of(backlog: int) -> str:
    """
    >>> case_of(10000)
    'backlog of 10,000'
    """
    return f'backlog of {backlog:,}'


def run(figures: Figures, server: str, client: MongoClient[dict[str, Any]], *, backlogs: Iterable[int],
        reps: int) -> None:
    """Drain each backlog at size 1,000 with one consumer: its rate, and the peak memory of the consumer's processes."""
    for rep in range(reps):
        for backlog in backlogs:
            for engine in (PROCESS, MOVE):
                subject = HANDWRITTEN if engine is MOVE else engine.subject

                def trial(backlog: int = backlog, engine: Engine = engine, subject: str = subject,
                          rep: int = rep) -> None:
                    result = drain(engine, server, client, SIZE, backlog, 1)
                    figures.add(PART, case_of(backlog), subject, RATE, result.rate)
                    figures.add(PART, case_of(backlog), subject, MEMORY, result.memory)
                    progress(f'{PART}, {case_of(backlog)}, {subject} [{rep + 1}]: {result.rate:,.0f} {RATE}, '
                             f'{result.memory:.0f} {MEMORY}')

                figures.attempt(f'{PART}, {case_of(backlog)}, {subject}', trial)
