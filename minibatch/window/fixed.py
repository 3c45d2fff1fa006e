"""Half-open intervals of a fixed length, aligned to the epoch."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from minibatch.clock import EPOCH
from minibatch.errors import OptionError
from minibatch.order import Order
from minibatch.window.base import Decision, View, WindowEmitter
from minibatch.window.relaxed import seconds_of


class FixedTimeWindow(WindowEmitter):
    """The messages created in ``[start, end)``, for each interval of *interval* seconds, in order, empty ones too.

    Intervals are aligned to the epoch, in whole milliseconds. One is cut *grace* seconds after its end, so that a
    message whose insert took a moment is still in it. A message that becomes visible even later is not lost: it is
    emitted at once, in a further window with the start and end of the interval that it belongs to.

    :param interval: length of the intervals in seconds
    :param grace: seconds that an interval waits for late inserts after its end (default: a fifth of the interval, one
        second at the most)

    >>> from minibatch.models import Stream
    >>> window = FixedTimeWindow(Stream(name='clicks'), interval=10, grace=0)
    >>> order = window.decide(View(now=datetime(2026, 1, 1, 0, 0, 13), oldest=datetime(2026, 1, 1, 0, 0, 7))).orders[0]
    >>> order.start.second, order.end.second
    (0, 10)
    """

    WATCH: ClassVar[bool] = False

    def __init__(self, *args: Any, grace: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.interval = seconds_of(self.interval)
        if grace is not None and (isinstance(grace, bool) or not isinstance(grace, (int, float)) or grace < 0):
            raise OptionError(f'grace must be a number of seconds, 0 or more, not {grace!r}')
        self.grace = min(self.interval / 5, 1.0) if grace is None else float(grace)
        self._step = timedelta(milliseconds=round(self.interval * 1000))  # what MongoDB's times can tell apart
        self._begin: datetime | None = None

    def aligned(self, at: datetime) -> datetime:
        """The start of the interval that *at* is in."""
        return at - (at - EPOCH) % self._step

    def decide(self, view: View) -> Decision:
        """Cut late messages' intervals first, then the next interval if it is over."""
        if view.late is not None and view.last_read is not None:
            start = self.aligned(view.late)
            return Decision([self._order_for(start, start + self._step, view.last_read, empty=False)], view.now)
        self._begin = min(self._begin or view.now, view.oldest or view.now)
        start = self.aligned(view.last_read or self._begin)
        if self.emit_empty is False and not view.count:
            return Decision(ask_at=max(view.now, start + self._step) + self._step / 2)
        if self.emit_empty is False and view.oldest is not None:
            start = max(start, self.aligned(view.oldest))
        due = start + self._step + timedelta(seconds=self.grace)
        if view.now < due:
            return Decision(ask_at=due)
        end = start + self._step
        return Decision([self._order_for(start, end, end, empty=self.emit_empty is not False)], view.now)

    def _order_for(self, start: datetime, end: datetime, advance: datetime, *, empty: bool) -> Order:
        return Order(size=None, since=start, until=end, start=start, end=end, advance=advance, empty=empty)
