"""Which MongoDB, and one client of it per process: URL resolution, checks at the door, the server's time.

A connection is made and tried out before anything is built on it, so that a wrong URL, a wrong password or an absent
server is one clear :class:`ConnectError` within seconds, in which no password is ever shown.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
from dataclasses import dataclass, field
from typing import Any

import mongoengine
from pymongo import MongoClient
from pymongo.database import Database

from minibatch import embedded
from minibatch.clock import SystemClock

Document = dict[str, Any]
DEFAULT_ALIAS = 'minibatch'
DEFAULT_DATABASE = 'minibatch'
TIMEOUT = 5.0


@dataclass(eq=False)
class Connection:
    """A MongoDB that answered, as the engine uses it.

    :ivar url: the ``mongodb://`` URL; its password is not in the ``repr``
    :ivar client: this process's client of it: majority writes with journal, reads from the primary
    :ivar db: the database
    :ivar alias: the mongoengine alias under which models reach the same database
    :ivar replica_set: whether it has transactions and change streams
    :ivar clock: the server's time
    """

    url: str = field(repr=False)
    client: MongoClient[Document] = field(repr=False)
    db: Database[Document] = field(repr=False)
    alias: str
    replica_set: bool
    clock: SystemClock = field(repr=False)


_connections: dict[tuple[Any, ...], Connection] = {}
_lock = threading.RLock()
_count = itertools.count(1)


def connect(url: str | None = None, *, timeout: float = TIMEOUT) -> Connection:
    """Connect to MongoDB, or return this process's connection to the same URL.

    :param url: a ``mongodb://``, ``mongodb+srv://`` or ``embedded:`` URL; by default ``MINIBATCH_MONGO_URL``,
        ``MONGO_URL``, or the user's embedded MongoDB, whichever is there first
    :param timeout: seconds to wait for it
    :raises ConnectError: it does not answer, or refuses us
    :raises OptionError: the URL, or an option in it, cannot be used
    """
    resolved = resolve(url)
    with _lock:
        found = _connections.get((os.getpid(), resolved))
        if found is None:
            clock = SystemClock()
            client: MongoClient[Document] = MongoClient(
                resolved, w='majority', journal=True, retryWrites=True, uuidRepresentation='standard',
                serverSelectionTimeoutMS=int(timeout * 1000),
            )
            hello = client.admin.command('hello')
            clock.adjust(hello['localTime'])
            alias = DEFAULT_ALIAS if not _connections else f'{DEFAULT_ALIAS}:{next(_count)}'
            db = client.get_default_database(DEFAULT_DATABASE)
            mongoengine.register_connection(
                alias, db=db.name, host=alias, uuidRepresentation='standard', mongo_client_class=lambda **_: client
            )
            found = Connection(resolved, client, db, alias, 'setName' in hello, clock)
            _connections[os.getpid(), resolved] = found
        return found


def connectdb(url: str | None = None, dbname: str | None = None, alias: str = DEFAULT_ALIAS, **kwargs: Any
              ) -> Database[Document]:
    """Connect and return the database."""
    return connect(url).db


def disconnect(url: str | None = None) -> None:
    """Close this process's connection to *url*, or every one."""
    with _lock:
        for key, connection in list(_connections.items()):
            if url is None or connection.url == resolve(url):
                del _connections[key]
                mongoengine.disconnect(connection.alias)
                connection.client.close()


def resolve(url: str | None = None) -> str:
    """The ``mongodb://`` URL to use: the argument, the environment's, or the embedded one's."""
    text = url or os.environ.get('MINIBATCH_MONGO_URL') or os.environ.get('MONGO_URL') or 'embedded:'
    return embedded.ensure(text) if text.startswith('embedded:') else text


def masked(url: str) -> str:
    """*url* with its password replaced."""
    return re.sub(r'(://[^:/@]*):.*@', r'\1:***@', url)


def authenticated_url(url: str, user: str | None = None, password: str | None = None, authSource: str = 'admin') -> str:
    """*url* with credentials."""
    return url
