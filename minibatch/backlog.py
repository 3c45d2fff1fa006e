"""Back-pressure for producers: how many messages more a stream with ``max_backlog`` takes now."""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol

from minibatch.clock import Clock
from minibatch.errors import BacklogFull

_FRESH = 1.0  # seconds for which a count is good: other producers append too
_SHORTEST, _LONGEST = 0.01, 0.25  # seconds between two counts while waiting for room


class Store(Protocol):
    """What writers ask of the store."""

    @property
    def clock(self) -> Clock:
        """The database server's time."""

    def append(self, docs: list[dict[str, Any]], patience: float = ...) -> None:
        """Store messages durably; those that are there already (by ``_id``) are left as they are.

        :param patience: seconds to go on while MongoDB is away
        """

    def count_free(self, stream: str, limit: int = 0) -> int:
        """How many messages of *stream* are in no window yet, counted up to *limit*."""


class Backlog:
    """Admits messages to one stream.

    Counting at each append would cost as much as the append. Each count gives an allowance instead, which
    appends use up: consumers can only make the backlog smaller meanwhile, so for a single producer the limit is
    exact. Among several it can be passed by what the others append within a second.

    :param store: counts
    :param stream: the stream's name
    :param limit: ``max_backlog``; ``None`` admits everything
    :param closing: set when waiting has to end
    :param timeout: how many seconds to wait at most; ``None`` for as long as it takes
    """

    def __init__(self, store: Store, stream: str, limit: int | None, closing: threading.Event,
                 timeout: float | None = None) -> None:
        self._store, self._stream, self._limit, self._closing, self._timeout = store, stream, limit, closing, timeout
        self._lock = threading.Lock()
        self._allowance = 0
        self._counted = float('-inf')
        self._pending = 0

    def admit(self, n: int, *, part: bool = False) -> int:
        """Reserve room for *n* messages, without waiting.

        :param n: how many
        :param part: be content with fewer
        :return: for how many there is room, 0 for none
        """
        if self._limit is None or n == 0:
            return n
        with self._lock:
            if self._allowance < n or time.monotonic() - self._counted > _FRESH:
                # What is reserved and not stored is in no count yet; what is being stored just now may be in
                # both for a moment, and then we admit less, never more.
                self._counted = time.monotonic()
                self._allowance = self._limit - self._pending - self._store.count_free(self._stream, self._limit)
            granted = min(n, max(self._allowance, 0)) if part or n <= self._allowance else 0
            self._allowance -= granted
            self._pending += granted
            return granted

    def wait(self, n: int, *, part: bool = False) -> int:
        """Reserve room for *n* messages as soon as there is some.

        :param n: how many
        :param part: be content with fewer
        :return: for how many there is room, at least 1
        :raises BacklogFull: if there is none in time, or the writer is closed
        """
        give_up = None if self._timeout is None else time.monotonic() + self._timeout
        delay = _SHORTEST
        while not (granted := self.admit(n, part=part)):
            left = delay if give_up is None else min(delay, give_up - time.monotonic())
            if left <= 0:
                raise self.full(n, end=f'; there was no room within {self._timeout:g} seconds')
            if self._closing.wait(left):
                raise self.full(n, end='; it was closed meanwhile')
            delay = min(delay * 2, _LONGEST)
        return granted

    def full(self, n: int, stored: int = 0, end: str = '') -> BacklogFull:
        """The error for *n* messages for which there is no room.

        :param n: how many there are to store
        :param stored: how many of the same call are stored
        :param end: what else to say
        """
        kept = f'the first {stored:,} of this call were stored' if stored else 'nothing of this call was stored'
        return BacklogFull(f'stream {self._stream!r} has no room for {n:,} more within its max_backlog of '
                           f'{self._limit:,} messages; {kept}; try again when its consumers have caught up, '
                           f'or give it a greater max_backlog{end}')

    def stored(self, n: int) -> None:
        """*n* messages that were admitted are in the store now."""
        if self._limit is not None:
            with self._lock:
                self._pending -= n

    def dropped(self, n: int) -> None:
        """*n* messages that were admitted will not be stored, or nobody knows whether they were: count again."""
        if self._limit is not None and n:
            with self._lock:
                self._pending -= n
                self._counted = float('-inf')
