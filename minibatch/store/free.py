"""Verbs that read the messages that are in no window, for strategies that look into them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import bson
from bson import ObjectId

from minibatch.clock import micros
from minibatch.store import raw, schema
from minibatch.store.base import free, verb
from minibatch.store.cut import HINT, Cut
from minibatch.store.record import pack_ids
from minibatch.store.schema import Document

_MILLISECOND = 1000
#: What marks ids as bytes that are no ObjectIds; too long to be taken for one.
_OTHER = b'\xff' * 8
#: Where a message's data begin, as the engine's own writers store it.
_AT = 44


class Message(NamedTuple):
    """A message as the cutter reads it.

    :ivar id: its ``_id`` as bytes (:func:`id_bytes`)
    :ivar created: when it was appended, in microseconds
    :ivar data: its data as BSON
    :ivar held: whether it waits for further windows only (:attr:`minibatch.window.shelf.Pane.held`)
    """

    id: bytes
    created: int
    data: bytes
    held: bool = False

    @staticmethod
    def pack(data: Any) -> bytes:
        """A message's data as BSON."""
        return bson.encode(data, codec_options=schema.CODEC)

    @staticmethod
    def unpack(messages: Sequence[Message]) -> list[Any]:
        """The data of messages, decoded."""
        return bson.decode_all(b''.join([each.data for each in messages]), schema.CODEC)


def id_bytes(id_: Any) -> bytes:
    """An ``_id`` as bytes: the 12 of an ObjectId, more for any other.

    >>> len(id_bytes(ObjectId())), id_of(id_bytes('mine'))
    (12, 'mine')
    """
    return id_.binary if type(id_) is ObjectId else _OTHER + bson.encode({'': id_}, codec_options=schema.CODEC)


def id_of(raw_id: bytes) -> Any:
    """The reverse of :func:`id_bytes`."""
    return ObjectId(raw_id) if len(raw_id) == 12 else bson.decode(raw_id[len(_OTHER):], schema.CODEC)['']


def low_id(raw_id: bytes, seconds: int) -> bytes:
    """The lowest ObjectId of so many seconds before the one of *raw_id*.

    >>> low_id(b'\\x00\\x00\\x00\\x05' + b'x' * 8, 3)
    b'\\x00\\x00\\x00\\x02\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00'
    """
    return max(0, int.from_bytes(raw_id[:4], 'big') - seconds).to_bytes(4, 'big') + bytes(8)


class Free(Cut):
    """Read the buffer."""

    @verb
    def page_after(self, stream: str, after: Any, limit: int) -> tuple[list[Message], bool]:
        """The free messages after an id (``None``: from the first one), in order of their ids.

        :return: up to *limit* messages, no more than 16 MB of them, and whether there are no more
        """
        query = free(stream) if after is None else free(stream) | {'_id': {'$gt': after}}
        found, ended = self._read(query, limit, HINT, None, held=1)
        return messages(found), ended and len(found) < limit

    @verb
    def free_within(self, stream: str, low: Any, high: Any) -> int:
        """How many messages are free with ids from *low* (``None``: all) to *high*."""
        return self.buffer.count_documents(_within(stream, low, high), hint='state')

    @verb
    def ids_within(self, stream: str, low: Any, high: Any) -> list[bytes]:
        """Their ids."""
        return [id_bytes(doc['_id']) for doc in self.buffer.find(_within(stream, low, high), {'_id': 1}, hint=HINT)]

    @verb
    def messages_of(self, stream: str, ids: Sequence[bytes]) -> list[Message]:
        """These messages as far as they are free, in order of their ids."""
        found = []
        for at in range(0, len(ids), 1000):
            cursor = self._raw.find(free(stream) | {'_id': {'$in': [id_of(each) for each in ids[at:at + 1000]]}},
                                    {'data': 1, 'created': 1, 'held': 1}, hint=HINT)
            found += [bytes(doc.raw) for doc in cursor]
        return sorted(messages(found))


def _within(stream: str, low: Any, high: Any) -> Document:
    # Not greater, instead of less or equal: ids of all types count, whatever the type of *high*.
    return free(stream) | {'_id': {'$not': {'$gt': high}} if low is None else {'$gte': low, '$lte': high}}


def messages(found: Sequence[bytes]) -> list[Message]:
    """Messages as the server sent them."""
    if raw.regular(found):
        time, length = raw.TIME.unpack_from, raw.LENGTH.unpack_from
        read = []
        for doc in found:
            end = _AT + length(doc, _AT)[0]  # a NUL follows, or the field ``held``
            read.append(tuple.__new__(Message, (  # as Message(...), in half the time
                doc[9:21], time(doc, 30)[0] * _MILLISECOND, doc[_AT:end], len(doc) > end + 1)))
        return read
    others: list[Message] = []
    for each in found:
        if raw.regular([each]):
            others += messages([each])
            continue
        whole = bson.decode(each, schema.CODEC)
        data, created = whole.get('data'), whole.get('created')
        data = data if isinstance(data, dict) else {'data': data}
        at = micros(created) if isinstance(created, datetime) else 0
        others.append(Message(id_bytes(whole['_id']), at, Message.pack(data), bool(whole.get('held'))))
    return others


def packed(ids: Sequence[bytes]) -> Any:
    """Ids as a window document has them (:func:`~minibatch.store.record.pack_ids`)."""
    return b''.join(ids) if all(len(each) == 12 for each in ids) else pack_ids([id_of(each) for each in ids])
