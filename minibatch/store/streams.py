"""Verbs on streams and on the messages that are in no window yet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pymongo
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, PyMongoError

from minibatch import tracing
from minibatch.errors import IntegrityError, StoreUnavailable
from minibatch.points import reached
from minibatch.states import StreamStatus, WindowState
from minibatch.store.base import free, marked, persistently, reason, verb
from minibatch.store.schema import LIGHT, Document
from minibatch.store.traces import Traces

#: How long an append goes on by itself while MongoDB is away (an election takes 2 to 12 s) before it raises.
APPEND_PATIENCE = 5.0


class Streams(Traces):
    """Streams: get or create, append, count, clear, housekeeping."""

    @verb
    def open_stream(self, name: str, options: Document) -> Document:
        """Get the stream's document, creating it if it is new; given *options* replace the stored ones."""
        first = {'created': self.clock.now(), 'status': StreamStatus.OPEN.value, 'seq': 0}
        doc: Document | None = persistently(lambda: self.streams.find_one_and_update(
            {'_id': name}, {'$setOnInsert': first, **({'$set': options} if options else {})},
            upsert=True, return_document=ReturnDocument.AFTER), within=APPEND_PATIENCE)
        if doc is None:
            raise IntegrityError(f'stream {name!r} was removed while it was being opened; open it again')
        return doc

    @verb
    def names(self) -> list[str]:
        """The names of all streams, in order."""
        return [doc['_id'] for doc in self.streams.find({}, {'_id': 1}, sort=[('_id', 1)])]

    def append(self, docs: Sequence[Document], patience: float = APPEND_PATIENCE) -> None:
        """Store messages; when it returns they are on a majority of the members, in their journals.

        The ``_id`` of each is made by the caller, once; so a repeat stores nothing twice while the messages wait. What
        the driver repeats within *patience* is recognized by the server even if they are consumed by then.

        :param patience: seconds to go on while MongoDB is away
        :raises StoreUnavailable: MongoDB is away; the messages may or may not be stored, and may be given again
        """
        reached('append:before')
        if tracing.loaded():
            self.note(docs)
        try:
            with pymongo.timeout(patience):
                self._insert(docs)
        except PyMongoError as error:
            raise StoreUnavailable(
                f'MongoDB did not confirm {len(docs)} message(s) in time ({reason(error)}): they may or may '
                'not be stored; append them again when it is back') from error
        self.tally.add(docs[0]['stream'], len(docs))
        reached('append:after')

    def _insert(self, docs: Sequence[Document]) -> None:
        if len(docs) == 1:
            try:
                self.buffer.insert_one(docs[0])
                return
            except DuplicateKeyError:
                pass  # an earlier try has stored it; whether it is durable is asked below
        self.insert_missing(docs)

    @verb
    def count_free(self, stream: str, limit: int = 0) -> int:
        """Messages that are in no window, counted up to *limit* (0: all)."""
        more: Any = {'limit': limit} if limit else {}
        return self.buffer.count_documents(free(stream), **more)

    @verb
    def oldest_free(self, stream: str, before: datetime | None = None) -> datetime | None:
        """When the first of the messages in no window was appended; of those created before a time, if given."""
        query = free(stream) if before is None else free(stream) | {'created': {'$lt': before}}
        doc = self.buffer.find_one(query, {'created': 1}, sort=[('_id', 1)])
        return doc['created'] if doc else None

    @verb
    def last_read(self, stream: str) -> datetime | None:
        """Up to where the time windows of a stream have been cut."""
        doc = self.streams.find_one({'_id': stream}, {'last_read': 1})
        return doc.get('last_read') if doc else None

    @verb
    def note_read(self, stream: str, last_read: datetime) -> None:
        """Note when a custom emitter last cut a window; it never goes back."""
        self.streams.update_one({'_id': stream}, {'$max': {'last_read': last_read}})

    @verb
    def clear(self, stream: str) -> int:
        """Remove all messages and windows of a stream, dead ones too; the stream stays.

        :return: messages removed from the buffer
        """
        self.windows.delete_many({'stream': stream})
        self.forget_placed(stream)
        return self.buffer.delete_many({'stream': stream}).deleted_count

    def forget_placed(self, stream: str) -> None:
        """Forget how far a strategy that looks into messages has cut the stream."""
        self.streams.update_one({'_id': stream}, {'$unset': {'placed': 1}})
        self.progress.delete_many({'_id': {'$gte': f'{stream}/', '$lt': f'{stream}0'}, 'stream': stream})

    @verb
    def count(self, stream: str, stats: Document) -> None:
        """Add to the totals of a stream; may be lost in a crash, since they are for people to look at."""
        self.streams.with_options(write_concern=LIGHT).update_one({'_id': stream}, {
            '$inc': {f'stats.{name}': number for name, number in stats.items()},
            '$currentDate': {'stats.last': True}})

    @verb
    def totals(self, stream: str) -> Document:
        """The totals of a stream, all of what :meth:`count` was told."""
        doc = self.streams.find_one({'_id': stream}, {'stats': 1})
        return dict((doc or {}).get('stats') or {})

    @verb
    def expire(self, stream: str, max_age: float, unprocessed: bool = False) -> int:
        """Remove kept messages and windows older than *max_age* seconds.

        What is not processed yet stays, however old, unless *unprocessed* asks for it; what is in an open or dead
        window stays in any case.

        :return: messages removed
        """
        before = self.clock.now() - timedelta(seconds=max_age)
        removed = 0
        done = {'stream': stream, 'state': WindowState.DONE.value, 'created': {'$lt': before}}
        for doc in self.windows.find(done, {'_id': 1}):
            removed += self.buffer.delete_many(marked(stream, doc['_id'])).deleted_count
            self.windows.delete_one({'_id': doc['_id']})
        if unprocessed:
            removed += self.buffer.delete_many(free(stream) | {'created': {'$lt': before}}).deleted_count
        return removed

    @verb
    def beat(self, consumer: Document) -> None:
        """Tell that a consumer is alive, by the server's clock."""
        fields = {name: {'$literal': value} for name, value in consumer.items() if name != '_id'}
        self.consumers.update_one({'_id': consumer['_id']}, [{'$set': fields | {'beat': '$$NOW'}}], upsert=True)

    @verb
    def leave(self, consumer: str) -> None:
        """Forget a consumer that has stopped."""
        self.consumers.delete_one({'_id': consumer})

    @verb
    def consumers_of(self, stream: str, alive_within: float) -> list[Document]:
        """The consumers of a stream that gave a sign of life within so many seconds."""
        alive = {'$gt': ['$beat', {'$subtract': ['$$NOW', round(alive_within * 1000)]}]}
        return list(self.consumers.find({'stream': stream, '$expr': alive}))
