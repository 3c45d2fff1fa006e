"""Verbs on windowed tables: how far they have come, who closes their windows, and changes without a window of a stream.

How far a windowed table has come is a document of its own: ``latest``, the latest time of any message; ``streams``,
where such messages came from; and ``marks``, times ``t`` with when their message was appended, ``c``. It is written
after the commit, not with it, since all windows would be in each other's way there; what a crash leaves behind is made
good by the next message.

There are several marks since windows run side by side: what a late one has seen counts only when all that was appended
before is done. They are sorted by ``c``, and each is further ahead of it than those before; others would tell nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.errors import DuplicateKeyError

from minibatch.clock import EPOCH, micros
from minibatch.points import reached
from minibatch.scope import Changes
from minibatch.states import WindowState
from minibatch.store import schema
from minibatch.store.base import free, in_seconds, verb
from minibatch.store.record import unpack_times
from minibatch.store.schema import LIGHT, Document
from minibatch.store.tables import Tables

#: Most marks that are kept: while more windows than that overtake one, nothing is closed.
_MARKS = 100
_UNFINISHED = [each.value for each in (WindowState.CUTTING, WindowState.READY, WindowState.RUNNING)]


class Closing(Tables):
    """Windows of tables that come to their end."""

    @verb
    def table_time(self, table: str) -> Document | None:
        """How far a windowed table has come, as above; times are microseconds since the epoch."""
        return self.tables.find_one({'_id': _latest(table)})

    @verb
    def table_seen(self, marks: Mapping[str, tuple[int, int]], stream: str | None) -> None:
        """Note the latest times, and when those messages were appended; a table never goes back.

        :param stream: where the messages are from
        """
        light = self.tables.with_options(write_concern=LIGHT)
        for table, (time, created) in marks.items():
            there = {'$ifNull': ['$marks', []]}
            ahead = {'$subtract': ['$$mark.t', '$$mark.c']}
            before = _those(there, {'$lt': ['$$mark.c', created]})
            after = _those(there, {'$and': [{'$gt': ['$$mark.c', created]}, {'$gt': [ahead, time - created]}]})
            told = _those(there, {'$and': [{'$lte': ['$$mark.c', created]}, {'$gte': [ahead, time - created]}]})
            more = {'$slice': [{'$concatArrays': [before, [{'t': time, 'c': created}], after]}, -_MARKS]}
            update: Document = {
                'latest': {'$max': ['$latest', time]}, 'marks': {'$cond': [{'$eq': [told, []]}, more, there]},
                'streams': {'$setUnion': [{'$ifNull': ['$streams', []]}, [] if stream is None else [stream]]}}
            light.update_one({'_id': _latest(table)}, [{'$set': update}], upsert=True)

    @verb
    def forget_time(self, table: str) -> None:
        """Forget how far a windowed table has come."""
        self.tables.delete_one({'_id': _latest(table)})

    @verb
    def oldest_unfinished(self, stream: str) -> int | None:
        """When the oldest message was appended that waits, or is in a window that runs; in microseconds."""
        times: list[datetime] = []
        waits = self.buffer.find_one(free(stream), {'created': 1}, sort=[('_id', 1)])
        if waits is not None:
            times.append(waits['created'])
        for state in _UNFINISHED:
            window = self.windows.find_one({'stream': stream, 'state': state}, {'times': 1}, sort=[('seq', 1)])
            if window is not None:
                times += unpack_times(window['times'])[:1]
        return min(map(micros, times), default=None)

    @verb
    def claim_closing(self, table: str, owner: str, ttl: float, lsid: Any) -> bool:
        """Be the one who closes a table's windows for *ttl* seconds; the transaction of a dead predecessor is ended."""
        one = {'_id': {'t': ':closing', 'k': table}}
        mine = {'$expr': {'$or': [{'$eq': ['$owner', owner]}, {'$lt': ['$until', '$$NOW']}]}}
        change = [{'$set': {'owner': {'$literal': owner}, 'until': in_seconds(ttl), 'lsid': {'$literal': lsid}}}]
        with contextlib.suppress(DuplicateKeyError):
            if self.tables.find_one(one, {'_id': 1}) is None:
                self.tables.insert_one(one | {'owner': None, 'until': EPOCH, 'lsid': None})
        before: Document | None = self.tables.find_one_and_update(one | mine, change)
        if before is None:
            return False
        if before['owner'] != owner and before['lsid']:
            self.kill_sessions([before['lsid']])
        return True

    @verb
    def release_closing(self, table: str, owner: str) -> None:
        """Let another one close a table's windows."""
        mine = {'_id': {'t': ':closing', 'k': table}, 'owner': owner}
        self.tables.update_one(mine, {'$set': {'until': EPOCH, 'lsid': None}})

    @verb
    def commit_changes(self, session: ClientSession | None, changes: Changes) -> bool:
        """Make changes of tables, all in one transaction; ``False``: what they rest on is not so any more.

        On a standalone server, which has none, only one single write is possible.
        """
        if session is None:
            ((each, write),) = changes.writes.items()
            return self.write_if(each, changes.reads[each], write)
        with session.start_transaction(read_concern=schema.SNAPSHOT, write_concern=schema.MAJORITY):
            there = self.entries({*changes.reads, *changes.writes}, session)
            if not changes.holds(there):
                session.abort_transaction()
                return False
            after = {each: (write.on(there[each]), write) for each, write in changes.writes.items()}
            self.tables.bulk_write(self._operations(after, session), session=session)
            reached('close:changed')
        return True


def _those(marks: Any, condition: Document) -> Document:
    return {'$filter': {'input': marks, 'as': 'mark', 'cond': condition}}


def _latest(table: str) -> Document:
    return {'t': ':latest', 'k': table}
