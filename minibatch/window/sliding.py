"""At each message, what came before it: the last so many seconds, or the last so many messages."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

from minibatch.clock import FIRST, SECOND
from minibatch.errors import OptionError
from minibatch.window.agenda import Agenda, Coming
from minibatch.window.event import Event
from minibatch.window.line import Line
from minibatch.window.placed import PlacedWindow
from minibatch.window.shelf import Mark, Pane
from minibatch.window.spans import microseconds


class SlidingShelf:
    """At each event, those of its key that came no more than so long before it, or the last so many.

    In event order, with the event itself. A key has a line of events: first those whose own window was cut, which
    are still needed by later ones (``held``), then those whose own window is still to come. Which is which, the
    progress says, so after a restart the line is the same.

    An event that comes behind the progress has no window of its own any more, but is in later ones that reach back
    to it. If there turns out to be none, it is late, and a pane says so.

    :param length: microseconds; of the span ``(time - length, time]``
    :param size: or a number of events

    >>> shelf = SlidingShelf(length=10)
    >>> [shelf.add(Event(time, b'%d' % time)) for time in (1, 11, 5)]
    [True, True, True]
    >>> [(pane.events[-1].time, [event.time for event in pane.events]) for pane in shelf.due(20, 0)]
    [(1, [1]), (5, [1, 5]), (11, [5, 11])]
    """

    def __init__(self, length: int | None = None, size: int | None = None, progress: Mark = ()) -> None:
        self.length, self.size = length, size
        self.progress = progress
        self._lines: dict[bytes, Line] = {}
        self._missed: set[bytes] = set()
        self._agenda = Agenda()
        self._pending = 0

    def __len__(self) -> int:
        return self._pending or len(self._lines)  # what later windows will need counts as one for each key

    def add(self, event: Event) -> bool:
        """Put an event into its key's line; ``False`` if no window to come can reach back to it."""
        behind = self._mark(event) <= self.progress
        if behind and not event.held and self.length is not None and self._expiry(event) <= self.progress:
            return False
        line = self._lines.get(event.slot)
        if line is None:
            line = self._lines[event.slot] = Line()
        at = line.add(event)
        if at is None:
            return True
        if not behind:
            self._pending += 1
        elif not event.held:
            self._missed.add(event.id)
        # What comes first changes with the first that is pending, or with what is in front of it.
        if behind or at == self._cut(line, event.slot) or len(line) == 1:
            self._arrange(event.slot)
        return True

    def missed(self, event: Event) -> tuple[int, int]:
        """Its own window."""
        return event.time + 1 - (self.length or 1), event.time + 1

    def due(self, watermark: int, now: int) -> Iterator[Pane]:
        """The windows of the events before *watermark*; between them, what no window needs any more."""
        return self._agenda.walk((watermark + 1,), self._places)

    def close(self, pane: Pane) -> None:
        """Go on to the next event; forget what is not needed any more."""
        self.progress = pane.mark
        line = self._lines[pane.slot]
        line.drop(len(pane.gone))
        if pane.events:
            self._pending -= 1
        if self._missed:
            self._missed.difference_update(event.id for event in (*pane.events, *pane.gone))
        if not len(line):
            del self._lines[pane.slot]
        self._arrange(pane.slot)

    def next_due(self) -> int | None:
        """When the first window may be cut: just after its event."""
        first = self._agenda.first()
        return None if first is None else int(first[0]) if first else FIRST

    def next_deadline(self) -> int | None:
        """There are none."""
        return None

    def early(self) -> Iterator[Pane]:
        """A window ends with its event, so there is nothing to hand out before."""
        return iter(())

    def _mark(self, event: Event) -> Mark:
        return event.time + 1, event.slot, event.id

    def _expiry(self, event: Event) -> Mark:
        """After this no window can reach back to *event*."""
        return event.time + (self.length or 0) + 1, event.slot

    def _cut(self, line: Line, slot: bytes) -> int:
        """How many of a line have had their own window."""
        if not self.progress:
            return 0
        end, cut_slot, *rest = self.progress
        if rest and cut_slot == slot:
            at = line.upto(end - 1, rest[0])
            return at + (at < len(line) and line[at].id == rest[0])
        return line.before(end if slot < cut_slot else end - 1)

    def _arrange(self, slot: bytes) -> None:
        first = next(self._places(slot), None) if slot in self._lines else None
        self._agenda.put(slot, None if first is None else first[0])

    def _places(self, slot: bytes) -> Coming[Pane]:
        """The windows of a key, in order; before and behind them what becomes of events that nothing needs."""
        line = self._lines[slot]
        at, gone = self._cut(line, slot), 0
        if self.size is not None and at > self.size - 1:
            gone = at - self.size + 1
            yield (), partial(self._rest, line, 0, gone, self.progress, missed=True)
        missed = True  # those that are still to be in a window of their key are in the first, or never
        while at < len(line):
            since, leave = self._reach(line, at, gone)
            yield self._mark(line[at]), partial(self._pane, line, since, at, gone, leave, missed)
            at, gone, missed = at + 1, leave, False
        if self.length is not None and gone < len(line):
            mark = self._expiry(line[-1])  # before the progress, if who cut died before it removed what is not needed
            yield mark, partial(self._rest, line, gone, len(line), max(mark, self.progress), missed)

    def _reach(self, line: Line, at: int, gone: int) -> tuple[int, int]:
        """From which event on the window of the one at a position is, and from which on later ones may be."""
        if self.length is not None:
            since = line.before(line[at].time - self.length + 1, gone)
            return since, since
        since = at - (self.size or 1) + 1
        return max(since, 0), max(since + 1, 0)

    def _pane(self, line: Line, since: int, at: int, gone: int, leave: int, missed: bool) -> Pane:
        events, event = line.part(since, at + 1), line[at]
        left = line.part(gone, leave)
        held = [event] if leave <= at else []
        late: list[Event] = []
        if missed and self._missed:
            held += [each for each in line.part(max(since, leave), at) if each.id in self._missed]
            late = [each for each in line.part(gone, since) if each.id in self._missed]
        start = events[0].time if self.length is None else event.time - self.length + 1
        return Pane(start, event.time + 1, event.key, event.slot, events, left, self._mark(event), held=held, late=late)

    def _rest(self, line: Line, since: int, until: int, mark: Mark, missed: bool) -> Pane:
        """No window, but events that no window needs any more."""
        events = line.part(since, until)
        late = [each for each in events if missed and each.id in self._missed]
        return Pane(events[0].time, events[-1].time + 1, events[0].key, events[0].slot, (), events, mark, late=late)


