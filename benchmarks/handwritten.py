"""The yardstick: a queue of windows as a good engineer writes it by hand on pymongo, for one application.

It promises what minibatch promises of a count window. A message that was put is never lost; a window is written ahead,
its members never change; any number of consumers share the queue; a dead one's windows run again when their lease is
over; whoever lost its lease cannot commit. It does without everything else: other windows, dead letters, renewal of
leases, worker processes, visible states, other streams beside. Three ways to claim are written out, and the benchmark
takes the best:

``each``  one conditional update leases one message (size 1 only);
``mark``  one transaction marks n messages and inserts the window document with its lease;
``move``  one transaction takes n messages out of the queue and inserts them as the window document, leased.

A consumer killed inside such a transaction would hold its locks for a minute and more; so each one leaves the id of its
session with a lease, and whoever finds that lease over ends the session.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from bson import ObjectId
from pymongo import ASCENDING, MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

Document = dict[str, Any]
MAJORITY = WriteConcern(w='majority', j=True)
IDLE_WAIT_MS = 1000
BUSY = 10
"""After so many windows without a pause the change stream is closed: it taxes the producers."""


@dataclass
class Claimed:
    """A window that this consumer holds until its lease is over."""

    id: ObjectId
    data: list[Any]
    token: ObjectId


class Queue:
    """A named queue in a database: a collection of messages and one of windows.

    :param variant: how to claim: ``each``, ``mark`` or ``move``
    :param size: messages in a window
    :param lease: seconds after which the window of a dead consumer runs again
    """

    def __init__(self, client: MongoClient[Document], database: str, name: str, variant: str, size: int,
                 lease: float = 15.0) -> None:
        self.client, self.variant, self.size, self.lease = client, variant, size, timedelta(seconds=lease)
        db = client.get_database(database, write_concern=MAJORITY)
        self.messages, self.windows = db[f'{name}.messages'], db[f'{name}.windows']
        self.consumers = db[f'{name}.consumers']
        self._session = client.start_session()
        # Leases are given and judged by the server's clock, which all consumers share.
        server_time = client.admin.command('hello')['localTime'].replace(tzinfo=timezone.utc)
        self._skew: timedelta = server_time - datetime.now(timezone.utc)
        self._look_again = 0.0

    def create(self) -> None:
        """Make collections and indexes: inside a transaction it would be slow."""
        for collection in (self.messages, self.windows):
            collection.database.create_collection(collection.name, clusteredIndex={'key': {'_id': 1}, 'unique': True})
        if self.variant == 'mark':
            self.messages.create_index([('window', ASCENDING), ('_id', ASCENDING)])
        if self.variant == 'each':
            self.messages.create_index([('until', ASCENDING), ('_id', ASCENDING)])

    def put(self, rows: list[Document]) -> None:
        """Append messages, durably."""
        self.messages.insert_many([{'data': row, 'window': None, 'until': None} for row in rows])

    def run(self, work: Callable[[Claimed], Any], done: Callable[[Any], None], stopping: Callable[[], bool]) -> None:
        """Claim, run, hand on, commit, until *stopping*; wait in a change stream while there is nothing to do."""
        in_a_row = 0
        with ExitStack() as open_watches:
            watch = None
            while not stopping():
                window = self._rescue() or self._claim()
                if window is not None:
                    done(work(window))
                    self._commit(window)
                    in_a_row += 1
                    if watch is not None and in_a_row > BUSY:
                        open_watches.close()
                        watch = None
                elif watch is None:
                    # Open it, then look once more: what came before it was open would not wake us.
                    watch = open_watches.enter_context(
                        self.messages.watch([{'$match': {'operationType': 'insert'}}], max_await_time_ms=IDLE_WAIT_MS))
                else:
                    in_a_row = 0
                    while watch.try_next() is None and not stopping() and time.monotonic() < self._look_again:
                        pass

    def _now(self) -> datetime:
        return datetime.now(timezone.utc) + self._skew

    def _claim(self) -> Claimed | None:
        if self.variant == 'each':
            return self._claim_each({'until': None})
        try:
            with self._session.start_transaction(ReadConcern('snapshot'), MAJORITY):
                window = self._move(self._session) if self.variant == 'move' else self._mark(self._session)
        except OperationFailure as error:
            if not error.has_error_label('TransientTransactionError'):
                raise
            # Another consumer met us on the same messages: let it pass.
            time.sleep(0.002 * (1 + ObjectId().binary[-1] % 4))
            return None
        if window is not None and self.variant == 'mark':
            window.data = [m['data'] for m in self.messages.find({'window': window.id}).sort('_id')]
        return window

    def _move(self, session: ClientSession) -> Claimed | None:
        found = list(self.messages.find({}, session=session).sort('_id').limit(self.size))
        if len(found) < self.size:
            return None
        members = {'_id': {'$gte': found[0]['_id'], '$lte': found[-1]['_id']}}
        if self.messages.delete_many(members, session=session).deleted_count != self.size:
            raise RuntimeError('the snapshot does not hold: nothing may be claimed')
        window = Claimed(ObjectId(), [m['data'] for m in found], ObjectId())
        self._insert(session, window, {'data': window.data})
        return window

    def _mark(self, session: ClientSession) -> Claimed | None:
        found = self.messages.find({'window': None}, {'_id': 1}, session=session).sort('_id').limit(self.size)
        ids = [m['_id'] for m in found]
        if len(ids) < self.size:
            return None
        window = Claimed(ObjectId(), [], ObjectId())
        self.messages.update_many({'_id': {'$in': ids}, 'window': None}, {'$set': {'window': window.id}},
                                  session=session)
        self._insert(session, window, {})
        return window

    def _insert(self, session: ClientSession, window: Claimed, more: Document) -> None:
        lease = {'token': window.token, 'until': self._now() + self.lease, 'attempt': 1}
        self.windows.insert_one({'_id': window.id, **lease, **more}, session=session)

    def _claim_each(self, which: Document) -> Claimed | None:
        token = ObjectId()
        lease = {'token': token, 'until': self._now() + self.lease}
        found = self.messages.find_one_and_update(which, {'$set': lease}, sort=[('_id', ASCENDING)])
        return Claimed(found['_id'], [found['data']], token) if found else None

    def _rescue(self) -> Claimed | None:
        """A window whose consumer died, now ours; looked for once in a while only."""
        if time.monotonic() < self._look_again:
            return None
        expired = {'until': {'$lt': self._now()}}
        window = self._claim_each(expired) if self.variant == 'each' else self._take_over(expired)
        if window is None:
            self._look_again = time.monotonic() + self.lease.total_seconds() / 3
            mine = self._session.session_id
            self.consumers.update_one({'_id': mine['id']}, {'$set': {'until': self._now() + self.lease}}, upsert=True)
            for dead in self.consumers.find(expired):
                self.client.admin.command('killSessions', [{'id': dead['_id']}])
                self.consumers.delete_one(dead)
            for done in self.windows.find({'done': True}):
                self._sweep(done['_id'])
        return window

    def _take_over(self, expired: Document) -> Claimed | None:
        token = ObjectId()
        lease = {'$set': {'token': token, 'until': self._now() + self.lease}, '$inc': {'attempt': 1}}
        found = self.windows.find_one_and_update(expired, lease)
        if found is None:
            return None
        data = found.get('data') or [m['data'] for m in self.messages.find({'window': found['_id']}).sort('_id')]
        return Claimed(found['_id'], data, token)

    def _commit(self, window: Claimed) -> None:
        """Only whoever holds the lease commits: a late one changes nothing."""
        mine = {'_id': window.id, 'token': window.token}
        if self.variant == 'each':
            self.messages.delete_one(mine)
        elif self.variant == 'move':
            self.windows.delete_one(mine)
        elif self.windows.update_one(mine, {'$set': {'done': True}, '$unset': {'until': 1}}).modified_count:
            self._sweep(window.id)

    def _sweep(self, window_id: ObjectId) -> None:
        """Only of ``mark``: its messages leave after the commit; anybody may do that, and twice."""
        self.messages.delete_many({'window': window_id})
        self.windows.delete_one({'_id': window_id})
