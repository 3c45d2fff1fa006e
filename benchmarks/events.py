"""Windows by what is in messages - event time, keys - beside windows by count of the same size.

All drain a backlog through a function that does nothing. The windows of each case hold as many messages as those of the
``CountWindow`` that they are compared with. One message more, long after all others, lets the last windows be over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

from pymongo import MongoClient

from benchmarks.consumers import consumers
from benchmarks.drain import rate_after_warm_up
from benchmarks.engines import CHUNK, INLINE_ENGINE, MINIBATCH_DB, PROCESS, Engine, Job, database_url
from benchmarks.figures import Figures, TrialFailed, progress

PART, UNIT = 'events', 'msg/s'
FLAT = 'last tenth to second tenth'
LIMIT = 180.0
START = 1_700_000_000
USERS, MANY = 100, 10_000

_trials = count(1)


@dataclass(frozen=True)
class Case:
    """A strategy, and messages whose windows are as large as wanted.

    :ivar size: messages in each window
    :ivar total: messages in one trial
    :ivar options: of ``make_emitter``
    :ivar users: how many keys there are, taking turns
    :ivar per_window: of how many messages in a row the times are in one interval of one second
    """

    name: str
    size: int
    total: int
    options: dict[str, Any] = field(default_factory=dict)
    users: int = USERS
    per_window: int = 0

    def rows(self) -> Iterator[dict[str, Any]]:
        """The messages, in order of their times."""
        per = self.per_window or self.size
        for n in range(self.total):
            yield {'n': n, 'user': f'user-{n % self.users}', 'ts': START + n / per, 'ms': n % 997 / 10}


def counted(size: int, total: int) -> Case:
    """What others are compared with.

    >>> counted(100, 1000).name
    'count, size 100'
    """
    return Case(f'count, size {size:,}', size, total, {'size': size})


TUMBLING = Case('tumbling, size 100', 100, 200_000, {'interval': 1, 'time': 'ts'})
KEYED = Case('count by key, size 100', 100, 200_000, {'size': 100, 'key': 'user'})
BY_TIME_AND_KEY = Case('tumbling by key, size 100', 100, 200_000, {'interval': 1, 'time': 'ts', 'key': 'user'},
                       per_window=100 * USERS)
OPEN = Case('10,000 open windows, size 20', 20, 400_000, {'interval': 1, 'time': 'ts', 'key': 'user'}, MANY, 20 * MANY)
LONG = Case('20,000 windows, size 10', 10, 200_000, {'interval': 1, 'time': 'ts'})
#: each case, and the count to compare it with
CASES = (TUMBLING, KEYED, BY_TIME_AND_KEY, OPEN, LONG)


def beside(case: Case) -> Case:
    """The windows by count that a case is compared with."""
    return counted(case.size, 200_000 if case.size >= 100 else 100_000)


def run(figures: Figures, server: str, client: MongoClient[dict[str, Any]], *, reps: int, scale: float,
        cases: Iterable[Case] = CASES) -> None:
    """All cases, *reps* times, each strategy after the count of its size."""
    for rep in range(reps):
        for case in cases:
            known = {key.case for key, values in figures.values.items() if len(values) > rep}
            for each in (beside(case), case):
                if each.name in known:
                    continue
                for engine in (PROCESS, INLINE_ENGINE):
                    _one(figures, engine, server, client, each, scale, rep)


def _one(figures: Figures, engine: Engine, server: str, client: MongoClient[dict[str, Any]], case: Case, scale: float,
         rep: int) -> None:
    def trial() -> None:
        rate, flat = drain(engine, server, client, case, scale)
        figures.add(PART, case.name, engine.subject, UNIT, rate)
        if case is LONG:
            figures.add(PART, case.name, engine.subject, FLAT, flat)
        progress(f'{PART}, {case.name}, {engine.subject} [{rep + 1}]: {rate:,.0f} {UNIT}, {FLAT} {flat:.2f}')

    figures.attempt(f'{PART}, {case.name}, {engine.subject}', trial)


def drain(engine: Engine, server: str, client: MongoClient[dict[str, Any]], case: Case,
          scale: float) -> tuple[float, float]:
    """Fill a backlog and let one consumer drain it: messages a second, and how the rate changed in the course of it."""
    whole = case.per_window or case.size
    whole = max(whole, case.size * (case.users if 'key' in case.options else 1))
    case = Case(case.name, case.size, max(1, round(case.total * scale / whole)) * whole, case.options, case.users,
                case.per_window)
    job = Job(engine, server, f'events_{time.time_ns()}_{next(_trials)}', case.size, options=case.options)
    is_done = _fill(job, client, case)
    with consumers(job) as group:
        group.go()
        group.wait(lambda: group.seen >= case.total, LIMIT)
        group.wait(is_done, LIMIT)
        end = time.monotonic()
        reports = group.stop()
    events = sorted(event for report in reports for event in report.events)
    if (arrived := sum(n for _, n in events)) - case.total not in (0, 1):  # the last message has come, or waits
        raise TrialFailed(f'{arrived:,} messages of {case.total:,} arrived')
    return rate_after_warm_up(events, case.total, end), tenths(events, case.total)


def tenths(events: list[tuple[float, int]], total: int) -> float:
    """The rate in the last tenth as a part of the rate in the second one; the first is for starting.

    >>> tenths([(float(i), 1) for i in range(91)] + [(90 + 2.0 * i, 1) for i in range(1, 10)], 100)
    0.5...
    """
    times: list[float] = []
    done = 0
    for when, n in events:
        done += n
        while len(times) < 10 and done * 10 >= total * (len(times) + 1):
            times.append(when)
    if len(times) < 10 or times[9] <= times[8]:
        raise TrialFailed('too quick to be divided')
    return (times[1] - times[0]) / (times[9] - times[8])


def _fill(job: Job, client: MongoClient[dict[str, Any]], case: Case) -> Callable[[], bool]:
    import minibatch as mb
    stream = mb.stream(job.stream, url=database_url(job.server, MINIBATCH_DB))
    rows = case.rows()
    for _ in range(0, case.total, CHUNK):
        stream.extend(islice(rows, CHUNK))
    left = 0
    if 'time' in case.options:
        stream.append({'n': case.total, 'user': 'last', 'ts': START + case.total + 1_000, 'ms': 0.0})
        left = 1
    db = client[MINIBATCH_DB]
    mine = {'stream': job.stream}
    return lambda: (db['buffer'].count_documents(mine, limit=2) <= left
                    and db['window'].find_one(mine, {'_id': 1}) is None)
