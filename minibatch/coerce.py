"""The table of conversions: what a value that BSON does not know plainly means.

=====================================================  ==========================================
given                                                  stored
=====================================================  ==========================================
numpy and pandas scalars (``NaT`` and ``NA``)          int, float, bool, str, datetime (``None``)
numpy arrays, tuple, ``deque``, ``array``              list
set, frozenset                                         list, sorted if its members can be
``Decimal``                                            ``bson.Decimal128`` (up to 34 digits)
dataclass, pydantic and attrs objects, any mapping     dict
``Enum``                                               its value
aware datetime                                         naive datetime in UTC
date                                                   datetime at midnight
time                                                   str, ISO format
timedelta                                              float, seconds
bytearray, memoryview                                  bytes
``Path``                                               str
UUID, ObjectId and the other types of ``bson``         as they are
=====================================================  ==========================================

No optional package is imported for this: an object of numpy comes from a program that has imported numpy.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import bson

#: What :func:`plain` answers for a value with no plain meaning.
UNKNOWN = object()


def fields(value: Any) -> Mapping[Any, Any] | None:
    """The fields of a mapping, a dataclass, a pydantic model or an attrs object; ``None`` for all else.

    >>> fields({'a': 1})
    {'a': 1}
    >>> fields('a') is None
    True
    """
    kind = type(value)
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type):
        return None
    if hasattr(kind, 'model_dump') and hasattr(kind, 'model_fields'):
        dumped = value.model_dump()  # not the attributes: a model may exclude fields, and serialize its own way
        return dumped if isinstance(dumped, Mapping) else None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(kind, '__attrs_attrs__'):
        return {field.name: getattr(value, field.name) for field in kind.__attrs_attrs__}
    return None


def plain(value: Any) -> Any:
    """What *value* means: one step nearer to what BSON has, or :data:`UNKNOWN`.

    >>> plain(dt.date(2026, 1, 31))
    datetime.datetime(2026, 1, 31, 0, 0)
    >>> plain({3, 1, 2})
    [1, 2, 3]
    >>> plain(object()) is UNKNOWN
    True
    """
    for kinds, convert in _CONVERSIONS:
        if isinstance(value, kinds):
            return convert(value)
    return _of_packages(value)


def in_utc(value: dt.datetime) -> dt.datetime:
    """An aware datetime as MongoDB keeps it: in UTC, without the zone.

    >>> in_utc(dt.datetime(2026, 1, 1, 14, tzinfo=dt.timezone(dt.timedelta(hours=2))))
    datetime.datetime(2026, 1, 1, 12, 0)
    """
    return value.astimezone(dt.timezone.utc).replace(tzinfo=None)


def _datetime(value: dt.datetime) -> dt.datetime | None:
    if value != value:  # pandas.NaT
        return None
    return dt.datetime(value.year, value.month, value.day, value.hour, value.minute, value.second,
                       value.microsecond, value.tzinfo, fold=value.fold)


def _timedelta(value: dt.timedelta) -> float | None:
    return None if value != value else value.total_seconds()


def _sorted(value: Iterable[Any]) -> list[Any]:
    try:
        return sorted(value)
    except TypeError:
        return list(value)


_CONVERSIONS: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    (enum.Enum, lambda value: value.value),  # before str and int, which an Enum may be as well
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, bytes),
    ((tuple, list, collections.deque), list),
    (dt.datetime, _datetime),
    (dt.date, lambda value: dt.datetime(value.year, value.month, value.day)),
    (dt.time, dt.time.isoformat),
    (dt.timedelta, _timedelta),
    (decimal.Decimal, bson.Decimal128),
    ((bytearray, memoryview), bytes),
    ((set, frozenset), _sorted),
    (array.array, array.array.tolist),
    (pathlib.PurePath, str),
    (uuid.UUID, lambda value: uuid.UUID(int=value.int)),
)


def _of_packages(value: Any) -> Any:
    numpy, pandas = sys.modules.get('numpy'), sys.modules.get('pandas')
    if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)):
        kind = value.dtype.kind
        if kind == 'M':  # items of nanoseconds would come out as integers, those of microseconds as datetimes
            return value.astype('datetime64[us]').tolist()
        if kind == 'm':
            return value.astype('timedelta64[us]').tolist()
        if kind == 'f':  # the item of a long double is a long double
            return value.astype('float64').tolist()
        return value.tolist() if kind in 'biuOSU' else UNKNOWN
    if pandas is not None and value is getattr(pandas, 'NA', UNKNOWN):
        return None
    return UNKNOWN
