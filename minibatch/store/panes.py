"""Verbs on windows whose messages were chosen one by one, by what is in them (*placed* windows).

Their messages wait in the buffer, free, while their window is open; the consumer that leads has an index of them in
its memory and nothing else. When windows are over, one transaction takes their numbers, stores how far the stream has
been cut, deletes the messages by ``_id`` (the number deleted must be theirs) and inserts the window documents, which
carry the data. So nothing is written twice, each window is cut once, and whoever leads next finds the rest in the
buffer. Where windows cannot be moved they are marked (:mod:`minibatch.store.cut`), with the progress in the window
document until it is stored.

A message that later windows need, too, stays free; a window that shares messages keeps its data in its document.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from pymongo import ReturnDocument, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.errors import BulkWriteError

from minibatch.clock import EPOCH, moment
from minibatch.errors import LeaseLost
from minibatch.order import Claim, Part, Progress
from minibatch.points import reached
from minibatch.states import WindowState
from minibatch.store import raw, schema
from minibatch.store.base import DUPLICATE, free, in_seconds, verb
from minibatch.store.cut import HINT
from minibatch.store.free import Free, id_of, packed
from minibatch.store.schema import Document
from minibatch.store.streams import Streams

READY, RUNNING, DONE, DEAD, CUTTING = (each.value for each in (
    WindowState.READY, WindowState.RUNNING, WindowState.DONE, WindowState.DEAD, WindowState.CUTTING))


class NameTaken(Exception):
    """There is a window of that id: it was kept, and the stream was reset."""


class Panes(Free, Streams):
    """Cut placed windows, and note how far."""

    @verb
    def open_placed(self, stream: str, owner: str, strategy: Document) -> Document:
        """How far a stream has been cut, for who begins to lead it; noted as this strategy's if it is nobody's yet.

        :return: ``strategy``, ``id``, maybe ``mark`` and ``watermark``, and ``keys``: (mark, watermark) by slot
        :raises LeaseLost: somebody else leads
        """
        fresh = {'strategy': {'$literal': strategy}, 'id': uuid.uuid4().hex}
        doc = self.streams.find_one_and_update(
            {'_id': stream, 'lease.owner': owner}, [{'$set': {'placed': {'$ifNull': ['$placed', fresh]}}}],
            {'placed': 1}, return_document=ReturnDocument.AFTER)
        if doc is None:
            raise LeaseLost(f'another consumer cuts the windows of {stream!r} now')
        placed: Document = doc['placed']
        keys = self.progress.find(_of_keys(stream) | {'id': placed['id']})
        placed['keys'] = {bytes(each['slot']): (tuple(each['mark']), each['watermark']) for each in keys}
        return placed

    @verb
    def placed(self, stream: str) -> Document | None:
        """How far a stream has been cut by a strategy that places messages; ``None``: by none so far."""
        doc = self.streams.find_one({'_id': stream}, {'placed': 1}) or {}
        placed: Document | None = doc.get('placed')
        return placed

    @verb
    def reset_placed(self, stream: str, strategy: Document) -> None:
        """Forget the progress, and note another strategy: what is in the buffer is placed anew.

        Noted at once, so that consumers that still run with the former one do not take the stream up again; whoever
        leads now does so no longer, though its session is known to who leads next.

        :param strategy: the new one; empty for one that does not look into messages
        """
        self.progress.delete_many(_of_keys(stream))
        placed = {'strategy': strategy, 'id': uuid.uuid4().hex}
        self.streams.update_one({'_id': stream}, {'$set': {'placed': placed}, '$min': {'lease.until': EPOCH}})
        self.buffer.update_many(free(stream) | {'held': True}, {'$unset': {'held': 1}})

    @verb
    def note_watermark(self, stream: str, progress: Progress) -> None:
        """Store the watermark of a stream that has nothing to cut.

        :raises LeaseLost: the stream has been taken over by another strategy
        """
        if not self.streams.update_one({'_id': stream, 'placed.id': progress.id},
                                       {'$set': {'placed.watermark': progress.watermark}}).matched_count:
            raise LeaseLost(f'the windows of {stream!r} are cut by another strategy now')

    # -- cutting

    @verb
    def place(self, session: ClientSession, stream: str, parts: Sequence[Part], claim: Claim, progress: Progress, *,
              numbered: bool = False) -> list[Document]:
        """Cut windows in one transaction, and store the progress with them.

        :param session: the cutter's own session
        :param numbered: put their numbers into the ids of all windows
        :return: the window documents, of which the first ``claim.windows`` are running
        :raises LeaseLost: somebody else leads, or has taken or removed one of the messages: read the buffer again
        :raises NameTaken: cut them *numbered*
        """
        reached('place:before')
        with session.start_transaction(read_concern=schema.SNAPSHOT, write_concern=schema.MAJORITY):
            first = self._advance(stream, claim, len(parts), progress, session)
            if progress.keys:
                self._advance_keys(stream, progress, session)
            reached('place:advanced')
            if progress.gone:
                n = self.buffer.delete_many(_these(stream, progress.gone), session=session, hint=HINT).deleted_count
                if n != len(progress.gone):
                    raise LeaseLost(f'{len(progress.gone) - n} of {len(progress.gone)} messages are not there any more')
            if progress.held:
                self._hold(stream, progress.held, session)
            reached('place:deleted')
            if progress.early:
                self.windows.delete_many({'_id': {'$in': list(progress.early)}, 'state': {'$in': [READY, DEAD]}},
                                         session=session)
            docs = self._placed_documents(stream, first, parts, claim, numbered=numbered)
            if docs:
                self._insert_windows([raw.with_data(doc, part.blobs or ()) for doc, part in zip(
                    docs, parts, strict=True)], session)
            reached('place:inserted')
        reached('place:committed')
        for doc, part in zip(docs, parts, strict=True):
            doc['packed'] = raw.Packed(part.blobs or ())
        return docs

    def _insert_windows(self, docs: Sequence[Any], session: ClientSession) -> None:
        try:
            self.windows.insert_many(docs, session=session)
        except BulkWriteError as error:
            if any(each.get('code') == DUPLICATE for each in (error.details or {}).get('writeErrors', ())):
                raise NameTaken from error
            raise

    @verb
    def place_by_marks(self, stream: str, parts: Sequence[Part], marks: Sequence[Sequence[Any] | None], claim: Claim,
                       progress: Progress, *, keep: bool) -> list[Document]:
        """Cut windows by marking their messages: where there are no transactions, to keep them, or if they are large.

        Each step may be the last one of a consumer that is killed: what is held is noted first, since it means
        something only behind the progress; the windows carry the progress; what is in no window goes last.

        :param marks: the progress with each window
        :return: as :meth:`place` does; fewer if messages of a window were not there any more
        :raises LeaseLost: somebody else leads
        """
        # One number more than there are windows: that of the progress when all of them are cut.
        plain = Progress(id=progress.id, watermark=progress.watermark, late=progress.late)
        first = self._advance(stream, claim, len(parts) + 1, plain, None)
        if progress.held:
            self._hold(stream, progress.held, None)
        docs = self._placed_documents(stream, first, parts, claim)
        ids = [doc['_id'] for doc in docs]
        there = {doc['_id'] for doc in self.windows.find({'_id': {'$in': ids}}, {'_id': 1})} if ids else set()
        for doc, part, mark in zip(docs, parts, marks, strict=True):
            if doc['_id'] in there:
                doc['_id'] += f':{doc["seq"]}'
            if part.blobs is not None:
                doc['data'] = raw.Packed(part.blobs).unpack()
            doc['moved'] = part.marks is not None and not part.marks
            doc['keep'] = (keep and not doc['moved']) or part.keeps
            if part.marks is not None:
                doc['marks'] = packed(part.marks)
            if part.dead is not None:
                doc['then'] = doc['state']
            if mark is not None and not progress.keys:
                doc['progress'] = {'id': progress.id, 'mark': list(mark)}
        if progress.early:
            self.windows.delete_many({'_id': {'$in': list(progress.early)}, 'state': {'$in': [READY, DEAD]}})
        cut = self.intend(stream, docs, claim) if docs else []
        if len(cut) < len([doc for doc in docs if doc['n']]):
            raise LeaseLost('messages went into another window')
        if progress.keys:
            self._advance_keys(stream, progress, None)
        elif progress.mark is not None:
            self._progress(stream, first + len(parts), {'id': progress.id, 'mark': list(progress.mark)})
        if progress.bare and keep:
            self.buffer.update_many(_these(stream, progress.bare), {'$set': {
                'processed': True, 'window': f'{stream}:placed'}}, hint=HINT)
        elif progress.bare:
            self.buffer.delete_many(_these(stream, progress.bare), hint=HINT)
        return cut

    def _advance(self, stream: str, claim: Claim, n: int, progress: Progress, session: ClientSession | None) -> int:
        change: Document = {'seq': {'$add': ['$seq', n]}, 'lease.until': in_seconds(claim.ttl),
                            'placed.watermark': {'$literal': progress.watermark}}
        if progress.mark is not None:
            change['placed.mark'] = {'$literal': list(progress.mark)}
        if progress.late:
            change['stats.late'] = {'$add': [{'$ifNull': ['$stats.late', 0]}, progress.late]}
        doc = self.streams.find_one_and_update(
            {'_id': stream, 'lease.owner': claim.owner, 'placed.id': progress.id}, [{'$set': change}], {'seq': 1},
            return_document=ReturnDocument.AFTER, session=session)
        if doc is None:
            raise LeaseLost(f'another consumer cuts the windows of {stream!r} now, or it was reset')
        return int(doc['seq']) - n + 1

    def _advance_keys(self, stream: str, progress: Progress, session: ClientSession | None) -> None:
        self.progress.bulk_write([UpdateOne(
            {'_id': _key_id(stream, slot)},
            {'$set': {'stream': stream, 'slot': slot, 'id': progress.id, 'mark': list(mark), 'watermark': watermark}},
            upsert=True) for slot, (mark, watermark) in progress.keys.items()], ordered=False, session=session)

    def _hold(self, stream: str, ids: Sequence[bytes], session: ClientSession | None) -> None:
        self.buffer.update_many(_these(stream, ids), {'$set': {'held': True}}, session=session, hint=HINT)

    def _placed_documents(self, stream: str, first: int, parts: Sequence[Part], claim: Claim, *,
                          numbered: bool = False) -> list[Document]:
        now = self.clock.now()
        running = {'state': RUNNING, 'owner': claim.owner, 'token': claim.token, 'lsid': claim.lsid,
                   'attempt': 1, 'until': now + timedelta(seconds=claim.ttl)}
        docs, mine = [], claim.windows
        for at, part in enumerate(parts):
            seq = first + at
            name = window_id(stream, part, seq)
            doc: Document = {
                '_id': f'{name}:{seq}' if numbered else name, 'stream': stream, 'seq': seq, 'state': READY,
                'n': len(part.ids), 'processed': False, 'attempt': 0, 'created': now,
                'members': packed(part.ids), 'times': raw.pack_times(part.times),
                'start': _stored(part.start), 'end': _stored(part.end), 'span': [part.start, part.end],
                'moved': not part.keeps}
            if part.slot:
                doc['key'] = list(part.key) if isinstance(part.key, tuple) else part.key
                doc['slot'] = part.slot
            if part.marks is not None:
                doc['shared'] = True
            if part.late:
                doc['late'] = True
            if part.keeps:
                doc['keep'] = True
            if not part.final:
                doc['final'], doc['shown'] = False, doc['_id']
                doc['_id'] += EARLY
            if part.dead is not None:
                reason, kind = part.dead
                doc['state'] = DEAD
                doc['errors'] = [{'attempt': 0, 'error': reason, 'kind': kind, 'traceback': None, 'when': now}]
            elif mine > 0:
                mine -= 1
                doc.update(running)
            docs.append(doc)
        return docs

    # -- windows that come several times

    @verb
    def states_of(self, ids: Sequence[str]) -> dict[str, str]:
        """The states of windows, of those that there are."""
        return {doc['_id']: doc['state'] for doc in self.windows.find({'_id': {'$in': list(ids)}}, {'state': 1})}

    @verb
    def window(self, id_: str) -> Document | None:
        """One window document."""
        doc: Document | None = self.windows.find_one({'_id': id_})
        return doc

    @verb
    def revise(self, session: ClientSession, stream: str, doc: Document, part: Part, claim: Claim,
               progress: Progress, *, keep: bool) -> bool:
        """``done -> ready`` for a window that messages came late for: all of them, with a revision one higher.

        :param doc: the window as it is
        :param part: as it shall be
        :return: ``False`` if the window is not done any more
        :raises LeaseLost: somebody else leads, or has taken one of the messages
        """
        reached('place:before')
        with session.start_transaction(read_concern=schema.SNAPSHOT, write_concern=schema.MAJORITY):
            seq = self._advance(stream, claim, 1, progress, session)
            query = _these(stream, progress.gone)
            gone = (self.buffer.update_many(query, {'$set': {'processed': True, 'window': doc['_id']}}, session=session)
                    .modified_count if keep else self.buffer.delete_many(query, session=session).deleted_count)
            if gone != len(progress.gone):
                raise LeaseLost(f'{len(progress.gone) - gone} messages are not there any more')
            changed = self.windows.update_one(
                {'_id': doc['_id'], 'state': DONE, 'revision': doc.get('revision')},
                {'$set': {'state': READY, 'revision': doc.get('revision', 0) + 1, 'seq': seq, 'attempt': 0,
                          'processed': False, 'n': len(part.ids), 'members': packed(part.ids),
                          'times': raw.pack_times(part.times), 'data': raw.Packed(part.blobs or ()).unpack()},
                 '$unset': {'token': 1, 'owner': 1, 'errors': 1, 'not_before': 1}}, session=session).modified_count
            if not changed:
                session.abort_transaction()
                return False
            reached('place:inserted')
        reached('place:committed')
        return True


#: What is behind the id of a window that is handed out early.
EARLY = ':early'


def window_id(stream: str, part: Part, seq: int) -> str:
    """The id of a window."""
    return f'{stream}:{seq if part.name is None else part.name}'


def _these(stream: str, ids: Sequence[bytes]) -> Document:
    ids = sorted(ids)
    if all(len(each) == 12 for each in ids):
        return free(stream) | {'_id': raw.among(ids)}
    return free(stream) | {'_id': {'$in': [id_of(each) for each in ids]}}


def _of_keys(stream: str) -> Document:
    return {'_id': {'$gte': f'{stream}/', '$lt': f'{stream}0'}, 'stream': stream}


def _key_id(stream: str, slot: bytes) -> str:
    return f'{stream}/{base64.b64encode(slot).decode()}'


def _stored(time: int) -> Any:
    """A time as MongoDB stores it: in milliseconds, rounded down."""
    at = moment(time)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
