"""One thread of the process that sends what has waited long enough, for all writers there are."""

from __future__ import annotations

import atexit
import heapq
import itertools
import logging
import multiprocessing
import multiprocessing.util
import os
import threading
import time
from typing import Protocol

log = logging.getLogger(__name__)


class Waiting(Protocol):
    """Somebody with something to send."""

    def send_waiting(self) -> float | None:
        """Send it; answer in how many seconds to ask again, ``None`` when nothing is left. Does not raise."""

    def send_last(self) -> None:
        """Send it because the process ends. Does not raise."""


class Lingering:
    """Calls :meth:`Waiting.send_waiting` when it is due.

    The thread starts with the first that waits. Who waits is held here, so that a writer which its user has
    forgotten still sends its messages, and what waits at the end of the process is sent then.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Forget everything: a child after a fork has no thread, and what waits is its parent's to send."""
        self._wake = threading.Condition()
        self._due: list[tuple[float, int, Waiting]] = []
        self._ticket = itertools.count()
        self._thread: threading.Thread | None = None
        self._busy: Waiting | None = None
        self._registered = False

    def ask(self, who: Waiting, seconds: float) -> None:
        """Have *who* send what it has in so many *seconds*."""
        with self._wake:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._ticket), who))
            if self._thread is None:
                self._start()
            elif self._due[0][2] is who:
                self._wake.notify()

    def _start(self) -> None:
        if not self._registered:
            # Exit functions run last in, first out. Registered this late, ours runs while clients still work.
            self._registered = True
            atexit.register(self.send_all)
            if multiprocessing.parent_process() is not None:  # such a process ends without its atexit functions
                multiprocessing.util.Finalize(None, self.send_all, exitpriority=10)
        self._thread = threading.Thread(target=self._run, name='minibatch-linger', daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._busy = None
                while not self._due or self._due[0][0] > time.monotonic():
                    self._wake.wait(self._due[0][0] - time.monotonic() if self._due else None)
                self._busy = heapq.heappop(self._due)[2]
            again = self._busy.send_waiting()
            if again is not None:
                self.ask(self._busy, again)

    def send_all(self) -> None:
        """Send whatever waits: the process ends."""
        with self._wake:
            waiting = {id(who): who for _, _, who in self._due}
            if self._busy is not None:
                waiting[id(self._busy)] = self._busy
        for who in waiting.values():
            who.send_last()


#: The thread of this process.
lingering = Lingering()

if hasattr(os, 'register_at_fork'):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=lingering.renew)
