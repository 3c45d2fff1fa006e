"""What an entry of a Redis Stream holds: pairs of a field and bytes, of which one is the message, or all are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minibatch.contrib import codecs
from minibatch.errors import OptionError, Undecodable, Unencodable


class Fields:
    """From the fields of an entry to a message, and back; a codec, for the inlet.

    :param field: the one that holds the message; ``None``: each of them is a field of the message
    :param codec: how to read and write it, or each of them. ``None``: JSON for one; if it is all of them, text is
        text, and what is no text is written as JSON
    :raises OptionError: one of them cannot be

    >>> Fields('data').decode(Fields('data').entry({b'data': b'{"n": 1}'}))
    {'n': 1}
    >>> Fields(None).decode({b'user': b'ann', b'n': b'1'})
    {'user': 'ann', 'n': '1'}
    >>> Fields(None).encode({'user': 'ann', 'n': 1})
    {'user': b'ann', 'n': b'1'}
    """

    def __init__(self, field: str | None, codec: Any = None) -> None:
        if field is not None and (not isinstance(field, str) or not field):
            raise OptionError(f'field is {field!r}; give the name of one, or None for all of them')
        self._field, self._name = field, (field or '').encode()
        if codec is None:
            codec = 'json' if field is not None else _Plain()
        self._codec = codecs.codec(codec)

    def entry(self, fields: dict[bytes, bytes]) -> Any:
        """What the inlet is given of an entry: the bytes of the field, so that a dead letter holds just these."""
        return fields if self._field is None else fields.get(self._name, fields)

    def decode(self, raw: Any) -> Any:
        """The message in what :meth:`entry` made of the entry."""
        if self._field is None:
            return {_text(name): self._codec.decode(value) for name, value in raw.items()}
        if isinstance(raw, dict):
            there = ', '.join(map(repr, map(_text, raw)))
            raise Undecodable(f'the entry has no field {self._field!r}; it has {there} (field=None takes them all)')
        return self._codec.decode(raw)

    def encode(self, message: Any) -> Any:
        """The fields of the entry for a message."""
        if self._field is not None:
            return {self._field: self._codec.encode(message)}
        if not isinstance(message, Mapping) or not message:
            raise Unencodable('with field=None, a result has to be a mapping that is not empty, and its keys become '
                              f'the fields of the entry; this is a {type(message).__name__}')
        return {str(name): self._codec.encode(value) for name, value in message.items()}


class _Plain:
    """Text as it is; anything else as JSON."""

    def __init__(self) -> None:
        self._json = codecs.codec('json')

    def __repr__(self) -> str:
        return 'plain'

    def decode(self, data: bytes) -> Any:
        return _text(data)

    def encode(self, message: Any) -> bytes:
        return message.encode() if isinstance(message, str) else self._json.encode(message)


def _text(raw: bytes) -> Any:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
