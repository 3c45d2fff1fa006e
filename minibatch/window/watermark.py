"""How far event time is known to be complete.

The highest event time seen, less the lateness that messages are allowed, plus the time that has passed since that
message came. Time passes only while everything in the buffer has been read: what waits there, since a consumer was
down or is slow, must not become late by waiting. A watermark never goes back.
"""

from __future__ import annotations

from typing import Any

#: Before any time.
NEVER = -(1 << 62)


class Watermark:
    """The watermark of a stream, or of one key; all times in microseconds.

    :param lateness: how long to wait for messages of earlier event times
    :param idle: how far event time stays behind the clock while no message comes; ``None``: it does not move then
    :param stored: what :meth:`document` said at the last cut

    >>> mark = Watermark(lateness=10, idle=0)
    >>> mark.see(100, created=1000)
    >>> mark.move(None), mark.move(1005), mark.move(1003)
    (90, 95, 95)
    """

    __slots__ = ('at', 'base', 'idle', 'lateness', 'top')

    def __init__(self, lateness: int = 0, idle: int | None = 0, stored: dict[str, Any] | None = None) -> None:
        stored = stored or {}
        self.lateness, self.idle = lateness, idle
        self.base: int = stored.get('base', NEVER)
        self.top: int | None = stored.get('top')
        self.at: int = stored.get('at', 0)

    def see(self, time: int, created: int) -> None:
        """A message was read.

        :param time: its event time
        :param created: when it came
        """
        if self.top is None or time > self.top or (time == self.top and created < self.at):
            self.top, self.at = time, created

    def move(self, now: int | None) -> int:
        """The watermark.

        :param now: the time at which the buffer was read to its end; ``None`` if there is more in it
        """
        if self.top is not None:
            passed = 0 if now is None or self.idle is None else max(0, now - self.at - self.idle)
            self.base = max(self.base, self.top - self.lateness + passed)
        return self.base

    def reached_at(self, time: int) -> int | None:
        """When the watermark will have come to *time* if no more messages come; ``None``: never."""
        if self.top is None or self.idle is None:
            return None
        return time - self.top + self.lateness + self.at + self.idle

    def document(self) -> dict[str, Any]:
        """To be stored, so that it goes on where it was after a restart."""
        return {'base': self.base, 'top': self.top, 'at': self.at}


class ClockMark(Watermark):
    """The watermark of append time: the clock's, while everything in the buffer has been read.

    >>> ClockMark(idle=2).move(100)
    98
    """

    __slots__ = ()

    def move(self, now: int | None) -> int:
        """The time of the last message while there is more to read; else now."""
        seen = self.base if self.top is None else self.top - self.lateness
        self.base = max(self.base, seen, self.base if now is None else now - self.lateness - (self.idle or 0))
        return self.base

    def reached_at(self, time: int) -> int | None:
        """When the clock will have come there."""
        return time + self.lateness + (self.idle or 0)
