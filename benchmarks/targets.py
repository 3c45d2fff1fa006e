"""What the figures must show, as ratios of medians of one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import appends, backlog, bridges, drain, events, idle, latency, page
from benchmarks.figures import BARE, HANDWRITTEN, MINIBATCH, ORIGINAL, RAW, Figures

PROUD = 40_000 / 95_000


@dataclass(frozen=True)
class Target:
    """A figure, and the limit on the right side of which it must be."""

    text: str
    figure: Callable[[Figures], float | None]
    limit: float
    at_least: bool = True

    def passed(self, figures: Figures) -> bool | None:
        """``None`` if its parts were not measured."""
        value = self.figure(figures)
        if value is None:
            return None
        return value >= self.limit if self.at_least else value < self.limit

    @property
    def wanted(self) -> str:
        """
        >>> Target('p50', lambda figures: 1.0, 5, at_least=False).wanted
        'under 5'
        """
        return f'{"at least" if self.at_least else "under"} {self.limit:.3g}'


def targets() -> list[Target]:
    """All of them, in the order of the parts."""
    return _appends() + _drains() + _rest() + _bridges() + _events() + _page()


def _appends() -> list[Target]:
    cases = [(appends.APPEND, 0.9), (appends.case_of(1_000), 0.85), (appends.case_of(10_000), 0.85)]
    return [
        Target(f'{case}: minibatch to {RAW}',
               lambda f, case=case: f.ratio(appends.PART, case, appends.UNIT, MINIBATCH, RAW), limit)  # type: ignore[misc]
        for case, limit in cases
    ]


def _drains() -> list[Target]:
    def beside(other: str, size: int, members: int, limit: float) -> Target:
        case = drain.case_of(size, members)
        return Target(f'drain, {case}: minibatch to {other}',
                      lambda f: f.ratio(drain.PART, case, drain.UNIT, MINIBATCH, other), limit)

    originals = [beside(ORIGINAL, size, 1, limit) for size, limit in ((1, 20), (100, 50), (1_000, 100))]
    by_hand = [beside(HANDWRITTEN, size, members, 0.8) for size in (100, 1_000, 10_000) for members in (1, 3)]
    return originals + by_hand + [
        Target('drain, size 1,000, 1 consumer: minibatch to raw insert_many of 10,000 without an index', _proud, PROUD)
    ]


def _proud(figures: Figures) -> float | None:
    drained = figures.median(drain.PART, drain.case_of(1_000, 1), MINIBATCH, drain.UNIT)
    inserted = figures.median(appends.PART, appends.case_of(10_000), BARE, appends.UNIT)
    return drained / inserted if drained is not None and inserted else None


def _rest() -> list[Target]:
    def of_backlogs(unit: str, other: int) -> Callable[[Figures], float | None]:
        def ratio(figures: Figures) -> float | None:
            base, long = (figures.median(backlog.PART, backlog.case_of(messages), MINIBATCH, unit)
                          for messages in (other, 1_000_000))
            return long / base if long is not None and base else None
        return ratio

    def of_latency(percent: int) -> Callable[[Figures], float | None]:
        case = latency.case_of(latency.FROM_CALL, percent)
        return lambda figures: figures.median(latency.PART, case, MINIBATCH, latency.UNIT)

    return [
        Target('latency from the call of append to the function, p50, ms', of_latency(50), 5, at_least=False),
        Target('latency from the call of append to the function, p99, ms', of_latency(99), 25, at_least=False),
        Target('commands a second of an idle consumer',
               lambda figures: figures.median(idle.PART, idle.CASE, MINIBATCH, idle.UNIT), 2, at_least=False),
        *(Target(f'rate at a backlog of 1,000,000 to that at {other:,}', of_backlogs(backlog.RATE, other), 0.9)
          for other in (10_000, 100_000)),
        *(Target(f'memory at a backlog of 1,000,000 to that at {other:,}', of_backlogs(backlog.MEMORY, other), 1.2,
                 at_least=False) for other in (10_000, 100_000)),
    ]


def _bridges() -> list[Target]:
    return [
        Target(f'{case}: minibatch to a {bridges.LOOP}',
               lambda f, case=case: f.ratio(bridges.PART, case, bridges.UNIT, MINIBATCH, bridges.LOOP), 0.7)  # type: ignore[misc]
        for case in (bridges.KAFKA_SOURCE, bridges.KAFKA_SINK, bridges.MONGO_SOURCE)
    ]


def _events() -> list[Target]:
    def beside(case: events.Case, limit: float) -> Target:
        other = events.beside(case).name

        def ratio(figures: Figures) -> float | None:
            mine, theirs = (figures.median(events.PART, name, MINIBATCH, events.UNIT) for name in (case.name, other))
            return mine / theirs if mine is not None and theirs else None
        return Target(f'{case.name}: to {other}', ratio, limit)

    return [
        *(beside(case, 0.5) for case in (events.TUMBLING, events.KEYED, events.BY_TIME_AND_KEY)),
        beside(events.OPEN, 0.3),
        Target(f'{events.LONG.name}: rate in the {events.FLAT}',
               lambda figures: figures.median(events.PART, events.LONG.name, MINIBATCH, events.FLAT), 0.8),
    ]


def _page() -> list[Target]:
    def cost(figures: Figures) -> float | None:
        looked, alone = (figures.median(page.PART, case, MINIBATCH, page.UNIT) for case in (page.OPEN, page.NONE))
        return looked / alone if looked is not None and alone else None

    return [
        Target(f'{page.UP}, s', lambda figures: figures.median(page.PART, page.UP, MINIBATCH, page.SECONDS), 1,
               at_least=False),
        Target(f'{page.OPEN}: to {page.NONE}', cost, 0.98),
    ]
