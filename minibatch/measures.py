"""How long, how large, how late: distributions of numbers, counted in buckets that can be added up over consumers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

#: Upper bounds of times, in microseconds: from a quick function to one that takes ten minutes.
TIMES = tuple(round(seconds * 1e6) for seconds in (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600))
#: Upper bounds of sizes, in messages.
SIZES = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000)
#: What is measured of windows: the name, its bounds, and how many of its units are one of those that people are told.
MEASURED: dict[str, tuple[tuple[int, ...], float]] = {'duration': (TIMES, 1e6), 'queue': (TIMES, 1e6),
                                                     'latency': (TIMES, 1e6), 'size': (SIZES, 1.0)}
_MORE = 'inf'


class Histogram:
    """Counts numbers by the bucket that they fall into; one thread adds, any may read.

    :param bounds: the largest number of each bucket, in order; what is larger falls into a last one

    >>> sizes = Histogram((1, 10))
    >>> for n in (1, 5, 7, 200):
    ...     sizes.add(n)
    >>> sizes.totals('size')
    {'size.1': 1, 'size.10': 2, 'size.inf': 1, 'size.sum': 213}
    """

    def __init__(self, bounds: Sequence[int]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0

    def add(self, number: int) -> None:
        """Count one more."""
        self._counts[bisect_left(self._bounds, number)] += 1
        self._sum += number

    def totals(self, name: str) -> dict[str, int]:
        """What was counted so far, under the names by which a stream's totals are stored."""
        found = {f'{name}.{bound}': n for bound, n in zip((*self._bounds, _MORE), self._counts, strict=True) if n}
        return found | ({f'{name}.sum': self._sum} if found else {})


def histograms(stats: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What a stream's totals say of its windows, in seconds and messages.

    A bucket has a place of its own in the totals, named by its bound; so consumers of versions with other bounds count
    side by side.

    :param stats: the totals, as they are stored
    :return: for each of ``duration``, ``queue``, ``latency`` and ``size``: ``buckets``, pairs of an upper bound and how
        many were no larger (the last bound is infinite, its number that of all), and their ``sum``

    >>> found = histograms({'size': {'1': 1, '10': 2, 'inf': 1, 'sum': 213}})['size']
    >>> [each for each in found['buckets'] if each[0] in (1, 10, float('inf'))], found['sum']
    ([(1.0, 1), (10.0, 3), (inf, 4)], 213.0)
    """
    return {name: _histogram(stats.get(name) or {}, bounds, unit) for name, (bounds, unit) in MEASURED.items()}


def _histogram(stored: Mapping[str, Any], bounds: Sequence[int], unit: float) -> dict[str, Any]:
    counts = {float(bound): 0 for bound in bounds} | {
        float(bound): int(n) for bound, n in stored.items() if bound != 'sum'}
    counts.setdefault(float(_MORE), 0)
    buckets, total = [], 0
    for bound in sorted(counts):
        total += counts[bound]
        buckets.append((bound / unit, total))
    return {'buckets': buckets, 'sum': float(stored.get('sum', 0)) / unit}


def quantile(buckets: Sequence[tuple[float, int]], q: float) -> float | None:
    """About how large the smallest number is that a share *q* of all does not exceed; ``None`` if there are none.

    Exact to the width of a bucket, between whose bounds the numbers are taken to lie evenly.

    :param buckets: as :func:`histograms` has them
    :param q: from 0 to 1

    >>> quantile([(1.0, 50), (2.0, 100), (float('inf'), 100)], 0.75)
    1.5
    """
    total = buckets[-1][1] if buckets else 0
    if not total:
        return None
    wanted, low, before = q * total, 0.0, 0
    for bound, upto in buckets:
        if upto >= wanted and upto > before:
            return low if bound == float('inf') else low + (bound - low) * (wanted - before) / (upto - before)
        low, before = (low if bound == float('inf') else bound), upto
    return low
