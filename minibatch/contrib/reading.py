"""Reading what came from outside: decoded, checked against the schema, shaped, and fit to be stored; or a reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

from minibatch import coerce
from minibatch.convert import CODEC, MAX_BYTES, MAX_DEPTH
from minibatch.errors import MinibatchError
from minibatch.messages import sift
from minibatch.refused import Refused, reason

#: Most bytes of a dead letter's raw content; of more, the beginning is kept.
MOST_RAW = 8 * 1024 * 1024


class Unreadable:
    """What cannot become a message.

    :ivar reason: why, in a sentence
    """

    __slots__ = ('reason',)

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Reader:
    """Makes messages of what a source brings.

    :param codec: an object with ``decode(bytes)``; ``None`` takes what comes as it is
    :param check: called with what was decoded, returns the message, or raises
    :param shape: called with what was decoded and checked and the item's ``meta``; returns the message
    """

    def __init__(self, codec: Any = None, check: Callable[[Any], Any] | None = None,
                 shape: Callable[[Any, Any], Any] | None = None) -> None:
        self._decode: Callable[[Any], Any] | None = None if codec is None else codec.decode
        self._check = check
        self._shape = shape

    def read(self, raws: Sequence[Any], metas: Sequence[Any]) -> tuple[list[Any], int]:
        """Read many: for each of them the message (a dict, or a document as BSON), or :class:`Unreadable`.

        :return: the messages, and about how many bytes they are
        """
        rows = self._rows(raws, metas)
        total = 0
        found: list[Any] = [None] * len(rows)
        plain: list[int] = []
        for at, row in enumerate(rows):
            kind = type(row)
            if kind is dict:
                plain.append(at)
            elif kind is RawBSONDocument:
                packed = row.raw
                if len(packed) <= MAX_BYTES and packed.count(b'\3') + packed.count(b'\4') < MAX_DEPTH:
                    total += len(packed)
                    found[at] = packed
                else:  # too large, or, as it has so many bytes that could begin a level, perhaps too deep
                    try:
                        rows[at] = bson.decode(packed, CODEC)
                        plain.append(at)
                    except Exception as error:
                        found[at] = Unreadable(f'{type(error).__name__}: {reason(error)}')
            elif kind is Unreadable:
                found[at] = row
            else:
                try:
                    if coerce.fields(row) is None:
                        rows[at] = {'value': row}
                    plain.append(at)
                except Exception as error:  # of an object's own methods
                    found[at] = Unreadable(f'its fields cannot be read ({reason(error)})')
        if plain:
            messages, size = sift(rows if len(plain) == len(rows) else [rows[at] for at in plain])
            total += size
            for at, message in zip(plain, messages, strict=True):
                found[at] = Unreadable(str(message)) if type(message) is Refused else message
        return found, total

    def _rows(self, raws: Sequence[Any], metas: Sequence[Any]) -> list[Any]:
        try:
            rows = list(raws) if self._decode is None else list(map(self._decode, raws))
            if self._check is not None:
                rows = list(map(self._check, rows))
            if self._shape is not None:
                rows = list(map(self._shape, rows, metas))
            return rows
        except Exception:  # one of them; which, is found one by one
            return [self._row(raw, meta) for raw, meta in zip(raws, metas, strict=True)]

    def _row(self, raw: Any, meta: Any) -> Any:
        try:
            # None is no bytes but the lack of them, such as a tombstone's of Kafka.
            row = raw if self._decode is None or raw is None else self._decode(raw)
            if self._check is not None:
                row = self._check(row)
            return row if self._shape is None else self._shape(row, meta)
        except Exception as error:  # whatever a codec or a schema of the user's own raises
            ours = isinstance(error, MinibatchError)
            return Unreadable(str(error) if ours else f'{type(error).__name__}: {reason(error)}')


def as_raw(raw: Any) -> Any:
    """What a dead letter keeps of what came: its bytes; the beginning, if they are too many.

    >>> as_raw('{"n": '), as_raw(b'1'), as_raw({'n': 1}), as_raw(object) == repr(object).encode()
    (b'{"n": ', b'1', b"{'n': 1}", True)
    """
    if isinstance(raw, RawBSONDocument):
        content = raw.raw
    elif isinstance(raw, str):
        content = raw.encode(errors='surrogatepass')
    elif isinstance(raw, (bytes, bytearray, memoryview)):
        content = bytes(raw)
    else:
        try:
            content = repr(raw).encode(errors='backslashreplace')
        except Exception:  # somebody's __repr__
            content = type(raw).__name__.encode()
    return content[:MOST_RAW]


def size_of(message: Any) -> int:
    """The bytes that a message takes."""
    return len(message) if type(message) is bytes else len(bson.encode(message)) if type(message) is dict else 0
