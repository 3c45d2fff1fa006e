"""What a consumer does with the store, in single steps that a test can stop between."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from minibatch.clock import EPOCH
from minibatch.order import Claim, Order
from minibatch.store import Record, Store

STREAM = 'clicks'
OWNER = 'a'


class Bench:
    """One stream in one store, led by :data:`OWNER`.

    :param way: how windows are cut, ``'moved'`` or ``'marked'``
    """

    def __init__(self, store: Store, way: str) -> None:
        self.store = store
        self.way = way
        self.stream = STREAM
        self.session = store.session() if store.transactions else None
        store.open_stream(STREAM, {})
        assert store.lead(STREAM, OWNER, 60)

    def append(self, rows: int | Iterable[Any], created: datetime | None = None) -> list[Any]:
        """Append messages ``{'n': 0}``, ``{'n': 1}``, ...; their ids."""
        rows = [{'n': n} for n in range(rows)] if isinstance(rows, int) else list(rows)
        docs = [{'_id': ObjectId(), 'stream': STREAM, 'created': created or self.store.clock.now(), 'data': row,
                 'processed': False, 'window': None} for row in rows]
        self.store.append(docs)
        return [doc['_id'] for doc in docs]

    def claim(self, windows: int = 0, owner: str = OWNER) -> Claim:
        return Claim(owner=owner, token=uuid.uuid4().hex, ttl=60, windows=windows)

    def numbers(self, n: int) -> int:
        return self.store.allocate(STREAM, OWNER, n, 60)

    def cut(self, order: Order, claim: Claim | None = None, *, keep: bool = False) -> list[Record]:
        """Cut in this bench's way; ``None`` from a window that is too large to be moved is an error here."""
        claim = claim or self.claim()
        if self.way == 'moved':
            docs = self.store.move(self.session, STREAM, order, claim, self.numbers)
            assert docs is not None
        else:
            docs = self.store.mark(STREAM, order, claim, self.numbers, keep=keep)
        return [Record.from_document(doc) for doc in docs]

    def running(self, n: int = 2, *, keep: bool = False) -> Record:
        """A new window of *n* messages that somebody runs."""
        self.append(n)
        record, = self.cut(Order(size=n), self.claim(1), keep=keep)
        return record

    def take(self, owner: str = 'b', limit: int = 10, ttl: float = 60) -> list[Record]:
        return self.store.take(STREAM, owner, limit, ttl)

    def data_of(self, record: Record) -> list[Any]:
        """The messages, wherever they are."""
        messages = record.messages()
        return self.store.load(record) if messages is None else messages

    # -- what there is, and how to make it older

    def window(self, record: Record) -> Any:
        return self.store.windows.find_one({'_id': record.id})

    def state(self, record: Record) -> str | None:
        doc = self.window(record)
        return doc and doc['state']

    def free(self) -> list[Any]:
        """The data of messages in no window."""
        found = self.store.buffer.find({'stream': STREAM, 'processed': False, 'window': None}).sort('_id', 1)
        return [doc['data'] for doc in found]

    def buffered(self) -> int:
        return self.store.buffer.count_documents({'stream': STREAM})

    def expire_lease(self, record: Record) -> None:
        """Let an hour pass for the lease of a window."""
        self.store.windows.update_one({'_id': record.id}, {'$set': {'until': EPOCH}})

    def expire_lead(self) -> None:
        """The same for the lease of the stream."""
        self.store.streams.update_one({'_id': STREAM}, {'$set': {'lease.until': EPOCH}})

    def age(self, record: Record, seconds: float) -> None:
        """Make a window older."""
        self.store.windows.update_one({'_id': record.id}, {'$set': {
            'created': self.store.clock.now() - timedelta(seconds=seconds)}})

    def stolen(self, record: Record, owner: str = 'b') -> Record:
        """The lease of *record* runs out, and another consumer takes the window."""
        self.expire_lease(record)
        assert [each.id for each in self.store.recover(STREAM, 8)] == [record.id]
        thief, = self.take(owner)
        assert thief.id == record.id
        return thief


def failed(text: str = 'ValueError: no') -> dict[str, Any]:
    """What a failed attempt leaves in its window."""
    return {'attempt': 1, 'error': text, 'traceback': f'Traceback\n{text}', 'when': EPOCH}
