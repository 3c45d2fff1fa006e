"""Verbs on tables: documents that hold the values of keys, and the commit of windows together with what they changed.

A ``table`` document is one key of one table: ``_id`` {``t``: the table, ``k``: the key}, ``value``, ``version`` (new
with each write), ``at`` (when that was) and ``expires``. A document past its ``expires`` counts as not there.

A changelog is in the same collection, as a table that is named :data:`LOG`, whose keys are (table, key, number): the
changes of one key are numbered from 1 on, in the order in which they were committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Any

import bson
from bson import Int64, MaxKey
from bson.binary import Binary
from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne, InsertOne, ReplaceOne
from pymongo.client_session import ClientSession
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from minibatch.errors import LeaseLost, TableError
from minibatch.points import reached
from minibatch.scope import MISSING, Changes, Entry, Id, Write
from minibatch.store import keys, schema
from minibatch.store.base import DUPLICATE, verb
from minibatch.store.record import Record
from minibatch.store.schema import Document
from minibatch.store.windows import Windows, held

#: Server errors that say that ``$add`` was given something else than a number.
_NO_NUMBER = (14, 16554)
#: The table that has the changes of all tables which keep a changelog.
LOG = ':log'
#: Ids in one query; documents in one page of a scan.
_MANY, _PAGE = 5_000, 1_000


@dataclass(slots=True)
class Verdict:
    """What became of windows that were to be committed with their changes; each is in one of these, by its index.

    :ivar committed: they are done, and what they changed is there
    :ivar stale: something that they read is not so any more; nothing of them is written
    :ivar lost: another consumer has them; nothing of them is written here
    :ivar refused: what they did cannot be done, and why; nothing of them is written
    """

    committed: list[int] = field(default_factory=list)
    stale: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    refused: dict[int, TableError] = field(default_factory=dict)


class Tables(Windows):
    """The keys of tables."""

    @verb
    def entries(self, ids: Iterable[Id], session: ClientSession | None = None, *,
                values: bool = True) -> dict[Id, Entry]:
        """What there is at keys.

        :param values: ``False``: their versions only
        """
        wanted = list(ids)
        found = dict.fromkeys(wanted, MISSING)
        fields = {'value': 1, 'version': 1, 'expires': 1} if values else {'version': 1, 'expires': 1}
        for some in _chunks(wanted):
            query: Document = {'_id': {'$in': [RawBSONDocument(each) for each in some]}}
            for doc in self.tables.find(query, fields, session=session):
                found[_id(doc)] = self._entry(doc)
        return found

    @verb
    def page(self, table: str, prefix: Any, after: Id | None) -> list[tuple[Id, Entry]]:
        """Up to a thousand keys of a table in order, from the first one after *after* on."""
        query = keys.span(table, prefix)
        if after is not None:
            del query['_id']['$gte']
            query['_id']['$gt'] = RawBSONDocument(after)
        docs = list(self.tables.find(query, sort=[('_id', 1)], limit=_PAGE))
        return [(_id(doc), self._entry(doc)) for doc in docs]

    def _entry(self, doc: Document) -> Entry:
        expires = doc.get('expires')
        if expires is not None and expires <= self.clock.now():
            return MISSING
        return Entry(bytes(doc['version']), doc.get('value'))

    @verb
    def count_keys(self, table: str) -> int:
        """How many keys a table has."""
        alive = {'$or': [{'expires': None}, {'expires': {'$gt': self.clock.now()}}]}
        return self.tables.count_documents(keys.span(table) | alive)

    @verb
    def table_names(self) -> list[str]:
        """The names of all tables that have a key, in order; one step in the index for each."""
        names: list[str] = []
        query: Document = {}
        while (doc := self.tables.find_one(query, {'_id': 1}, sort=[('_id', 1)])) is not None:
            names.append(doc['_id']['t'])
            query = {'_id': {'$gt': {'t': names[-1], 'k': MaxKey()}}}
        return names

    @verb
    def drop_keys(self, table: str) -> int:
        """Remove all keys of a table; how many there were."""
        return self.tables.delete_many(keys.span(table)).deleted_count

    @verb
    def write(self, writes: Sequence[tuple[Id, Write]]) -> None:
        """Set and delete keys, whatever there was. Durable when it returns; several are not one transaction."""
        if writes:
            self.tables.bulk_write([self._operation(each, write.on(MISSING), write) for each, write in writes],
                                   ordered=False)

    @verb
    def write_if(self, each: Id, version: bytes | None, write: Write) -> bool:
        """Set or delete a key if it is still as it was; whether it was."""
        if version is None:
            entry = self.entries([each])[each]
            if entry.version is not None:
                return False
            try:  # what is there has expired; or a race for the new key
                query = {'_id': RawBSONDocument(each), 'expires': {'$lte': self.clock.now()}}
                return bool(self.tables.replace_one(
                    query, self._document(each, write.on(MISSING), write), upsert=True).acknowledged)
            except DuplicateKeyError:
                return False
        query = {'_id': RawBSONDocument(each), 'version': Binary(version)}
        if write.kind == 'delete':
            return self.tables.delete_one(query).deleted_count == 1
        doc = self._document(each, write.on(Entry(version)), write)
        return self.tables.replace_one(query, doc).matched_count == 1

    @verb
    def add(self, each: Id, write: Write) -> None:
        """Add to a number, in one step.

        :raises TableError: what is there is no number; nothing is written
        """
        now = self.clock.now()
        alive: Document = {'$and': [{'$ne': [{'$type': '$value'}, 'missing']},
                                    {'$gt': [{'$ifNull': ['$expires', MaxKey()]}, now]}]}
        change: Document = {'value': {'$add': [{'$cond': [alive, '$value', write.start]}, write.value]},
                            'version': Binary(write.token), 'at': now}
        if write.ttl is not None:
            change['expires'] = now + timedelta(seconds=write.ttl)
        query = {'_id': RawBSONDocument(each)}
        try:
            self.tables.update_one(query, [{'$set': change}], upsert=True)
        except DuplicateKeyError:  # both made it at the same time
            self.tables.update_one(query, [{'$set': change}])
        except OperationFailure as error:
            if error.code not in _NO_NUMBER:
                raise
            raise TableError(f'{write.value!r} cannot be added to what is at {keys.key_of(each)!r}, which is no number;'
                             ' the table was not changed') from error

    @verb
    def commit_together(
        self, session: ClientSession, records: Sequence[Record], changes: Sequence[Changes | None],
        effects: Callable[[ClientSession, list[int]], None] | None = None,
    ) -> Verdict:
        """Commit windows and what they changed in tables, in one transaction: all that can be, at once.

        What each window read must be so when its turn comes, after those before it.

        :param session: whose id is stored in the windows, so that a rescuer can end its transaction
        :param effects: writes of an exactly-once sink, for the windows of these indexes
        :raises LeaseLost: windows went to another consumer in this very moment; nothing is written
        """
        touched = {each for one in changes if one is not None for each in (*one.reads, *one.writes)}
        valued = {each for one in changes if one is not None for each, write in one.writes.items()
                  if write.kind == 'add'}
        reached('commit:before')
        with self.counting(session), session.start_transaction(
                read_concern=schema.SNAPSHOT, write_concern=schema.MAJORITY):
            mine = {doc['_id'] for doc in self.windows.find(held(records), {'_id': 1}, session=session)}
            there = self.entries(touched - valued, session, values=False) | self.entries(valued, session)
            verdict, after = _judged(records, changes, mine, there)
            if not verdict.committed:
                session.abort_transaction()
                return verdict
            if effects is not None:
                self._affect(lambda session: effects(session, verdict.committed), session)
                reached('commit:effects')
            operations = self._operations(after, session)
            if operations:
                self.tables.bulk_write(operations, ordered=False, session=session)
                reached('commit:tables')
            done = [records[index] for index in verdict.committed]
            stay = [each for each in done if not each.moved]
            finished = self._finish([each for each in done if each.moved], stay, session)
            if finished != len(done):
                raise LeaseLost(f'{len(done) - finished} window(s) went to another consumer')
        reached('commit:done')
        self.clean(stay)
        return verdict

    @verb
    def foresee(self, records: Sequence[Record], changes: Sequence[Changes | None]) -> Verdict:
        """What :meth:`commit_together` would say now; nothing is written."""
        touched = {each for one in changes if one is not None for each in (*one.reads, *one.writes)}
        return _judged(records, changes, {each.id for each in records}, self.entries(touched))[0]

    @verb
    def change(self, reads: Mapping[Id, bytes | None], writes: Mapping[Id, Write]) -> bool:
        """Change keys, and note it in their changelogs, in one transaction of its own.

        :param reads: versions that must be so still
        :return: whether they were; if not, nothing is written
        """
        def once(session: ClientSession) -> bool:
            there = self.entries({*reads, *writes}, session)
            if any(there[each].version != version for each, version in reads.items()):
                return False
            after = {each: (write.on(there[each]), write) for each, write in writes.items()
                     if write.kind != 'delete' or there[each] is not MISSING}
            if after:
                self.tables.bulk_write(self._operations(after, session), session=session)
                reached('change:written')
            return True

        while True:
            try:
                with self.session() as session:
                    done: bool = session.with_transaction(once, schema.SNAPSHOT, schema.MAJORITY)
                    return done
            except BulkWriteError as error:  # another one made the same key at the same time
                if any(each.get('code') != DUPLICATE for each in (error.details or {}).get('writeErrors', ())):
                    raise

    @verb
    def last_change(self, each: Id, session: ClientSession | None = None) -> tuple[int, Document]:
        """The number of the last change of a key in its changelog, and the change; 0 if there is none."""
        key = bson.decode(each, schema.CODEC)
        span = {'$gt': {'t': LOG, 'k': [key['t'], key['k']]}, '$lt': {'t': LOG, 'k': [key['t'], key['k'], MaxKey()]}}
        doc = self.tables.find_one({'_id': span}, sort=[('_id', -1)], session=session)
        return (0, {}) if doc is None else (int(doc['_id']['k'][2]), doc['value'])

    @verb
    def forget_changes(self, ids: Sequence[Id]) -> int:
        """Remove entries of changelogs; how many there were."""
        return sum(self.tables.delete_many({'_id': {'$in': [RawBSONDocument(each) for each in some]}}).deleted_count
                   for some in _chunks(list(ids)))

    def _operations(self, after: Mapping[Id, tuple[Entry, Write]], session: ClientSession) -> list[Any]:
        """The writes that make keys what they are to be, and note that in their changelogs.

        Two that change the same key at the same time cannot both commit, so that numbers have no gaps.
        """
        writes = sorted(after.items())
        operations: list[Any] = [self._operation(each, entry, write) for each, (entry, write) in writes]
        for each, (entry, write) in writes:
            if write.log:
                key = bson.decode(each, schema.CODEC)
                number, before = self.last_change(each, session)
                if entry.version is None and not before:
                    continue  # it has come and gone in this window, or was there before the changelog
                made = {} if entry.version is None else self._document(each, entry, write)
                change = {name: made[name] for name in ('value', 'version', 'expires') if name in made}
                operations.append(InsertOne({
                    '_id': {'t': LOG, 'k': [key['t'], key['k'], Int64(number + 1)]}, 'value': change,
                    'version': Binary(write.token), 'at': self.clock.now()}))
        return operations

    def _operation(self, each: Id, entry: Entry, write: Write) -> DeleteOne | ReplaceOne[Document]:
        query = {'_id': RawBSONDocument(each)}
        if entry.version is None:
            return DeleteOne(query)
        return ReplaceOne(query, self._document(each, entry, write), upsert=True)

    def _document(self, each: Id, entry: Entry, write: Write) -> Document:
        now = self.clock.now()
        assert entry.version is not None
        doc: Document = {'_id': RawBSONDocument(each), 'value': entry.value, 'version': Binary(entry.version),
                         'at': now}
        if write.ttl is not None:
            doc['expires'] = now + timedelta(seconds=write.ttl)
        return doc


def _judged(records: Sequence[Record], changes: Sequence[Changes | None], mine: set[str],
            there: dict[Id, Entry]) -> tuple[Verdict, dict[Id, tuple[Entry, Write]]]:
    """Let the windows follow each other: which of them can be committed, and what there is at each key after them."""
    verdict = Verdict()
    after: dict[Id, tuple[Entry, Write]] = {}
    for index, (record, one) in enumerate(zip(records, changes, strict=True)):
        if record.id not in mine:
            verdict.lost.append(index)
            continue
        if one is not None:
            if not one.holds(there):
                verdict.stale.append(index)
                continue
            try:
                changed = {each: write.on(there[each]) for each, write in one.writes.items()}
            except TableError as error:
                verdict.refused[index] = error
                continue
            there.update(changed)
            after.update((each, (entry, one.writes[each])) for each, entry in changed.items())
        verdict.committed.append(index)
    return verdict, after


def _id(doc: Document) -> Id:
    return bson.encode(doc['_id'], codec_options=schema.CODEC)


def _chunks(ids: list[Id]) -> Iterable[list[Id]]:
    rest = iter(ids)
    return iter(lambda: list(islice(rest, _MANY)), [])
