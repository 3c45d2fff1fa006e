"""Values read from a table outside of a window function, which remember what is done to them in place.

Python makes three steps of ``table[key] += 1``: read, add, write. Between the first and the last another program may
have written. The value that the first step gives is therefore an int (a float, a str, a list) that remembers where it
is from, the second step notes what is to be added, and the third does that to what is there by then.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

Step = tuple[Callable[[Any, Any], Any], Any]


class InPlace:
    """What such a value has beside being a plain one.

    :ivar origin: table and key that it was read from, and the version
    :ivar steps: what was done to it in place since
    """

    origin: Any = None
    steps: tuple[Step, ...] = ()

    def _done(self, function: Callable[[Any, Any], Any], operand: Any) -> Any:
        result = function(plain(self), operand)
        made = remembering(result, self.origin)
        if isinstance(made, InPlace):
            made.steps = (*self.steps, (function, operand))
        return made

    def __iadd__(self, other: Any) -> Any:
        return self._done(operator.add, other)


class Number(InPlace):
    """A number can be subtracted from and multiplied, too."""

    def __isub__(self, other: Any) -> Any:
        return self._done(operator.sub, other)

    def __imul__(self, other: Any) -> Any:
        return self._done(operator.mul, other)


class _Int(Number, int):
    def __reduce__(self) -> tuple[Any, ...]:
        return int, (int(self),)


class _Float(Number, float):
    def __reduce__(self) -> tuple[Any, ...]:
        return float, (float(self),)


class _Str(InPlace, str):
    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str.__str__(self),)


class _List(InPlace, list):  # type: ignore[type-arg]
    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


_KINDS: dict[type, Any] = {int: _Int, float: _Float, str: _Str, list: _List}


def remembering(value: Any, origin: Any) -> Any:
    """*value*, as one that remembers where it is from; as it is, if it is of a kind that is not changed in place.

    >>> n = remembering(2, 'here')
    >>> n += 1
    >>> n, type(n + 1), n.origin, n.steps[0][1]
    (3, <class 'int'>, 'here', 1)
    """
    kind = _KINDS.get(type(value))
    if kind is None:
        return value
    made = kind(value)
    made.origin = origin
    return made


def plain(value: Any) -> Any:
    """The value without its memory.

    >>> type(plain(remembering(2, 'here')))
    <class 'int'>
    """
    return value.__reduce__()[1][0] if isinstance(value, InPlace) else value
