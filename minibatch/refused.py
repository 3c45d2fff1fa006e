"""Why a value cannot be stored, in words: where it is, what is wrong with it and what to do."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

#: Where a value is: its key or index, the container it is in, and where that one is. Made text only if needed.
Place = tuple[Any, Any, Any] | None


class Refused(Exception):
    """A value that cannot be stored.

    :ivar path: where it is, for example ``data.user.tags[3]``
    :ivar what: what is wrong with it, a sentence of which the path is the subject
    :ivar fix: what to do about it
    :ivar size: whether its size is all that is wrong
    """

    def __init__(self, place: Place, what: str, fix: str, *, size: bool = False) -> None:
        self.path, self.what, self.fix, self.size = path_of(place), what, fix, size
        super().__init__(f'{self.path} {what}; {fix}')


def path_of(place: Place) -> str:
    """Write down where a value is.

    >>> path_of((3, None, ('tags', None, ('user', None, None))))
    'data.user.tags[3]'
    >>> path_of(('a b', None, None))
    "data['a b']"
    """
    parts: list[str] = []
    while place is not None:
        key, _, place = place
        parts.append(f'.{key}' if isinstance(key, str) and key.isidentifier() and len(key) < 60 else f'[{short(key)}]')
    path = 'data' + ''.join(reversed(parts))
    return path if len(path) <= 200 else f'{path[:150]}...{path[-47:]}'


def short(value: Any) -> str:
    """A value as it can stand in a sentence: one line of ASCII (a lone surrogate breaks logs too)."""
    try:
        text = ascii(value)
    except Exception:  # somebody's __repr__, or an integer of more digits than Python prints
        text = f'<{type(value).__name__}>'
    return text if len(text) <= 60 else text[:57] + '...'


def of_type(value: Any) -> str:
    """What a value is.

    >>> of_type(None), of_type(1)
    ('None', 'a value of type int')
    """
    if value is None:
        return 'None'
    kind = type(value)
    plain = kind.__module__ in ('builtins', '__main__')
    return 'a value of type ' + (kind.__name__ if plain else f'{kind.__module__}.{kind.__qualname__}')


def reason(exc: BaseException) -> str:
    """The first line of what an exception says, or else its name."""
    return (str(exc).splitlines() or [''])[0].rstrip('.') or type(exc).__name__


def fix_for_message(row: Any) -> str:
    """What to do with a message that is no mapping."""
    if isinstance(row, tuple) and hasattr(row, '_asdict'):
        return 'append its ._asdict()'
    if isinstance(row, (list, tuple, set, frozenset)) or inspect.isgenerator(row):
        return 'use extend() for many messages, or append a dict that holds it'
    if isinstance(row, (str, bytes, bytearray)):
        return 'append a dict: what json.loads() makes of it, or one that holds it'
    return "append a dict that holds it, such as {'value': ...}"


def fix_for_value(value: Any) -> str:
    """What to do with a value of a type that MongoDB does not have."""
    if inspect.isawaitable(value):
        return 'await it first'
    if isinstance(value, complex) or 'complex' in type(value).__name__:
        return 'store [value.real, value.imag]'
    if isinstance(value, Iterable) and not isinstance(value, type):
        return 'make it a list first: list(value)'
    return 'make it a dict, a number or a str first'
