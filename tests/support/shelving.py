"""A shelf in use, without a database: messages come, windows are cut, and the process dies in between."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import islice
from typing import Any, TypeAlias

from minibatch.window.event import Event
from minibatch.window.shelf import Mark, Pane, Shelf

#: A time after everything.
END = 10**15
#: A window: start, end, key's bytes, ids of its members in order.
Cut: TypeAlias = tuple[int, int, bytes, tuple[bytes, ...]]


class Shelved:
    """What is durable (the buffer, the progress, windows, late messages), and a shelf that may be lost at any time.

    :param make: makes a shelf for a progress
    :param lateness: how far the watermark is behind the highest time seen
    """

    def __init__(self, make: Callable[..., Shelf], lateness: int = 0, seed: int = 0) -> None:
        self.make = make
        self.lateness = lateness
        self.random = random.Random(seed)
        self.progress: Mark = ()
        self.watermark = -END
        self.now = 0
        self.buffer: dict[bytes, Event] = {}
        self.read: set[bytes] = set()
        #: The progress when a message was first read: it can only be in windows after that.
        self.since: dict[bytes, Mark] = {}
        self.events: dict[bytes, Event] = {}
        self.cuts: list[Cut] = []
        self.late: list[bytes] = []
        self.shelf = make(progress=())

    def append(self, event: Event) -> None:
        """A message comes into the buffer; nobody has read it yet."""
        self.buffer[event.id] = self.events[event.id] = event

    def arrive(self, event: Event) -> None:
        """A message comes, and is read at once."""
        self.append(event)
        self.look()

    def look(self, crash: bool = False) -> None:
        """Read what was not read yet, and handle what is late; or die before that."""
        fresh = [event for event in self.buffer.values() if event.id not in self.read]
        self.random.shuffle(fresh)
        late = []
        for event in fresh:
            self.read.add(event.id)
            self.since.setdefault(event.id, self.progress)
            self.watermark = max(self.watermark, event.time - self.lateness)
            if not self.shelf.add(event):
                late.append(event)
        if crash:
            self.restart()
        else:
            self._lose(late)

    def restart(self) -> None:
        """The process died; another one makes the shelf again, reading in any order."""
        self.shelf = self.make(progress=self.progress)
        self.read.clear()
        self.look()

    def cut(self, most: int = 10**9, crash: str = '') -> int:
        """Cut what is due; die before or after it, if asked to, or *half* way.

        Where there are no transactions, what belongs to no window is removed last.
        """
        panes = list(islice(self.shelf.due(self.watermark, self.now), most))
        due = self.shelf.next_due()
        deadline = self.shelf.next_deadline()
        over = (due is not None and due <= self.watermark) or (deadline is not None and deadline <= self.now)
        assert bool(panes) == over, 'it would be asked too late, or in vain'
        if crash == 'before':
            self.restart()
            return len(panes)
        members = {event.id for pane in panes for event in (*pane.events, *pane.late)}
        for pane in panes:
            self._commit(pane, members if crash == 'half' else None)
        if crash in ('after', 'half'):
            self.restart()
            return len(panes)
        for pane in panes:
            self.shelf.close(pane)
        return len(panes)

    def finish(self) -> None:
        """All time passes."""
        self.look()
        self.watermark = self.now = END
        while self.cut(7):
            pass

    def early(self) -> list[Pane]:
        """What is handed out before its time."""
        panes = list(self.shelf.early())
        for pane in panes:
            assert not pane.final
            assert not pane.gone
            self.shelf.close(pane)
        return panes

    @property
    def windows(self) -> list[Cut]:
        """All windows, in a fixed order; each was cut once."""
        assert len(set(self.cuts)) == len(self.cuts)
        return sorted(self.cuts)

    @property
    def members(self) -> list[bytes]:
        """The members of all windows, as often as they are in one."""
        return [each for _, _, _, members in self.cuts for each in members]

    def _commit(self, pane: Pane, only: set[bytes] | None = None) -> None:
        gone = {event.id for event in pane.gone}
        assert len(gone) == len(pane.gone)
        assert pane.mark >= self.progress, 'progress goes back'
        assert {event.id for event in (*pane.events, *pane.gone)} <= set(self.buffer), 'no longer in the buffer'
        assert {event.id for event in pane.late} <= gone
        assert pane.final
        self.progress = pane.mark
        if pane.events:
            self.cuts.append((pane.start, pane.end, pane.slot, tuple(event.id for event in pane.events)))
        for event in pane.held:
            assert event in pane.events
            assert event.id not in gone
            self.buffer[event.id] = self.buffer[event.id]._replace(held=True)
        self._lose(pane.late)
        for each in gone if only is None else gone & only:
            self.buffer.pop(each, None)

    def _lose(self, late: Any) -> None:
        for event in late:
            if not self.buffer.pop(event.id).held:  # who has been in a window is not late
                self.late.append(event.id)
