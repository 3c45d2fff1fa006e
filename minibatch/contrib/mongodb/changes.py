"""A collection as a source, by its change stream: what is inserted and changed, as soon as it is durable."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from bson import Timestamp
from pymongo import ASCENDING
from pymongo.change_stream import CollectionChangeStream
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from minibatch.contrib.inlet import Inlet
from minibatch.contrib.mongodb.upstream import Away, asking, check_collection, collection_of, majority, name_of
from minibatch.contrib.reconnect import detached, persist
from minibatch.errors import HistoryLost, OptionError, check_choice, did_you_mean

log = logging.getLogger(__name__)

OPERATIONS = ('delete', 'insert', 'replace', 'update')
POLICIES = ('fail', 'resume', 'rescan')
#: What the server answers when a place in its history is gone, or is no place in it.
_LOST = frozenset({260, 280, 286})
#: Milliseconds that the server holds a request which has nothing to tell; a cancel is noticed after it.
_AWAIT = 250
#: Seconds after which an idle source stores how far it has looked, so that its place does not grow old.
_REST = 10.0


class MongoReplicasetSource:
    """Read the changes of a collection, in order and as they are committed; each exactly once.

    It needs a replica set or a sharded cluster (any MongoDB that is not a single standalone server). Where it goes on,
    after a crash or an outage, is a resume token that is stored with the messages. The server keeps changes for as long
    as its oplog reaches back; a source that was away for longer has lost history.

    :param collection: a pymongo ``Collection``, or the name of one in the stream's own database
    :param operations: which changes: of ``'insert'``, ``'update'``, ``'replace'``, ``'delete'``
    :param query: only documents that match, as a ``$match`` of the change event (``{'fullDocument.kind': 'order'}``)
    :param events: ``False``: a message is the document as it is after the change (with its ``_id`` only, if it was
        deleted). ``True``: it is ``{'operation', 'key', 'document', 'changes', 'at'}``, ``changes`` being what
        an update has set and removed.
    :param since: from when on to read at first: a datetime (naive: UTC) or a ``bson.Timestamp``; by default from the
        moment of the first start
    :param on_history_lost: what to do when the place to go on at is gone: ``'fail'`` ends the source with
        :class:`~minibatch.errors.HistoryLost`; ``'resume'`` goes on with what is changed from now on; ``'rescan'``
        reads the whole collection once more, as if all of it had been inserted, and goes on from there (what is
        inserted while it does may come twice)
    :param size: most messages stored at once
    :param name: of the source, if not ``changes:`` and the collection's full name; its position is stored under it
    :param schema: what a message has to fit (:mod:`minibatch.contrib.schemas`)
    :raises minibatch.errors.OptionError: an option cannot be
    """

    def __init__(self, collection: Collection[Any] | str, *, operations: Iterable[str] = ('insert',),
                 query: Mapping[str, Any] | None = None, events: bool = False,
                 since: datetime | Timestamp | None = None, on_history_lost: str = 'fail', size: int = 1000,
                 name: str | None = None, schema: Any = None) -> None:
        check_collection(collection)
        given = (operations,) if isinstance(operations, str) else tuple(operations)
        for each in given:
            if each not in OPERATIONS:
                raise OptionError(f'operations: there is no {each!r}{did_you_mean(str(each), OPERATIONS)}')
        check_choice('on_history_lost', on_history_lost, POLICIES)
        if since is not None and not isinstance(since, (datetime, Timestamp)):
            raise OptionError(f'since must be a datetime or a bson.Timestamp, not {since!r}')
        self.collection, self.operations, self.query = collection, given, dict(query or {})
        self.events, self.on_history_lost, self.size, self.schema = bool(events), on_history_lost, size, schema
        self.since = Timestamp(_utc(since), 1) if isinstance(since, datetime) else since
        self.name = name or f'changes:{name_of(collection)}'
        self.cancelled = threading.Event()

    def __repr__(self) -> str:
        return f'MongoReplicasetSource({name_of(self.collection)!r})'

    def stream(self, stream: Any) -> None:
        """Read into *stream* until :meth:`cancel` is called.

        :raises minibatch.errors.HistoryLost: the place to go on at is gone, and ``on_history_lost='fail'``
        :raises minibatch.errors.OptionError: the server is a standalone one
        :raises minibatch.errors.AccessRefused: the collection may not be read
        """
        with Inlet(stream, self.name, schema=self.schema, size=self.size, cancelled=self.cancelled) as inlet:
            detached(lambda: persist(lambda up: _Session(self, inlet).run(up), f'{self!r} of stream {stream.name!r}',
                                     cancelled=self.cancelled, on=(Away,)), self.cancelled)

    def cancel(self) -> None:
        """Stop within a second."""
        self.cancelled.set()


class _Lost(Exception):
    """The place to go on at is gone."""


class _Session:
    """Watching, from one outage to the next.

    The position is ``{'since': timestamp}`` at first, then ``{'token': resume token}``; while the collection is read as
    a whole, ``scanned`` is there, too: the last ``_id``.
    """

    def __init__(self, source: MongoReplicasetSource, inlet: Inlet) -> None:
        self.source, self.inlet = source, inlet
        self.collection = majority(collection_of(source.collection, inlet.stream))
        self.what = self.collection.full_name
        # an invalidate comes when the collection is dropped or renamed, whatever is asked for
        self.pipeline: list[Any] = [{'$match': {'operationType': {'$in': [*source.operations, 'invalidate']}}}]
        if source.query:
            self.pipeline.append({'$match': {'$or': [{'operationType': 'invalidate'}, source.query]}})

    def run(self, up: Callable[[], None]) -> None:
        """Watch from where it was; again, if the collection was dropped meanwhile."""
        position = self.inlet.open()
        if position is None:
            position = self.begin({'since': self.source.since or self.present()})
        while not self.source.cancelled.is_set():
            try:
                if 'scanned' in position:
                    position = self.scan(position)
                position = self.watch(position, up)
            except _Lost as lost:
                position = self.lost(str(lost))

    def begin(self, position: dict[str, Any]) -> dict[str, Any]:
        """Store a position before anything is read from there, so that a crash does not move it."""
        self.inlet.advance(position)
        self.inlet.flush()
        return position

    def present(self) -> Timestamp:
        """The moment after the last one that the server knows.

        :raises OptionError: it knows none, since it is a standalone server
        """
        with asking(self.what):
            now = self.collection.database.client.admin.command('ping').get('operationTime')
        if now is None:
            raise OptionError(f'{self.source!r} needs a replica set, and this MongoDB is a standalone server: run it '
                              'as a replica set (one member is enough), or read the collection with MongoSource')
        return Timestamp(now.time, now.inc + 1)

    def lost(self, why: str) -> dict[str, Any]:
        """What to do about lost history."""
        policy = self.source.on_history_lost
        if policy == 'fail':
            raise HistoryLost(f'{self.source!r}: the place where it was to go on is gone from the history of MongoDB '
                              f"({why}); changes may be lost. Nothing was appended. on_history_lost='resume' goes on "
                              "from now on, 'rescan' reads the whole collection once more")
        log.warning('%r: the place where it was to go on is gone from the history of MongoDB (%s); changes may be '
                    'lost, %s', self.source, why, 'and it goes on from now on' if policy == 'resume' else
                    'so it reads the whole collection once more')
        return self.begin({'since': self.present(), **({'scanned': None} if policy == 'rescan' else {})})

    def scan(self, position: dict[str, Any]) -> dict[str, Any]:
        """Read the whole collection; where watching begins."""
        while not self.source.cancelled.is_set():
            after = {} if position['scanned'] is None else {'_id': {'$gt': position['scanned']}}
            with asking(self.what):
                docs = list(self.collection.find(after, sort=[('_id', ASCENDING)], limit=self.source.size))
            if not docs:
                return self.begin({'since': position['since']})
            self.inlet.extend([self.message({'operationType': 'insert', 'fullDocument': doc,
                                             'documentKey': {'_id': doc['_id']}}) for doc in docs],
                              [{**position, 'scanned': doc['_id']} for doc in docs])
            position = {**position, 'scanned': docs[-1]['_id']}
            self.inlet.durable()
        return position

    def watch(self, position: dict[str, Any], up: Callable[[], None]) -> dict[str, Any]:
        """Read changes until the collection is dropped, or the source is cancelled; where to go on."""
        rested = time.monotonic()
        with self.changes(position) as changes:
            up()
            while not self.source.cancelled.is_set():
                with self.watching():
                    change = changes.try_next()
                if change is not None:
                    position = {'token': change['_id']}
                    if change['operationType'] == 'invalidate':
                        return self.begin(position)
                    self.inlet.add(self.message(change), position)
                elif time.monotonic() - rested > _REST and changes.resume_token is not None:
                    position = {'token': changes.resume_token}
                    self.inlet.advance(position)
                    rested = time.monotonic()
                self.inlet.durable()
        return position

    def changes(self, position: dict[str, Any]) -> CollectionChangeStream[Any]:
        """Begin to watch."""
        start: dict[str, Any] = ({'start_after': position['token']} if 'token' in position else
                                 {'start_at_operation_time': position['since']})
        with self.watching():
            return self.collection.watch(
                self.pipeline, full_document='updateLookup' if 'update' in self.source.operations else None,
                max_await_time_ms=_AWAIT, **start)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Ask the server for changes."""
        try:
            with asking(self.what):
                yield
        except OperationFailure as error:
            if error.code in _LOST:
                raise _Lost(f'error {error.code}') from error
            raise

    def message(self, change: Mapping[str, Any]) -> dict[str, Any]:
        """What goes into the stream for a change."""
        document = change.get('fullDocument')
        if not self.source.events:
            return dict(change['documentKey'] if document is None else document)
        update, at = change.get('updateDescription'), change.get('clusterTime')
        return {'operation': change['operationType'], 'key': change['documentKey'], 'document': document,
                'changes': update and {'set': update['updatedFields'], 'removed': update['removedFields']},
                'at': at and at.as_datetime()}


def _utc(when: datetime) -> datetime:
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)
