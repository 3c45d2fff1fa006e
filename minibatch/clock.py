"""Time as the engine sees it: one interface, a real clock and one that tests turn by hand.

Times are naive UTC datetimes, as MongoDB returns them, and durations are seconds.
"""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Protocol

EPOCH = datetime(1970, 1, 1)
#: Microseconds in a second, and the earliest and latest time that a datetime can hold.
SECOND = 1_000_000
FIRST, LAST = -62_135_596_800 * SECOND, 253_402_300_799 * SECOND + 999_999
_MICROSECOND = timedelta(microseconds=1)
_AWARE = datetime(1970, 1, 1, tzinfo=timezone.utc)


def micros(at: datetime) -> int:
    """A datetime, naive for UTC or aware, as microseconds since the epoch.

    >>> micros(datetime(1970, 1, 1, 0, 0, 1))
    1000000
    """
    return (at - (EPOCH if at.tzinfo is None else _AWARE)) // _MICROSECOND


def moment(time: int) -> datetime:
    """Microseconds since the epoch as a naive datetime in UTC; what a datetime cannot hold becomes its first or last.

    >>> moment(1_500_000)
    datetime.datetime(1970, 1, 1, 0, 0, 1, 500000)
    """
    return EPOCH + timedelta(microseconds=min(max(time, FIRST), LAST))


class Clock(Protocol):
    """What strategies, writers and runners ask for the time."""

    def now(self) -> datetime:
        """The current time, naive, in UTC."""


class SystemClock:
    """This machine's time, shifted to another clock's and then carried on by the monotonic clock.

    A consumer and a producer on machines whose clocks disagree must still agree on what belongs into an
    interval. So the connection tells this clock the database server's time now and then (:meth:`adjust`), and
    between two tellings neither a wrong clock nor one that is set in the middle can disturb it.

    >>> clock = SystemClock()
    >>> clock.adjust(datetime(2020, 1, 1))
    >>> clock.now().year
    2020
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._base = datetime.now(timezone.utc).replace(tzinfo=None)
        self._at = time.monotonic()

    def now(self) -> datetime:
        """The current time, naive, in UTC; in whole milliseconds, so that MongoDB gives it back the same."""
        with self._lock:
            now = self._base + timedelta(seconds=time.monotonic() - self._at)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def adjust(self, now: datetime) -> None:
        """Take *now* (naive UTC) for the current time from here on."""
        with self._lock:
            self._base, self._at = now, time.monotonic()


class ManualClock:
    """A clock that stands still until it is told to move; for tests.

    >>> clock = ManualClock(datetime(2026, 1, 1))
    >>> clock.advance(90)
    >>> clock.now()
    datetime.datetime(2026, 1, 1, 0, 1, 30)
    """

    def __init__(self, now: datetime = EPOCH) -> None:
        self._now = now

    def now(self) -> datetime:
        """The time that was last set."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward by *seconds* (backward if negative)."""
        self._now += timedelta(seconds=seconds)
