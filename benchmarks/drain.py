"""Drain: how fast a backlog goes through a function that does nothing, and is committed and deleted."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any

from pymongo import MongoClient

from benchmarks import original
from benchmarks.consumers import consumers
from benchmarks.engines import EACH, INLINE_ENGINE, MARK, MOVE, PROCESS, Engine, Job, fill
from benchmarks.figures import HANDWRITTEN, ORIGINAL, Figures, TrialFailed, progress

PART, UNIT = 'drain', 'msg/s'
LIMIT = 120.0
WARM_UP = 0.1
"""Processes, pools and plans need a start: the rate is that of the rest."""

#: messages in one trial, by window size; the slower sides get fewer, or a run would take hours
TOTALS = {1: 20_000, 10: 80_000, 100: 200_000, 1_000: 200_000, 10_000: 400_000}
TOTALS_HANDWRITTEN = {1: 1_500, 10: 8_000, 100: 60_000, 1_000: 200_000, 10_000: 400_000}
#: seconds of one trial of the original, by window size
SECONDS_ORIGINAL = {1: 5.0, 100: 8.0, 1_000: 14.0}

_trials = count(1)


@dataclass
class Drained:
    """The rate after the warm-up, the peak memory of one consumer in megabytes, and the seconds in all.

    :ivar events: when windows were run, and how many messages they had
    """

    rate: float
    memory: float
    seconds: float
    events: list[tuple[float, int]]


def case_of(size: int, consumers_: int) -> str:
    """
    >>> case_of(1000, 1), case_of(1, 3)
    ('size 1,000, 1 consumer', 'size 1, 3 consumers')
    """
    return f'size {size:,}, {consumers_} consumer' + ('' if consumers_ == 1 else 's')


def rate_after_warm_up(events: Iterable[tuple[float, int]], total: int, end: float) -> float:
    """Messages a second from the moment when a tenth of them was done.

    >>> rate_after_warm_up([(5.0, 10), (6.0, 50), (7.0, 40)], 100, 8.0)
    30.0
    """
    done = 0
    for when, n in sorted(events):
        done += n
        if total * WARM_UP <= done < total:
            return (total - done) / (end - when)
    raise TrialFailed(f'{done:,} of {total:,} messages at once: no rate')


def drain(engine: Engine, server: str, client: MongoClient[dict[str, Any]], size: int, total: int,
          members: int) -> Drained:
    """Fill a backlog, let *members* consumers drain it, and see that nothing is lost, doubled or left."""
    job = Job(engine, server, f'drain_{time.time_ns()}_{next(_trials)}', size)
    is_empty = fill(job, client, total)
    with consumers(job, members) as group:
        group.go()
        started = time.monotonic()
        group.wait(lambda: group.seen >= total, LIMIT)
        group.wait(is_empty, LIMIT)
        end = time.monotonic()
        memory = max(member.peak_memory() for member in group.members)
        reports = group.stop()
    events = [event for report in reports for event in report.events]
    if (arrived := sum(n for _, n in events)) != total:
        raise TrialFailed(f'{arrived:,} messages of {total:,} arrived')
    return Drained(rate_after_warm_up(events, total, end), memory, end - started, events)


def run(figures: Figures, server: str, client: MongoClient[dict[str, Any]], *, sizes: Iterable[int],
        members: Iterable[int], reps: int, scale: float, with_original: bool) -> None:
    """All cases, the sides taking turns in each repetition."""
    members = list(members)
    for size in sizes:
        for rep in range(reps):
            for count_ in members:
                case = case_of(size, count_)
                for engine in [PROCESS, INLINE_ENGINE, *_handwritten(figures, size, case)]:
                    totals = TOTALS if engine.kind == 'minibatch' else TOTALS_HANDWRITTEN
                    _one(figures, engine, server, client, size, _whole(totals[size] * scale, size), count_, case, rep)
            if with_original and size in SECONDS_ORIGINAL:
                _original(figures, server, size, _whole(TOTALS[size] * scale, size), rep)
        for count_ in members:
            _crown(figures, size, case_of(size, count_))


def _one(figures: Figures, engine: Engine, server: str, client: MongoClient[dict[str, Any]], size: int, total: int,
         members: int, case: str, rep: int) -> None:
    def trial() -> None:
        result = drain(engine, server, client, size, total, members)
        figures.add(PART, case, engine.subject, UNIT, result.rate)
        progress(f'{PART}, {case}, {engine.subject} [{rep + 1}]: {result.rate:,.0f} {UNIT}, '
                 f'{result.seconds:.1f} s in all, {result.memory:.0f} MB')

    figures.attempt(f'{PART}, {case}, {engine.subject}', trial)


def _original(figures: Figures, server: str, size: int, total: int, rep: int) -> None:
    case = case_of(size, 1)

    def trial() -> None:
        rate = original.drain(server, size, total, SECONDS_ORIGINAL[size])
        figures.add(PART, case, ORIGINAL, UNIT, rate)
        progress(f'{PART}, {case}, {ORIGINAL} [{rep + 1}]: {rate:,.0f} {UNIT}')

    figures.attempt(f'{PART}, {case}, {ORIGINAL}', trial)


def _whole(total: float, size: int) -> int:
    """Whole windows, and enough of them for a rate."""
    return max(5, round(total / size)) * size


def variants(size: int) -> list[Engine]:
    """The ways to claim that a hand-written loop has at a size."""
    return [MARK, MOVE, EACH] if size == 1 else [MARK, MOVE]


def _handwritten(figures: Figures, size: int, case: str) -> list[Engine]:
    """All variants at first; then the best one only."""
    known = {engine: figures.median(PART, case, engine.subject, UNIT) for engine in variants(size)}
    rates = {engine: rate for engine, rate in known.items() if rate is not None}
    return [max(rates, key=lambda engine: rates[engine])] if rates else variants(size)


def _crown(figures: Figures, size: int, case: str) -> None:
    """The hand-written loop's figure is that of its best variant."""
    best = _handwritten(figures, size, case)
    if len(best) == 1:
        for key, values in list(figures.values.items()):
            if (key.part, key.case, key.subject) == (PART, case, best[0].subject):
                for value in values:
                    figures.add(PART, case, HANDWRITTEN, UNIT, value)
