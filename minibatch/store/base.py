"""What all verbs share: the collections, the translation of the driver's errors, and expressions of server time."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, ParamSpec, TypeVar
from uuid import UUID

import pymongo
from bson.binary import Binary
from pymongo.client_session import ClientSession
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
    WTimeoutError,
)

from minibatch.connection import Connection
from minibatch.errors import StoreUnavailable
from minibatch.store import schema
from minibatch.store.schema import LIGHT, Document
from minibatch.store.tally import Tally

P = ParamSpec('P')
T = TypeVar('T')

#: Server errors that pass by themselves: interrupted, shutting down, stepping down, killed session, lost race, full.
PASSING = frozenset({6, 7, 24, 50, 89, 91, 112, 134, 175, 189, 225, 237, 244, 251, 262, 317, 9001, 10107, 11600, 11601,
                     11602, 13435, 13436, 14031, 64, 100, 202, 290})


#: How long the first look at a database goes on while it elects a primary, in seconds.
START_PATIENCE = 10.0
#: Server errors: another write came in between; a document with this key is there.
CONFLICT = 112
DUPLICATE = 11000


def passing(error: PyMongoError) -> bool:
    """Whether trying again later may help."""
    if isinstance(error, (AutoReconnect, ConnectionFailure, WTimeoutError, ExecutionTimeout)):
        return True
    if isinstance(error, (OperationFailure, WriteConcernError)) and error.code in PASSING:
        return True
    return error.has_error_label('TransientTransactionError') or error.has_error_label('RetryableWriteError')


def conflicted(error: BaseException) -> bool:
    """Whether a verb failed since somebody wrote the same document in the same moment: it can be repeated at once."""
    return getattr(error.__cause__, 'code', None) == CONFLICT


def reason(error: PyMongoError) -> str:
    """What went wrong, in a few words without addresses."""
    code = getattr(error, 'code', None)
    return type(error).__name__ if passing(error) or code is None else f'{type(error).__name__} {code}: {error}'


def verb(method: Callable[P, T]) -> Callable[P, T]:
    """Mark a verb of the store: what the driver raises becomes :class:`StoreUnavailable`.

    That goes for what will not pass by itself, too, a missing privilege or a dropped index: a consumer goes on trying,
    and says so, until somebody has mended it.
    """

    @functools.wraps(method)
    def translated(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except PyMongoError as error:
            raise StoreUnavailable(f'MongoDB did not take or confirm {method.__name__!r} ({reason(error)}); what was '
                                   'acknowledged before is safe, try again when it is back') from error

    return translated


def in_seconds(seconds: float) -> Document:
    """An expression for a time *seconds* from now, by the server's clock."""
    return {'$add': ['$$NOW', round(seconds * 1000)]}


class Base:
    """One MongoDB database as the engine uses it.

    :param connection: where; collections and indexes are created if they are missing
    :ivar settled: the windows, in states that no failover takes back: for who removes or frees something because of one
    :ivar clustered: whether the buffer is clustered on ``_id``
    """

    _ensured: ClassVar[dict[tuple[int, str], bool]] = {}
    _ensuring: ClassVar = threading.Lock()

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.client = connection.client
        self.clock = connection.clock
        self.db = schema.bound(connection.db)
        self.streams = self.db['stream']
        self.buffer = self.db['buffer']
        self.windows = self.db['window']
        self.settled = self.windows.with_options(read_concern=schema.SETTLED)
        self.consumers = self.db['consumer']
        self.sources = self.db['source']
        self.tables = self.db['table']
        self.progress = self.db['progress']
        self.tally = Tally(self._came)
        self._in_transaction: dict[ClientSession, Counter[str]] = {}
        self._unsure: dict[str, set[str]] = {}  # by stream, windows that could not be recovered, maybe halfway
        with self._ensuring:
            key = (id(self.client), connection.db.name)
            if key not in self._ensured:
                self._ensured[key] = self._ensure()
            self.clustered = self._ensured[key]

    @verb
    def _ensure(self) -> bool:
        # Who starts during an election waits for it, as an append does.
        return persistently(lambda: schema.ensure(self.db), within=START_PATIENCE)

    @verb
    def _came(self, stream: str, numbers: dict[str, int]) -> None:
        """Add to the totals of a stream what has come into it, which is no progress of its consumers."""
        with pymongo.timeout(2.0):  # at the end of a process, nobody wants to wait for a number
            self.streams.with_options(write_concern=LIGHT).update_one({'_id': stream}, {
                '$inc': {f'stats.{name}': n for name, n in numbers.items()}})

    @contextlib.contextmanager
    def counting(self, session: ClientSession) -> Iterator[None]:
        """Around a transaction: what is appended in it counts when it has been committed."""
        counts = self._in_transaction[session] = Counter()
        try:
            yield
        finally:
            del self._in_transaction[session]
        for stream, n in counts.items():
            self.tally.add(stream, n)

    def repair(self) -> None:
        """Create collections and indexes that somebody has dropped."""
        self._ensure()

    @property
    def transactions(self) -> bool:
        """Whether the server is a replica set, and so has transactions and change streams."""
        return self.connection.replica_set

    def session(self) -> ClientSession:
        """A session of one's own, for one thread."""
        return self.client.start_session(causal_consistency=False)

    def insert_missing(self, docs: Sequence[Document]) -> None:
        """Insert messages into the buffer, except those that an earlier try has stored already."""
        try:
            # Never ordered: at the first message that is there, an ordered insert would stop.
            self.buffer.insert_many(docs, ordered=False)
        except BulkWriteError as error:
            details = error.details or {}
            if details.get('writeConcernErrors'):
                raise StoreUnavailable('MongoDB stored the messages, but not yet on a majority of its members; '
                                       'store them again when it is back, none will be doubled') from error
            if any(each.get('code') != DUPLICATE for each in details.get('writeErrors', ())):
                raise

    def kill_sessions(self, lsids: list[Any]) -> None:
        """End the open transactions of dead consumers, whose locks would otherwise stay for a minute or more.

        Refused without the privilege for it; then the locks end by themselves (``transactionLifetimeLimitSeconds``).
        """
        if lsids and self.transactions:
            sessions = [{'id': Binary.from_uuid(each['id']) if isinstance(each['id'], UUID) else each['id']}
                        for each in lsids]  # commands are encoded without our codec
            try:
                self.client.admin.command('killSessions', sessions)
            except OperationFailure as error:
                if error.code not in (13, 8000):  # not allowed to: slower, not wrong
                    raise


def free(stream: str) -> Document:
    """The query for messages that are in no window; served by one index, in order of ``_id``."""
    return {'stream': stream, 'processed': False, 'window': None}


def marked(stream: str, window: str) -> Document:
    """The query for messages that are marked as members of a window."""
    return {'stream': stream, 'processed': True, 'window': window}


def persistently(action: Callable[[], T], *, within: float, pause: float = 0.05) -> T:
    """Repeat *action*, which must be harmless to repeat, while MongoDB is away, for *within* seconds at the most."""
    deadline = time.monotonic() + within
    while True:
        try:
            return action()
        except PyMongoError as error:
            if not passing(error) or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(pause * 2, 1.0)
