"""What a window, or a group in it, comes to: count, sum, mean and the like.

An aggregator can do it in two ways: of all values at once (:meth:`Aggregator.of`), or one after another with a state
that is stored in between (:meth:`~Aggregator.start`, :meth:`~Aggregator.add`, :meth:`~Aggregator.result`), for
aggregates that run on for ever. Numbers that are not there (``None``, NaN) are left out, as SQL and pandas do.
"""

from __future__ import annotations

import heapq
import inspect
import math
from collections.abc import Sequence
from copy import deepcopy
from decimal import Decimal
from typing import Any, ClassVar

from minibatch.errors import OptionError, WindowError
from minibatch.operators.fields import Field
from minibatch.operators.functions import Call
from minibatch.operators.rows import Failed
from minibatch.outcome import wait_for


class Aggregator:
    """One way to sum up.

    :param field: what of each message: a dotted path, or a function; ``None`` for the message itself
    """

    name: ClassVar[str] = ''
    #: Whether it can go on for ever with a state that does not grow.
    runs: ClassVar[bool] = True
    #: Whether the state is what people want to see.
    plain: ClassVar[bool] = True
    #: Whether its result depends on the order of messages.
    ordered: ClassVar[bool] = False

    def __init__(self, field: Any = None) -> None:
        self.field = Field(field, self.name)

    def __str__(self) -> str:
        return f'{self.name}({"" if self.field.given is None else self.field})'

    def read(self, messages: Sequence[Any]) -> list[Any]:
        """The values that count, of messages."""
        return self.field.each(messages)

    def of(self, values: list[Any]) -> Any:
        """What all of these come to."""
        state = self.start()
        for value in values:
            state = self.add(state, value)
        return self.result(state)

    def start(self) -> Any:
        """The state before the first value."""
        return None

    def add(self, state: Any, value: Any) -> Any:
        """The state after one more value."""
        raise NotImplementedError

    def result(self, state: Any) -> Any:
        """What the values so far come to."""
        return state


class Count(Aggregator):
    """How many messages."""

    name = 'count'

    def __init__(self) -> None:
        super().__init__()

    def of(self, values: list[Any]) -> int:
        return len(values)

    def start(self) -> int:
        return 0

    def add(self, state: int, value: Any) -> int:
        return state + 1


class Values(Aggregator):
    """Sums up values that have an order; ``None`` and NaN are left out."""

    def read(self, messages: Sequence[Any]) -> list[Any]:
        values = self.field.each(messages)
        self.check(values)
        return [_number(value) for value in values if value is not None and value == value]

    def check(self, values: Sequence[Any]) -> None:
        """Refuse what it cannot work with.

        :raises Failed: at the first such value
        """


class Numbers(Values):
    """Sums up numbers; ``None`` and NaN are left out."""

    def check(self, values: Sequence[Any]) -> None:
        wrong = tuple(kind for kind in set(map(type, values)) if not (
            kind is type(None) or hasattr(kind, '__float__') or hasattr(kind, 'to_decimal')))
        if wrong:
            at = next(at for at, value in enumerate(values) if type(value) in wrong)
            raise Failed(at) from WindowError(f'{self} wants numbers, and this is a value of type '
                                              f'{type(values[at]).__name__}')


class Sum(Numbers):
    """The sum; exact for integers and decimals, and without added rounding for floats. 0 of none."""

    name = 'sum'

    def of(self, values: list[Any]) -> Any:
        return total(values)

    def start(self) -> int:
        return 0

    def add(self, state: Any, value: Any) -> Any:
        return _number(state) + value


class Min(Values):
    """The least; of numbers, strings, times. ``None`` of none."""

    name = 'min'

    def of(self, values: list[Any]) -> Any:
        return min(values, default=None)

    def add(self, state: Any, value: Any) -> Any:
        return value if state is None else min(_number(state), value)


class Max(Values):
    """The greatest; of numbers, strings, times. ``None`` of none."""

    name = 'max'

    def of(self, values: list[Any]) -> Any:
        return max(values, default=None)

    def add(self, state: Any, value: Any) -> Any:
        return value if state is None else max(_number(state), value)


class Mean(Numbers):
    """The arithmetic mean; ``None`` of none."""

    name = 'mean'
    plain = False

    def of(self, values: list[Any]) -> Any:
        return total(values) / len(values) if values else None

    def start(self) -> list[Any]:
        return [0, 0]

    def add(self, state: list[Any], value: Any) -> list[Any]:
        return [state[0] + 1, _number(state[1]) + value]

    def result(self, state: list[Any]) -> Any:
        return state[1] / state[0] if state[0] else None


class Std(Numbers):
    """The standard deviation of a sample (divided by n - *ddof*, as pandas does; ``ddof=0``: of a population).

    ``None`` if there are no more than *ddof* values.
    """

    name = 'std'
    plain = False

    def __init__(self, field: Any = None, *, ddof: int = 1) -> None:
        super().__init__(field)
        if isinstance(ddof, bool) or not isinstance(ddof, int) or ddof < 0:
            raise OptionError(f'ddof must be a whole number, 0 (population) or 1 (sample), not {ddof!r}')
        self.ddof = ddof

    def of(self, values: list[Any]) -> float | None:
        if len(values) <= self.ddof:
            return None
        floats = [float(value) for value in values]
        mean = math.fsum(floats) / len(floats)
        return math.sqrt(math.fsum((value - mean) ** 2 for value in floats) / (len(floats) - self.ddof))

    def start(self) -> list[Any]:
        return [0, 0.0, 0.0]

    def add(self, state: list[Any], value: Any) -> list[Any]:
        n, mean, squares = state  # Welford's algorithm: stable however far the values are from 0
        n, apart = n + 1, float(value) - mean
        mean += apart / n
        return [n, mean, squares + apart * (float(value) - mean)]

    def result(self, state: list[Any]) -> float | None:
        n, _, squares = state
        return math.sqrt(squares / (n - self.ddof)) if n > self.ddof else None


