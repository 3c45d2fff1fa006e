"""Which MongoDB, and one client of it per process: URL resolution, the connections there are, mongoengine, forks.

A connection is tried out before anything is built on it, so that a wrong URL, a wrong password or an absent server
is one clear :class:`ConnectError` within seconds, in which no password is ever shown.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import mongoengine
from pymongo import MongoClient
from pymongo.database import Database

from minibatch import embedded
from minibatch.client import DEFAULT_DATABASE, Document, opened
from minibatch.clock import Clock
from minibatch.errors import OptionError
from minibatch.urls import Parts, authenticated_url, check_database, check_options, checked, masked

__all__ = ['Connection', 'authenticated_url', 'connect', 'connectdb', 'disconnect', 'masked']

DEFAULT_ALIAS = 'minibatch'
TIMEOUT = 5.0
_numbers: Iterator[int] = itertools.count(1)


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
    clock: Clock
    server: str = ''
    own_alias: str = field(default_factory=lambda: f'{DEFAULT_ALIAS}:{next(_numbers)}')

    @property
    def alias(self) -> str:
        """``minibatch`` for the process's default connection, a name of its own for any other one."""
        return DEFAULT_ALIAS if self.url == _default else self.own_alias

    def __repr__(self) -> str:
        return f'Connection({masked(self.url)!r}, database={self.db.name!r}, alias={self.alias!r})'

    def __reduce__(self) -> tuple[Callable[[str], Connection], tuple[str]]:
        return connect, (self.url,)  # a worker process gets a connection of its own


_connections: dict[str, Connection] = {}  # by Connection.url; of this process only
_default: str | None = None  # the url that the alias ``minibatch`` stands for
_chosen = False  # whether somebody said so with connectdb()
_inherited: list[Connection] = []  # the parent process's: kept, for closing them would close its server sessions
_aliases: dict[str, tuple[str, str]] = {}  # ours with mongoengine: the url and the database each stands for
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


def connectdb(url: str | None = None, dbname: str | None = None, alias: str | None = DEFAULT_ALIAS, *,
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
    alias = alias or DEFAULT_ALIAS
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
            for alias in [alias for alias, (stands_for, _) in _aliases.items() if stands_for == key]:
                del _aliases[alias]
                mongoengine.disconnect(alias)
            if key == _default:
                _default, _chosen = None, False
            connection.client.close()
        used = {checked(key).path for key in _connections}
        for home in embedded.attached():
            if checked(home).path not in used:
                embedded.release(home)


@contextlib.contextmanager
def chosen(url: str) -> Iterator[Connection]:
    """While this lasts, what has no URL of its own is at *url*; then it is where it was before.

    :param url: as of :func:`connect`
    :raises ConnectError: it does not answer, or refuses us
    """
    global _default, _chosen
    with _lock:
        before = _default, _chosen
        try:
            connectdb(url)
            now = connect(url)
        except BaseException:
            _default, _chosen = before
            raise
    try:
        yield now
    finally:
        with _lock:
            _default, _chosen = before
            if _default in _connections:
                _register(DEFAULT_ALIAS, _default, _connections[_default].db.name)
            else:
                _default, _chosen = None, False
                mongoengine.disconnect(DEFAULT_ALIAS)
                _aliases.pop(DEFAULT_ALIAS, None)


# -- which one


def _resolve(url: str | None, chosen: bool = True) -> tuple[Parts, str]:
    """The URL to use, and whence it is if it was not given."""
    if url:
        return _normal(checked(url)), ''
    if chosen and _chosen and _default:
        return _normal(checked(_default)), ''
    for name in ('MINIBATCH_MONGO_URL', 'MONGO_URL'):
        value = os.environ.get(name, '').strip()
        if value:
            try:
                return _normal(checked(value)), f' (from {name})'
            except OptionError as exc:
                problem = str(exc)
            raise OptionError(f'{name}: {problem}')
    return _normal(checked(f'{embedded.SCHEME}:')), ''


def _normal(parts: Parts) -> Parts:
    """One way to write the directory of an embedded MongoDB."""
    if parts.scheme != embedded.SCHEME:
        return parts
    home = embedded.url_of(embedded.directory(str(parts)))
    return checked(home)._replace(query=parts.query)


def _get(parts: Parts, origin: str, timeout: float) -> Connection:
    global _default
    url, server, revive = str(parts), parts, None
    if parts.scheme == embedded.SCHEME:
        at = checked(embedded.ensure(url))
        path = f'/{parts.database}' if parts.database else ''
        query = '&'.join(filter(None, (at.query, parts.without('database').query)))
        server, revive = at._replace(path=path, query=query), functools.partial(embedded.revive, url)
    found = _connections.get(url)
    if found is None or found.server != str(server):
        client, hello, clock = opened(server, timeout, origin, revive)
        database = client.get_database(server.database or DEFAULT_DATABASE)
        transactions = 'setName' in hello or hello.get('msg') == 'isdbgrid'
        found = _connections[url] = Connection(url, client, database, transactions, clock, str(server))
        _register(found.own_alias, url, database.name)
        mongoengine.connection.get_connection(found.own_alias)
        if _default is None or _default == url:
            _default = url
            _register(DEFAULT_ALIAS, url, database.name)
    return found


# -- mongoengine, and forks


def _register(alias: str, url: str, database: str) -> None:
    """Let *alias* stand for the connection to *url*, whose client it shares, from its first use on.

    Each connection also has an alias of its own, for good: mongoengine closes a client with the last alias that has
    it, and in a forked child that would end the parent's sessions on the server.
    """
    mongoengine.disconnect(alias)
    mongoengine.register_connection(
        alias, db=database, host=alias, uuidRepresentation='standard',
        mongo_client_class=lambda **_: connect(url).client,
    )  # fmt: skip
    _aliases[alias] = url, database


def _after_fork() -> None:
    # What was connected is the parent's. The aliases that programs know find a client of ours at their first use.
    global _lock
    _lock = threading.RLock()
    _inherited.extend(_connections.values())
    for connection in _connections.values():
        del _aliases[connection.own_alias]
    _connections.clear()
    for alias, (url, database) in list(_aliases.items()):
        _register(alias, url, database)


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork)
