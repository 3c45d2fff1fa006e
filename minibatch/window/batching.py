"""Batches of each key's messages: so many, so many bytes, up to one that closes, or those there in time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from minibatch.clock import FIRST
from minibatch.window.agenda import Agenda, Coming, Place
from minibatch.window.event import Event
from minibatch.window.line import Line
from minibatch.window.shelf import Mark, Pane


class _Queue:
    """The events of one key, and how many of them the first batch has so far."""

    __slots__ = ('bytes', 'count', 'full', 'line')

    def __init__(self) -> None:
        self.line = Line()
        self.count = self.bytes = 0
        self.full = False


class CountShelf:
    """Batches that are full by number, by size or by an event that closes them, whichever is first.

    Nothing can be late: what comes behind is in the next batch.

    :param size: events in a batch
    :param most: bytes in a batch, unless a single event has more
    :param within: microseconds that the first event of a batch waits for the others, by the server's clock
    :param named: give batches names, so that they may be handed out early

    >>> shelf = CountShelf(size=2)
    >>> [shelf.add(Event(time, b'%d' % time)) for time in (1, 2, 3)]
    [True, True, True]
    >>> [[event.time for event in pane.events] for pane in shelf.due(0, 0)]
    [[1, 2]]
    """

    def __init__(self, size: int | None = None, most: int | None = None, within: int | None = None,
                 named: bool = False, progress: Mark = ()) -> None:
        self.size, self.most, self.within, self.named = size, most, within, named
        self.progress = progress
        self._queues: dict[bytes, _Queue] = {}
        self._agenda = Agenda()
        self._grown: dict[bytes, None] = {}
        self._shown: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._queues)

    def add(self, event: Event) -> bool:
        """Put an event at the end of its key's queue, or where it belongs if it was overtaken."""
        queue = self._queues.get(event.slot)
        if queue is None:
            queue = self._queues[event.slot] = _Queue()
        at = queue.line.add(event)
        if at is None or (queue.full and at > queue.count):
            return True
        if at < queue.count or queue.full:  # where one did not fit, another one may
            queue.count = queue.bytes = 0
        self._fill(queue)
        if queue.full or at == 0:
            self._arrange(event.slot, queue)
        if self.named:
            self._grown[event.slot] = None
        return True

    def missed(self, event: Event) -> tuple[int, int]:
        """None can be: this says when it came."""
        return event.time, event.time + 1

    def due(self, watermark: int, now: int) -> Iterator[Pane]:
        """The batches that are full, and those whose first event has waited long enough."""
        return self._agenda.walk((1, now + 1), self._places)

    def close(self, pane: Pane) -> None:
        """Begin the next batch of the key."""
        if not pane.final:
            self._shown[pane.events[0].id] = len(pane.events)
            return
        queue = self._queues[pane.slot]
        self._shown.pop(pane.events[0].id, None)
        queue.line.drop(len(pane.gone))
        queue.count = queue.bytes = 0
        if len(queue.line):
            self._fill(queue)
            self._arrange(pane.slot, queue)
        else:
            del self._queues[pane.slot]
            self._agenda.put(pane.slot, None)

    def next_due(self) -> int | None:
        """At once if a batch is full."""
        first = self._agenda.first()
        return FIRST if first is not None and first[0] == 0 else None

    def next_deadline(self) -> int | None:
        """When the first event of a batch has waited long enough."""
        first = self._agenda.first()
        return int(first[1]) if first is not None and first[0] == 1 else None

    def early(self) -> Iterator[Pane]:
        """Batches that have grown since they were last handed out."""
        for slot in list(self._grown):
            queue = self._queues.get(slot)
            if queue is not None and not queue.full and queue.count > self._shown.get(queue.line[0].id, 0):
                pane = self._pane(queue.line, 0, queue.count)
                yield Pane(pane.start, pane.end, pane.key, slot, pane.events, (), (), pane.name, final=False)
            else:
                self._grown.pop(slot, None)

    def _fill(self, queue: _Queue) -> None:
        queue.count, queue.bytes, queue.full = self._measure(queue.line, 0, queue.count, queue.bytes)

    def _measure(self, line: Line, since: int, count: int = 0, size: int = 0) -> tuple[int, int, bool]:
        """How many events from a position on are in a batch, how many bytes, and whether it is full."""
        for at in range(since + count, len(line)):
            event = line[at]
            if self.most is not None and count and size + event.size > self.most:
                return count, size, True
            count, size = count + 1, size + event.size
            if event.closes or count == self.size or (self.most is not None and size >= self.most):
                return count, size, True
        return count, size, False

    def _arrange(self, slot: bytes, queue: _Queue) -> None:
        self._agenda.put(slot, self._place(queue.line, 0, queue.count, queue.full))

    def _place(self, line: Line, since: int, count: int, full: bool) -> Place | None:
        """Full batches first, in the order in which they became full; then by their deadlines."""
        if full:
            return 0, *line[since + count - 1][:2]
        return None if self.within is None else (1, line[since].created + self.within)

    def _places(self, slot: bytes) -> Coming[Pane]:
        queue = self._queues[slot]
        line, since, count, full = queue.line, 0, queue.count, queue.full
        while count:
            place = self._place(line, since, count, full)
            if place is None:
                return
            yield place, partial(self._pane, line, since, count)
            since += count
            count, _, full = self._measure(line, since)

    def _pane(self, line: Line, since: int, count: int) -> Pane:
        events = line.part(since, since + count)
        first = events[0]
        return Pane(first.time, events[-1].time + 1, first.key, first.slot, events, events,
                    name=first.id.hex() if self.named else None)
