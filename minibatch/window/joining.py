"""For each message of one side those of the other that lie near it in time: what an interval join is made of."""

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


class _Sides:
    """The events of one key, by side."""

    __slots__ = ('left', 'right')

    def __init__(self) -> None:
        self.left = Line()
        self.right = Line()


class JoiningShelf:
    """For each event of the left side those of the right side with its key that are no more than *within* away.

    A left event's window is cut when event time has passed its time + *within*; the left event is the first of its
    members. It leaves with its window. A right event leaves when no left one can reach it any more, which is after
    its time + twice *within*: until then a left event may come that is within reach and not late.

    :param within: microseconds; the difference of the times may be as large as that, inclusive
    :param how: ``'inner'``: windows have both sides; ``'left'``: also left events that are alone; ``'right'``, and
        ``'outer'`` for both

    >>> shelf = JoiningShelf(10)
    >>> [shelf.add(Event(time, b'%d' % time, right=right)) for time, right in ((20, True), (15, False), (31, True))]
    [True, True, True]
    >>> [[event.time for event in pane.events] for pane in shelf.due(50, 0)]
    [[15, 20], []]
    """

    def __init__(self, within: int, how: str = 'inner', progress: Mark = ()) -> None:
        self.within = within
        self.left_alone = how in ('left', 'outer')
        self.right_alone = how in ('right', 'outer')
        self.progress = progress
        self._sides: dict[bytes, _Sides] = {}
        self._matched: set[bytes] = set()
        self._agenda = Agenda()
        self._open = 0

    def __len__(self) -> int:
        return self._open or len(self._sides)  # what may yet find a left one counts as one for each key

    def add(self, event: Event) -> bool:
        """Put an event on its side; ``False`` if all windows that it may be in were cut."""
        if self._mark(event) <= self.progress:
            return False
        sides = self._sides.get(event.slot)
        if sides is None:
            sides = self._sides[event.slot] = _Sides()
        if event.right:
            at = sides.right.add(event)
            if event.held:
                self._matched.add(event.id)
        else:
            at = sides.left.add(event)
            self._open += at is not None
        if at == 0:
            self._arrange(event.slot)
        return True

    def missed(self, event: Event) -> tuple[int, int]:
        """The times that lie within reach of it."""
        return event.time - self.within, event.time + self.within + 1

    def due(self, watermark: int, now: int) -> Iterator[Pane]:
        """The windows that cannot get any further member, and between them what no window needs any more."""
        return self._agenda.walk((watermark + 1,), self._places)

    def close(self, pane: Pane) -> None:
        """Forget the left event, or the right one, that the pane was about."""
        self.progress = pane.mark
        sides = self._sides[pane.slot]
        for event in pane.gone:
            if event.right:
                sides.right.drop(1)
                self._matched.discard(event.id)
            else:
                sides.left.drop(1)
                self._open -= 1
        if self.right_alone:
            self._matched.update(event.id for event in pane.held)
        if not len(sides.left) and not len(sides.right):
            del self._sides[pane.slot]
        self._arrange(pane.slot)

    def next_due(self) -> int | None:
        """When the first window cannot get any further member."""
        first = self._agenda.first()
        return None if first is None else int(first[0]) if first else FIRST

    def next_deadline(self) -> int | None:
        """There are none."""
        return None

    def early(self) -> Iterator[Pane]:
        """A join hands nothing out before its time."""
        return iter(())

    def _mark(self, event: Event) -> Mark:
        """When an event's fate is decided; a left one's before that of a right one that it only just reaches."""
        if event.right:
            return event.time + 2 * self.within + 1, event.slot, 1, event.id
        return event.time + self.within + 1, event.slot, 0, event.id

    def _arrange(self, slot: bytes) -> None:
        first = next(self._places(slot), None) if slot in self._sides else None
        self._agenda.put(slot, None if first is None else first[0])

    def _places(self, slot: bytes) -> Coming[Pane]:
        """Both sides of a key in order of their marks."""
        sides = self._sides[slot]
        left = right = 0
        matched: set[bytes] = set()  # by windows that are ahead in this very walk
        while left < len(sides.left) or right < len(sides.right):
            one = self._mark(sides.left[left]) if left < len(sides.left) else None
            other = self._mark(sides.right[right]) if right < len(sides.right) else None
            if other is None or (one is not None and one < other):
                yield one or (), partial(self._window, sides, left, matched)
                left += 1
            else:
                yield other, partial(self._leave, sides.right[right], matched)
                right += 1

    def _window(self, sides: _Sides, at: int, matched: set[bytes]) -> Pane:
        event = sides.left[at]
        since, until = event.time - self.within, event.time + self.within + 1
        line = sides.right
        first = line.before(since)
        others = line.part(first, line.before(until, first))
        held = []
        if self.right_alone:
            held = [each for each in others if each.id not in self._matched and each.id not in matched]
            matched.update(each.id for each in held)
        events = [event, *others] if others or self.left_alone else ()
        return Pane(since, until, event.key, event.slot, events, [event], self._mark(event), held=held)

    def _leave(self, event: Event, matched: set[bytes]) -> Pane:
        """A right event goes: alone, if it had no company and is wanted so."""
        alone = self.right_alone and event.id not in self._matched and event.id not in matched
        return Pane(event.time - self.within, event.time + self.within + 1, event.key, event.slot,
                    [event] if alone else (), [event], self._mark(event))


class JoiningWindow(PlacedWindow):
    """One window for each message of the left side: itself, and those of the right side that are near it in time.

    What ``stream.join()`` of two streams is made of: both sides come in one stream, and a message says on which it is.
    ``window.data`` begins with the left message; those of the right side with the same key whose time is no more than
    *within* seconds away follow, in the order of their times. Of a right message that is alone it is that message.

    :param within: seconds between the two times, at the most
    :param right: dotted path, or a function of the message, of what is true for the right side
    :param how: ``'inner'`` (default): only left messages that found one; ``'left'``: also those that found none;
        ``'right'``: also right messages that none found; ``'outer'``: both

    The other options are those of :class:`~minibatch.window.placed.PlacedWindow`. A window is cut when event time has
    passed its message's by *within*; a right message that is alone, when by twice that. If one side is silent, the
    other one's event time goes on for both.

    >>> from minibatch.models import Stream
    >>> window = JoiningWindow(Stream(name='both'), within=5, right='right', key='key', time='ts', how='left')
    >>> (window.within, window.how)
    (5.0, 'left')
    """

    HOWS: ClassVar = ('inner', 'left', 'right', 'outer')

    def __init__(self, *args: Any, within: Any = None, right: Any = None, how: Any = 'inner', **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.interval is not None:
            raise OptionError('a JoiningWindow has no interval=: give within=, the seconds between the two times')
        if within is None or right is None:
            raise OptionError("a JoiningWindow needs within=, a number of seconds, and right=, which tells the sides: "
                              "within=5, right='right'")
        if how not in self.HOWS:
            raise OptionError(f'how must be one of {", ".join(map(repr, self.HOWS))}, not {how!r}')
        near = microseconds(within, 'within')
        self.within, self.how = near / SECOND, how
        self._place(lambda progress: JoiningShelf(near, how, progress),
                    {'strategy': 'joining', 'within': near, 'how': how}, right=right)
