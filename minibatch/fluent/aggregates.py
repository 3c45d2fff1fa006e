"""Operators that make one result of many messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minibatch.fluent.base import Fluent, operators

if TYPE_CHECKING:
    from minibatch.operators.pipeline import Pipeline


@operators
class Aggregates(Fluent):
    """Aggregates of a window, or of each group in it.

    A result is a dict: ``key`` (of the group, or of the window), ``start`` and ``end`` and ``window`` (the id) of the
    window, and the value under the operator's name, or under *name*.

    A field is a dotted path, or a function of the message; without one, the value is the message itself. Numbers that
    are ``None`` or NaN are left out; a field that is not there is an error.
    """

    def aggregate(self, *, as_: str | None = None, **parts: Any) -> Pipeline:
        """Several values at once, each under a name of its own.

        Without ``window(...)`` it goes on for ever: what there is so far is kept in a table, changed in the transaction
        that commits the messages, and each result says what it is now. That cannot be done with ``quantile``,
        ``collect`` and functions of all messages.

        :param parts: for each name ``('sum', 'ms')``, ``('quantile', 0.95, 'ms')``, ``'count'``, one of ``mb.agg``
            such as ``agg.sum('ms')``, or a function of the list of messages
        :param as_: ``'pandas'``, ``'polars'`` or ``'arrow'``: functions get such a frame of the messages
        :raises minibatch.errors.OptionError: one of them is none of these

        >>> import minibatch as mb
        >>> stream, seen = mb.stream('docs-aggregate'), []
        >>> stream.extend({'ms': ms} for ms in (10, 20, 40))
        3
        >>> hour = stream.window(size=3).aggregate(n='count', total=('sum', 'ms'), p50=('quantile', 0.5, 'ms'))
        >>> hour.to(seen.append).run(blocking=False, executor='inline')
        >>> [(each['n'], each['total'], each['p50']) for each in seen]
        [(3, 70, 20)]
        """
        from minibatch.operators.agg import named
        from minibatch.operators.build import aggregated
        return aggregated(self._pipeline(), {name: named(name, given, as_) for name, given in parts.items()})

    def _one(self, name: str | None, aggregator: Any) -> Pipeline:
        from minibatch.operators.build import aggregated
        return aggregated(self._pipeline(), {name or aggregator.name: aggregator})

    def count(self, *, name: str | None = None) -> Pipeline:
        """How many messages.

        :param name: of the value in the result (default: ``'count'``)
        """
        from minibatch.operators import agg
        return self._one(name, agg.count())

    def sum(self, field: Any = None, *, name: str | None = None) -> Pipeline:
        """The sum of a field; 0 of no messages.

        :param field: see :class:`Aggregates`
        :param name: of the value in the result (default: ``'sum'``)
        """
        from minibatch.operators import agg
        return self._one(name, agg.sum(field))

    def min(self, field: Any = None, *, name: str | None = None) -> Pipeline:
        """The least value of a field; ``None`` of no messages.

        :param field: see :class:`Aggregates`
        :param name: of the value in the result (default: ``'min'``)
        """
        from minibatch.operators import agg
        return self._one(name, agg.min(field))

    def max(self, field: Any = None, *, name: str | None = None) -> Pipeline:
        """The greatest value of a field; ``None`` of no messages.

        :param field: see :class:`Aggregates`
        :param name: of the value in the result (default: ``'max'``)
        """
        from minibatch.operators import agg
        return self._one(name, agg.max(field))

    def mean(self, field: Any = None, *, name: str | None = None) -> Pipeline:
        """The arithmetic mean of a field; ``None`` of no messages.

        :param field: see :class:`Aggregates`
        :param name: of the value in the result (default: ``'mean'``)
        """
        from minibatch.operators import agg
        return self._one(name, agg.mean(field))

    def std(self, field: Any = None, *, ddof: int = 1, name: str | None = None) -> Pipeline:
        """The standard deviation of a field, of a sample as in pandas; ``None`` of too few messages.

        :param field: see :class:`Aggregates`
        :param ddof: 1: of a sample (divided by n - 1); 0: of a population (divided by n)
        :param name: of the value in the result (default: ``'std'``)
        """
        from minibatch.operators import agg
        return self._one(name, agg.std(field, ddof=ddof))

    def quantile(self, q: float, field: Any = None, *, name: str | None = None) -> Pipeline:
        """The value below which the part *q* of a window lies: exact, interpolated as numpy and pandas do.

        :param q: from 0 to 1
        :param field: see :class:`Aggregates`
        :param name: of the value in the result (default: ``'quantile'``)
        """
        from minibatch.operators import agg
        return self._one(name, agg.quantile(q, field))

    def first(self, field: Any = None, *, name: str | None = None) -> Pipeline:
        """The first message, or its field, in the order of the window.

        :param field: see :class:`Aggregates`
        :param name: of the value in the result (default: ``'first'``)
        """
        from minibatch.operators import agg
        return self._one(name, agg.first(field))

    def last(self, field: Any = None, *, name: str | None = None) -> Pipeline:
        """The last message, or its field, in the order of the window.

        :param field: see :class:`Aggregates`
        :param name: of the value in the result (default: ``'last'``)
        """
        from minibatch.operators import agg
        return self._one(name, agg.last(field))

    def top(self, n: int, by: Any = None, *, least: bool = False, name: str | None = None) -> Pipeline:
        """The *n* messages with the greatest values, best first; equal ones as they came.

        :param n: how many, 1 or more
        :param by: see *field* of :class:`Aggregates`
        :param least: those with the smallest values
        :param name: of the list in the result (default: ``'top'``)
        """
        from minibatch.operators import agg
        return self._one(name, agg.top(n, by, least=least))

    def collect(self, field: Any = None, *, name: str | None = None) -> Pipeline:
        """All messages of a window, or their fields, as a list.

        :param field: see :class:`Aggregates`
        :param name: of the list in the result (default: ``'collect'``)
        """
        from minibatch.operators import agg
        return self._one(name, agg.collect(field))

    def reduce(self, fn: Any, start: Any = None, *, field: Any = None, name: str | None = None) -> Pipeline:
        """What ``fn(so_far, message)`` makes of one message after another.

        :param fn: a function of what there is so far and the next message, plain or a coroutine function
        :param start: what there is before the first message; ``None``: the first message is
        :param field: see :class:`Aggregates`
        :param name: of the value in the result (default: ``'reduce'``)

        >>> import minibatch as mb
        >>> stream, seen = mb.stream('docs-reduce'), []
        >>> stream.extend({'n': n} for n in (2, 3, 4))
        3
        >>> product = stream.window(size=3).reduce(lambda so_far, n: so_far * n, field='n')
        >>> product.to(seen.append).run(blocking=False, executor='inline')
        >>> seen[0]['reduce']
        24
        """
        from minibatch.operators import agg
        return self._one(name, agg.reduce(fn, start, field))
