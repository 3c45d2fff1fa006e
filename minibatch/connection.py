"""Which MongoDB, and one client of it per process: URL resolution, checks at the door, the server's time.

A connection is made and tried out before anything is built on it, so that a wrong URL, a wrong password or an absent
server is one clear :class:`ConnectError` within seconds, in which no password is ever shown.

The engine's promises rest on how its client writes and reads, so these are not the URL's to choose: majority write
concern with journal, retryable writes and reads, reads from the primary, standard UUIDs, naive UTC datetimes. Options
that ask for less are refused if they could lose data (``w=0``, ``journal=false``) and overruled otherwise.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import mongoengine
import pymongo
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.monitoring import (
    ServerHeartbeatFailedEvent,
    ServerHeartbeatListener,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
)

from minibatch import embedded
from minibatch.clock import SystemClock
from minibatch.diagnosis import Reason, reason
from minibatch.errors import ConnectError, OptionError
from minibatch.urls import Parts, authenticated_url, check_database, check_options, checked, masked

__all__ = ['Connection', 'authenticated_url', 'connect', 'connectdb', 'disconnect', 'masked']

Document = dict[str, Any]
DEFAULT_ALIAS = 'minibatch'
DEFAULT_DATABASE = 'minibatch'
TIMEOUT = 5.0
PATIENCE = 1.0  # seconds after which a first look at the reason pays: some do not heal by waiting
TOO_OLD = 8  # wire versions from MongoDB 4.2 on have what the engine needs

#: What the engine's promises rest on.
ENGINE: Document = {
    'w': 'majority', 'journal': True, 'retryWrites': True, 'retryReads': True, 'readPreference': 'primary',
    'uuidRepresentation': 'standard', 'tz_aware': False,
}  # fmt: skip


@dataclass(eq=False)
class Connection:
    """A MongoDB that answered, as the engine uses it.

    :ivar url: what :func:`connect` takes to give this connection again, in any process; for an embedded MongoDB
        its ``embedded:`` URL. Its password is masked in the ``repr``
    :ivar client: this process's client: majority writes with journal, reads from the primary
    :ivar db: the database
    :ivar alias: the mongoengine alias under which models reach the same database
    :ivar replica_set: whether it has transactions and change streams
    :ivar clock: the server's time
    """

    url: str
    client: MongoClient[Document]
    db: Database[Document]
    replica_set: bool
    clock: SystemClock
    server: str = ''
    own_alias: str = field(default_factory=lambda: f'{DEFAULT_ALIAS}:{next(_numbers)}')

    @property
    def alias(self) -> str:
        """``minibatch`` for the process's default connection, a name of its own for any other one."""
        return DEFAULT_ALIAS if self.url == _default else self.own_alias

    def revive(self) -> None:
        """See to it that an embedded server runs (its supervisor may have been killed); no more than that."""
        if self.url.startswith(f'{embedded.SCHEME}:'):
            embedded.ensure(self.url)

    def __repr__(self) -> str:
        return f'Connection({masked(self.url)!r}, database={self.db.name!r}, alias={self.alias!r})'

    def __reduce__(self) -> tuple[Callable[[str], Connection], tuple[str]]:
        return connect, (self.url,)  # a worker process gets a connection of its own


_connections: dict[str, Connection] = {}  # by Connection.url; of this process only
_default: str | None = None  # the url that the alias ``minibatch`` stands for
_chosen = False  # whether somebody said so with connectdb()
_inherited: list[Connection] = []  # the parent process's: kept, for closing them would close its server sessions
_numbers = itertools.count(1)
_lock = threading.RLock()


def connect(url: str | None = None, *, timeout: float = TIMEOUT) -> Connection:
    """Connect to MongoDB, or return this process's connection to the same URL.

    :param url: a ``mongodb://``, ``mongodb+srv://`` or ``embedded:`` URL; by default what the process connected to
        with :func:`connectdb`, else ``MINIBATCH_MONGO_URL``, ``MONGO_URL``, or the user's embedded MongoDB
    :param timeout: seconds to wait for it, and later for each operation while it is away; the URL's
        ``serverSelectionTimeoutMS`` says the latter on its own
    :raises ConnectError: it does not answer, or refuses us
    :raises OptionError: the URL, or an option in it, cannot be used
    """
    parts, origin = _resolve(url)
    with _lock:
        return _get(parts, origin, timeout)