class SlidingWindow(PlacedWindow):
    """At each message a window that ends with it: the last *interval* seconds, or the last *size* messages.

    In the order of event time, each key by itself. Of seconds, it is those after ``time - interval``, up to the message
    itself; messages of one and the same time follow one another as they were appended.

    Messages stay in the buffer until no later window can reach back to them: of seconds, until event time is past
    that; of a number, the last ``size - 1`` of each key for good.

    A message that comes when event time is past it has no window of its own any more, but is in those of later messages
    that are still to come. It is late if there is none.

    :param interval: seconds
    :param size: number of messages; the first windows of a key have fewer

    The other options are those of :class:`~minibatch.window.placed.PlacedWindow`.

    >>> from minibatch.models import Stream
    >>> SlidingWindow(Stream(name='clicks'), size=3).size
    3
    """

    WATCH: ClassVar[bool] = True

    def __init__(self, *args: Any, size: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if (size is None) == (self.interval is None):
            raise OptionError('a SlidingWindow has the last seconds or of the last messages: give interval= or '
                              f'size=, not {"both" if size is not None else "neither"}')
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise OptionError(f'size must be a whole number of messages, 1 or more, not {size!r}')
        length = None
        if self.interval is not None:
            length = microseconds(self.interval, 'interval', 0.001)
            self.interval = length / SECOND
        self.size = size
        self._place(lambda progress: SlidingShelf(length, size, progress),
                    {'strategy': 'sliding', 'interval': length, 'size': size})
