"""Which spans messages were appended in: noted beside the messages, only where there are spans."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import pymongo
from bson import ObjectId
from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from minibatch.store.base import Base
from minibatch.store.record import Record
from minibatch.store.schema import LIGHT, Document

#: Seconds after which a note is removed; and most notes that are looked at for a group of windows.
KEPT, MOST = 24 * 3600, 1000
#: Where in an id is which process made it.
_PROCESS = slice(4, 9)


class Traces(Base):
    """Notes of spans: each for a range of ids, made at one time by one process.

    They are for people to look at. So they may be lost, and MongoDB not taking one is no reason not to append.
    """

    def note(self, docs: Sequence[Any]) -> None:
        """Take the spans out of new messages (``trace``), and note them where messages are not in the way."""
        spans = []
        for trace, some in groupby(docs, lambda doc: doc.pop('trace', None)):
            if trace is not None:
                ids = [doc['_id'] for doc in some]
                spans.append((ids[0], ids[-1], trace))
        if spans:
            self.note_spans(docs[0]['stream'], spans)

    def note_spans(self, stream: str, spans: Iterable[tuple[Any, Any, str]]) -> None:
        """Note which messages are appended in which spans.

        :param spans: the first and the last of some messages that follow one another, and their span
        """
        now = self.clock.now()
        changes = [UpdateOne({'_id': first}, {'$set': {'stream': stream, 'last': last, 'trace': trace, 'at': now}},
                             upsert=True) for first, last, trace in spans if isinstance(first, ObjectId)]
        try:
            with pymongo.timeout(2.0):
                notes = self.db['trace'].with_options(write_concern=LIGHT)
                if not self._notes_indexed:
                    notes.create_index([('stream', 1), ('last', 1)], name='last')
                    notes.create_index([('at', 1)], name='at', expireAfterSeconds=KEPT)
                    self._notes_indexed = True
                if changes:
                    notes.bulk_write(changes, ordered=False)
        except PyMongoError:
            return  # the append itself will say so, if MongoDB is away

    _notes_indexed = False

    def spans_of(self, records: Sequence[Record]) -> dict[str, list[str]]:
        """The spans in which the messages of windows were appended, by the window's id.

        :param records: windows of one stream
        """
        members = {record.id: sorted(_ids(record.members)) for record in records}
        every = [each for ids in members.values() for each in (ids[:1] + ids[-1:])]
        if not every:
            return {}
        query: Document = {'stream': records[0].stream, 'last': {'$gte': ObjectId(min(every))},
                           '_id': {'$lte': ObjectId(max(every))}}
        try:
            with pymongo.timeout(2.0):
                notes = list(self.db['trace'].find(query, limit=MOST))
        except PyMongoError:
            return {}
        return {name: found for name, ids in members.items() if (found := list(_among(ids, notes)))}


def _ids(members: Any) -> list[bytes]:
    if not isinstance(members, (bytes, bytearray)):  # ids of somebody else's making
        return [each.binary for each in members if isinstance(each, ObjectId)]
    return [bytes(members[at:at + 12]) for at in range(0, len(members), 12)]


def _among(ids: Sequence[bytes], notes: Iterable[Document]) -> Iterable[str]:
    for note in notes:
        first, last = note['_id'].binary, note['last'].binary
        for each in ids[bisect_left(ids, first):]:
            if each > last:
                break
            if each[_PROCESS] == first[_PROCESS]:
                yield note['trace']
                break
