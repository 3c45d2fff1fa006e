"""Messages on their way through the cutter, as the bytes that they are.

Who cuts windows needs no message's content. So a backlog is read as raw BSON, its messages' data are put into window
documents as they are, and what runs the function unpacks them: in a worker process, for process pools. Per message
this saves the consumer's own process a decoding, an encoding and a pickling. The format is BSON's
(https://bsonspec.org/spec.html): a document is its length, its elements, and a NUL; an array is a document whose
names are ``'0'``, ``'1'``, and so on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from struct import Struct
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

from minibatch.store.schema import CODEC, Document

#: A length in BSON.
LENGTH = Struct('<i')
#: A time in BSON: milliseconds.
TIME = Struct('<q')
#: How a message begins whose ``_id`` is an ObjectId and that has ``created`` and ``data``, in this order.
_ID, _CREATED, _DATA = b'\x07_id\x00', b'\x09created\x00', b'\x03data\x00'
_ARRAY = 4
_OBJECT_ID, _DOCUMENT = 7, 3
_names: dict[int, list[bytes]] = {_OBJECT_ID: [], _DOCUMENT: []}


class Packed:
    """Messages' data that nobody has needed to look at yet; small to send to another process.

    :param blobs: each message's data, as a BSON document

    >>> Packed([bson.encode({'n': 1}), bson.encode({'n': 2})]).unpack()
    [{'n': 1}, {'n': 2}]
    """

    __slots__ = ('blobs',)

    def __init__(self, blobs: Iterable[bytes]) -> None:
        self.blobs = blobs

    def unpack(self) -> list[Any]:
        """The messages' data."""
        return bson.decode_all(b''.join(self.blobs), CODEC)

    def __reduce__(self) -> tuple[Any, ...]:
        return Packed, ((b''.join(self.blobs),),)


def elements(array: bytes) -> list[bytes]:
    """The documents in an array of documents, which need not be decoded for it.

    >>> [bson.decode(each) for each in elements(bson.encode({'0': {'n': 1}, '1': {'n': 2}}))]
    [{'n': 1}, {'n': 2}]
    """
    docs: list[bytes] = []
    at, end, length = 4, len(array) - 1, LENGTH.unpack_from
    name, wider_at = 3, 10  # bytes of an element's type, name and NUL, and the index at which names get longer
    while at < end:
        if len(docs) == wider_at:
            name, wider_at = name + 1, wider_at * 10
        at += name
        (n,) = length(array, at)
        docs.append(array[at:at + n])
        at += n
    return docs


def page(cursor: bytes) -> tuple[list[bytes], int]:
    """The documents and the id of a cursor, as a server's reply has them; the id is 0 after the last ones.

    >>> page(bson.encode({'firstBatch': [{'n': 1}], 'id': 5, 'ns': 'db.buffer'}))[1]
    5
    """
    if cursor[4] != _ARRAY:  # other servers may have another order
        reply = RawBSONDocument(cursor)
        return [bytes(each.raw) for each in reply.get('firstBatch', reply.get('nextBatch'))], reply['id']
    at = cursor.index(b'\x00', 4) + 1
    (n,) = LENGTH.unpack_from(cursor, at)
    rest = cursor[at + n:]
    return elements(cursor[at:at + n]), bson.decode(LENGTH.pack(len(rest) + 4) + rest)['id']


def regular(docs: Sequence[bytes]) -> bool:
    """Whether all these messages are as the engine's own writers store them; others have to be decoded."""
    return all(doc[4:9] == _ID and doc[21:30] == _CREATED and doc[38:44] == _DATA for doc in docs)


def ids(docs: Iterable[bytes]) -> bytes:
    """The ``_id`` of each, 12 bytes."""
    return b''.join([doc[9:21] for doc in docs])


def times(docs: Iterable[bytes]) -> bytes:
    """``created`` of each, 8 bytes, in milliseconds."""
    return b''.join([doc[30:38] for doc in docs])


def pack_times(times: Sequence[int]) -> bytes:
    """Times in microseconds, as :func:`times` has them."""
    return b''.join([TIME.pack(each // 1000) for each in times])


def data(docs: Iterable[bytes]) -> list[bytes]:
    """``data`` of each, as a document."""
    return [doc[44:-1] for doc in docs]


def wrapped(stream: str, created: datetime, ids: Sequence[Any], blobs: Sequence[bytes]) -> list[RawBSONDocument]:
    """Messages for the buffer whose data are documents as BSON already; as what the engine's own writers store.

    >>> wrapped('clicks', datetime(2026, 1, 1), [bson.ObjectId()], [bson.encode({'n': 1})])[0]['data']['n']
    1
    """
    head = bson.encode({'stream': stream, 'created': created}, codec_options=CODEC)[4:-1]
    tail = bson.encode({'processed': False, 'window': None})[4:]
    size = 4 + len(_ID) + 12 + len(head) + len(_DATA) + len(tail)
    pack, before = LENGTH.pack, head + _DATA
    return [RawBSONDocument(b''.join((pack(size + len(blob)), _ID, id_.binary, before, blob, tail)))
            for id_, blob in zip(ids, blobs, strict=True)]


def with_data(document: Document, blobs: Sequence[bytes]) -> RawBSONDocument:
    """The document with one more field, ``data``: the array of *blobs*.

    >>> with_data({'_id': 1}, [bson.encode({'n': 1})])['data'][0]['n']
    1
    """
    return _with_array(bson.encode(document, codec_options=CODEC)[4:-1], b'data', _DOCUMENT, blobs)


def among(ids: Sequence[bytes]) -> RawBSONDocument:
    """The condition that something is one of these ObjectIds, given as their 12 bytes.

    >>> from bson import ObjectId
    >>> dict(among([b'x' * 12])) == {'$in': [ObjectId(b'x' * 12)]}
    True
    """
    return _with_array(b'', b'$in', _OBJECT_ID, ids)


def _with_array(head: bytes, name: bytes, kind: int, values: Sequence[bytes]) -> RawBSONDocument:
    """A document of the elements in *head* and an array of values of one kind."""
    names = _names[kind]
    while len(names) < len(values):
        names.append(b'%c%d\x00' % (kind, len(names)))
    array = b''.join([part for pair in zip(names, values) for part in pair])  # noqa: B905 (as many names as needed)
    body = b''.join((head, b'\x04', name, b'\x00', LENGTH.pack(len(array) + 5), array, b'\x00\x00'))
    return RawBSONDocument(LENGTH.pack(len(body) + 4) + body)
