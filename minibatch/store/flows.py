"""Verbs for messages that one stream's windows give to another stream, and for what is looked up meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo.client_session import ClientSession

from minibatch import tracing
from minibatch.clock import EPOCH
from minibatch.points import reached
from minibatch.store.base import Base, free, verb
from minibatch.store.schema import Document
from minibatch.store.streams import APPEND_PATIENCE, Streams


class Flows(Streams):
    """From stream to stream."""

    def append_in(self, session: ClientSession, docs: Sequence[Document]) -> None:
        """Insert messages in the open transaction of *session*, which commits the window that they come from.

        What the driver raises comes out as it is: its labels tell the engine whether to try again.
        """
        if docs:
            if tracing.loaded():
                self.note(docs)
            self.buffer.insert_many(docs, ordered=True, session=session)
            counts = self._in_transaction.get(session)
            if counts is not None:
                counts[docs[0]['stream']] += len(docs)
            reached('flow:inserted')

    def count_in(self, session: ClientSession, stream: str, limit: int) -> int:
        """Messages of a stream that are in no window, counted up to *limit*, as a transaction sees it."""
        return self.buffer.count_documents(free(stream), session=session, limit=limit)

    def append_again(self, stream: str, window: str, created: datetime | None, data: Sequence[Any]) -> None:
        """Append a window's results where there is no transaction; a repeat stores those only that are not there.

        :param window: the window's id, of which the messages' are made
        :param created: when it was cut: the same at each attempt
        """
        docs = [{'_id': id_, 'stream': stream, 'created': self.clock.now(), 'data': each, 'processed': False,
                 'window': None} for id_, each in zip(ids_of(stream, window, created, len(data)), data, strict=True)]
        if docs:
            self.append(docs, APPEND_PATIENCE)


class Lookups(Base):
    """Look up what messages refer to."""

    @verb
    def documents_by(self, collection: str, field: str, keys: Sequence[Any]) -> list[Document]:
        """The documents of a collection of the database whose *field* is one of *keys*, in one query."""
        return list(self.db[collection].find({field: {'$in': list(keys)}}))


def ids_of(stream: str, window: str, created: datetime | None, n: int) -> list[ObjectId]:
    """The ids of a window's results: the same ones whenever they are made, and in order.

    >>> one, two = ids_of('b', 'a:7', None, 2)
    >>> one < two, [one, two] == ids_of('b', 'a:7', None, 2), one == ids_of('c', 'a:7', None, 1)[0]
    (True, True, False)
    """
    seconds = 0 if created is None else max(0, int((created - EPOCH).total_seconds())) & 0xFFFFFFFF
    head = seconds.to_bytes(4, 'big') + hashlib.sha256(f'{stream}\0{window}'.encode()).digest()[:5]
    return [ObjectId(head + number.to_bytes(3, 'big')) for number in range(n)]
