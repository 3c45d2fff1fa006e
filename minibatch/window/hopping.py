"""Intervals of a fixed length that begin at fixed steps, and so overlap."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from functools import partial
from typing import Any

from minibatch.clock import SECOND
from minibatch.errors import OptionError
from minibatch.window.agenda import Agenda, Coming, Place
from minibatch.window.event import Event, span_name
from minibatch.window.line import Line
from minibatch.window.placed import PlacedWindow, duration
from minibatch.window.shelf import Mark, Pane
from minibatch.window.spans import microseconds


class _Bins:
    """The events of one key, in bins of one step each."""

    __slots__ = ('numbers', 'of', 'shown')

    def __init__(self) -> None:
        self.of: dict[int, Line] = {}
        self.numbers: list[int] = []
        self.shown: dict[int, int] = {}


class HoppingShelf:
    """Open windows of *length*, one at each *step*, all in microseconds.

    Window *k* is ``[k * step + offset, k * step + offset + length)``. Events lie in bins of one step: window *k* takes
    bin *k*, whose events no later window needs, and the following ones.

    >>> shelf = HoppingShelf(10, 5)
    >>> [shelf.add(Event(time, b'%d' % time)) for time in (7, 12)]
    [True, True]
    >>> [(pane.start, pane.end, [event.time for event in pane.events]) for pane in shelf.due(20, 0)]
    [(0, 10, [7]), (5, 15, [7, 12]), (10, 20, [12])]
    """

    def __init__(self, length: int, step: int, offset: int = 0, progress: Mark = ()) -> None:
        self.length, self.step, self.offset = length, step, offset
        self.progress = progress
        self._bins: dict[bytes, _Bins] = {}
        self._agenda = Agenda()
        self._grown: dict[bytes, None] = {}
        self._open = 0

    def __len__(self) -> int:
        return self._open

    def add(self, event: Event) -> bool:
        """Put an event into its bin; ``False`` if the last window that it belongs to was cut."""
        number = (event.time - self.offset) // self.step
        if self._place(number, event.slot) <= self.progress:
            return False
        bins = self._bins.get(event.slot)
        if bins is None:
            bins = self._bins[event.slot] = _Bins()
        line = bins.of.get(number)
        if line is None:
            line = bins.of[number] = Line()
            insort(bins.numbers, number)
            self._open += 1
        if line.add(event) == 0 and number == bins.numbers[0]:
            self._agenda.put(event.slot, next(self._places(event.slot))[0])
        self._grown[event.slot] = None
        return True

    def missed(self, event: Event) -> tuple[int, int]:
        """The last window that it would have been in."""
        start = event.time - (event.time - self.offset) % self.step
        return start, start + self.length

    def due(self, watermark: int, now: int) -> Iterator[Pane]:
        """The windows that end no later than *watermark*."""
        return self._agenda.walk((watermark + 1,), self._places)

    def close(self, pane: Pane) -> None:
        """Forget the events that only this window still needed."""
        bins, number = self._bins[pane.slot], (pane.start - self.offset) // self.step
        if not pane.final:
            bins.shown[number] = len(pane.events)
            return
        self.progress = pane.mark
        bins.shown.pop(number, None)
        if bins.of.pop(number, None) is not None:
            del bins.numbers[bisect_left(bins.numbers, number)]
            self._open -= 1
        if bins.of:
            self._agenda.put(pane.slot, next(self._places(pane.slot))[0])
        else:
            del self._bins[pane.slot]
            self._agenda.put(pane.slot, None)

    def next_due(self) -> int | None:
        """When the first window is over."""
        first = self._agenda.first()
        return None if first is None else int(first[0])

    def next_deadline(self) -> int | None:
        """There are none."""
        return None

    def early(self) -> Iterator[Pane]:
        """Windows that have grown since they were last handed out."""
        for slot in list(self._grown):
            settled = True
            for _, build in self._places(slot) if slot in self._bins else ():
                pane = build()
                shown = self._bins[slot].shown.get((pane.start - self.offset) // self.step, 0)
                if len(pane.events) > shown:
                    settled = False
                    yield Pane(pane.start, pane.end, pane.key, slot, pane.events, (), (), pane.name, final=False)
            if settled:
                self._grown.pop(slot, None)

    def _place(self, number: int, slot: bytes) -> Place:
        return number * self.step + self.offset + self.length, slot

    def _places(self, slot: bytes) -> Coming[Pane]:
        """The windows of a key that were not cut and have a message, in order."""
        bins = self._bins[slot]
        number: int | None = None
        if self.progress:
            number = -((self.offset + self.length - self.progress[0]) // self.step)
            number += self._place(number, slot) <= self.progress
        at = 0
        while at < len(bins.numbers):
            if number is not None and bins.numbers[at] < number:
                at += 1
                continue
            # The first window that reaches to the first of the events that are left.
            reaching = (bins.of[bins.numbers[at]][0].time - self.offset - self.length) // self.step + 1
            number = reaching if number is None else max(number, reaching)
            yield self._place(number, slot), partial(self._pane, slot, number)
            number += 1

    def _pane(self, slot: bytes, number: int) -> Pane:
        bins = self._bins[slot]
        start = number * self.step + self.offset
        end = start + self.length
        events: list[Event] = []
        for each in bins.numbers[bisect_left(bins.numbers, number):]:
            if each * self.step + self.offset >= end:
                break
            line = bins.of[each]
            events += line.part(0, line.before(end))
        own = bins.of.get(number)
        key = events[0].key
        return Pane(start, end, key, slot, events, list(own) if own is not None else (), self._place(number, slot),
                    span_name(start, key, slot))


class HoppingWindow(PlacedWindow):
    """The messages in ``[start, start + interval)``, one such window every *every* seconds; so they overlap.

    A message is in each window that covers its time. One that comes when some of them have been cut is in the others;
    it is late if all of them have.

    :param interval: length of a window in seconds
    :param every: seconds from the start of one to the start of the next; no longer than the interval
    :param offset: seconds from the epoch to the start of one of them (default: 0)
    :param early: seconds after which windows that have grown are handed out with ``final`` false

    The other options are those of :class:`~minibatch.window.placed.PlacedWindow`.

    >>> from minibatch.models import Stream
    >>> window = HoppingWindow(Stream(name='clicks'), interval=60, every=10, time='ts')
    >>> (window.interval, window.every)
    (60.0, 10.0)
    """

    def __init__(self, *args: Any, every: Any = None, offset: Any = None, early: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        length = duration(self.interval, 'interval', 'HoppingWindow', 'interval=60, every=10')
        step = duration(every, 'every', 'HoppingWindow', 'interval=60, every=10')
        if step > length:
            raise OptionError(f'every={every!r} is more than interval={self.interval!r}, so messages in between would '
                              f'be in no window: make it {self.interval!r} at the most')
        self.interval, self.every = length / SECOND, step / SECOND
        shift = microseconds(offset or 0, 'offset', None)
        self._place(lambda progress: HoppingShelf(length, step, shift, progress),
                    {'strategy': 'hopping', 'interval': length, 'every': step, 'offset': shift}, early=early)
