"""What comes into a stream: counted in each process that appends, and told the stream's totals now and then."""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable

from pymongo.errors import InvalidOperation

from minibatch.errors import MinibatchError
from minibatch.linger import lingering

#: Seconds for which counts wait for more to come; and to wait before MongoDB, which is away, is told again.
LATER, AGAIN = 2.0, 5.0


class Tally:
    """Counts appends by stream; a write for each of them would double what an append costs.

    What a process has counted goes to the stream's totals every two seconds and at its end; when it is killed, up to
    two seconds of counting are lost. Totals are for people to look at, and the messages themselves are not concerned.

    :param tell: adds to totals of a stream
    """

    def __init__(self, tell: Callable[[str, dict[str, int]], None]) -> None:
        self._tell = tell
        self.renew()
        _tallies.add(self)

    def renew(self) -> None:
        """Forget what was counted: in a child after a fork it is the parent's to tell."""
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[str]] = {}
        self._asked = False

    def add(self, stream: str, n: int, what: str = 'appended') -> None:
        """Count *n* that are in the stream for good.

        :param what: ``appended`` messages, or ``dead`` letters
        """
        if not n:
            return
        with self._lock:
            self._counts.setdefault(stream, Counter())[what] += n
            ask, self._asked = not self._asked, True
        if ask:
            lingering.ask(self, LATER)

    def send_waiting(self) -> float | None:
        """Tell what was counted; called by the thread of :mod:`minibatch.linger`."""
        told = self.flush()
        with self._lock:
            self._asked = bool(self._counts)
            return (LATER if told else AGAIN) if self._asked else None

    def send_last(self) -> None:
        """Tell it because the process ends."""
        self.flush()

    def flush(self) -> bool:
        """Tell it now.

        :return: ``False`` if MongoDB is away; then what was counted is kept
        """
        with self._lock:
            counts, self._counts = self._counts, {}
        try:
            for stream in list(counts):
                self._tell(stream, counts[stream])
                del counts[stream]
        except MinibatchError as error:
            if isinstance(error.__cause__, InvalidOperation):  # disconnected: nobody will take it any more
                return True
            with self._lock:
                for stream, more in counts.items():
                    self._counts.setdefault(stream, Counter()).update(more)
            return False
        return True


_tallies: weakref.WeakSet[Tally] = weakref.WeakSet()


def _after_fork() -> None:
    for tally in list(_tallies):
        tally.renew()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork)
