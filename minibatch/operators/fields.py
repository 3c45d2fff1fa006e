"""What users name in a message: a dotted path, several of these, or a function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minibatch.errors import OptionError, WindowError, did_you_mean
from minibatch.operators.functions import Call
from minibatch.operators.rows import Failed

_MISSING = object()
_MOST_NAMES = 8  # that an error lists


class Field:
    """Reads one thing from each message.

    :param given: a dotted path, a list of paths, a function of the message, or ``None`` for the message itself
    :param what: the operator, for its errors
    :raises minibatch.errors.OptionError: it is none of these

    >>> Field('users.0.name', 'group_by').each([{'users': [{'name': 'ann'}]}])
    ['ann']
    >>> Field(['a', 'b'], 'group_by').each([{'a': 1, 'b': 2}])
    [[1, 2]]
    """

    def __init__(self, given: Any, what: str) -> None:
        self.what = what
        self.given = given
        paths = [given] if isinstance(given, str) else given
        self._call = Call(given, what) if callable(given) else None
        self._paths: list[tuple[str, list[str]]] = []
        if given is None or self._call is not None:
            return
        if not isinstance(paths, (list, tuple)) or not paths or not all(
                isinstance(path, str) and all(path.split('.')) for path in paths):
            raise OptionError(f'{what} takes the name of a field (dots reach into embedded documents), a list of '
                              f'names, or a function of the message, not {given!r}')
        self._paths = [(path, path.split('.')) for path in paths]

    def __str__(self) -> str:
        return str(self._call) if self._call is not None else repr(self.given)

    def each(self, values: Sequence[Any]) -> list[Any]:
        """What it reads from each of *values*.

        :raises Failed: one has no such field, or the function raised
        """
        if self._call is not None:
            return self._call.each(values)
        if not self._paths:
            return list(values)
        columns = [self._column(path, parts, values) for path, parts in self._paths]
        return columns[0] if isinstance(self.given, str) else [list(row) for row in zip(*columns, strict=True)]

    def _column(self, path: str, parts: Sequence[str], values: Sequence[Any]) -> list[Any]:
        found: list[Any] = []
        for value in values:
            for part in parts:
                value = _member(value, part)
                if value is _MISSING:
                    raise Failed(len(found)) from _no_field(self.what, path, values[len(found)])
            found.append(value)
        return found


def _member(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name, _MISSING)
    if isinstance(value, list):
        return value[int(name)] if name.isdigit() and int(name) < len(value) else _MISSING
    return getattr(value, name, _MISSING)


def _no_field(what: str, path: str, value: Any) -> WindowError:
    if not isinstance(value, Mapping):
        return WindowError(f'{what} wants field {path!r}, and this is a value of type {type(value).__name__}')
    names = [str(name) for name in value]
    listed = ', '.join(names[:_MOST_NAMES]) + (', ...' if len(names) > _MOST_NAMES else '')
    return WindowError(f'it has no field {path!r} (it has: {listed or "none"}){did_you_mean(path, names)}; '
                       f'put filter(...) before {what} if such messages are to be left out')


def freeze(key: Any) -> Any:
    """Something hashable that is equal for equal keys, as MongoDB sees it: 1 equals 1.0 and not ``True``.

    >>> freeze(1) == freeze(1.0), freeze(1) == freeze(True), freeze([1, {'a': 2}]) == freeze((1, {'a': 2}))
    (True, False, True)
    """
    kind = type(key)
    if kind is str or kind is int:
        return key
    if kind is bool:
        return bool, key
    if kind is float:
        return key if key == key else (float, 'nan')
    if isinstance(key, Mapping):
        parts = [(name, freeze(value)) for name, value in key.items()]
        return dict, tuple(sorted(parts, key=lambda part: str(part[0])))
    if isinstance(key, (list, tuple)):
        return list, tuple(map(freeze, key))
    hash(key)
    return key
