"""Messages that follow each other closely: a session ends with a silence."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import partial
from typing import Any

from minibatch.clock import FIRST, SECOND
from minibatch.errors import OptionError
from minibatch.window.agenda import Agenda, Coming, Place
from minibatch.window.event import Event, span_name
from minibatch.window.line import Line
from minibatch.window.placed import PlacedWindow, duration
from minibatch.window.shelf import Mark, Pane
from minibatch.window.spans import microseconds


class SessionShelf:
    """Open sessions that end *gap* microseconds after their last event, and no longer than *most* after their first.

    The events of a key lie in chains, in which each comes less than *gap* after the one before. A chain is a session,
    or several where *most* splits it; it is split from its first event on.

    An event is late if the session that it would be in ends no later than the progress. That depends on what else is
    there: a late event that an open session reaches back to is in that session. So it is decided when all events
    were added, by :meth:`due`, whose first pane says which are late.

    >>> shelf = SessionShelf(10)
    >>> [shelf.add(Event(time, b'%d' % time)) for time in (1, 5, 20, 12)]
    [True, True, True, True]
    >>> [(pane.start, pane.end, [event.time for event in pane.events]) for pane in shelf.due(30, 0)]
    [(1, 30, [1, 5, 12, 20])]
    """

    def __init__(self, gap: int, most: int | None = None, progress: Mark = ()) -> None:
        self.gap, self.most = gap, most
        self.progress = progress
        self._chains: dict[bytes, list[Line]] = {}
        self._agenda = Agenda()
        self._grown: dict[bytes, None] = {}
        self._shown: dict[tuple[bytes, bytes], int] = {}
        self._open = 0

    def __len__(self) -> int:
        return self._open

    def add(self, event: Event) -> bool:
        """Put an event into the chain that it belongs to; it may join two."""
        chains = self._chains.setdefault(event.slot, [])
        at = bisect_right(chains, event[:2], key=_first)
        left = chains[at - 1] if at and event.time - chains[at - 1][-1].time < self.gap else None
        right = chains[at] if at < len(chains) and chains[at][0].time - event.time < self.gap else None
        if left is not None:
            if left.add(event) is None:
                return True
            if right is not None:
                left.append_all(right)
                del chains[at]
                self._open -= 1
        elif right is not None:
            right.add(event)
        else:
            chain = Line()
            chain.add(event)
            chains.insert(at, chain)
            self._open += 1
        if at <= 1:
            self._arrange(event.slot)
        self._grown[event.slot] = None
        return True

    def missed(self, event: Event) -> tuple[int, int]:
        """The session that it would be alone."""
        return event.time, event.time + self.gap

    def due(self, watermark: int, now: int) -> Iterator[Pane]:
        """The sessions that end no later than *watermark*; before them, what is too late for any."""
        return self._agenda.walk((watermark + 1,), self._places)

    def close(self, pane: Pane) -> None:
        """Forget the events of a session."""
        if not pane.final:
            self._shown[pane.slot, pane.events[0].id] = len(pane.events)
            return
        self.progress = pane.mark
        chains, left = self._chains[pane.slot], len(pane.gone)
        self._shown.pop((pane.slot, pane.gone[0].id), None)
        while left:
            count = min(left, len(chains[0]))
            chains[0].drop(count)
            left -= count
            if not len(chains[0]):
                del chains[0]
                self._open -= 1
        if not chains:
            del self._chains[pane.slot]
        self._arrange(pane.slot)

    def next_due(self) -> int | None:
        """When the first session is over."""
        first = self._agenda.first()
        return None if first is None else int(first[0]) if first else FIRST

    def next_deadline(self) -> int | None:
        """There are none."""
        return None

    def early(self) -> Iterator[Pane]:
        """Sessions that have grown since they were last handed out; one that joined another goes on as the first."""
        for slot in list(self._grown):
            settled = True
            for place, build in self._places(slot) if slot in self._chains else ():
                pane = build()
                if place and len(pane.events) > self._shown.get((slot, pane.events[0].id), 0):
                    settled = False
                    yield Pane(pane.start, pane.end, pane.key, slot, pane.events, (), (), pane.name, final=False)
            if settled:
                self._grown.pop(slot, None)

    def _arrange(self, slot: bytes) -> None:
        first = next(self._places(slot), None) if slot in self._chains else None
        self._agenda.put(slot, None if first is None else first[0])

    def _piece(self, chain: Line, since: int, slot: bytes) -> tuple[int, Place]:
        """Where the session ends that begins at an event of a chain: after which event, and when."""
        limit = None if self.most is None else chain[since].time + self.most
        until = len(chain) if limit is None else chain.before(limit, since)
        end = chain[until - 1].time + self.gap
        return until, (end if limit is None else min(end, limit), slot)

    def _places(self, slot: bytes) -> Coming[Pane]:
        """The sessions of a key, in order; first, if there are any, the events that are too late."""
        late: list[Event] = []
        for chain in self._chains[slot]:
            at = 0
            while at < len(chain):
                until, place = self._piece(chain, at, slot)
                if place <= self.progress:
                    # Where sessions are split, one late event less may make a session that is not.
                    until = until if self.most is None else at + 1
                    late += chain.part(at, until)
                else:
                    if late:
                        yield (), partial(self._too_late, slot, late)
                        late = []
                    yield place, partial(self._pane, chain, at, until, place)
                at = until
        if late:
            yield (), partial(self._too_late, slot, late)

    def _too_late(self, slot: bytes, events: list[Event]) -> Pane:
        return Pane(events[0].time, events[-1].time + 1, events[0].key, slot, (), events, self.progress, late=events)

    def _pane(self, chain: Line, since: int, until: int, place: Place) -> Pane:
        events = chain.part(since, until)
        first = events[0]
        name = f'{span_name(first.time, first.key, first.slot)}:{first.id.hex()}'
        return Pane(first.time, place[0], first.key, first.slot, events, events, place, name)


def _first(chain: Line) -> tuple[int, bytes]:
    return chain[0][:2]


class SessionWindow(PlacedWindow):
    """Messages that follow one another in less than *gap* seconds; a silence of that long ends a session.

    A session is ``[time of the first message, time of the last + gap)``. A message between two open sessions that is
    near to both makes them one. One that comes when its session was cut is late, unless it is near to one that is open
    still, or reaches beyond what has been cut: then it begins a session of its own.

    :param gap: seconds
    :param max_length: seconds after which a session ends though messages go on; the next one begins another (default:
        no limit)
    :param early: seconds after which sessions that have grown are handed out with ``final`` false

    The other options are those of :class:`~minibatch.window.placed.PlacedWindow`.

    >>> from minibatch.models import Stream
    >>> SessionWindow(Stream(name='clicks'), gap=30, key='user').gap
    30.0
    """

    def __init__(self, *args: Any, gap: Any = None, max_length: Any = None, early: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.interval is not None:
            raise OptionError('a SessionWindow has no interval=: give gap=, the silence in seconds that ends it')
        silence = duration(gap, 'gap', 'SessionWindow', 'gap=30')
        most = None if max_length is None else microseconds(max_length, 'max_length')
        if most is not None and most < silence:
            raise OptionError(f'max_length={max_length!r} is shorter than gap={gap!r}, and no session is shorter than '
                              'that: make it as long or longer')
        self.gap = silence / SECOND
        self.max_length = None if most is None else most / SECOND
        self._place(lambda progress: SessionShelf(silence, most, progress),
                    {'strategy': 'session', 'gap': silence, 'max_length': most}, early=early)
