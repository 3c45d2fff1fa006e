"""Batches that are appended once, however often they are sent: each has a key, and the stream remembers the keys.

It is what an ``Idempotency-Key`` of HTTP needs. The key is stored in the transaction that stores the messages, so
there is no moment at which one is there without the other; who sends a batch again, because the answer was lost or
the app that took it was killed, learns that it is in the stream. Keys are forgotten after a day.

>>> import minibatch as mb
>>> once = Once(mb.stream('docs-once'))
>>> once.extend('order-17', [{'n': 1}, {'n': 2}])
True
>>> once.extend('order-17', [{'n': 1}, {'n': 2}])
False
>>> once.stream.buffer().count()
2
"""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

from minibatch.backlog import Backlog
from minibatch.errors import InvalidMessage, PositionMoved, StoreUnavailable
from minibatch.ids import ids
from minibatch.messages import convert
from minibatch.store.schema import ONCE
from minibatch.store.sources import Move, Unstorable, messages

_SHORTEST, _LONGEST = 0.02, 0.5  # seconds between two tries while MongoDB is away


class OtherContent(Exception):
    """The key was used for other messages before; nothing was stored."""


class Once:
    """Appends batches to one stream, each once for its key; any number of threads and processes may.

    :param stream: the :class:`minibatch.Stream`; its ``max_backlog`` holds, without waiting
    :param within: seconds to go on while MongoDB is away
    """

    def __init__(self, stream: Any, *, within: float = 5.0) -> None:
        self.stream = stream
        self._within = within
        self._backlog = Backlog(stream.store, stream.name, stream.max_backlog, threading.Event())
        # A session for each thread, and for this only: who repeats a batch ends the transaction of the one before,
        # which must not be anything else by then.
        self._local = threading.local()

    def extend(self, key: str, rows: Sequence[Any], content: bytes = b'') -> bool:
        """Append *rows* in one transaction, if nothing was appended with *key* in the last 24 hours.

        On a standalone server, which has no transactions, it may double messages that were consumed before the batch
        was repeated.

        :param key: any text
        :param rows: messages
        :param content: what tells this batch from another one with the same key
        :return: whether they were appended now
        :raises OtherContent: the key was used for other content
        :raises minibatch.errors.InvalidMessage: one cannot be stored; none was
        :raises minibatch.errors.BacklogFull: there is no room for all of them; none was stored
        :raises minibatch.errors.StoreUnavailable: MongoDB is away; all of them are stored or none, and to repeat it
            with the same key tells
        """
        found, _ = convert(self.stream.name, rows)
        digest = hashlib.sha256(content).digest()[:16]
        batch, owner, delay, until = uuid.uuid4().hex, uuid.uuid4().hex, _SHORTEST, time.monotonic() + self._within
        admitted = False
        try:
            while True:
                try:
                    doc = self._open(key, owner)
                    if doc['position'] is not None:
                        if doc['position']['content'] != digest:
                            raise OtherContent(f'key {key!r} was used for other messages before')
                        return bool(doc['batch'] == batch)
                    if not admitted and not self._backlog.admit(len(found)) and found:
                        raise self._backlog.full(len(found))
                    admitted = True
                    self._store(doc, found, {'count': len(found), 'content': digest}, batch)
                    return True
                except StoreUnavailable:
                    if time.monotonic() + delay > until:
                        raise
                except PositionMoved as error:  # somebody sends the same at the same time
                    if time.monotonic() + delay > until:
                        raise StoreUnavailable(str(error)) from error
                threading.Event().wait(delay)
                delay = min(delay * 2, _LONGEST)
        finally:
            if admitted:
                self._backlog.dropped(len(found))  # stored or not, it is counted anew

    def _open(self, key: str, owner: str) -> dict[str, Any]:
        store = self.stream.store
        part = hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()
        doc: dict[str, Any] = store.open_source(self.stream.name, ONCE, part, owner, dict(self._session.session_id))
        return doc

    def _store(self, doc: dict[str, Any], found: Sequence[Any], position: Any, batch: str) -> None:
        store = self.stream.store
        now = store.clock.now()
        ahead = doc['pending'][:len(found)]
        given = [*ahead, *ids.take(len(found) - len(ahead), now)]
        move = Move(id=doc['_id'], version=doc['version'], position=position, ids=given)
        try:
            store.append_from(self._session, messages(self.stream.name, now, given, found), (), [move], batch)
        except Unstorable as error:
            raise InvalidMessage(f'MongoDB refused message {error.index} (counted from 0): {error.reason}; nothing was '
                                 'stored') from error

    @property
    def _session(self) -> Any:
        if not hasattr(self._local, 'session'):
            self._local.session = self.stream.store.session()
        return self._local.session
