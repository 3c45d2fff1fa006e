"""Messages checked by the annotations of a dataclass."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import types
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from minibatch.errors import OptionError, Unfit, did_you_mean

#: Takes a value, answers what to keep of it, or raises :class:`_Wrong`.
_Test = Callable[[Any], Any]


class _Wrong(Exception):
    """A value that does not fit: where inside of it, innermost part last, and why."""

    def __init__(self, why: str, *path: str | int, near: bool = False) -> None:
        super().__init__(why)
        self.why, self.path = why, path
        #: Of the right type and yet not right: among alternatives, this is the one that was meant.
        self.near = near or bool(path)

    def at(self, part: str | int) -> _Wrong:
        return _Wrong(self.why, part, *self.path)


def record(kind: type) -> Callable[[Any], dict[str, Any]]:
    """The function that checks messages by the dataclass *kind*; see :mod:`minibatch.contrib.schemas`.

    :raises minibatch.errors.OptionError: an annotation is none that can be checked
    """
    test = _record(kind, {})

    def check(message: Any) -> dict[str, Any]:
        try:
            return dataclasses.asdict(test(message))
        except _Wrong as wrong:
            field = ''
            for part in wrong.path:
                field += f'[{part}]' if isinstance(part, int) else f'.{part}' if field else part
            raise Unfit(f'{field or "the message"} {wrong.why}', field=field, reason=wrong.why) from wrong

    return check


def _record(kind: type, known: dict[type, _Test]) -> _Test:
    if kind in known:
        return known[kind]
    tests: dict[str, _Test] = {}

    def test(value: Any) -> Any:
        if isinstance(value, kind):
            value = {name: getattr(value, name) for name in tests}
        if not isinstance(value, Mapping):
            raise _Wrong(f'is {_a(value)}, and {kind.__name__} is a mapping')
        for name in value:
            if name not in tests:
                raise _Wrong(f'is no field of {kind.__name__}{did_you_mean(str(name), tests)}', str(name)[:60])
        for name in required:
            if name not in value:
                raise _Wrong(f'is missing, and {kind.__name__} requires it', name)
        kept = {}
        for name, item in value.items():
            try:
                kept[name] = tests[name](item)
            except _Wrong as wrong:
                raise wrong.at(name) from None
        try:
            return kind(**kept)
        except (ValueError, TypeError) as error:  # by its __post_init__
            raise _Wrong(f'is refused by {kind.__name__}: {(str(error).splitlines() or [""])[0][:200]}') from error

    known[kind] = test
    try:
        hints = typing.get_type_hints(kind, include_extras=False)
    except Exception as error:
        raise OptionError(f'the annotations of {kind.__name__} cannot be read: {error}') from error
    fields = [each for each in dataclasses.fields(kind) if each.init]
    for each in fields:
        tests[each.name] = _test(hints[each.name], f'{kind.__name__}.{each.name}', known, kind.__name__)
    required = [each.name for each in fields
                if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING]
    return test


def _test(hint: Any, name: str, known: dict[type, _Test], owner: str) -> _Test:
    """The test for one annotation."""
    origin, args = get_origin(hint), get_args(hint)

    def of(inner: Any) -> _Test:
        return _test(inner, name, known, owner)

    if hint is Any or hint is object:
        return lambda value: value
    if isinstance(hint, typing.NewType):
        return of(hint.__supertype__)
    if origin in (Union, types.UnionType):
        return _either([of(each) for each in args], f'{owner} wants {_named(hint)}')
    if origin is Literal:
        return _one_of(args, f'{owner} wants one of {", ".join(map(repr, args))}')
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _record(hint, known)
    base = origin or hint
    if base in (list, set, frozenset, Sequence, typing.Sequence):
        return _items(of(args[0]) if args else None, base if base in (set, frozenset) else list,
                      f'{owner} wants {_named(hint)}')
    if base is tuple:
        return _tuple([of(each) for each in args if each is not ...], args[1:] == (...,), bool(args),
                      f'{owner} wants {_named(hint)}')
    if base in (dict, Mapping, typing.Mapping):
        return _mapping(of(args[1]) if args else None, f'{owner} wants {_named(hint)}')
    if isinstance(hint, type):
        if issubclass(hint, enum.Enum):
            return _converted(hint, hint, (object,), f'{owner} wants one of '
                              f'{", ".join(repr(each.value) for each in hint)}')
        for kind, convert, sources in _CONVERTED:
            if hint is kind:
                return _converted(kind, convert, sources, f'{owner} wants {_named(hint)}')
        return _instance(hint, f'{owner} wants {_named(hint)}')
    raise OptionError(f'{name} is annotated as {_named(hint)}, which cannot be checked; use Any for it')


def _a(value: Any) -> str:
    if value is None:
        return 'None'
    name = type(value).__name__
    return f'an {name}' if name[0] in 'aeioAEIO' else f'a {name}'


def _named(hint: Any) -> str:
    if hint is type(None) or hint is None:
        return 'None'
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace('typing.', '')


def _instance(kind: type, wants: str) -> _Test:
    def test(value: Any) -> Any:
        # True is an int to Python, and to nobody else.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            raise _Wrong(f'is {_a(value)}, and {wants}')
        return value
    return test


def _converted(kind: type, convert: Callable[[Any], Any], sources: tuple[type, ...], wants: str) -> _Test:
    def test(value: Any) -> Any:
        if isinstance(value, kind) and not (kind is dt.date and isinstance(value, dt.datetime)):
            return value
        if isinstance(value, sources) and not (isinstance(value, bool) and sources != (object,)):
            try:
                return convert(value)
            except (ValueError, ArithmeticError, TypeError, KeyError):
                raise _Wrong(f'is {_a(value)} that cannot be read as one, and {wants}', near=True) from None
        raise _Wrong(f'is {_a(value)}, and {wants}')
    return test


def _either(tests: list[_Test], wants: str) -> _Test:
    def test(value: Any) -> Any:
        nearest: _Wrong | None = None
        converted: list[Any] = []
        for each in tests:
            try:
                kept = each(value)
            except _Wrong as wrong:
                nearest = wrong if wrong.near else nearest
                continue
            if type(kept) is type(value):  # as it is, rather than converted by an alternative that comes before
                return kept
            converted.append(kept)
        if converted:
            return converted[0]
        raise nearest or _Wrong(f'is {_a(value)}, and {wants}')
    return test


def _one_of(values: tuple[Any, ...], wants: str) -> _Test:
    def test(value: Any) -> Any:
        for each in values:
            if type(each) is type(value) and each == value:
                return value
        raise _Wrong(f'is {_a(value)}, and {wants}')
    return test


def _items(test_item: _Test | None, kind: Callable[[Any], Any], wants: str) -> _Test:
    def test(value: Any) -> Any:
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise _Wrong(f'is {_a(value)}, and {wants}')
        return kind(value if test_item is None else _each(value, [test_item] * len(value)))
    return test


def _tuple(tests: list[_Test], repeated: bool, typed: bool, wants: str) -> _Test:
    def test(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise _Wrong(f'is {_a(value)}, and {wants}')
        if not typed:
            return tuple(value)
        if not repeated and len(value) != len(tests):
            raise _Wrong(f'has {len(value)} items, and {wants}')
        return tuple(_each(value, tests * len(value) if repeated else tests))
    return test


def _each(values: Any, tests: list[_Test]) -> list[Any]:
    kept = []
    for index, (item, test) in enumerate(zip(values, tests, strict=True)):
        try:
            kept.append(test(item))
        except _Wrong as wrong:
            raise wrong.at(index) from None
    return kept


def _mapping(test_item: _Test | None, wants: str) -> _Test:
    def test(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _Wrong(f'is {_a(value)}, and {wants}')
        kept = {}
        for key, item in value.items():
            try:
                kept[key] = item if test_item is None else test_item(item)
            except _Wrong as wrong:
                raise wrong.at(str(key)[:60]) from None
        return kept
    return test


def _when(text: str) -> dt.datetime:
    # Python 3.10 does not know that Z is UTC.
    return dt.datetime.fromisoformat(text[:-1] + '+00:00' if text[-1:] in ('Z', 'z') else text)


_CONVERTED: tuple[tuple[type, Callable[[Any], Any], tuple[type, ...]], ...] = (
    (float, float, (int,)),
    (dt.datetime, _when, (str,)),
    (dt.date, dt.date.fromisoformat, (str,)),
    (dt.time, dt.time.fromisoformat, (str,)),
    (uuid.UUID, uuid.UUID, (str,)),
    (decimal.Decimal, decimal.Decimal, (str, int)),
)
