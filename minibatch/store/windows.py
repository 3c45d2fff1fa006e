"""Verbs on windows that have been cut: take, load, renew, commit, retry, bury, release, recover.

Each is one conditional write that carries the token of the claim. A write that matches nothing says that the window
went to somebody else: a normal outcome, after which there is nothing left to do.
"""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pymongo
from pymongo.client_session import ClientSession
from pymongo.errors import PyMongoError

from minibatch.errors import LeaseLost, StoreUnavailable, WindowError
from minibatch.points import reached
from minibatch.states import WindowState
from minibatch.store import schema
from minibatch.store.base import Base, in_seconds, marked, passing, verb
from minibatch.store.record import Record, unpack_times
from minibatch.store.schema import Document

log = logging.getLogger('minibatch')

READY, RUNNING, DONE, DEAD = (each.value for each in (
    WindowState.READY, WindowState.RUNNING, WindowState.DONE, WindowState.DEAD))
#: Failures that a window remembers.
MAX_ERRORS = 10
_DUE = {'$expr': {'$lte': [{'$ifNull': ['$not_before', '$$NOW']}, '$$NOW']}}


def held(records: Sequence[Record]) -> Document:
    """The query for these windows as long as they are claimed by these tokens."""
    if len(records) == 1:
        return {'_id': records[0].id, 'state': RUNNING, 'token': records[0].token}
    return {'_id': {'$in': [each.id for each in records]}, 'state': RUNNING,
            'token': {'$in': list({each.token for each in records})}}


