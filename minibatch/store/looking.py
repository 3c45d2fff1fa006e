"""Verbs for people who look: messages and windows as they lie there, what comes in, kept windows once more."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from minibatch.errors import StoreUnavailable
from minibatch.states import WindowState
from minibatch.store.base import Base, free, reason, verb
from minibatch.store.record import Record
from minibatch.store.schema import Document

#: What a message shows.
_MESSAGE = {'_id': 1, 'created': 1, 'data': 1, 'processed': 1, 'window': 1}
#: What a window is not asked for where only its figures are wanted: as large as its messages.
_BULKY = {'data': 0, 'members': 0, 'times': 0}
#: Without change streams, how far behind the newest message one may still come in, in seconds: ids are made by
#: producers, and stored a little later.
OVERLAP = 10.0
#: Messages that one look without change streams takes.
LOOK = 10_000


class Looking(Base):
    """Reads that no consumer needs, and ``replay``."""

    @verb
    def exists(self, stream: str) -> bool:
        """Whether there is such a stream."""
        return self.streams.find_one({'_id': stream}, {'_id': 1}) is not None

    @verb
    def messages(self, stream: str, limit: int, *, newest: bool = False, waiting: bool = False) -> list[Document]:
        """Messages in the buffer as they lie there, oldest first.

        :param limit: at most so many
        :param newest: the last ones, else the first ones
        :param waiting: only those that are in no window
        """
        query = free(stream) if waiting else {'stream': stream, 'copied': {'$ne': True}}
        found = list(self.buffer.find(query, _MESSAGE, sort=[('_id', -1 if newest else 1)], limit=limit))
        return found[::-1] if newest else found

    @verb
    def list_windows(self, stream: str, states: Sequence[str] = (), limit: int = 0) -> list[Document]:
        """Window documents without their messages, the newest first.

        :param states: only those in one of these
        :param limit: at most so many (0: all)
        """
        query: Document = {'stream': stream} | ({'state': {'$in': list(states)}} if states else {})
        return list(self.windows.find(query, _BULKY, sort=[('seq', -1)], limit=limit))

    @verb
    def find_window(self, stream: str, window: str) -> Record | None:
        """One window, with its messages; ``None`` if there is none of that id."""
        doc = self.windows.find_one({'_id': window, 'stream': stream})
        return None if doc is None else Record.from_document(doc)

    @verb
    def count_kept(self, stream: str, since: datetime, until: datetime) -> int:
        """How many windows :meth:`replay` would run again."""
        return self.windows.count_documents(_kept(stream, since, until))

    @verb
    def replay(self, stream: str, since: datetime, until: datetime) -> int:
        """``done -> ready`` for kept windows: as they were, with all attempts anew.

        :param since: windows whose first message came at this time or later
        :param until: and before this one
        :return: how many are ready now
        """
        return self.windows.update_many(_kept(stream, since, until), {
            '$set': {'state': WindowState.READY.value, 'processed': False, 'attempt': 0},
            '$unset': {'not_before': 1, 'token': 1, 'owner': 1}}).modified_count

    @verb
    def remove_stream(self, stream: str) -> None:
        """Remove a stream with all that is in it, and what is known of its consumers."""
        self.windows.delete_many({'stream': stream})
        self.buffer.delete_many({'stream': stream})
        self.consumers.delete_many({'stream': stream})
        self.sources.delete_many({'stream': stream})
        self.progress.delete_many({'stream': stream})
        self.streams.delete_one({'_id': stream})

    def follow(self, stream: str, last: int = 0, every: float = 0.25) -> Iterator[Document | None]:
        """Messages as they come in, for ever; ``None`` now and then, so that the caller may do something else.

        On a replica set each message is seen, however soon it is consumed. On a standalone server the buffer is looked
        at now and then, and what is consumed between two looks is not seen.

        :param last: begin with so many of those that are there
        :param every: seconds between two looks, or two ``None``
        :raises minibatch.errors.StoreUnavailable: MongoDB is away, for longer than the driver waits for it
        """
        try:
            yield from (self._stream_of if self.transactions else self._looks_at)(stream, last, every)
        except PyMongoError as error:
            raise StoreUnavailable(f'MongoDB does not tell of new messages any more ({reason(error)}); nothing is '
                                   'lost, look again when it is back') from error

    def _stream_of(self, stream: str, last: int, every: float) -> Iterator[Document | None]:
        match = {'operationType': 'insert', 'fullDocument.stream': stream, 'fullDocument.copied': {'$ne': True}}
        buffer = self.buffer.with_options(read_concern=ReadConcern('majority'))  # it takes no other
        with buffer.watch([{'$match': match}], max_await_time_ms=round(every * 1000)) as changes:
            there = self.messages(stream, last, newest=True) if last else []
            seen = {doc['_id'] for doc in there}
            yield from there
            while True:
                change = changes.try_next()
                if change is None:
                    yield None
                elif change['fullDocument']['_id'] not in seen:
                    yield change['fullDocument']

    def _looks_at(self, stream: str, last: int, every: float) -> Iterator[Document | None]:
        there = self.messages(stream, max(last, 1), newest=True)
        yield from there if last else []
        since = there[-1]['_id'] if there else ObjectId.from_datetime(self.clock.now() - timedelta(seconds=OVERLAP))
        before = {'stream': stream, '_id': {'$lte': since, '$gte': _earlier(since)}}
        seen: set[Any] = {doc['_id'] for doc in self.buffer.find(before, {'_id': 1})}
        while True:
            query = {'stream': stream, '_id': {'$gte': _earlier(since)}, 'copied': {'$ne': True}}
            new = [doc for doc in self.buffer.find(query, _MESSAGE, sort=[('_id', 1)], limit=LOOK)
                   if doc['_id'] not in seen]
            if new:
                since = max(since, new[-1]['_id'])
                seen = {each for each in seen if each >= _earlier(since)} | {doc['_id'] for doc in new}
                yield from new
            yield None
            time.sleep(every)


def _earlier(id_: Any) -> Any:
    """The first id that a message stored after this one may have."""
    if not isinstance(id_, ObjectId):
        return id_
    return ObjectId.from_datetime(id_.generation_time - timedelta(seconds=OVERLAP))


def _kept(stream: str, since: datetime, until: datetime) -> Document:
    return {'stream': stream, 'state': WindowState.DONE.value, 'keep': True, 'start': {'$gte': since, '$lt': until}}
