"""Verbs on windows whose messages were chosen one by one, by what is in them (*placed* windows).

Their messages wait in the buffer, free, while their window is open; the consumer that leads has an index of them in
its memory and nothing else. When windows are over, one transaction takes their numbers, stores how far the stream has
been cut, deletes the messages by ``_id`` (the number deleted must be theirs) and inserts the window documents, which
carry the data. So nothing is written twice, each window is cut once, and whoever leads next finds the rest in the
buffer. Where windows cannot be moved they are marked (:mod:`minibatch.store.cut`), with the progress in the window
document until it is stored.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import bson
from bson import ObjectId
from pymongo import ReturnDocument
from pymongo.client_session import ClientSession

from minibatch.clock import micros, moment
from minibatch.errors import LeaseLost
from minibatch.order import Claim, Part, Progress
from minibatch.points import reached
from minibatch.states import WindowState
from minibatch.store import raw, schema
from minibatch.store.base import free, in_seconds, verb
from minibatch.store.cut import HINT, Cut
from minibatch.store.record import pack_ids
from minibatch.store.schema import Document

_MILLISECOND = 1000
#: What marks ids as bytes that are no ObjectIds; too long to be taken for one.
_OTHER = b'\xff' * 8


class Message(NamedTuple):
    """A message as the cutter reads it.

    :ivar id: its ``_id`` as bytes (:func:`id_bytes`)
    :ivar created: when it was appended, in microseconds
    :ivar data: its data as BSON
    """

    id: bytes
    created: int
    data: bytes

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


class Panes(Cut):
    """Read the buffer, and cut placed windows."""

    @verb
    def open_placed(self, stream: str, owner: str, strategy: Document) -> Document:
        """How far a stream has been cut, for who begins to lead it; noted as this strategy's if it is nobody's yet.

        :return: ``strategy``, ``id``, and maybe ``mark`` and ``watermark``
        :raises LeaseLost: somebody else leads
        """
        fresh = {'strategy': {'$literal': strategy}, 'id': uuid.uuid4().hex}
        doc = self.streams.find_one_and_update(
            {'_id': stream, 'lease.owner': owner}, [{'$set': {'placed': {'$ifNull': ['$placed', fresh]}}}],
            {'placed': 1}, return_document=ReturnDocument.AFTER)
        if doc is None:
            raise LeaseLost(f'another consumer cuts the windows of {stream!r} now')
        placed: Document = doc['placed']
        return placed

    @verb
    def placed(self, stream: str) -> Document | None:
        """How far a stream has been cut by a strategy that places messages; ``None``: by none so far."""
        doc = self.streams.find_one({'_id': stream}, {'placed': 1}) or {}
        placed: Document | None = doc.get('placed')
        return placed

    @verb
    def reset_placed(self, stream: str) -> None:
        """Forget the progress and the strategy: what is in the buffer is placed anew."""
        self.streams.update_one({'_id': stream}, {'$unset': {'placed': 1}})

    @verb
    def note_watermark(self, stream: str, progress: Progress) -> None:
        """Store the watermark of a stream that has nothing to cut."""
        self.streams.update_one({'_id': stream, 'placed.id': progress.id},
                                {'$set': {'placed.watermark': progress.watermark}})

    # -- reading

    @verb
    def page_after(self, stream: str, after: Any, limit: int) -> tuple[list[Message], bool]:
        """The free messages after an id (``None``: from the first one), in order of their ids.

        :return: up to *limit* messages, no more than 16 MB of them, and whether there are no more
        """
        query = free(stream) if after is None else free(stream) | {'_id': {'$gt': after}}
        found, ended = self._read(query, limit, HINT, None)
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
                                    {'data': 1, 'created': 1}, hint=HINT)
            found += [bytes(doc.raw) for doc in cursor]
        return sorted(messages(found))

    # -- cutting

    @verb
    def place(self, session: ClientSession, stream: str, parts: Sequence[Part], claim: Claim,
              progress: Progress) -> list[Document]:
        """Cut windows in one transaction, and store the progress with them.

        :param session: the cutter's own session
        :return: the window documents, of which the first ``claim.windows`` are running
        :raises LeaseLost: somebody else leads, or has taken or removed one of the messages: read the buffer again
        """
        reached('place:before')
        with session.start_transaction(read_concern=schema.SNAPSHOT, write_concern=schema.MAJORITY):
            first = self._advance(stream, claim, len(parts), progress, session)
            reached('place:advanced')
            ids = [*progress.late, *(each for part in parts for each in part.leaving)]
            if ids:
                ids.sort()
                gone = self.buffer.delete_many(free(stream) | {'_id': {'$in': [id_of(each) for each in ids]}},
                                               session=session, hint=HINT).deleted_count
                if gone != len(ids):
                    raise LeaseLost(f'{len(ids) - gone} of {len(ids)} messages are not there any more')
            reached('place:deleted')
            docs = self._placed_documents(stream, first, parts, claim)
            if docs:
                self.windows.insert_many([raw.with_data(doc, part.blobs or ()) for doc, part in zip(
                    docs, parts, strict=True)], session=session)
            reached('place:inserted')
        reached('place:committed')
        for doc, part in zip(docs, parts, strict=True):
            doc['packed'] = raw.Packed(part.blobs or ())
        return docs

    @verb
    def place_by_marks(self, stream: str, parts: Sequence[Part], marks: Sequence[Sequence[Any] | None], claim: Claim,
                       progress: Progress, *, keep: bool) -> list[Document]:
        """Cut windows by marking their messages: where there are no transactions, to keep them, or if they are large.

        :param marks: the progress with each window
        :return: as :meth:`place` does; fewer if messages of a window were not there any more
        :raises LeaseLost: somebody else leads
        """
        plain = Progress(id=progress.id, watermark=progress.watermark, late=progress.late)
        first = self._advance(stream, claim, len(parts), plain, None)
        if progress.late:
            self.buffer.delete_many(free(stream) | {'_id': {'$in': [id_of(each) for each in sorted(progress.late)]}},
                                    hint=HINT)
        docs = self._placed_documents(stream, first, parts, claim)
        there = {doc['_id'] for doc in self.windows.find({'_id': {'$in': [doc['_id'] for doc in docs]}}, {'_id': 1})}
        for doc, part, mark in zip(docs, parts, marks, strict=True):
            if doc['_id'] in there:  # kept from before a reset
                doc['_id'] += f':{doc["seq"]}'
            doc.update(moved=False, keep=keep or None)
            if part.blobs is not None:
                doc['data'] = raw.Packed(part.blobs).unpack()
            if doc.get('shared'):
                doc['marks'] = _packed(part.leaving)
            if part.dead is not None:
                doc['then'] = doc['state']
            if mark is not None:
                doc['progress'] = {'id': progress.id, 'mark': list(mark)}
        return self.intend(stream, docs, claim)

    def _advance(self, stream: str, claim: Claim, n: int, progress: Progress, session: ClientSession | None) -> int:
        change: Document = {'seq': {'$add': ['$seq', n]}, 'lease.until': in_seconds(claim.ttl),
                            'placed.watermark': {'$literal': progress.watermark}}
        if progress.mark is not None:
            change['placed.mark'] = {'$literal': list(progress.mark)}
        if progress.late:
            change['stats.late'] = {'$add': [{'$ifNull': ['$stats.late', 0]}, len(progress.late)]}
        doc = self.streams.find_one_and_update(
            {'_id': stream, 'lease.owner': claim.owner, 'placed.id': progress.id}, [{'$set': change}], {'seq': 1},
            return_document=ReturnDocument.AFTER, session=session)
        if doc is None:
            raise LeaseLost(f'another consumer cuts the windows of {stream!r} now, or it was reset')
        return int(doc['seq']) - n + 1

    def _placed_documents(self, stream: str, first: int, parts: Sequence[Part], claim: Claim) -> list[Document]:
        now = self.clock.now()
        running = {'state': WindowState.RUNNING.value, 'owner': claim.owner, 'token': claim.token, 'lsid': claim.lsid,
                   'attempt': 1, 'until': now + timedelta(seconds=claim.ttl)}
        docs, mine = [], claim.windows
        for at, part in enumerate(parts):
            seq = first + at
            name = f'{stream}:{seq if part.name is None else part.name}'
            doc: Document = {
                '_id': name, 'stream': stream, 'seq': seq, 'state': WindowState.READY.value,
                'n': len(part.ids), 'processed': False, 'attempt': 0, 'created': now,
                'members': _packed(part.ids), 'times': raw.pack_times(part.times),
                'start': _stored(part.start), 'end': _stored(part.end), 'span': [part.start, part.end], 'moved': True}
            if part.slot:
                doc['key'] = list(part.key) if isinstance(part.key, tuple) else part.key
                doc['slot'] = part.slot
            if part.gone is not None and len(part.gone) != len(part.ids):
                doc['shared'] = True
            if part.dead is not None:
                reason, kind = part.dead
                doc['state'] = WindowState.DEAD.value
                doc['errors'] = [{'attempt': 0, 'error': reason, 'kind': kind, 'traceback': None, 'when': now}]
            elif mine > 0:
                mine -= 1
                doc.update(running)
            docs.append(doc)
        return docs


def _within(stream: str, low: Any, high: Any) -> Document:
    # Not greater, instead of less or equal: ids of all types count, whatever the type of *high*.
    return free(stream) | {'_id': {'$not': {'$gt': high}} if low is None else {'$gte': low, '$lte': high}}


def messages(found: Sequence[bytes]) -> list[Message]:
    """Messages as the server sent them."""
    if raw.regular(found):
        unpack = raw.TIME.unpack_from
        return [Message(doc[9:21], unpack(doc, 30)[0] * _MILLISECOND, doc[44:-1]) for doc in found]
    read = []
    for each in found:
        if raw.regular([each]):
            read += messages([each])
            continue
        doc = bson.decode(each, schema.CODEC)
        data = doc.get('data')
        created = doc.get('created')
        read.append(Message(id_bytes(doc['_id']), micros(created) if isinstance(created, datetime) else 0, bson.encode(
            data if isinstance(data, dict) else {'data': data}, codec_options=schema.CODEC)))
    return read


def _packed(ids: Sequence[bytes]) -> Any:
    return b''.join(ids) if all(len(each) == 12 for each in ids) else pack_ids([id_of(each) for each in ids])


def _stored(time: int) -> Any:
    """A time as MongoDB stores it: in milliseconds, rounded down."""
    at = moment(time)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)

