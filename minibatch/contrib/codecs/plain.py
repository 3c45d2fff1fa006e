"""What all codecs need: bytes that are bytes, reasons that are short, and values of Python and BSON in plain ones."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
from typing import Any

from minibatch.contrib.base import as_document
from minibatch.errors import InvalidMessage, Undecodable, Unencodable


def as_bytes(data: Any, codec: str) -> bytes:
    """*data* as bytes, for decoding.

    :raises Undecodable: it is something else
    """
    if type(data) is bytes:
        return data
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise Undecodable(f'{codec} reads bytes, and got a value of type {type(data).__name__}')


def to_bytes(message: Any, codec: str) -> bytes:
    """*message* as bytes, for encoding.

    :raises Unencodable: it is something else
    """
    if isinstance(message, (bytes, bytearray, memoryview)):
        return bytes(message)
    raise Unencodable(f'{codec} writes bytes, and got a value of type {type(message).__name__}')


def why(error: BaseException, most: int = 200) -> str:
    """The first line of what an exception says, not too long, since it may quote the data.

    >>> why(ValueError('one\\ntwo'))
    'one'
    >>> why(KeyError())
    'KeyError'
    """
    text = ' '.join(line.strip() for line in str(error).splitlines()[:1]) or type(error).__name__
    return text if len(text) <= most else text[:most - 3] + '...'


def in_utc(value: dt.datetime) -> dt.datetime:
    """A datetime with its zone; one without is in UTC, as everything that MongoDB stores.

    >>> in_utc(dt.datetime(2026, 1, 31, 12)).isoformat()
    '2026-01-31T12:00:00+00:00'
    """
    return value.replace(tzinfo=dt.timezone.utc) if value.tzinfo is None else value.astimezone(dt.timezone.utc)


def plainer(value: Any) -> Any:
    """One step from a value that a format does not know towards one that it may know.

    Enums become their values, the types of BSON those of Python, and all else what ``append`` would make of it.

    :raises Unencodable: there is no such step
    """
    if isinstance(value, enum.Enum):
        return value.value
    kind = type(value)
    basics: tuple[Any, ...] = (str, int, float, bytes)
    for basic in basics:
        if isinstance(value, basic) and kind is not basic:
            return basic(value)
    if kind.__module__.partition('.')[0] == 'bson':
        if kind.__name__ == 'ObjectId':
            return str(value)
        if kind.__name__ == 'Decimal128':
            return value.to_decimal()
        if kind.__name__ == 'Timestamp':
            return value.as_datetime()
        raise Unencodable(f'a value of type {kind.__name__}, which only MongoDB knows')
    if isinstance(value, (decimal.Decimal, dt.date)):  # what append would make of these is further away
        raise Unencodable(f'a value of type {kind.__name__}')
    try:
        plain = as_document({'value': value})['value']
    except InvalidMessage as error:
        raise Unencodable(f'a value of type {kind.__name__}') from error
    if type(plain) is kind and kind not in (dict, list):
        raise Unencodable(f'a value of type {kind.__name__}')
    return plain
