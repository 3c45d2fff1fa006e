"""A message rebuilt from what MongoDB can store, or refused by the name of the field that it cannot."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions

from minibatch import coerce
from minibatch.refused import Place, Refused, fix_for_message, fix_for_value, of_type, path_of, reason, short

#: Levels of a message. BSON takes 180, of which a window and a dead letter need some around the message.
MAX_DEPTH = 100
#: Bytes of a message: what MongoDB takes, less room for what the engine stores beside it.
MAX_BYTES = 16 * 1024 * 1024 - 16 * 1024
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1

CODEC: CodecOptions[dict[str, Any]] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)

#: Types whose every value BSON encodes as it is, in at most :data:`WIDEST` bytes.
SIMPLE = frozenset({
    float, bool, type(None), uuid.UUID, bson.ObjectId, bson.Decimal128, bson.Int64, bson.Timestamp,
    bson.MinKey, bson.MaxKey,
})
WIDEST = 24


class Converter:
    """Rebuilds messages, one at a time.

    >>> Converter().message({'when': dt.date(2026, 1, 31), 'tags': ('a', 'b')})
    {'when': datetime.datetime(2026, 1, 31, 0, 0), 'tags': ['a', 'b']}

    :ivar bytes: no less than what the last message takes in BSON
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._least = 0

    def message(self, row: Any) -> dict[str, Any]:
        """The dict to store for *row*, which stays as it was.

        :param row: any mapping, or an object with fields
        :raises Refused: if there is none
        """
        self.bytes = self._least = 0
        given = _fields(row, None)
        if given is None:
            raise Refused(None, f'is {of_type(row)}, but a message is a mapping', fix_for_message(row))
        message = self._mapping(given, None, row)
        if self.bytes > MAX_BYTES:
            measure(message)
        return message

    def _mapping(self, given: Mapping[Any, Any], place: Place, origin: Any) -> dict[str, Any]:
        self._enter(place, origin)
        result: dict[str, Any] = {}
        for key, value in given.items():
            if type(key) is not str:
                key = _as_key(key, place)
            if not key.isascii():
                _check_text(key, place, 'has a key with')
            if '\0' in key:
                raise Refused(place, f'has the key {short(key)}, which holds a NUL character', 'remove it from the key')
            self._grow(2 + len(key), 2 + 4 * len(key), place)
            result[key] = self._value(value, (key, origin, place))
        return result

    def _sequence(self, values: Iterable[Any], place: Place, origin: Any) -> list[Any]:
        self._enter(place, origin)
        result = []
        for index, value in enumerate(values):
            self._grow(3, 10, place)
            result.append(self._value(value, (index, origin, place)))
        return result

    def _value(self, value: Any, place: Place) -> Any:
        kind = type(value)
        if kind is str:
            if value.isascii():
                self._grow(5 + len(value), 5 + len(value), place)
            else:
                _check_text(value, place, 'has')
                self._grow(5 + len(value), 5 + 4 * len(value), place)
            return value
        if kind is int:
            if not INT_MIN <= value <= INT_MAX:
                raise Refused(place, f'is {short(value)}, an integer of more than 64 bits', 'store it as str or float')
            self.bytes += 8
            return value
        if kind in SIMPLE:
            self.bytes += WIDEST
            return value
        if kind is dict:
            return self._mapping(value, place, value)
        if kind is list:
            return self._sequence(value, place, value)
        if kind is bytes:
            self._grow(5 + len(value), 5 + len(value), place)
            return value
        if kind is dt.datetime and value.tzinfo is None:
            self.bytes += 8
            return value
        return self._convert(value, place)

    def _convert(self, value: Any, place: Place) -> Any:
        given = _fields(value, place)
        if given is not None:
            return self._mapping(given, place, value)
        if type(value).__module__.partition('.')[0] == 'bson' or isinstance(value, re.Pattern):
            return self._encodable(value, place)
        try:
            plain = coerce.in_utc(value) if type(value) is dt.datetime else coerce.plain(value)
        except Exception as exc:  # what a foreign object's own methods raise; its message goes into ours
            raise Refused(place, f'is {of_type(value)} that cannot be converted ({reason(exc)})',
                          'store it as str') from exc
        if plain is coerce.UNKNOWN or type(plain) is type(value) is not dt.datetime:
            raise Refused(place, f'is {of_type(value)}, which MongoDB cannot store', fix_for_value(value))
        # A list made of a set or an array stands for it, so that what contains itself is found by identity.
        return self._sequence(plain, place, value) if type(plain) is list else self._value(plain, place)

    def _encodable(self, value: Any, place: Place) -> Any:
        try:
            size = len(bson.encode({'': value}, codec_options=CODEC))
        except Exception as exc:
            raise Refused(place, f'is {of_type(value)} that BSON cannot encode ({reason(exc)})',
                          'store its parts as a dict or a str') from exc
        self._grow(size, size, place)
        return value

    def _enter(self, place: Place, origin: Any) -> None:
        self._grow(5, 5, place)
        depth, outer = 1, place
        while outer is not None:
            depth, outer = depth + 1, outer[2]
        if depth > MAX_DEPTH:
            outer = place
            while outer is not None:
                if outer[1] is origin:
                    raise Refused(outer, 'contains itself', 'store a copy without the reference back')
                outer = outer[2]
            raise Refused(place, f'is nested more than {MAX_DEPTH} levels deep', 'store a flatter message')

    def _grow(self, least: int, most: int, place: Place) -> None:
        self._least += least
        self.bytes += most
        if self._least > MAX_BYTES:  # stops early too what is small in memory and huge once written out
            raise _too_large(f'more than {MAX_BYTES:,} bytes, its end in {path_of(place)}')


def measure(message: dict[str, Any]) -> int:
    """The bytes that *message* takes in BSON.

    :raises Refused: if those are more than MongoDB stores
    """
    size = len(bson.encode(message, codec_options=CODEC))
    if size > MAX_BYTES:
        raise _too_large(f'{size:,} bytes, of which MongoDB stores {MAX_BYTES:,}')
    return size


def _too_large(bytes_: str) -> Refused:
    return Refused(None, f'takes {bytes_}', 'split it, or store a reference to a file', size=True)


def _fields(value: Any, place: Place) -> Mapping[Any, Any] | None:
    try:
        return coerce.fields(value)
    except Exception as exc:
        raise Refused(place, f'is {of_type(value)} whose fields cannot be read ({reason(exc)})',
                      'append a dict of what it holds') from exc


def _as_key(key: Any, place: Place) -> str:
    if not isinstance(key, str):
        raise Refused(place, f'has the key {short(key)}, {of_type(key)}, but keys are str', f'use {short(str(key))}')
    plain = coerce.plain(key)
    return plain if type(plain) is str else str.__str__(key)


def _check_text(text: str, place: Place, has: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise Refused(place, f'{has} a lone surrogate, {short(text[exc.start])}, at position {exc.start}, '
                      'which UTF-8 cannot encode', "decode it with errors='replace', or store it as bytes") from None
