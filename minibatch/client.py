"""A client of MongoDB, made for the engine and tried out before anything is built on it.

The engine's promises rest on how its client writes and reads, so these are not the URL's to choose (:data:`ENGINE`):
options that ask for less are refused if they could lose data (``w=0``, ``journal=false``) and overruled otherwise.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import pymongo
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.monitoring import (
    ServerHeartbeatFailedEvent,
    ServerHeartbeatListener,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
)

from minibatch.clock import SystemClock
from minibatch.diagnosis import Reason, reason
from minibatch.errors import ConnectError, MinibatchError
from minibatch.urls import Parts, masked

Document = dict[str, Any]
DEFAULT_DATABASE = 'minibatch'
PATIENCE = 1.0  # seconds after which a first look at the reason pays: some do not heal by waiting
NEEDED_WIRE_VERSION = 8  # MongoDB 4.2

#: What the engine's promises rest on.
ENGINE: Document = {
    'w': 'majority', 'journal': True, 'retryWrites': True, 'retryReads': True, 'readPreference': 'primary',
    'uuidRepresentation': 'standard', 'tz_aware': False,
}  # fmt: skip


class Opened(NamedTuple):
    """A client that was let in, and what the server said of itself."""

    client: MongoClient[Document]
    hello: Document
    clock: SystemClock


def opened(url: Parts, timeout: float, origin: str = '', revive: Callable[[], None] | None = None) -> Opened:
    """Make a client of the server at *url* that is known to work.

    :param timeout: seconds to wait for the server, and what the client then waits for it in each operation
    :param origin: words for the error, such as where the URL is from
    :param revive: called, in a thread of the client's, whenever the server was found to be away
    :raises ConnectError: why not, in one sentence and without the password
    """
    deadline = time.monotonic() + timeout * 0.85  # the rest is for finding out why not
    result = _attempt(url, timeout, deadline, revive, {})
    if isinstance(result, Reason) and result.login and url.database and url.option('authSource') is None:
        # in earlier versions users were looked up in admin, whatever database the URL named
        again = _attempt(url, timeout, deadline, revive, {'authSource': 'admin'})
        result = result if isinstance(again, Reason) and again.login else again
    if isinstance(result, Opened):
        return result
    # raised here and not where it was noticed: the driver's own errors are no part of it
    raise ConnectError(f'cannot use the MongoDB at {masked(str(url))}{origin}: {result.text}')


def _attempt(url: Parts, timeout: float, deadline: float, revive: Callable[[], None] | None, source: Document
             ) -> Opened | Reason:  # fmt: skip
    clock = SystemClock()
    milliseconds = max(int(timeout * 1000), 1)
    usual = {'serverSelectionTimeoutMS': milliseconds, 'connectTimeoutMS': milliseconds, 'appName': 'minibatch'}
    defaults: Document = {name: value for name, value in usual.items() if url.option(name) is None}
    try:
        client: MongoClient[Document] = MongoClient(
            str(url), event_listeners=[_Heartbeats(clock, revive)], **{**defaults, **ENGINE, **source}
        )
    except Exception as exc:
        # the DNS resolver's errors pass through the driver as they are
        if isinstance(exc, (PyMongoError, ValueError, TypeError, OSError)) or type(exc).__module__.startswith('dns.'):
            return reason(exc, url)
        raise
    try:
        result = _knock(client, clock, url, deadline, timeout)
    except BaseException:
        client.close()
        raise
    if isinstance(result, Reason):
        client.close()
        return result
    return Opened(client, result, clock)


def _knock(client: MongoClient[Document], clock: SystemClock, url: Parts, deadline: float, timeout: float
           ) -> Document | Reason:  # fmt: skip
    """Wait for a server that can be written to and lets us in."""
    patience = min(PATIENCE, timeout / 3)
    while True:
        left = deadline - time.monotonic()
        try:
            with pymongo.timeout(max(min(patience, left), 0.05)):
                hello: Document = client.admin.command('hello')
                why = _unfit(hello) or _locked_out(client, url)
                if why is None:
                    _set(clock, client)
                    return hello
        except PyMongoError as exc:
            why = reason(exc, url, client)
        if why.final or time.monotonic() > deadline - 0.05:
            return why
        time.sleep(0.05)
        patience = timeout


def _unfit(hello: Document) -> Reason | None:
    if hello.get('maxWireVersion', 0) < NEEDED_WIRE_VERSION:
        return Reason('it is too old: minibatch needs MongoDB 4.2 or later', True)
    if not hello.get('isWritablePrimary', hello.get('ismaster')):
        return Reason('that server is not the primary of its replica set (directConnection=true names it alone)', False)
    return None


def _locked_out(client: MongoClient[Document], url: Parts) -> Reason | None:
    """Whether we may not work here: a server lets anybody say hello."""
    name = url.database or DEFAULT_DATABASE
    try:
        client[name].command('listCollections', nameOnly=True, authorizedCollections=True)
        who = client.admin.command('connectionStatus', showPrivileges=True)['authInfo']
    except OperationFailure as exc:
        return reason(exc, url, client)
    rights, users = who.get('authenticatedUserPrivileges', []), who.get('authenticatedUsers', [])
    if not users or not rights:
        return None
    for right in rights:
        resource, actions = right.get('resource', {}), right.get('actions', [])
        here = resource.get('anyResource') or resource.get('db') in ('', name)
        if here and not {'insert', 'anyAction'}.isdisjoint(actions):
            return None
    return Reason(f'the user {users[0].get("user")} may not write to the database {name}: '
                  'grant it the role readWrite there', True)  # fmt: skip


def _set(clock: SystemClock, client: MongoClient[Document]) -> None:
    """Set *clock* by the quickest of a few answers: what it took is what we may be wrong by."""
    quickest = None
    for _ in range(3):
        asked = time.monotonic()
        told = client.admin.command('hello')['localTime']
        answered = time.monotonic()
        if quickest is None or answered - asked < quickest[0]:
            quickest = answered - asked, told, (asked + answered) / 2
    assert quickest is not None
    clock.adjust(quickest[1] + timedelta(seconds=time.monotonic() - quickest[2]))


class _Heartbeats(ServerHeartbeatListener):
    """Keeps the clock right by what every heartbeat of the primary says, at no cost; revives a server that is away.

    Small differences are the network's and are let be, so that time does not jump about.
    """

    TOLERANCE = 0.1

    def __init__(self, clock: SystemClock, revive: Callable[[], None] | None) -> None:
        self._clock = clock
        self._revive = revive

    def started(self, event: ServerHeartbeatStartedEvent) -> None:
        """Nothing to learn yet."""

    def failed(self, event: ServerHeartbeatFailedEvent) -> None:
        """An embedded server is ours to start again."""
        if self._revive is not None:
            with contextlib.suppress(MinibatchError):  # the next heartbeat tries again
                self._revive()

    def succeeded(self, event: ServerHeartbeatSucceededEvent) -> None:
        """Compare the clocks."""
        now = event.reply.document.get('localTime')
        if now is None or not event.reply.is_writable:
            return
        late = 0.0 if event.awaited else event.duration / 2
        now = now.replace(tzinfo=None) + timedelta(seconds=late)
        if abs((now - self._clock.now()).total_seconds()) > self.TOLERANCE:
            self._clock.adjust(now)
