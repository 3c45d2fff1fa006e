"""What was measured: values of repeated trials, and their medians."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

MINIBATCH = 'minibatch'
INLINE = 'minibatch, inline'
HANDWRITTEN = 'hand-written'
RAW = 'raw pymongo'
BARE = 'raw pymongo, no index'
ORIGINAL = 'minibatch 0.6.0'


class TrialFailed(Exception):
    """One trial did not end as it should: its figure is left out, and the others go on."""


@dataclass(frozen=True, order=True)
class Key:
    """Names one figure: the part of the benchmark, the case in it, who did the work, what was measured.

    >>> Key('drain', 'size 100, 1 consumer', 'hand-written', 'msg/s').subject
    'hand-written'
    """

    part: str
    case: str
    subject: str
    unit: str


@dataclass
class Figures:
    """All values of a run, by key, in the order in which they came.

    >>> figures = Figures()
    >>> for value in (3.0, 1.0, 2.0):
    ...     figures.add('drain', 'size 1', 'raw pymongo', 'msg/s', value)
    >>> figures.median('drain', 'size 1', 'raw pymongo', 'msg/s')
    2.0
    >>> figures.median('drain', 'size 1', 'nobody', 'msg/s') is None
    True
    """

    values: dict[Key, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, part: str, case: str, subject: str, unit: str, value: float) -> None:
        """Add the value of one trial."""
        self.values.setdefault(Key(part, case, subject, unit), []).append(value)

    def median(self, part: str, case: str, subject: str, unit: str) -> float | None:
        """The median of what was measured so far, or ``None``."""
        values = self.values.get(Key(part, case, subject, unit))
        return statistics.median(values) if values else None

    def ratio(self, part: str, case: str, unit: str, subject: str, other: str) -> float | None:
        """The median of *subject* as a part of that of *other*, or ``None`` if one of them is missing."""
        mine, theirs = self.median(part, case, subject, unit), self.median(part, case, other, unit)
        return mine / theirs if mine is not None and theirs else None

    def attempt(self, what: str, trial: Callable[[], None]) -> None:
        """Run one trial; a failure is told and written down, and the run goes on."""
        try:
            trial()
        except TrialFailed as error:
            self.failures.append(f'{what}: {error}')
            progress(f'{what}: FAILED: {error}')


def progress(text: str) -> None:
    """Say on standard error what goes on: a full run takes a quarter of an hour."""
    print(text, file=sys.stderr, flush=True)


def percentile(values: list[float], percent: float) -> float:
    """The value that *percent* of the values do not exceed (nearest rank).

    >>> percentile([float(i) for i in range(1, 101)], 99)
    99.0
    """
    ordered = sorted(values)
    rank = max(0, min(len(ordered) - 1, round(percent / 100 * len(ordered)) - 1))
    return ordered[rank]
