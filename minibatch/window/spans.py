"""Which interval a time is in: of a fixed length, aligned to the epoch plus an offset; or days and weeks of a place."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from minibatch.clock import EPOCH, SECOND, micros, moment
from minibatch.errors import OptionError

#: Microseconds of a day.
DAY = 86_400 * SECOND
_DAY = timedelta(days=1)

Span = tuple[int, int]


def microseconds(value: Any, option: str, least: float | None = 0.0) -> int:
    """Check a number of seconds, and return it in whole microseconds.

    :param option: its name, for the error
    :param least: the least that it may be, in seconds (``None``: it may be negative)
    :raises OptionError: it is no such number

    >>> microseconds(0.1, 'lateness')
    100000
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e11 or (
            least is not None and value < least):
        raise OptionError(f'{option} must be a number of seconds{"" if least is None else f", {least:g} or more"}, '
                          f'not {value!r}')
    return round(value * SECOND)


class Spans:
    """Half-open intervals ``[start, end)`` of a fixed length; times in microseconds.

    :param length: of an interval
    :param offset: from the epoch to the start of one of them

    >>> Spans(10).of(25), Spans(10, offset=3).of(2), Spans(10).after(30)
    ((20, 30), (-7, 3), (30, 40))
    """

    def __init__(self, length: int, offset: int = 0) -> None:
        self.length, self.offset = length, offset

    def of(self, time: int) -> Span:
        """The interval that *time* is in."""
        start = time - (time - self.offset) % self.length
        return start, start + self.length

    def after(self, end: int) -> Span:
        """The interval that begins where another one ends."""
        return self.of(end)


class LocalSpans(Spans):
    """Days, or several of them, by the clocks of a place: 23 or 25 hours long when these are put forward or back.

    :param length: whole days, in microseconds
    :param offset: from the epoch, by the clocks of the place
    :param zone: the place

    >>> from datetime import datetime
    >>> spans = LocalSpans(DAY, 0, ZoneInfo('Europe/Zurich'))
    >>> start, end = spans.of(micros(datetime(2026, 3, 29, 12)))  # summer time begins
    >>> moment(start).isoformat(), (end - start) // 3_600_000_000
    ('2026-03-28T23:00:00', 23)
    """

    def __init__(self, length: int, offset: int, zone: ZoneInfo) -> None:
        super().__init__(length, offset)
        self.zone = zone
        self._last: Span = (0, 0)

    def of(self, time: int) -> Span:
        """The interval that *time* is in."""
        if self._last[0] <= time < self._last[1]:
            return self._last
        local = moment(time).replace(tzinfo=timezone.utc).astimezone(self.zone).replace(tzinfo=None)
        days = self.length // DAY
        number = (local - EPOCH - timedelta(microseconds=self.offset)) // _DAY // days
        start, end = self._edge(number * days), self._edge((number + 1) * days)
        while time >= end:  # a place that puts its clocks back over midnight has two times on one date
            number += 1
            start, end = end, self._edge((number + 1) * days)
        while time < start:
            number -= 1
            start, end = self._edge(number * days), start
        self._last = start, end
        return self._last

    def _edge(self, day: int) -> int:
        local = EPOCH + timedelta(days=day, microseconds=self.offset)
        return micros(local.replace(tzinfo=self.zone).astimezone(timezone.utc))


def spans(interval: Any, offset: Any = None, zone: Any = None) -> Spans:
    """Intervals as users give them, in seconds.

    :param interval: their length
    :param offset: from the epoch to one of their starts (default: 0)
    :param zone: name of a time zone; then the interval is one of whole days, by the clocks there
    :raises OptionError: it cannot be
    """
    length, shift = microseconds(interval, 'interval', 0.001), microseconds(offset or 0, 'offset', None)
    if zone is None:
        return Spans(length, shift)
    if length % DAY:
        raise OptionError(f'timezone= is for windows of whole days (interval=86400, or 7 * 86400 for weeks), since '
                          f'shorter ones are the same everywhere; not for interval={interval!r}')
    try:
        place = zone if isinstance(zone, ZoneInfo) else ZoneInfo(zone)
    except (ValueError, TypeError, OSError, KeyError):
        raise OptionError(f"timezone must be the name of a time zone, such as 'Europe/Zurich', not {zone!r}; if there "
                          'are no time zones on this machine: pip install tzdata') from None
    return LocalSpans(length, shift, place)
