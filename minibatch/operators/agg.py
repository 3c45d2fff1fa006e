"""Aggregators by name, for ``aggregate(total=agg.sum('ms'), p95=agg.quantile(0.95, 'ms'))``.

>>> str(sum('ms')), str(quantile(0.95, 'ms')), named('p95', ('quantile', 0.95, 'ms')).of([1, 2, 3])
("sum('ms')", "quantile(0.95, 'ms')", 2.9)
"""

from __future__ import annotations

from typing import Any

from minibatch.errors import OptionError, did_you_mean
from minibatch.frames import framed
from minibatch.operators.aggregators import (
    Aggregator,
    Apply,
    Collect,
    Count,
    First,
    Last,
    Max,
    Mean,
    Min,
    Quantile,
    Reduce,
    Std,
    Sum,
    Top,
)

count, sum, min, max, mean, std = Count, Sum, Min, Max, Mean, Std  # noqa: A001 (the names that people know)
quantile, first, last, top, collect, reduce = Quantile, First, Last, Top, Collect, Reduce

BY_NAME: dict[str, type[Aggregator]] = {
    each.name: each for each in (Count, Sum, Min, Max, Mean, Std, Quantile, First, Last, Top, Collect, Reduce)}


def named(name: str, given: Any, as_: str | None = None) -> Aggregator:
    """The aggregator that a user means by ``aggregate(name=given)``.

    :param given: one of this module; its name (``'count'``); its name and its arguments (``('sum', 'ms')``); or a
        function of the list of messages
    :param as_: which data frame of the messages a function gets
    :raises minibatch.errors.OptionError: it is none of these
    """
    if isinstance(given, Aggregator):
        return given
    if isinstance(given, type) and issubclass(given, Aggregator):
        return given()
    if isinstance(given, str):
        given = (given,)
    if isinstance(given, (tuple, list)) and given and isinstance(given[0], str):
        kind = BY_NAME.get(given[0])
        if kind is None:
            near = did_you_mean(given[0], BY_NAME) or f'; there are {", ".join(BY_NAME)}'
            raise OptionError(f'aggregate({name}=...): there is no aggregator {given[0]!r}{near}')
        try:
            return kind(*given[1:])
        except TypeError as error:
            raise OptionError(f'aggregate({name}={given!r}): {error}') from error
    if callable(given):
        return Apply(framed(given, as_))
    raise OptionError(f"aggregate({name}=...) takes an aggregator such as ('sum', 'ms') or agg.sum('ms'), or a "
                      f'function of the list of messages, not {given!r}')
