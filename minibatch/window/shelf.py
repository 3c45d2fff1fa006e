"""What a strategy that looks into messages is made of: a shelf, on which open windows stand until they are due.

Messages stay in the buffer, free, while their window is open. A shelf is only an index of them in the memory of the
consumer that leads: pure, without clock or database, and made anew from the buffer by whoever leads next. So its
answers may depend on nothing but the events that it was given (in any order) and on the progress it was made with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from minibatch.window.event import Event

#: How far a stream has been cut: totally ordered, and storable (integers and bytes). Empty: nothing was cut yet.
Mark = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Pane:
    """A window that is due.

    :ivar start: in microseconds since the epoch
    :ivar end: likewise; exclusive
    :ivar key: the key that its messages share, as the user sees it
    :ivar slot: the canonical bytes of the key
    :ivar events: its members, in order of time and id; of a join the left one first. Empty: there is no window to cut,
        but ``gone`` leaves the buffer, ``late`` is treated as late, and the mark is stored, as with a window
    :ivar gone: events that no later window needs: they leave the buffer with this cut; members or not
    :ivar mark: the progress once this is cut; what is not after it, is cut. ``()``: nothing can be late
    :ivar name: what follows the stream's name in the window's id (:func:`~minibatch.window.event.span_name`), the same
        for whoever cuts it; ``None``: the window has a number
    :ivar final: ``False`` if it is handed out early and will come again
    :ivar held: members that stay in the buffer for later windows, and have been in none before: it is noted with them
        (:attr:`Event.held`), in the same transaction, that they were in one
    :ivar late: those of ``gone`` that were in no window and never will be; to be treated as those that
        :meth:`Shelf.add` refuses
    """

    start: int
    end: int
    key: Any
    slot: bytes
    events: Sequence[Event]
    gone: Sequence[Event]
    mark: Mark = ()
    name: str | None = None
    final: bool = True
    held: Sequence[Event] = ()
    late: Sequence[Event] = ()


class Shelf(Protocol):
    """The open windows of one strategy; a pure state machine.

    Made with the progress that was stored with the last cut: ``()`` at first.
    """

    def add(self, event: Event) -> bool:
        """Put a message where it belongs; ``False`` if it is late: a window that it belongs to was cut.

        Late by progress, not by the watermark, so that reading the same message after a crash gives the same answer.
        What is late for some of its windows (hopping, sliding) and not for others, is added to the others.
        """

    def missed(self, event: Event) -> tuple[int, int]:
        """Start and end of the window that a late event (:meth:`add` said ``False``) was too late for; the last one."""

    def due(self, watermark: int, now: int) -> Iterator[Pane]:
        """The windows that are over, in order of their marks; lazily, and without changing the shelf.

        :param watermark: how far event time is complete: a window is over when ``end <= watermark``
        :param now: the server's time, for deadlines such as ``within=``
        """

    def close(self, pane: Pane) -> None:
        """The first pane of :meth:`due` was cut: forget it, and advance the progress.

        One that is not final was handed out by :meth:`early`: remember how many events it had.
        """

    def next_due(self) -> int | None:
        """The watermark at which the next window is over; ``None``: none is open."""

    def next_deadline(self) -> int | None:
        """The time (of the server) at which the next deadline is over; ``None``: there is none."""

    def early(self) -> Iterator[Pane]:
        """Open windows as they are, not final, that have more events than when they were last closed so; lazily.

        Nothing is ``gone``, and the mark is ``()``: they will come again.
        """

    def __len__(self) -> int:
        """How many windows are open."""