class Quantile(Numbers):
    """The value below which the part *q* of all lies, interpolated between the two nearest; ``None`` of none."""

    name = 'quantile'
    runs = False

    def __init__(self, q: float, field: Any = None) -> None:
        super().__init__(field)
        if isinstance(q, bool) or not isinstance(q, (int, float)) or not 0 <= q <= 1:
            raise OptionError(f'quantile takes q from 0 to 1 first (0.95 for the 95th percentile), not {q!r}')
        self.q = q

    def __str__(self) -> str:
        return f'quantile({self.q}{"" if self.field.given is None else f", {self.field}"})'

    def of(self, values: list[Any]) -> Any:
        if not values:
            return None
        values = sorted(values)
        place = self.q * (len(values) - 1)
        below = math.floor(place)
        above = min(below + 1, len(values) - 1)
        part = place - below
        if not part or values[below] == values[above]:
            return values[below]
        exact: Any = Decimal(part) if isinstance(values[below], Decimal) else part
        return values[below] + (values[above] - values[below]) * exact


class First(Aggregator):
    """The first value in the order of the window."""

    name = 'first'
    ordered = True

    def start(self) -> list[Any]:
        return []

    def add(self, state: list[Any], value: Any) -> list[Any]:
        return state or [value]

    def result(self, state: list[Any]) -> Any:
        return state[0] if state else None


class Last(First):
    """The last value in the order of the window."""

    name = 'last'

    def add(self, state: list[Any], value: Any) -> list[Any]:
        return [value]


class Top(Aggregator):
    """The *n* messages with the greatest (``least=True``: the smallest) values, best first; equal ones as they came."""

    name = 'top'

    def __init__(self, n: int, by: Any = None, *, least: bool = False) -> None:
        super().__init__()
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise OptionError(f'top takes the number of messages first, 1 or more, not {n!r}')
        self.n, self.by, self.least = n, Field(by, 'top'), bool(least)

    def __str__(self) -> str:
        return f'top({self.n}{"" if self.by.given is None else f", {self.by}"}{", least=True" if self.least else ""})'

    def of(self, values: list[Any]) -> list[Any]:
        ranks = self.by.each(values)
        places = [at for at, rank in enumerate(ranks) if rank is not None and rank == rank]
        best = heapq.nsmallest if self.least else heapq.nlargest
        return [values[at] for at in best(self.n, places, key=ranks.__getitem__)]

    def start(self) -> list[Any]:
        return []

    def add(self, state: list[Any], value: Any) -> list[Any]:
        return self.of([*state, value])


class Collect(Aggregator):
    """All values, as a list."""

    name = 'collect'
    runs = False
    ordered = True

    def of(self, values: list[Any]) -> list[Any]:
        return values


class Reduce(Aggregator):
    """What ``fn(so_far, message)`` makes of all messages, one after another; *start* comes before the first one."""

    name = 'reduce'
    ordered = True

    def __init__(self, fn: Any, start: Any = None, field: Any = None) -> None:
        super().__init__(field)
        if not callable(fn):
            raise OptionError(f'reduce takes a function of what there is so far and the next message, not {fn!r}')
        self.call, self.first = Call(fn, 'reduce'), start

    def __str__(self) -> str:
        return f'reduce({self.call})'

    def of(self, values: list[Any]) -> Any:
        state = self.start()
        for at, value in enumerate(values):
            try:
                state = self.add(state, value)
            except Failed as failed:
                raise Failed(at) from failed.__cause__
        return state

    def start(self) -> Any:
        return deepcopy(self.first)  # the function may change it in place

    def add(self, state: Any, value: Any) -> Any:
        if state is None:
            return value
        try:
            made = self.call.functions[0](state, value)
            made = wait_for(made) if inspect.iscoroutine(made) else made
        except Exception as error:
            raise Failed(0) from error
        if made is None:
            raise Failed(0) from WindowError(f'{self.call} returned None; return what there is so far')
        return made


class Apply(Aggregator):
    """What a function of the user makes of the list of all messages."""

    name = 'apply'
    runs = False
    ordered = True

    def __init__(self, fn: Any) -> None:
        super().__init__()
        self.call = Call(fn, 'aggregate')

    def __str__(self) -> str:
        return str(self.call)

    def of(self, values: list[Any]) -> Any:
        try:
            return self.call.each([values])[0]
        except Failed as failed:
            raise Failed(None) from failed.__cause__


def total(values: Sequence[Any]) -> Any:
    """The sum, of floats with one rounding in the end only.

    >>> total([0.1] * 10), total([1, 2]), total([])
    (1.0, 3, 0)
    """
    return math.fsum(values) if float in set(map(type, values)) else sum(values)


def _number(value: Any) -> Any:
    """A decimal as Python's own, which can be added; all else as it is."""
    return value.to_decimal() if hasattr(value, 'to_decimal') else value