def connectdb(url: str | None = None, dbname: str | None = None, alias: str = DEFAULT_ALIAS, *,
              timeout: float = TIMEOUT, **options: Any) -> Database[Document]:  # fmt: skip
    """Connect to MongoDB and return its database; streams without a URL of their own use it from then on.

    :param url: a ``mongodb://``, ``mongodb+srv://`` or ``embedded:`` URL; by default ``MINIBATCH_MONGO_URL``,
        ``MONGO_URL``, or an embedded MongoDB shared by this user's processes
    :param dbname: the database, if not the one that the URL names (``minibatch`` if it names none)
    :param alias: the mongoengine alias to give it; another one than ``minibatch`` leaves the default as it is
    :param timeout: seconds to wait for it
    :param options: options of MongoDB's connection strings, such as ``authSource``, and ``username``, ``password``
    :raises ConnectError: it does not answer, or refuses us
    :raises OptionError: the URL, or an option, cannot be used
    """
    global _default, _chosen
    parts, origin = _resolve(url, chosen=False)
    options.pop('fast_insert', None)  # of earlier versions, where it had no effect
    given = {name: value for name, value in options.items() if value is not None}
    user, password = given.pop('username', None), given.pop('password', None)
    check_options(list(given.items()), 'connectdb', own=('username', 'password', 'dbname', 'alias', 'timeout'))
    if user is not None:
        parts = checked(authenticated_url(str(parts), str(user), str(password or ''), parts.database or 'admin'))
    if given:
        parts = checked(str(parts.having(**given)))
    if dbname:
        check_database(dbname, 'dbname')
        parts = parts.on(dbname)
    with _lock:
        connection = _get(parts, origin, timeout)
        if alias == DEFAULT_ALIAS:
            _default, _chosen = connection.url, True
        _register(alias, connection.url, connection.db.name)
        return connection.db


def disconnect(url: str | None = None) -> None:
    """Close this process's connection to *url*, or every one; an embedded server then loses a client.

    :param url: as given to :func:`connect` or :func:`connectdb`
    """
    global _default, _chosen
    with _lock:
        wanted = None if url is None else _normal(checked(url))
        for key, connection in list(_connections.items()):
            if wanted is not None and key != str(wanted):
                continue
            del _connections[key]
            mongoengine.disconnect(connection.own_alias)
            if key == _default:
                mongoengine.disconnect(DEFAULT_ALIAS)
                _default, _chosen = None, False
            connection.client.close()
        for home in embedded.attached():
            if not any(other.startswith(home) for other in _connections):
                embedded.release(home)


# -- which one


def _resolve(url: str | None, chosen: bool = True) -> tuple[Parts, str]:
    """The URL to use, and whence it is if it was not given."""
    if url:
        return _normal(checked(url)), ''
    if chosen and _chosen and _default:
        return _normal(checked(_default)), ''
    for name in ('MINIBATCH_MONGO_URL', 'MONGO_URL'):
        value = os.environ.get(name)
        if value:
            return _normal(checked(value)), f' (from {name})'
    return _normal(checked(f'{embedded.SCHEME}:')), ''


def _normal(parts: Parts) -> Parts:
    """One way to write the directory of an embedded MongoDB."""
    if parts.scheme != embedded.SCHEME:
        return parts
    home = embedded.url_of(embedded.directory(str(parts)))
    return checked(home)._replace(query=parts.query)


def _get(parts: Parts, origin: str, timeout: float) -> Connection:
    global _default
    url, server = str(parts), parts
    if parts.scheme == embedded.SCHEME:
        at = checked(embedded.ensure(url))
        path = f'/{parts.database}' if parts.database else ''
        query = '&'.join(filter(None, (at.query, parts.without('database').query)))
        server = at._replace(path=path, query=query)
    found = _connections.get(url)
    if found is None or found.server != str(server):
        found = _open(url, server, origin, timeout)
        _connections[url] = found
        _register(found.own_alias, url, found.db.name)
        if _default is None or _default == url:
            _default = url
            _register(DEFAULT_ALIAS, url, found.db.name)
    return found


# -- the client


def _open(url: str, server: Parts, origin: str, timeout: float) -> Connection:
    deadline = time.monotonic() + timeout * 0.85  # the rest is for finding out why not
    source: Document = {}
    while True:
        clock = SystemClock()
        client, why = _client(server, clock, timeout, source)
        if client is not None:
            hello, why = _knock(client, server, deadline, timeout)
            if hello is not None:
                break
            client.close()
        # in earlier versions users were looked up in admin, whatever database the URL named
        if source or 'refuses the user' not in why.text or server.option('authSource') or not server.database:
            raise ConnectError(f'cannot use the MongoDB at {masked(str(server))}{origin}: {why.text}')
        source = {'authSource': 'admin'}
    database = client.get_database(server.database or DEFAULT_DATABASE)
    _adjust(clock, client)
    sharded = hello.get('msg') == 'isdbgrid'
    return Connection(url, client, database, 'setName' in hello or sharded, clock, str(server))


def _client(server: Parts, clock: SystemClock, timeout: float, source: Document
            ) -> tuple[MongoClient[Document] | None, Reason]:  # fmt: skip
    milliseconds = max(int(timeout * 1000), 1)
    patience = {'serverSelectionTimeoutMS': milliseconds, 'connectTimeoutMS': milliseconds, 'appName': 'minibatch'}
    defaults = {name: value for name, value in patience.items() if server.option(name) is None}
    try:
        client: MongoClient[Document] = MongoClient(
            str(server), event_listeners=[_ServerTime(clock)], **defaults, **ENGINE, **source
        )
    except (PyMongoError, ValueError, TypeError, OSError) as exc:
        return None, reason(exc, server)
    except Exception as exc:
        if type(exc).__module__.startswith('dns.'):  # the resolver's own, which the driver lets through
            return None, reason(exc, server)
        raise
    return client, Reason('', False)


