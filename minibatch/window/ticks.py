"""Every so often, what has come since the last time, a window for each key."""

from __future__ import annotations

from collections.abc import Iterator

from minibatch.window.event import Event
from minibatch.window.shelf import Mark, Pane


class TickShelf:
    """All that was added since the last tick, by key; ticks are by the clock, so nothing can be late.

    :param step: microseconds between two ticks
    :param progress: that was stored with the last cut: its tick, and its key

    >>> shelf = TickShelf(10)
    >>> [shelf.add(Event(time, b'%d' % time, created=time)) for time in (3, 7)]
    [True, True]
    >>> list(shelf.due(0, now=12)), [(pane.start, pane.end) for pane in shelf.due(0, now=14)]
    ([], [(3, 14)])
    """

    def __init__(self, step: int, progress: Mark = ()) -> None:
        self.step = step
        self._last: int | None = progress[0] if progress else None
        self._begun = bool(progress)
        self._since = 0
        self._over: dict[bytes, list[Event]] = {}  # of the tick that is being cut
        self._new: dict[bytes, list[Event]] = {}

    def __len__(self) -> int:
        return len(self._over) + len(self._new)

    def add(self, event: Event) -> bool:
        """It is in the next window of its key."""
        if not self._begun:  # the first tick is that much after the first message
            self._last = event.created if self._last is None else min(self._last, event.created)
        self._new.setdefault(event.slot, []).append(event)
        return True

    def missed(self, event: Event) -> tuple[int, int]:
        """None can be: this says when it came."""
        return event.created, event.created + 1

    def due(self, watermark: int, now: int) -> Iterator[Pane]:
        """What is left of the last tick; then all there is, if it is time for the next."""
        for slot in sorted(self._over):
            yield self._pane(self._over[slot], self._since, self._last or 0)
        if not self._over and self._last is not None and self._new and now >= self._last + self.step:
            for slot in sorted(self._new):
                yield self._pane(self._new[slot], self._last, now)

    @staticmethod
    def _pane(events: list[Event], since: int, until: int) -> Pane:
        members = sorted(events)
        return Pane(since, until, events[0].key, events[0].slot, members, members, (until, events[0].slot))

    def close(self, pane: Pane) -> None:
        """Forget a key's messages; the first window of a tick makes it the last one."""
        if not self._over:
            self._over, self._new = self._new, {}
            self._since, self._last, self._begun = pane.start, pane.end, True
        del self._over[pane.slot]

    def next_due(self) -> int | None:
        """Nothing is due by event time."""
        return None

    def next_deadline(self) -> int | None:
        """At the next tick, if there is anything."""
        if self._over:
            return 0
        return self._last + self.step if self._last is not None and self._new else None

    def early(self) -> Iterator[Pane]:
        """A tick is early enough."""
        return iter(())
