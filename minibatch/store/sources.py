"""Verbs on sources: what came from outside, and how far, in one write.

A ``source`` document says how far one part of a source has been read (a partition, a file, a collection). It changes
in the transaction that inserts the messages behind it. So a message from outside is in the stream exactly once,
whatever is read again after a crash; and a reader that was replaced meanwhile finds the document changed, and inserts
nothing. ::

    _id       stream/name/part       version   counts the moves; a move is a compare-and-set of it
    position  any BSON value         batch     id of the last move: tells after a lost reply whether it was made
    recent    keys of messages       last      the last message's _id: a successor's messages sort after it
    lsid      the reader's session   pending   ids written ahead, on servers without transactions

Of the keys there may be many more than one document should be written with each time. When it has a thousand they go
into a document of their own, a page: ``of`` (the document it belongs to), ``keys``, and ``version``, its place.

A standalone server has no transactions. There the ids of a batch are written into its ``source`` documents first, then
its messages, then the position; who reads the same messages again after a crash gives them the same ids. That is
exact unless a consumer has taken and finished some of them in between.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo import ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.errors import BulkWriteError, PyMongoError
from pymongo.read_concern import ReadConcern

from minibatch import tracing
from minibatch.errors import PositionMoved
from minibatch.points import reached
from minibatch.states import WindowState
from minibatch.store import raw, schema
from minibatch.store.base import DUPLICATE, passing, verb
from minibatch.store.record import document, pack_ids, unpack_ids
from minibatch.store.schema import Document
from minibatch.store.streams import Streams

_LOCAL = ReadConcern('local')
#: Between the ``_id`` of a part and the number of its page; neither has it, since the slash is escaped.
_PAGE = '/page/'
#: What the server answers when a document as such cannot be stored: bad value, invalid BSON, too deep, too large,
#: refused by a validator.
_UNFIT = frozenset({2, 15, 22, 121, 10334, 17419, 17420})
#: Seconds for finding out whether a commit whose answer was lost has been made.
_COMMIT_PATIENCE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One part's step from a position to the next.

    :ivar id: of the ``source`` document
    :ivar version: the one it must have
    :ivar position: the new one
    :ivar recent: keys to remember, newest last
    :ivar page: if given, keys that go into a page; then none is left in the document, nor *recent* added to it
    :ivar ids: ids of the messages and letters of this part, in order
    :ivar pending: ids that another reader has written ahead and that are not used up by these
    """

    id: str
    version: int
    position: Any
    recent: Sequence[Any] = ()
    page: Sequence[Any] | None = None
    ids: Sequence[ObjectId] = ()
    pending: Sequence[ObjectId] = ()

    @property
    def page_id(self) -> str:
        """The ``_id`` of the page; pages sort by it as they were written."""
        return f'{self.id}{_PAGE}{self.version:012d}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """Something from outside that could not be read.

    :ivar raw: as it came
    :ivar reason: why it could not be read
    :ivar source: name of the source
    :ivar part: of the source
    :ivar position: where it was
    """

    raw: Any
    reason: str
    source: str | None
    part: str
    position: Any


class Unstorable(Exception):
    """MongoDB does not take one of the messages for what is in it.

    :ivar index: which of them
    :ivar reason: what the server says
    """

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f'message {index}: {reason}')
        self.index, self.reason = index, reason


def source_id(stream: str, name: str, part: str) -> str:
    """The ``_id`` of a part of a source.

    >>> source_id('clicks', 'kafka', 'topic/0')
    'clicks/kafka/topic%2F0'
    """
    return '/'.join(each.replace('%', '%25').replace('/', '%2F') for each in (stream, name, part))


class Sources(Streams):
    """Open a source, append what came from it together with its position, look, forget."""

    @verb
    def open_source(self, stream: str, name: str, part: str, owner: str, lsid: Any = None) -> Document:
        """Get the document of a part, creating it if it is new.

        Who read the part before may have been killed in the middle of a transaction, which then holds the document
        locked for a minute; so its session is ended first.

        :param owner: who asks; a new name for each start of a source
        :param lsid: id of the server session in which *owner* will append
        :return: with ``position`` (None at first), ``version``, ``recent``, ``pages`` (pairs of an id and keys, oldest
            first) and, as a list of ids, ``pending``
        """
        at = {'_id': source_id(stream, name, part)}
        last = self.sources.find_one(at, {'owner': 1, 'lsid': 1}) or {}
        if last.get('lsid') and last.get('owner') != owner:
            self.kill_sessions([last['lsid']])
        doc: Document | None = self.sources.find_one_and_update(at, {
            '$setOnInsert': {'stream': stream, 'name': name, 'part': part, 'position': None, 'version': 0,
                             'at': self.clock.now()},
            '$set': {'owner': owner, 'lsid': lsid}}, upsert=True, return_document=ReturnDocument.AFTER)
        assert doc is not None
        reached('source:opened')
        pages = self.sources.find({'_id': {'$gte': f'{at["_id"]}{_PAGE}', '$lt': f'{at["_id"]}{_PAGE}~'}},
                                  {'keys': 1}, sort=[('_id', 1)])
        return {'recent': [], **doc, 'pages': [(page['_id'], page['keys']) for page in pages],
                'pending': unpack_ids(doc.get('pending') or b'')}

    @verb
    def append_from(self, session: ClientSession, docs: Sequence[Any], letters: Sequence[Any], moves: Sequence[Move],
                    batch: str) -> None:
        """Store messages, what could not be read, and the positions behind them; all of it or nothing.

        Harmless to repeat with the same arguments as long as the outcome is not known.

        :param session: the reader's own
        :param docs: buffer documents, from :func:`messages`
        :param letters: window documents, from :func:`dead_letter`
        :param moves: one for each part that has read on; without any, nothing says what has been read
        :param batch: id of this call and of its repetitions
        :raises PositionMoved: somebody else has read on; nothing is stored
        :raises Unstorable: MongoDB refuses one of *docs* for what is in it; nothing is stored
        """
        if not moves:
            self._insert_all(docs, letters)
        elif self.transactions:
            self._append_at_once(session, docs, letters, moves, batch)
        else:
            self._append_by_intent(docs, letters, moves, batch)
        trace = tracing.current()
        if trace is not None and docs:
            self.note_spans(docs[0]['stream'], [(docs[0]['_id'], docs[-1]['_id'], trace)])
        for found, what in ((docs, 'appended'), (letters, 'dead')):
            if found:
                self.tally.add(found[0]['stream'], len(found), what)

    def _append_at_once(self, session: ClientSession, docs: Sequence[Any], letters: Sequence[Any],
                        moves: Sequence[Move], batch: str) -> None:
        now = self.clock.now()
        session.start_transaction(read_concern=_LOCAL, write_concern=schema.MAJORITY)
        try:
            for move in moves:
                if not self._step(move, 0, _landing(move, batch, now), session):
                    self._abort(session)
                    self._settle(moves, batch)
                    return
            self._turn_pages(moves, session)
            reached('source:moved')
            if docs:
                _storable(lambda: self.buffer.insert_many(docs, session=session))
            reached('source:inserted')
            if letters:
                self.windows.insert_many(letters, session=session)
            reached('source:lettered')
        except BaseException:
            self._abort(session)
            raise
        _commit(session)
        reached('source:committed')

    def _step(self, move: Move, ahead: int, update: Document, session: ClientSession | None = None) -> bool:
        query = {'_id': move.id, 'version': move.version + ahead}
        return self.sources.update_one(query, update | {'$inc': {'version': 1}}, session=session).matched_count == 1

    def _turn_pages(self, moves: Sequence[Move], session: ClientSession | None = None) -> None:
        for move in moves:
            if move.page is not None:
                self.sources.update_one({'_id': move.page_id}, {'$set': {'keys': list(move.page)}}, upsert=True,
                                        session=session)

    @verb
    def drop_pages(self, pages: Sequence[str]) -> None:
        """Forget old keys; may be left undone, as the reader looks at the last ones only."""
        self.sources.with_options(write_concern=schema.LIGHT).delete_many({'_id': {'$in': list(pages)}})

    def _settle(self, moves: Sequence[Move], batch: str) -> None:
        """The moves were not possible: because an earlier try has made them, or because somebody else did."""
        # A write, and not a read, since its acknowledgement says that what it saw is on a majority of the members.
        for move in moves:
            if not self.sources.update_one({'_id': move.id, 'batch': batch},
                                           {'$currentDate': {'at': True}}).matched_count:
                raise _moved(move)

    @staticmethod
    def _abort(session: ClientSession) -> None:
        with contextlib.suppress(PyMongoError):
            session.abort_transaction()

    def _append_by_intent(self, docs: Sequence[Any], letters: Sequence[Any], moves: Sequence[Move],
                          batch: str) -> None:
        now, intent, inserted = self.clock.now(), f'{batch}:intent', False
        for move in moves:
            ahead = {'pending': pack_ids([*move.ids, *move.pending]), 'batch': intent}
            if not self._step(move, 0, {'$set': ahead}):
                last = (self.sources.find_one({'_id': move.id}, {'batch': 1}) or {}).get('batch')
                if last not in (intent, batch):
                    raise _moved(move)
                inserted = inserted or last == batch
        reached('source:moved')
        if not inserted:
            self._insert_all(docs, letters)
            self._turn_pages(moves)
        for move in moves:
            if not self._step(move, 1, _landing(move, batch, now)):
                self._settle([move], batch)
        reached('source:committed')

    def _insert_all(self, docs: Sequence[Any], letters: Sequence[Any]) -> None:
        if docs:
            _storable(lambda: self.insert_missing(docs))
        reached('source:inserted')
        if letters:
            try:
                self.windows.insert_many(letters, ordered=False)
            except BulkWriteError as error:
                if any(each.get('code') != DUPLICATE for each in (error.details or {}).get('writeErrors', ())):
                    raise
        reached('source:lettered')

    @verb
    def positions(self, stream: str, name: str | None = None) -> list[Document]:
        """How far the sources of a stream have come: ``name``, ``part``, ``position``, ``at``."""
        query: Document = {'stream': stream} | ({} if name is None else {'name': name})
        return list(self.sources.find(query, {'_id': 0, 'name': 1, 'part': 1, 'position': 1, 'at': 1},
                                      sort=[('_id', 1)]))

    @verb
    def forget_source(self, stream: str, name: str) -> int:
        """Forget how far a source has come, so that it starts anew; the number of its parts."""
        ids = [doc['_id'] for doc in self.sources.find({'stream': stream, 'name': name}, {'_id': 1})]
        for each in ids:
            self.sources.delete_many({'_id': {'$gte': f'{each}{_PAGE}', '$lt': f'{each}{_PAGE}~'}})
        return self.sources.delete_many({'_id': {'$in': ids}}).deleted_count


def _landing(move: Move, batch: str, now: datetime) -> Document:
    fields = {'position': move.position, 'batch': batch, 'at': now, 'pending': pack_ids(move.pending)}
    update: Document = {'$set': fields | ({'last': move.ids[-1]} if move.ids else {})}
    if move.page is not None:
        update['$set']['recent'] = []
    elif move.recent:
        update['$push'] = {'recent': {'$each': list(move.recent)}}
    return update


def _moved(move: Move) -> PositionMoved:
    return PositionMoved(f'{move.id}: another process has read on from there; nothing of this was stored, and the '
                         'source goes on where the other one is')


def messages(stream: str, now: datetime, ids: Sequence[ObjectId], data: Sequence[Any]) -> list[Any]:
    """Buffer documents for messages: dicts, or documents as BSON, which are taken as they are."""
    docs: list[Any] = [
        data_ if type(data_) is bytes else
        {'_id': id_, 'stream': stream, 'created': now, 'data': data_, 'processed': False, 'window': None}
        for id_, data_ in zip(ids, data, strict=True)]
    packed = [at for at, data_ in enumerate(data) if type(data_) is bytes]
    if packed:
        wrapped = raw.wrapped(stream, now, [ids[at] for at in packed], [data[at] for at in packed])
        for at, doc in zip(packed, wrapped, strict=True):
            docs[at] = doc
    return docs


def dead_letter(stream: str, now: datetime, id_: ObjectId, letter: Letter) -> Document:
    """The window document for what could not be read: dead from the start, and redriven like any other one."""
    data = {'raw': letter.raw, 'reason': letter.reason, 'source': letter.source, 'part': letter.part,
            'position': letter.position}
    error = {'attempt': 0, 'error': f'it could not be read: {letter.reason}', 'kind': 'unreadable', 'traceback': None,
             'when': now}
    doc = document(stream, 0, [{'_id': id_, 'created': now}], state=WindowState.DEAD, now=now, data=[data], moved=True,
                   errors=[error])
    return doc | {'_id': f'{stream}:{id_}'}


def _storable(insert: Callable[[], Any]) -> None:
    """Insert; an error that is in one of the documents becomes :class:`Unstorable`."""
    try:
        insert()
    except BulkWriteError as error:
        for each in (error.details or {}).get('writeErrors', ()):
            if each.get('code') in _UNFIT:
                raise Unstorable(int(each['index']), str(each.get('errmsg', ''))) from error
        raise


def _commit(session: ClientSession) -> None:
    """Commit; ask again while the answer is lost."""
    until = time.monotonic() + _COMMIT_PATIENCE
    while True:
        try:
            session.commit_transaction()
            return
        except PyMongoError as error:
            unclear = error.has_error_label('UnknownTransactionCommitResult')
            if not unclear or not passing(error) or time.monotonic() > until:
                raise