def _knock(client: MongoClient[Document], server: Parts, deadline: float, timeout: float
           ) -> tuple[Document | None, Reason]:  # fmt: skip
    """Wait for a server that can be written to and lets us in; or why there is none."""
    patience = min(PATIENCE, timeout / 3)
    while True:
        left = max(deadline - time.monotonic(), 0.05)
        try:
            with pymongo.timeout(min(patience, left)):
                hello = client.admin.command('hello')
                why = _unfit(hello) or _locked_out(client, server)
                if why is None:
                    return hello, Reason('', True)
        except PyMongoError as exc:
            why = reason(exc, server, client)
        if why.final or time.monotonic() + 0.05 > deadline:
            return None, why
        if patience == left or 'primary' in why.text:
            time.sleep(0.05)  # it did answer at once: no use in asking without a pause
        patience = left


def _unfit(hello: Document) -> Reason | None:
    if hello.get('maxWireVersion', 0) < TOO_OLD:
        return Reason('it is too old: minibatch needs MongoDB 4.2 or later', True)
    if not hello.get('isWritablePrimary', hello.get('ismaster')):
        return Reason('that server is not the primary; with directConnection=true write the primary\'s address', False)
    return None


def _locked_out(client: MongoClient[Document], server: Parts) -> Reason | None:
    """Whether we may work here: a server lets anybody say hello."""
    name = server.database or DEFAULT_DATABASE
    try:
        client[name].command('listCollections', nameOnly=True, authorizedCollections=True)
        who = client.admin.command('connectionStatus', showPrivileges=True)['authInfo']
    except OperationFailure as exc:
        return reason(exc, server, client)
    rights = who.get('authenticatedUserPrivileges', [])
    if not who.get('authenticatedUsers') or not rights:
        return None
    for right in rights:
        resource, actions = right.get('resource', {}), right.get('actions', [])
        here = resource.get('anyResource') or resource.get('db') in ('', name)
        if here and ('insert' in actions or 'anyAction' in actions):
            return None
    user = who['authenticatedUsers'][0].get('user')
    return Reason(f'the user {user} may not write to the database {name}: grant it the role readWrite there', True)


# -- the server's time


def _adjust(clock: SystemClock, client: MongoClient[Document]) -> None:
    """Set *clock* by the quickest of a few answers: what it took is what we may be wrong by."""
    best = None
    for _ in range(3):
        asked = time.monotonic()
        now = client.admin.command('hello')['localTime']
        took = time.monotonic() - asked
        if best is None or took < best[0]:
            best = took, now + timedelta(seconds=time.monotonic() - asked - took / 2), time.monotonic()
    assert best is not None
    clock.adjust(best[1] + timedelta(seconds=time.monotonic() - best[2]))


class _ServerTime(ServerHeartbeatListener):
    """Keeps the clock right by what every heartbeat of the primary says, at no cost.

    Small differences are the network's and are let be, so that time does not jump about.
    """

    TOLERANCE = 0.1

    def __init__(self, clock: SystemClock) -> None:
        self._clock = clock

    def started(self, event: ServerHeartbeatStartedEvent) -> None:
        """Nothing to learn yet."""

    def failed(self, event: ServerHeartbeatFailedEvent) -> None:
        """Nothing to learn."""

    def succeeded(self, event: ServerHeartbeatSucceededEvent) -> None:
        """Compare the clocks."""
        now = event.reply.document.get('localTime')
        if now is None or not event.reply.is_writable:
            return
        late = 0.0 if event.awaited else event.duration / 2
        now = now.replace(tzinfo=None) + timedelta(seconds=late)
        if abs((now - self._clock.now()).total_seconds()) > self.TOLERANCE:
            self._clock.adjust(now)


# -- mongoengine, and forks


def _register(alias: str, url: str, database: str) -> None:
    """Let *alias* stand for the connection to *url*, whose client it shares, in this process and in forked ones.

    Each connection has an alias of its own which stays: mongoengine closes a client with the last alias that has it,
    and in a forked child that would end the parent's sessions on the server.
    """
    mongoengine.disconnect(alias)
    mongoengine.register_connection(
        alias, db=database, host=alias, uuidRepresentation='standard',
        mongo_client_class=lambda **_: connect(url).client,
    )  # fmt: skip
    if alias != DEFAULT_ALIAS:
        mongoengine.connection.get_connection(alias)


def _after_fork() -> None:
    # What was connected is the parent's. The default alias finds a client of ours when it is first used.
    global _lock
    _lock = threading.RLock()
    _inherited.extend(_connections.values())
    names = {connection.url: connection.db.name for connection in _connections.values()}
    _connections.clear()
    if _default in names:
        _register(DEFAULT_ALIAS, str(_default), names[str(_default)])


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork)