class Windows(Base):
    """The life of a window between the cut and its end."""

    @verb
    def take(self, stream: str, owner: str, limit: int, ttl: float, lsid: Any = None, *,
             ordered: bool = False) -> list[Record]:
        """Claim up to *limit* windows that are ready and due, first ones first.

        :param ordered: only those whose key (or the stream, if there are none) has no earlier window on its way
        :return: the windows claimed; fewer, or none, if there are no more or another consumer was faster
        """
        if ordered:
            ids = self._next_of_keys(stream, limit)
        else:
            query: Document = {'stream': stream, 'state': READY} | _DUE
            ids = [doc['_id'] for doc in self.windows.find(query, {'_id': 1}, sort=[('seq', 1)], limit=limit)]
        if not ids:
            return []
        token = uuid.uuid4().hex
        self.windows.update_many({'_id': {'$in': ids}, 'state': READY}, [{'$set': {
            'state': RUNNING, 'owner': owner, 'token': token, 'until': in_seconds(ttl),
            'attempt': {'$add': ['$attempt', 1]}, 'lsid': {'$literal': lsid}}}])
        docs = self.windows.find({'_id': {'$in': ids}, 'token': token}, sort=[('seq', 1)])
        records = [Record.from_document(doc) for doc in docs]
        reached('take:taken')
        return records

    def _next_of_keys(self, stream: str, limit: int) -> list[str]:
        """Ids of windows that are due and have no earlier one of their key before them that is not finished.

        Read at one moment: between two, a window that is put back could be in neither of two states. An earlier one
        does not come up later: windows are numbered and inserted in order.
        """
        query = {'stream': stream, 'state': {'$in': [WindowState.CUTTING.value, READY, RUNNING]}}
        fields = {'slot': 1, 'state': 1, 'not_before': 1}

        def found(session: ClientSession | None) -> list[Document]:
            return list(self.windows.find(query, fields, sort=[('seq', 1)], session=session))

        if self.transactions:
            with self.session() as session, session.start_transaction(read_concern=schema.SNAPSHOT):
                docs = found(session)
        else:
            docs = found(None)
        now, busy, ids = self.clock.now(), set(), []
        for doc in docs:
            slot = doc.get('slot')
            if slot not in busy and doc['state'] == READY and (doc.get('not_before') or now) <= now:
                ids.append(doc['_id'])
            busy.add(slot)
        return ids[:limit]

    @verb
    def ready(self, stream: str, limit: int) -> int:
        """How many windows wait for a runner, counted up to *limit*."""
        return self.windows.count_documents({'stream': stream, 'state': READY}, limit=limit)

    @verb
    def load(self, record: Record) -> list[Any]:
        """The data of a window whose messages are in the buffer, in the order of its members.

        :raises LeaseLost: messages are missing: the window has been committed or dropped meanwhile
        """
        data = {doc['_id']: doc['data'] for doc in self.buffer.find(marked(record.stream, record.id), {'data': 1})}
        try:
            return [data[each] for each in record.ids()]
        except KeyError as missing:
            raise LeaseLost(f'window {record.id} has lost message {missing}: it was finished or dropped') from None

    @verb
    def renew(self, records: Sequence[Record], ttl: float) -> int:
        """Hold windows for *ttl* more seconds; the number of those that are still mine."""
        return self.windows.update_many(held(records), [{'$set': {'until': in_seconds(ttl)}}]).matched_count

    @verb
    def commit(self, records: Sequence[Record], effects: Callable[[ClientSession], None] | None = None,
               session: ClientSession | None = None) -> int:
        """``running -> done``: the point after which windows never run again.

        The document of a moved window is removed with the same write, since it holds the messages.

        :param effects: writes of an exactly-once sink, made in one transaction with the commit
        :param session: for *effects*; its id is stored in the windows, so that a rescuer can end its transaction
        :return: how many of the windows are committed; fewer than given if another consumer has them
        :raises minibatch.errors.WindowError: MongoDB refused what *effects* write; nothing is written
        :raises LeaseLost: with *effects*, if any of the windows is not mine any more; then nothing is written
        """
        moved = [each for each in records if each.moved]
        stay = [each for each in records if not each.moved]
        reached('commit:before')
        if effects is None:
            done = self._finish(moved, stay, None)
        else:
            assert session is not None
            with self.counting(session), session.start_transaction(
                    read_concern=schema.SNAPSHOT, write_concern=schema.MAJORITY):
                done = self._finish(moved, stay, session)
                if done != len(records):
                    raise LeaseLost(f'{len(records) - done} window(s) went to another consumer')
                self._affect(effects, session)
                reached('commit:effects')
        reached('commit:done')
        self.clean(stay)
        return done

    @staticmethod
    def _affect(effects: Callable[[ClientSession], None], session: ClientSession) -> None:
        """Make a sink's writes; what MongoDB refuses of them is the window's failure, not the store's."""
        try:
            effects(session)
        except PyMongoError as error:
            if passing(error):
                raise
            raise WindowError(f'{type(error).__name__}: {error}') from error

    def _finish(self, moved: Sequence[Record], stay: Sequence[Record], session: ClientSession | None) -> int:
        done = 0
        if moved:
            done += self.windows.delete_many(held(moved), session=session).deleted_count
        if stay:
            # A repeat after a lost reply finds the window done by the same token, and counts it; but not where effects
            # go with it, which would be made twice.
            query = held(stay) | ({'state': {'$in': [RUNNING, DONE]}} if session is None else {})
            done += self.windows.update_many(query, {'$set': {'state': DONE, 'processed': True}, '$unset': {
                'until': 1, 'lsid': 1}}, session=session).matched_count
        return done

    @verb
    def clean(self, records: Sequence[Record], *, kept: bool = False) -> None:
        """Remove the messages of committed windows, then the windows. Anybody may, at any time.

        :param kept: those to be kept, too
        """
        ids = [each.id for each in records if kept or not each.keep]
        if not ids:
            return
        query: Document = {'_id': {'$in': ids}, 'state': DONE} | ({} if kept else {'keep': {'$ne': True}})
        done = [doc['_id'] for doc in self.settled.find(query, {'_id': 1})]
        if done:
            query = marked(records[0].stream, '') | {'window': {'$in': done}}
            self.buffer.delete_many(query)
            reached('clean:messages')
            self.windows.delete_many({'_id': {'$in': done}})
            reached('clean:windows')

    @verb
    def sweep(self, stream: str) -> None:
        """Clean up after consumers that died between a commit and its cleaning."""
        query = {'stream': stream, 'state': DONE, 'keep': {'$ne': True}}
        docs = list(self.windows.find(query, {'data': 0}, limit=1000))
        self.clean([Record.from_document(doc) for doc in docs])

    @verb
    def retry(self, record: Record, error: Document, delay: float) -> bool:
        """``running -> ready`` after a failed attempt, to be taken again in *delay* seconds.

        :return: ``False`` if the window went to somebody else
        """
        return self._fail(record, error, {'state': READY, 'not_before': in_seconds(delay)})

    @verb
    def bury(self, record: Record, error: Document) -> bool:
        """``running -> dead`` after the last attempt: kept, with its messages and errors."""
        return self._fail(record, error, {'state': DEAD})

    def _fail(self, record: Record, error: Document, change: Document) -> bool:
        errors = {'$slice': [{'$concatArrays': [{'$ifNull': ['$errors', []]}, [{'$literal': error}]]}, -MAX_ERRORS]}
        update: list[Document] = [
            {'$set': change | {'errors': errors, 'moved': record.shared}}, {'$unset': ['until', 'lsid']}]
        if record.moved and not record.shared and record.n and not self._put_back(record):
            return False
        mine = self.windows.update_one(held([record]), update).modified_count == 1
        if not mine and record.moved and not record.shared:
            self._remove_strays(record.stream, [record.id])
        return mine

    def _put_back(self, record: Record) -> bool:
        """Copy a moved window's messages into the buffer, marked, where people look for them.

        Before the window's state changes and not with it in a transaction: a rescuer that is killed inside of one
        leaves locks that nobody can attribute to it, and its window to wait until the server ends it, a minute or
        more. Copies that are there already are another's attempt at the same, and as good.
        """
        # Read again, since the function may have changed what it was given.
        doc = self.windows.find_one(held([record]), {'data': 1})
        if doc is None:
            return False
        self.insert_missing([
            {'_id': each, 'stream': record.stream, 'created': created, 'data': data, 'processed': True,
             'window': record.id, 'copied': True}
            for each, created, data in zip(record.ids(), unpack_times(record.times), doc['data'], strict=True)])
        reached('fail:copied')
        return True

    def _remove_strays(self, stream: str, ids: Collection[str]) -> set[str]:
        """Remove the copies of messages whose window was committed and is gone.

        :return: those of the windows that still run, and so may leave copies yet
        """
        there = {doc['_id']: doc['state'] for doc in self.windows.find({'_id': {'$in': list(ids)}}, {'state': 1})}
        gone = [each for each in ids if each not in there]
        if gone:
            self.buffer.delete_many(marked(stream, '') | {'window': {'$in': gone}, 'copied': True})
        return {each for each, state in there.items() if state == RUNNING}

    @verb
    def sweep_strays(self, stream: str) -> None:
        """Clean up after consumers that were killed between copying messages back and seeing the window committed."""
        gone = self.buffer.aggregate([
            {'$match': {'stream': stream, 'processed': True, 'window': {'$type': 'string'}}},
            {'$group': {'_id': '$window'}},
            {'$lookup': {'from': 'window', 'let': {'id': '$_id'}, 'as': 'there', 'pipeline': [
                {'$match': {'$expr': {'$eq': ['$_id', '$$id']}}}, {'$project': {'_id': 1}}]}},
            {'$match': {'there': []}}])
        self._remove_strays(stream, [doc['_id'] for doc in gone])

    @verb
    def release(self, records: Sequence[Record]) -> int:
        """``running -> ready`` without counting an attempt: windows taken, but not run."""
        if not records:
            return 0
        return self.windows.update_many(held(records), [
            {'$set': {'state': READY, 'attempt': {'$subtract': ['$attempt', 1]}}},
            {'$unset': ['owner', 'token', 'until', 'lsid']}]).modified_count

    @verb
    def recover(self, stream: str, max_attempts: int, within: float = 10.0) -> list[Record]:
        """Give windows whose consumer died back to the others; its attempt counts, so that no window kills for ever.

        :param within: seconds to spend on it; what is locked or left over by then is for the next time
        :return: the windows recovered
        """
        with pymongo.timeout(within):
            return self._recover(stream, max_attempts)

    def _recover(self, stream: str, max_attempts: int) -> list[Record]:
        unsure = self._unsure.get(stream)
        if unsure:
            unsure &= self._remove_strays(stream, set(unsure))
        query = {'stream': stream, 'state': RUNNING, '$expr': {'$lt': ['$until', '$$NOW']}}
        expired = [Record.from_document(doc) for doc in self.windows.find(query, limit=1000)]
        if not expired:
            return []
        self.kill_sessions([each.lsid for each in expired if each.lsid])
        random.shuffle(expired)  # so that one which is locked and takes all the time does not hold up the same others
        recovered = []
        for record in expired:
            error = {'attempt': record.attempt, 'when': self.clock.now(), 'traceback': None,
                     'error': f'the consumer {record.owner} died or hung while it had the window'}
            try:
                if record.attempt >= max_attempts:
                    mine = self.bury(record, error)
                else:
                    mine = self.retry(record, error, 0)
            except StoreUnavailable as failure:
                # It is being committed or recovered right now, or MongoDB is away: the next round sees.
                log.info('%s: window %s of a dead consumer could not be recovered yet: %s', stream, record.id, failure)
                self._unsure.setdefault(stream, set()).add(record.id)  # there may be copies of its messages by now
                mine = False
            if mine:
                recovered.append(record)
        return recovered
