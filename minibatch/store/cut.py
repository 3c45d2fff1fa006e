"""Cutting: messages become members of window documents, in one of two ways.

*Move* takes messages out of the buffer and puts their data into window documents, in one transaction. Its delete is a
compare-and-set for each message: a message is deleted by one transaction only, so no lease, clock or late riser can
bring it into two windows. The find runs in the same snapshot, so that deleting by range deletes exactly what was found.

*Mark* leaves the messages in the buffer and marks them: for windows that are kept, for custom emitters, for windows too
large for one document, and for servers without transactions. The window document is written first, with its members
(``cutting``); marking is a compare-and-set for each message, and finishing a cut that somebody else began is the same
sequence of harmless writes (:meth:`Cut.complete`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import bson
import bson.errors
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateMany
from pymongo.client_session import ClientSession

from minibatch.connection import Connection
from minibatch.errors import LeaseLost
from minibatch.order import Claim, Order
from minibatch.points import reached
from minibatch.states import WindowState
from minibatch.store import raw, schema
from minibatch.store.base import free, in_seconds, marked, verb
from minibatch.store.lead import Lead
from minibatch.store.record import document, unpack_ids, unpack_times
from minibatch.store.schema import Document

CUTTING, READY, RUNNING, VOID = (each.value for each in (
    WindowState.CUTTING, WindowState.READY, WindowState.RUNNING, WindowState.VOID))
_RAW = schema.CODEC.with_options(document_class=RawBSONDocument)
#: The one index of the buffer.
HINT: list[tuple[str, int]] = [('stream', 1), ('processed', 1), ('window', 1), ('_id', 1)]
_CLUSTER: list[tuple[str, int]] = [('_id', 1)]
#: From how many messages on it pays to read along the clustered key; above how many seconds for each it does not, since
#: there is too much in between; and how long, in seconds, it is not tried again then.
_MANY, _SLOW, _SPARSE = 500, 30e-6, 30.0


class Cut(Lead):
    """The verbs that decide which messages form a window."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._raw = self.buffer.with_options(codec_options=_RAW)
        self._dense: set[str] = set()
        self._sparse_until: dict[str, float] = {}

    @verb
    def move(self, session: ClientSession, stream: str, order: Order, claim: Claim,
             numbers: Callable[[int], int], known: Any = None) -> list[Document] | None:
        """Cut by moving, in one transaction.

        :param session: the cutter's own session, whose id is in its lease
        :param numbers: gives out that many window numbers, the first of which it returns
        :param known: for a single message, its ``_id`` if a watch has seen it; if it is gone, one after it will do
        :return: the window documents, of which the first ``claim.windows`` are running; ``None`` if a window is too
            large to be moved and has to be marked
        :raises LeaseLost: somebody else leads
        """
        with session.start_transaction(read_concern=schema.SNAPSHOT, write_concern=schema.MAJORITY):
            single = order.size == 1 and order.most == 1  # found and deleted with one request, for the sake of latency
            found, whole, hint = self._first(stream, session, known) if single else self._gather(stream, order, session)
            parts = split(found, order, whole)
            if parts is None:
                return None
            if not parts:
                return []
            reached('cut:found')
            # A time window's number and the time read up to go in with it; a count's number may be lost in a crash.
            first = numbers(len(parts)) if order.advance is None else self.allocate(
                stream, claim.owner, len(parts), claim.ttl, order.advance, session)
            n = sum(map(len, parts))
            stored: list[Any]
            read: list[list[Document]] = []
            if raw.regular(found):
                docs, stored = self._raw_documents(stream, first, parts, order, claim)
            else:
                read = [bson.decode_all(b''.join(part), schema.CODEC) for part in parts]
                docs = stored = self._documents(stream, first, read, order, claim, data=True, moved=True)
            if n and not single:
                low, high = _id_of(parts[0][0]), _id_of(parts[-1][-1])
                ids: Document = {'$gte': low, '$lte': high}
                if type(low) is not type(high):  # a range never spans types of ids
                    ids = {'$in': [each['_id'] for part in read for each in part]}
                query = free(stream) | _created(order) | {'_id': ids}
                gone = self.buffer.delete_many(query, session=session, hint=hint).deleted_count
                if gone != n:
                    raise LeaseLost(f'{n - gone} of {n} messages went into another window')
            reached('cut:deleted')
            if single:
                self.windows.insert_one(stored[0], session=session)
            else:
                self.windows.insert_many(stored, session=session)
            reached('cut:inserted')
        reached('cut:committed')
        return docs

    @verb
    def mark(self, stream: str, order: Order, claim: Claim, numbers: Callable[[int], int], *,
             keep: bool) -> list[Document]:
        """Cut by marking; the documents that come back are running or ready, as with :meth:`move`."""
        found, whole, _ = self._gather(stream, order, None)
        cut = split(found, order, whole)
        data = cut is not None
        if cut is not None:
            parts = [bson.decode_all(b''.join(part), schema.CODEC) for part in cut]
        else:  # one window is more than a document holds: its data stays in the buffer
            limit = order.size or 0
            parts = [list(self.buffer.find(free(stream) | _created(order), {'created': 1},
                                           sort=[('_id', 1)], limit=limit))]
        if not parts:
            return []
        reached('cut:found')
        first = numbers(len(parts))
        docs = self._documents(stream, first, parts, order, claim, data=data, keep=keep or None)
        return self.intend(stream, docs, claim)

    @verb
    def select(self, stream: str, part: Sequence[Document], claim: Claim, numbers: Callable[[int], int], *, keep: bool,
               **more: Any) -> list[Document]:
        """Cut one window of the messages that a custom emitter selected, in its order; *more*: fields of the window."""
        first = numbers(1)
        order = Order(size=None, start=more.pop('start', None), end=more.pop('end', None),
                      advance=more.pop('advance', None))
        docs = self._documents(stream, first, [part], order, claim, data=True, keep=keep or None)
        docs[0].update((name, value) for name, value in more.items() if value is not None)
        try:
            bson.encode({'query': docs[0].get('query')}, codec_options=schema.CODEC)
        except (bson.errors.BSONError, OverflowError, UnicodeEncodeError, ValueError):
            docs[0]['query'] = repr(docs[0]['query'])  # for people to read; anything may be in it
        if len(bson.encode(docs[0], codec_options=schema.CODEC)) > schema.MAX_INLINE:
            docs[0].pop('data')
        return self.intend(stream, docs, claim)

    def intend(self, stream: str, docs: list[Document], claim: Claim) -> list[Document]:
        """Write windows down as ``cutting``, then finish them."""
        final = [dict(doc) for doc in docs]
        for doc in docs:
            for name in ('owner', 'token', 'until', 'lsid'):
                doc.pop(name, None)
            doc.update(state=CUTTING, attempt=0)
        self.windows.insert_many(docs)
        reached('mark:intended')
        good = self.complete(stream, docs)
        running = [doc['_id'] for doc in final if doc['state'] == RUNNING and doc['_id'] in good]
        ready = [doc['_id'] for doc in final if doc['state'] != RUNNING and doc['_id'] in good]
        if ready:
            self.publish(ready)
        if running:
            self.windows.update_many({'_id': {'$in': running}, 'state': CUTTING}, [{'$set': {
                'state': RUNNING, 'owner': claim.owner, 'token': claim.token, 'attempt': 1,
                'lsid': {'$literal': claim.lsid}, 'until': in_seconds(claim.ttl)}}])
            mine = {doc['_id'] for doc in self.windows.find(
                {'_id': {'$in': running}, 'token': claim.token}, {'_id': 1})}
            final = [doc for doc in final if doc['state'] != RUNNING or doc['_id'] in mine]
        reached('mark:published')
        return [doc for doc in final if doc['_id'] in good]

    def complete(self, stream: str, docs: Sequence[Document]) -> set[str]:
        """Mark the members of ``cutting`` windows and advance the stream; anybody may, any number of times.

        :return: ids of the windows that have all their members; the others are void, and their messages free
        """
        marks = [UpdateMany({'_id': {'$in': chunk}, 'stream': stream, 'window': None},
                            {'$set': {'processed': True, 'window': doc['_id']}})
                 for doc in docs for chunk in _chunks(_to_mark(doc))]
        wanted = sum(len(_to_mark(doc)) for doc in docs)
        if not wanted or self.buffer.bulk_write(marks, ordered=False).modified_count == wanted:
            good = {doc['_id'] for doc in docs}
        else:
            good = {doc['_id'] for doc in docs
                    if self.buffer.count_documents(marked(stream, doc['_id'])) == len(_to_mark(doc))}
        reached('mark:marked')
        for doc in docs:
            if doc['_id'] not in good:
                self.void(stream, doc['_id'])
        advance = [doc['advance'] for doc in docs if doc['_id'] in good and doc.get('advance')]
        if advance:
            self.streams.update_one({'_id': stream}, {'$max': {'last_read': max(advance)}})
        for doc in sorted((doc for doc in docs if doc.get('progress')), key=lambda doc: doc['seq']):
            if doc['_id'] not in good:
                break  # what comes after it is not cut up to there
            self._progress(stream, doc['seq'], doc['progress'])
        reached('mark:advanced')
        return good

    def _progress(self, stream: str, seq: int, progress: Document) -> None:
        """Store how far placed windows have been cut, with the window of number *seq*; it never goes back."""
        self.streams.update_one(
            {'_id': stream, 'placed.id': progress['id'], 'placed.seq': {'$not': {'$gte': seq}}},
            {'$set': {'placed.mark': progress['mark'], 'placed.seq': seq}})

    def publish(self, ids: Sequence[str]) -> None:
        """``cutting -> ready``; or ``-> dead``, what was a dead letter from the start."""
        self.windows.update_many({'_id': {'$in': list(ids)}, 'state': CUTTING}, [
            {'$set': {'state': {'$ifNull': ['$then', READY]}}}, {'$unset': ['then', 'marks', 'progress']}])

    def void(self, stream: str, window: str) -> None:
        """``cutting -> void``, and its messages are free again."""
        changed = self.windows.update_one({'_id': window, 'state': CUTTING},
                                          {'$set': {'state': VOID, 'created': self.clock.now()}}).modified_count
        if changed:
            self._unmark(stream, window)

    def _unmark(self, stream: str, window: str) -> None:
        self.buffer.update_many(marked(stream, window), {'$set': {'processed': False, 'window': None}})

    @verb
    def roll_forward(self, stream: str) -> int:
        """Finish the cuts that a dead leader began; free what a late one marked for a void window.

        Also frees messages that a custom emitter's own ``process`` flagged before it died: flagged, but in no window.

        :return: windows finished
        """
        docs = list(self.settled.find({'stream': stream, 'state': CUTTING}))
        if docs:
            self.publish(sorted(self.complete(stream, docs)))
        for doc in self.settled.find({'stream': stream, 'state': VOID}, {'created': 1}):
            self._unmark(stream, doc['_id'])
            if doc['created'] < self.clock.now() - timedelta(hours=1):
                self.windows.delete_one({'_id': doc['_id'], 'state': VOID})
        self.buffer.update_many({'stream': stream, 'processed': True, 'window': {'$type': 'null'}},
                                {'$set': {'processed': False}})
        return len(docs)

    def _first(self, stream: str, session: ClientSession, known: Any) -> tuple[list[bytes], bool, Any]:
        """Take the first message out of the buffer; the answer is as that of :meth:`_gather`."""
        query, hint = (free(stream), HINT) if known is None else (free(stream) | {'_id': {'$gte': known}}, _CLUSTER)
        found = self._raw.find_one_and_delete(query, {'data': 1, 'created': 1}, sort=[('_id', 1)], hint=hint,
                                              session=session)
        return ([found.raw] if found else []), True, hint

    def _gather(self, stream: str, order: Order, session: ClientSession | None) -> tuple[list[bytes], bool, Any]:
        """Read the messages for an order: as many as one group may have.

        While there is a backlog they are read, and later deleted, along the clustered ``_id`` and not along the index,
        which is a quarter faster; unless other streams' messages lie too thickly between them.

        :return: the messages as BSON, whether these are all that fit the order, and the index used
        """
        limit = (order.size * max(1, min(order.most, schema.MAX_GROUP // order.size)) if order.size
                 else schema.MAX_GROUP + 1)
        query, hint = free(stream) | _created(order), HINT
        if self.clustered and session is not None and stream in self._dense:
            first = self.buffer.find_one(free(stream), {'_id': 1}, sort=[('_id', 1)], hint=HINT, session=session)
            if first is not None:
                query, hint = query | {'_id': {'$gte': first['_id']}}, _CLUSTER
        began = time.perf_counter()
        found, whole = self._read(query, limit, hint, session)
        room = schema.MAX_INLINE - sum(map(len, found))
        if room < 0 or not whole:
            while found and room < 0:
                room += len(found.pop())
            return found, False, hint
        slow = hint is _CLUSTER and time.perf_counter() - began > _SLOW * limit
        if slow:
            self._sparse_until[stream] = time.monotonic() + _SPARSE
        if len(found) == limit >= _MANY and time.monotonic() > self._sparse_until.get(stream, 0.0):
            self._dense.add(stream)
        else:
            self._dense.discard(stream)
        return found, len(found) <= schema.MAX_GROUP or order.size is not None, hint

    def _read(self, query: Document, limit: int, hint: list[tuple[str, int]],
              session: ClientSession | None, **more: int) -> tuple[list[bytes], bool]:
        """Up to *limit* messages as BSON, as one reply of the server holds them (16 MB); whether these are all.

        By a command, since pymongo's cursors make an object for each document, of raw batches too, which takes a third
        of the time.
        """
        reply = self.db.command({
            'find': self.buffer.name, 'filter': query, 'projection': {'data': 1, 'created': 1, **more},
            'sort': {'_id': 1}, 'limit': limit, 'batchSize': limit, 'hint': dict(hint),
        }, codec_options=_RAW, session=session)
        found, cursor = raw.page(bytes(reply['cursor'].raw))
        if cursor:
            self.db.command({'killCursors': self.buffer.name, 'cursors': [cursor]}, session=session)
        return found, not cursor

    def _documents(self, stream: str, first: int, parts: Sequence[Sequence[Document]], order: Order, claim: Claim,
                   *, data: bool, **more: Any) -> list[Document]:
        now = self.clock.now()
        running = {'owner': claim.owner, 'token': claim.token, 'lsid': claim.lsid, 'attempt': 1,
                   'until': now + timedelta(seconds=claim.ttl)}
        return [document(stream, first + at, part, now=now,
                         state=WindowState.RUNNING if at < claim.windows else WindowState.READY,
                         data=[each['data'] for each in part] if data else None,
                         start=order.start, end=order.end, advance=order.advance,
                         **(running if at < claim.windows else {}), **more)
                for at, part in enumerate(parts)]

    def _raw_documents(self, stream: str, first: int, parts: Sequence[list[bytes]], order: Order,
                       claim: Claim) -> tuple[list[Document], list[Any]]:
        """The same for messages that are moved as they are: what the runner is told, and what is stored."""
        docs = self._documents(stream, first, [()] * len(parts), order, claim, data=False, moved=True)
        stored = []
        for doc, part in zip(docs, parts, strict=True):
            doc.update(n=len(part), members=raw.ids(part), times=raw.times(part))
            if part and order.start is None:
                doc['start'], doc['end'] = unpack_times(doc['times'][:8])[0], unpack_times(doc['times'][-8:])[0]
            blobs = raw.data(part)
            stored.append(raw.with_data(doc, blobs))
            doc['packed'] = raw.Packed(blobs)
        return docs, stored


def _to_mark(doc: Document) -> list[Any]:
    """Ids of the members of a ``cutting`` window that are to be marked: all, unless later windows need some."""
    return unpack_ids(doc.get('marks', doc['members']))


def _id_of(message: bytes) -> Any:
    return bson.decode(message, schema.CODEC)['_id']


def split(found: list[bytes], order: Order, whole: bool) -> list[list[bytes]] | None:
    """Divide messages into windows by an order; ``None`` if not even one window fits into what could be read."""
    if order.size is None:
        if not whole:
            return None
        return [found] if found or order.empty else []
    parts = [found[at:at + order.size] for at in range(0, len(found), order.size)][:order.most]
    if parts and len(parts[-1]) < order.size and not (order.partial and whole):
        parts.pop()
    return None if not parts and not whole else parts


def _created(order: Order) -> Document:
    bounds = {op: at for op, at in (('$gte', order.since), ('$lt', order.until)) if at is not None}
    return {'created': bounds} if bounds else {}


def _chunks(ids: list[Any]) -> Iterator[list[Any]]:
    for at in range(0, len(ids), schema.MAX_GROUP):
        yield ids[at:at + schema.MAX_GROUP]
