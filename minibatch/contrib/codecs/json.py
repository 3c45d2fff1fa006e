"""JSON, by orjson where it is installed and by the standard library otherwise, with the same results.

What JSON has no notation for is written like this, and refused if it is not in the table:

===============================  ==========================================================
value                            JSON
===============================  ==========================================================
NaN and the infinities           ``null``
datetime                         ISO 8601 in UTC; one without a zone is taken to be in UTC
date, time                       ISO 8601
timedelta                        seconds
bytes                            base64, as text
``ObjectId``, ``UUID``           text
``Decimal``, ``Decimal128``      text, so that no digit is lost
``Enum``                         its value
set, numpy, dataclass, pydantic  what ``append`` makes of it: a list, a number, an object
===============================  ==========================================================

Reading turns none of this back: text stays text. It takes what RFC 8259 calls JSON and no more: no ``NaN``, no text
that is not UTF-8, no number that a float cannot hold. Integers are read exactly, however long; those above 64 bits
are then refused by the stream, since MongoDB cannot store them.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
import math
import uuid
from collections.abc import Mapping
from typing import Any

from minibatch.contrib.codecs.plain import as_bytes, in_utc, plainer, why
from minibatch.errors import CodecError, Undecodable, Unencodable

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]

_BOM = b'\xef\xbb\xbf'
_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else byte for byte in range(256))
#: As many digits in a row may be an integer above 64 bits, which orjson rounds to a float.
_LONG = b'0' * 19


class Json:
    """JSON.

    :param fast: use orjson if it is installed; the results are the same without

    >>> from datetime import datetime
    >>> Json().encode({'at': datetime(2026, 1, 31, 12), 'ratio': float('nan')})
    b'{"at":"2026-01-31T12:00:00Z","ratio":null}'
    >>> Json().decode(b'{"n": 1,')
    Traceback (most recent call last):
    minibatch.errors.Undecodable: not JSON: Expecting property name enclosed in double quotes at byte 8 of 8
    """

    makes_messages = True

    def __init__(self, *, fast: bool = True) -> None:
        self._fast = fast and orjson is not None

    def __repr__(self) -> str:
        return 'json'

    def decode(self, data: bytes) -> Any:
        """The value that *data* is the JSON of.

        :raises Undecodable: it is not JSON
        """
        if type(data) is not bytes:
            data = as_bytes(data, 'json')
        if data.startswith(_BOM):
            data = data[len(_BOM):]
        if self._fast and data.translate(_DIGITS).find(_LONG) < 0:
            try:
                return orjson.loads(data)
            except orjson.JSONDecodeError:
                pass  # said below, in the same words with and without orjson
        return _read(data)

    def encode(self, message: Any) -> bytes:
        """The JSON of *message*, as short as possible.

        :raises Unencodable: it holds something that has no place in the table above
        """
        if self._fast:
            try:
                return orjson.dumps(message, _leaf, _OPTIONS)
            except orjson.JSONEncodeError:
                pass
        try:
            text = json.dumps(_rebuilt(message, 'data'), ensure_ascii=False, allow_nan=False, separators=(',', ':'))
            return text.encode()
        except UnicodeEncodeError as error:
            raise Unencodable(f'json cannot write text with a lone surrogate ({why(error)})') from error
        except RecursionError as error:
            raise Unencodable('json cannot write what is nested so deeply, or contains itself') from error


_OPTIONS = 0 if orjson is None else orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


def _read(data: bytes) -> Any:
    if not data.strip():
        raise Undecodable('not JSON: it is empty')
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Undecodable(f'not JSON: no UTF-8 at byte {error.start} of {len(data)}') from error
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        if '\\u' in text:  # half a surrogate pair is a str that nothing can store
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        at = len(text[:error.pos].encode())
        raise Undecodable(f'not JSON: {error.msg} at byte {at} of {len(data)}') from error
    except UnicodeEncodeError as error:
        raise Undecodable('not JSON: it holds half a surrogate pair') from error
    except RecursionError as error:
        raise Undecodable('not JSON that can be read: it is nested too deeply') from error
    except ValueError as error:
        raise Undecodable(f'not JSON: {why(error)}') from error
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f'{name} is no number of JSON')


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError('a number is too large for a float')
    return number


def _rebuilt(value: Any, path: str) -> Any:
    """The same in nothing but dict, list, str, int, float, bool and None."""
    if value is None or isinstance(value, bool):
        return value
    if type(value) in (str, int):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [_rebuilt(item, f'{path}[{index}]') for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise Unencodable(f'json cannot write {path}: it has the key {why(ValueError(ascii(key)), 60)}, which '
                                  'is no str')
        return {str.__str__(key): _rebuilt(item, f'{path}.{key}') for key, item in value.items()}
    try:
        plain = _leaf(value)
    except CodecError as error:
        raise Unencodable(f'json cannot write {path}: it is {error}') from error
    return _rebuilt(plain, path)


def _leaf(value: Any) -> Any:
    for kinds, convert in _LEAVES:
        if isinstance(value, kinds):
            return convert(value)
    return plainer(value)


def _datetime(value: dt.datetime) -> str | None:
    if value != value:  # pandas.NaT
        return None
    return in_utc(value).replace(tzinfo=None).isoformat() + 'Z'


_LEAVES: tuple[tuple[Any, Any], ...] = (
    (dt.datetime, _datetime),
    ((dt.date, dt.time), lambda value: value.isoformat()),
    ((bytes, bytearray, memoryview), lambda value: base64.b64encode(value).decode()),
    ((decimal.Decimal, uuid.UUID), str),
)
