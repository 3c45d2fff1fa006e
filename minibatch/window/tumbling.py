"""Open windows of intervals that neither overlap nor leave gaps, one for each key."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from minibatch.window.event import Event, span_name
from minibatch.window.shelf import Mark, Pane
from minibatch.window.spans import Spans


class TumblingShelf:
    """The windows of each interval and key that have messages; with *empty*, those without, too.

    The progress is (end, key) of the last window that was cut: intervals in their order, keys within them.

    :param spans: the intervals
    :param progress: that was stored with the last cut
    :param empty: also the intervals without messages, between the first and the last one; not keyed

    >>> shelf = TumblingShelf(Spans(10))
    >>> [shelf.add(Event(time, b'%d' % time)) for time in (3, 12, 7)]
    [True, True, True]
    >>> pane, = shelf.due(watermark=10, now=0)
    >>> (pane.start, pane.end), [event.time for event in pane.events]
    ((0, 10), [3, 7])
    >>> shelf.close(pane)
    >>> shelf.add(Event(4, b'4')), shelf.next_due()
    (False, 20)
    """

    def __init__(self, spans: Spans, progress: Mark = (), *, empty: bool = False) -> None:
        self.spans = spans
        self.progress = progress
        self.empty = empty
        self._open: dict[int, dict[bytes, list[Event]]] = {}  # by end, then by key
        self._ends: list[int] = []  # a heap
        self._starts: dict[int, int] = {}
        self._order: tuple[int, list[bytes]] | None = None  # the keys of the first end, in order
        self._shown: dict[tuple[int, bytes], int] = {}
        self._count = 0

    def add(self, event: Event) -> bool:
        """Put it into its window; ``False`` if that was cut."""
        start, end = self.spans.of(event.time)
        if self.progress and (end, event.slot) <= self.progress:
            return False
        keys = self._open.get(end)
        if keys is None:
            keys = self._open[end] = {}
            self._starts[end] = start
            heapq.heappush(self._ends, end)
        events = keys.get(event.slot)
        if events is None:
            keys[event.slot] = [event]
            self._count += 1
            if self._order is not None and self._order[0] == end:
                self._order = None
        else:
            events.append(event)
        return True

    def missed(self, event: Event) -> tuple[int, int]:
        """The interval that it is in."""
        return self.spans.of(event.time)

    def due(self, watermark: int, now: int) -> Iterator[Pane]:
        """The windows that end at the watermark or before."""
        after = self.progress[0] if self.progress and self.empty else None
        over = self._ends and self._ends[0] <= watermark
        for end in sorted(end for end in self._ends if end <= watermark) if over else ():
            if after is not None:
                yield from self._gap(after, self._starts[end])
                after = end
            for slot in self._slots(end):
                yield self._pane(end, slot, final=True)
        if after is not None:
            yield from self._gap(after, watermark)

    def _gap(self, after: int, until: int) -> Iterator[Pane]:
        while True:
            start, end = self.spans.after(after)
            if end > until:
                return
            yield Pane(start, end, None, b'', (), (), (end, b''), span_name(start))
            after = end

    def _slots(self, end: int) -> list[bytes]:
        keys = self._open[end]
        if len(keys) == 1:
            return list(keys)
        if self._order is not None and self._order[0] == end:
            # Closed since: those before the first that is open still. Keys are closed in this order.
            return [slot for slot in self._order[1] if slot in keys]
        order = sorted(keys)
        self._order = (end, order)
        return order

    def _pane(self, end: int, slot: bytes, *, final: bool) -> Pane:
        events = self._open[end][slot]
        events.sort()
        start = self._starts[end]
        key = events[0].key
        members = tuple(events)
        return Pane(start, end, key, slot, members, members if final else (), (end, slot) if final else (),
                    span_name(start, key, slot), final)

    def close(self, pane: Pane) -> None:
        """Forget it."""
        at = (pane.end, pane.slot)
        if not pane.final:
            self._shown[at] = len(pane.events)
            return
        self.progress = pane.mark
        self._shown.pop(at, None)
        keys = self._open.get(pane.end)
        if keys is None:
            return  # it was empty
        if keys.pop(pane.slot, None) is not None:
            self._count -= 1
        if not keys:
            del self._open[pane.end], self._starts[pane.end]
            if self._ends[0] == pane.end:
                heapq.heappop(self._ends)
            else:
                self._ends.remove(pane.end)
                heapq.heapify(self._ends)

    def next_due(self) -> int | None:
        """The end of the first open window."""
        if self.empty and self.progress:
            return self.spans.after(self.progress[0])[1]
        return self._ends[0] if self._ends else None

    def next_deadline(self) -> int | None:
        """It has none: only event time counts."""
        return None

    def early(self) -> Iterator[Pane]:
        """Those that have grown."""
        for end in sorted(self._ends):
            for slot, events in self._open[end].items():
                if len(events) > self._shown.get((end, slot), 0):
                    yield self._pane(end, slot, final=False)

    def __len__(self) -> int:
        return self._count
