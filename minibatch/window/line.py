"""Events of one key, in order, that are taken away from the front."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from minibatch.window.event import Event


class Line:
    """Events in order of time and id. Adding one at the end and dropping some from the front cost next to nothing.

    >>> line = Line()
    >>> [line.add(Event(time, b'%d' % time)) for time in (20, 30, 10, 30)]
    [0, 1, 0, None]
    >>> line.drop(1)
    >>> [event.time for event in line], line.before(30)
    ([20, 30], 1)
    """

    __slots__ = ('_events', '_head')

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._head = 0

    def __len__(self) -> int:
        return len(self._events) - self._head

    def __getitem__(self, at: int) -> Event:
        return self._events[at if at < 0 else self._head + at]

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events[self._head:])

    def part(self, since: int, until: int) -> list[Event]:
        """The events from one position up to another, exclusive."""
        return self._events[self._head + since:self._head + until]

    def add(self, event: Event) -> int | None:
        """Put *event* in its place; returns which, or ``None`` if it is there already."""
        events = self._events
        if len(events) == self._head or events[-1][:2] < event[:2]:
            events.append(event)
            return len(self) - 1
        at = bisect_left(events, event[:2], self._head)
        if events[at].id == event.id:
            return None
        events.insert(at, event)
        return at - self._head

    def before(self, time: int, since: int = 0) -> int:
        """How many events there are before *time*, if the first *since* are known to be."""
        return bisect_left(self._events, (time,), self._head + since) - self._head

    def upto(self, time: int, id: bytes) -> int:  # noqa: A002 (the field's name)
        """How many events there are before the one with this time and id."""
        return bisect_left(self._events, (time, id), self._head) - self._head

    def append_all(self, line: Line) -> None:
        """Take over all events of another line, which come after those here."""
        self._events += line._events[line._head:]

    def drop(self, count: int) -> None:
        """Take away the first *count* events."""
        self._head += count
        if self._head > 32 and self._head * 2 > len(self._events):
            del self._events[:self._head]
            self._head = 0
