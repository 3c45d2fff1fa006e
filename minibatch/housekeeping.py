"""One daemon thread for each process: leases renewed, expired ones recovered, leftovers removed, signs of life."""

from __future__ import annotations

import logging
import threading
import time
from typing import Protocol

from minibatch.errors import StoreUnavailable

log = logging.getLogger('minibatch')


class Kept(Protocol):
    """What is kept up: a consumer that is running."""

    stream: str
    every: float

    def keep_up(self) -> None: ...


class Housekeeper:
    """Calls ``keep_up()`` of each registered consumer every so many seconds.

    It must not be held up by a user's function, so it has a thread of its own; that ends when nobody is registered.
    """

    def __init__(self) -> None:
        self._kept: dict[Kept, float] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, kept: Kept) -> None:
        """Keep *kept* up from now on."""
        with self._changed:
            self._kept[kept] = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name='minibatch-housekeeping', daemon=True)
                self._thread.start()
            self._changed.notify()

    def remove(self, kept: Kept) -> None:
        """Leave *kept* alone from now on."""
        with self._changed:
            self._kept.pop(kept, None)
            self._changed.notify()

    def _next(self) -> Kept | None:
        """Wait until something is due; ``None`` when there is nothing to keep up any more."""
        with self._changed:
            while self._kept:
                kept, due = min(self._kept.items(), key=lambda item: item[1])
                wait = due - time.monotonic()
                if wait <= 0:
                    self._kept[kept] = time.monotonic() + kept.every
                    return kept
                self._changed.wait(wait)
            self._thread = None
            return None

    def _run(self) -> None:
        while (kept := self._next()) is not None:
            try:
                kept.keep_up()
            except StoreUnavailable as error:
                log.info('%s: housekeeping waits: %s', kept.stream, error, extra={'stream': kept.stream})
            except Exception:
                log.exception('%s: housekeeping failed; it is tried again', kept.stream, extra={'stream': kept.stream})


#: The one of this process.
housekeeper = Housekeeper()
