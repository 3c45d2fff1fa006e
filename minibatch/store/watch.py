"""Learning of new messages without asking again and again: a change stream, used as a hint and never as the truth."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import bson
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from minibatch.store.base import Base
from minibatch.store.schema import CODEC, Document

log = logging.getLogger('minibatch')

#: How long the server holds a request that has nothing to report.
AWAIT_MS = 10_000
#: Seconds to leave the interpreter to who was called back, before the server is asked for more.
GIVE_WAY = 0.001


class Watch:
    """A thread that calls back when messages come into a stream.

    Each watcher costs the writers something, so there is one for a stream at the most, that of the consumer that
    leads, and only while it is idle.

    :param store: where
    :param stream: the stream's name
    :param on_event: called from the watching thread with the ``_id`` of the first of some new messages; with ``None``
        once when the watch is open (what came before that is not reported), and once when it ends by itself
    """

    def __init__(self, store: Base, stream: str, on_event: Callable[[Any], None]) -> None:
        self._store = store
        self._on_event = on_event
        self._closed = threading.Event()
        self._cursor: Any = None
        self._pipeline: list[Document] = [
            {'$changeStream': {}},
            {'$match': {'operationType': 'insert', 'fullDocument.stream': stream}},
            {'$project': {'documentKey': 1}}]
        self._thread = threading.Thread(target=self._run, name=f'minibatch-watch-{stream}', daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still watches; it ends by itself when MongoDB is away."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            buffer = self._store.buffer.with_options(read_concern=ReadConcern('majority'))  # it takes no other
            with buffer.aggregate_raw_batches(self._pipeline, maxAwaitTimeMS=AWAIT_MS) as self._cursor:
                self._on_event(None)
                while not self._closed.is_set() and self._cursor.alive:
                    batch = self._cursor.try_next()
                    if batch is not None:
                        events = bson.decode_all(batch, CODEC)
                        self._on_event(events[0]['documentKey']['_id'] if events else None)
                        self._closed.wait(GIVE_WAY)
        except PyMongoError as error:
            # A hint is lost, nothing else: the cutter polls, and opens another watch later.
            log.debug('the watch on a stream ended: %s', error)
            if not self._closed.is_set():
                self._on_event(None)

    def close(self) -> None:
        """End the watch at once: the server is told to give up the request that the thread waits for."""
        self._closed.set()
        cursor = self._cursor
        if cursor is not None and cursor.cursor_id and self._thread.is_alive():
            try:
                self._store.db.command('killCursors', self._store.buffer.name, cursors=[cursor.cursor_id])
            except OperationFailure:
                return  # it had ended by itself
            except PyMongoError:
                return  # MongoDB is away, and the cursor with it
