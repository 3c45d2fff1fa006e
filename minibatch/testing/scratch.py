"""A database of the test's own, and a clock that stands still.

There is one database for each process that tests, in an embedded server that is kept for tests. It is emptied before
and after each use, not made anew, so a test costs milliseconds, and tables and streams that a module of the user's
holds stay good from test to test. What a process that was killed has left is removed by the next one.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from minibatch import embedded
from minibatch.clock import ManualClock
from minibatch.connection import chosen, connect, disconnect
from minibatch.errors import MinibatchError, OptionError
from minibatch.ids import ids
from minibatch.urls import checked

#: When the clock starts: on the hour, on the day, and later than the times in anybody's test data; for a message that
#: is ahead of the clock is a dead letter.
START = datetime(2100, 1, 1)
#: The variable that names another MongoDB for tests, where there is no embedded one.
VARIABLE = 'MINIBATCH_TEST_URL'
_PREFIX = 'minibatch_test_' + re.sub(r'\W', '_', socket.gethostname().lower())[:24] + '_'
#: Collections of the engine, which keep their indexes.
_KEPT = ('stream', 'buffer', 'window', 'consumer', 'source', 'table', 'progress')

_clock = ManualClock(START)
_used: str | None = None  # the URL of this process's database, once it has been used
_open: Scratch | None = None


@dataclass(frozen=True)
class Scratch:
    """A database for one test.

    :ivar url: its URL, for programs and apps that take one; what has none is here anyhow
    :ivar clock: the time that streams, tables and windows in it go by
    :ivar db: itself, as pymongo knows it
    """

    url: str
    clock: ManualClock
    db: Any


@contextlib.contextmanager
def database(start: datetime = START) -> Iterator[Scratch]:
    """An empty database, where streams, tables and apps without a URL are while this lasts.

    It is in an embedded server of this user's that is kept for tests, or at ``MINIBATCH_TEST_URL``. Inside of another
    ``database()`` it is the same one, as it is.

    :param start: what the clock shows at first (default: midnight of 1 January 2100)
    :raises minibatch.errors.ConnectError: there is no embedded MongoDB, and no other one was named
    :raises minibatch.errors.OptionError: *start* is no time, or the variable no URL

    >>> import minibatch as mb
    >>> with database() as scratch:
    ...     mb.stream('clicks').append({'user': 'ann'})
    ...     scratch.clock.advance(90)
    ...     mb.stream('clicks').status()['lag']
    90.0
    """
    global _open
    if _open is not None:
        yield _open
        return
    if not isinstance(start, datetime) or start.tzinfo is not None:
        raise OptionError(f'start must be a datetime in UTC, without a zone, not {start!r}')
    url, mark = _url(), ids.mark()
    with chosen(url) as connection:
        _clock.advance((start - _clock.now()).total_seconds())
        connection.clock = _clock
        _sweep(connection.client, url)
        _empty(connection.db)
        _open = Scratch(url, _clock, connection.db)
        try:
            yield _open
        finally:
            _open = None
            ids.back(mark)  # those made by a clock that ran ahead sort after everybody else's
            _empty(connection.db)


def discard() -> None:
    """Remove this process's database, if there is one; the next :func:`database` makes it again.

    pytest does so at its end.
    """
    global _used
    if _used is not None:
        url, _used = _used, None
        with contextlib.suppress(MinibatchError):
            connection = connect(url)
            connection.client.drop_database(connection.db.name)
        disconnect(url)


def _url() -> str:
    name = f'{_PREFIX}{os.getpid()}'
    given = os.environ.get(VARIABLE, '').strip()
    if not given:
        home = embedded.directory().with_name('testing')
        return str(checked(embedded.url_of(home)).on(name))
    try:
        return str(checked(given).on(name))
    except OptionError as error:
        raise OptionError(f'{VARIABLE}: {error}') from None


def _sweep(client: Any, url: str) -> None:
    """Remove the databases of processes that are no more; once in each process."""
    global _used
    if _used is None:
        for name in client.list_database_names():
            pid = name.removeprefix(_PREFIX)
            if name != pid and pid.isdigit() and not _lives(int(pid)):
                client.drop_database(name)
    _used = url


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _empty(db: Any) -> None:
    for name in db.list_collection_names():
        if name in _KEPT:  # what is gone at a crash need not be gone for good
            db.command({'delete': name, 'deletes': [{'q': {}, 'limit': 0}], 'writeConcern': {'w': 1, 'j': False}})
        elif not name.startswith('system.'):
            db.drop_collection(name)
