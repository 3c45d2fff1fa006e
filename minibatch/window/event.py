"""A message as placed windows see it: its time, its key, its size. Times are whole microseconds since the epoch, UTC.

Integers, since a window's edge has to fall between two messages in the same way each time: sums of floats do not.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from minibatch.clock import FIRST, LAST, SECOND, micros, moment
from minibatch.errors import OptionError

_PLAIN = re.compile(r'[\w.@+-][\w.@ +-]{0,79}')

#: What finds a time or a key in a message: a dotted path, or a function of the message's data.
Finder = str | Callable[[Any], Any]


class Event(NamedTuple):
    """What a shelf has to know of one message. Events sort by time, then by id: the order inside of a window.

    :ivar time: event time, in microseconds since the epoch
    :ivar id: the message's ``_id`` as bytes, which sort as the ids do
    :ivar created: when it was appended, in microseconds since the epoch
    :ivar key: its key as the user sees it; ``None`` if windows are not keyed
    :ivar slot: the canonical bytes of the key (:func:`slot_of`), for dicts and for comparing; empty if not keyed
    :ivar size: bytes of its data
    :ivar closes: whether the user's ``when=`` says that it closes its batch
    :ivar right: whether it is on the right side of a join
    :ivar held: whether it has been in a window that was cut, and stays for later ones (see :class:`Pane`)

    >>> Event(time=5, id=b'b', created=7) < Event(time=5, id=b'c', created=6)
    True
    """

    time: int
    id: bytes
    created: int = 0
    key: Any = None
    slot: bytes = b''
    size: int = 0
    closes: bool = False
    right: bool = False
    held: bool = False


class Unplaceable(Exception):
    """A message that belongs to no window: it has no usable time or key. It becomes a dead letter with this text."""


def time_of(value: Any) -> int:
    """Read a time as users have it: a datetime or a date, seconds since the epoch, ISO 8601, a pandas or numpy time.

    :return: microseconds since the epoch; a time without a zone is UTC
    :raises ValueError: it is no time

    >>> time_of(1.5), time_of('1970-01-01T01:00:01+01:00'), time_of('1970-01-01T00:00:01Z')
    (1500000, 1000000, 1000000)
    >>> time_of('yesterday')
    Traceback (most recent call last):
        ...
    ValueError: 'yesterday' is no time: give a datetime, seconds since the epoch, or ISO 8601
    """
    if type(value) is int and abs(value) < 10_000_000_000:  # what most messages have
        return value * SECOND
    try:
        time = _read(value)
    except (ValueError, TypeError, OverflowError, ArithmeticError):
        time = None
    if time is None or not FIRST <= time <= LAST:
        shown = repr(value)
        raise ValueError(f'{shown if len(shown) <= 80 else shown[:77] + "..."} is no time: give a datetime, seconds '
                         'since the epoch, or ISO 8601')
    return time


def _read(value: Any) -> int | None:
    kind: type = type(value)
    if isinstance(value, datetime) and kind is datetime:
        return micros(value)
    if isinstance(value, int) and kind is int:
        return value * SECOND
    if kind is float:
        # Rounded on the fraction alone: seconds of today times a million have no exact float any more.
        whole = math.floor(float(value))
        return whole * SECOND + round(float(value - whole) * SECOND)
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        text = value.strip()
        return micros(datetime.fromisoformat(text[:-1] + '+00:00' if text[-1:] in 'zZ' and text else text))
    if hasattr(value, 'to_pydatetime'):  # pandas: a Timestamp is a datetime, with nanoseconds
        return int(value.value) // 1000 if bool(value == value) else None  # NaT is not equal to itself
    if hasattr(value, 'as_datetime'):  # BSON: a time that a datetime cannot hold
        return int(value) * 1000
    if isinstance(value, datetime):
        return micros(value)
    if isinstance(value, date):
        return micros(datetime(value.year, value.month, value.day))
    if kind.__name__ == 'datetime64':
        return int(value.astype('datetime64[us]').astype('int64'))
    if isinstance(value, Decimal):
        return int((value * SECOND).to_integral_value())
    if hasattr(value, '__index__'):
        return int(value.__index__()) * SECOND
    return _read(float(value)) if hasattr(value, '__float__') else None


def dotted(path: str, *, option: str = 'time') -> Callable[[Any], Any]:
    """A function that finds *path* in a message: names, or numbers for places in a list, with dots between.

    :param option: whose path it is, for the error
    :raises OptionError: it is no path

    >>> dotted('user.tags.0')({'user': {'tags': ['new']}})
    'new'
    >>> dotted('user.name')({'user': None})
    Traceback (most recent call last):
        ...
    minibatch.window.event.Unplaceable: it has no field 'user.name'
    """
    names = path.split('.')
    if not all(names):
        raise OptionError(f'{option} must be a field name or a dotted path of field names, not {path!r}')
    name = path

    def field(message: Any) -> Any:
        try:
            return message[name]
        except (KeyError, TypeError, IndexError):
            raise Unplaceable(f'it has no field {name!r}') from None

    def find(message: Any) -> Any:
        for each in names:
            try:
                if isinstance(message, Mapping):
                    message = message[each]
                elif isinstance(message, list):
                    message = message[int(each)]
                else:
                    raise KeyError
            except (KeyError, IndexError, ValueError):
                raise Unplaceable(f'it has no field {name!r}') from None
        return message

    return find if len(names) > 1 else field


def finder(value: Any, option: str) -> Callable[[Any], Any]:
    """What finds a time or a key in a message's data: *value* is a dotted path, a function, or a list of these.

    :raises OptionError: it is none of them

    >>> finder(['a', 'b.c'], 'key')({'a': 1, 'b': {'c': 2}})
    (1, 2)
    """
    if isinstance(value, str):
        return dotted(value, option=option)
    if callable(value):
        function: Callable[[Any], Any] = value
        return function
    if isinstance(value, Sequence) and value:
        parts = [finder(each, option) for each in value]
        return lambda message: tuple([part(message) for part in parts])
    raise OptionError(f'{option} must be a dotted field path or a function of the message'
                      f'{" or a list of these" if option == "key" else ""}, not {value!r}')


def slot_of(key: Any) -> bytes:
    """Canonical bytes of a key: equal for equal keys, and in some fixed order for others.

    Numbers that are equal have the same bytes; so have dicts with their fields in another order.

    :raises Unplaceable: it cannot be a key

    >>> slot_of('ann') == slot_of('ann'), slot_of(1) == slot_of(1.0), slot_of('1') == slot_of(1)
    (True, True, False)
    """
    return _text(key) if type(key) is str else _canonical(key, 0)


def _text(key: str) -> bytes:
    try:
        return b's' + key.encode()
    except UnicodeEncodeError:
        raise Unplaceable('its key is text that has no UTF-8, so MongoDB cannot store it') from None


def _canonical(key: Any, depth: int) -> bytes:
    if depth > 20:
        raise Unplaceable('its key is nested too deep')
    if key is None:
        return b'n'
    if isinstance(key, str):
        return _text(key)
    if isinstance(key, bool):
        return b't' if key else b'f'
    if isinstance(key, int):
        if not -1 << 63 <= key < 1 << 63:
            raise Unplaceable('its key is a number of more than 64 bits, which MongoDB cannot store')
        return b'i%d' % key
    if isinstance(key, float):
        if math.isnan(key):
            return b'inan'
        return b'i%d' % int(key) if key.is_integer() else b'i' + repr(key).encode()
    if isinstance(key, bytes):
        return b'b' + key
    if isinstance(key, datetime):
        return b'd%d' % micros(key)
    if isinstance(key, (tuple, list)):
        return b'l' + _parts([_canonical(each, depth + 1) for each in key])
    if isinstance(key, Mapping):
        if not all(type(name) is str and '\0' not in name for name in key):
            raise Unplaceable('its key is a mapping whose names are not all text')
        return b'm' + _parts([part for pair in sorted((_canonical(name, depth + 1), _canonical(value, depth + 1))
                                                      for name, value in key.items()) for part in pair])
    if type(key).__module__.startswith(('bson', 'uuid', 'datetime', 'decimal')):
        return b'o' + f'{type(key).__name__}:{key}'.encode('utf-8', 'backslashreplace')
    raise Unplaceable(f'its key cannot be a key: a value of type {type(key).__name__} is neither text, number, time, '
                      'nor a list of these')


def _parts(parts: Sequence[bytes]) -> bytes:
    return b''.join([b'%d:' % len(part) + part for part in parts])


def name_of(key: Any, slot: bytes) -> str:
    """A key as a part of a window's id: readable if it is short and plain, else a hash. Different for different keys.

    >>> name_of('ann', slot_of('ann')), name_of(7, slot_of(7))
    ('ann', '#7')
    >>> len(name_of('x' * 500, slot_of('x' * 500)))
    33
    """
    if slot[:1] == b's' and isinstance(key, str) and _PLAIN.fullmatch(key):
        return key
    if slot[:1] == b'i' and len(slot) <= 40:
        return f'#{slot[1:].decode()}'
    return f'~{hashlib.sha256(slot).hexdigest()[:32]}'


def span_name(start: int, key: Any = None, slot: bytes = b'') -> str:
    """What follows the stream's name in a placed time window's id: its start in UTC, and its key.

    >>> span_name(0), span_name(1_500_000, 'ann', slot_of('ann'))
    ('1970-01-01T00:00:00Z', '1970-01-01T00:00:01.500000Z:ann')
    """
    text = f'{moment(start).isoformat()}Z'
    return f'{text}:{name_of(key, slot)}' if slot else text
