"""Half-open intervals of a fixed length, aligned to the epoch."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from minibatch.clock import EPOCH
from minibatch.errors import OptionError
from minibatch.order import Order
from minibatch.window.base import Decision, View, WindowEmitter
from minibatch.window.placing import IDLE, MAX_AHEAD, placing
from minibatch.window.relaxed import seconds_of
from minibatch.window.spans import spans
from minibatch.window.tumbling import TumblingShelf


class FixedTimeWindow(WindowEmitter):
    """The messages created in ``[start, end)``, for each interval of *interval* seconds, in order, empty ones too.

    Intervals are aligned to the epoch, in whole milliseconds. One is cut *grace* seconds after its end, so that a
    message whose insert took a moment is still in it. A message that becomes visible even later is not lost: it is
    emitted at once, in a further window with the start and end of the interval that it belongs to.

    :param interval: length of the intervals in seconds
    :param grace: seconds that an interval waits for late inserts after its end (default: a fifth of the interval, one
        second at the most)

    With any of the following it goes by what is in the messages instead (``docs/design/event-time.md``): one window
    for each interval and key that has messages, once the watermark has passed its end.

    :param time: dotted path of the time in a message, or a function of the message (default: when it was appended). A
        datetime, seconds since the epoch, or ISO 8601; without a zone it is UTC
    :param key: dotted path of the key, a function, or a list of these: a window for each key
    :param lateness: seconds that a window waits for messages of earlier times (default: 0)
    :param offset: seconds from the epoch to the start of an interval (default: 0)
    :param timezone: name of a time zone: intervals of whole days, by the clocks there
    :param late: what becomes of a message whose window was cut: ``'dead'`` (default): a dead window, which can be
        redriven; ``'drop'``: it is removed, and counted; ``'update'``: its window comes again, with ``revision`` one
        higher; or a function of (messages, start, end, key)
    :param early: seconds after which windows that have grown are handed out with ``final`` false
    :param max_ahead: seconds that a message's time may be ahead of its append before it becomes a dead letter (default:
        3600; ``None``: any)
    :param idle: seconds that event time stays behind the clock while no message comes (default: 0.2; ``None``: it
        stands still)
    :param watermark: ``'key'``: each key has a watermark of its own (default: ``'stream'``)

    >>> from minibatch.models import Stream
    >>> window = FixedTimeWindow(Stream(name='clicks'), interval=10, grace=0)
    >>> order = window.decide(View(now=datetime(2026, 1, 1, 0, 0, 13), oldest=datetime(2026, 1, 1, 0, 0, 7))).orders[0]
    >>> order.start.second, order.end.second
    (0, 10)
    """

    WATCH: ClassVar[bool] = False

    def __init__(self, *args: Any, grace: float | None = None, time: Any = None, key: Any = None, lateness: Any = None,
                 offset: Any = None, timezone: Any = None, late: Any = None, early: Any = None,
                 max_ahead: Any = MAX_AHEAD, idle: Any = IDLE, watermark: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.interval = seconds_of(self.interval)
        if grace is not None and (isinstance(grace, bool) or not isinstance(grace, (int, float)) or grace < 0):
            raise OptionError(f'grace must be a number of seconds, 0 or more, not {grace!r}')
        self.grace = min(self.interval / 5, 1.0) if grace is None else float(grace)
        self._step = timedelta(milliseconds=round(self.interval * 1000))  # what MongoDB's times can tell apart
        self._begin: datetime | None = None
        given = {name: value for name, value in (
            ('time', time), ('key', key), ('lateness', lateness), ('late', late), ('early', early),
            ('watermark', watermark), ('offset', offset), ('timezone', timezone)) if value is not None}
        if not given:
            if max_ahead != MAX_AHEAD or idle != IDLE:
                raise OptionError('max_ahead= and idle= go with time=')
            return
        if grace is not None:
            raise OptionError(f'grace= is for intervals of append time; with {", ".join(given)}= it is idle= that says '
                              'how long to wait for appends, and lateness= for messages')
        if self.emit_empty and key is not None:
            raise OptionError('emit_empty= goes without key=: nobody knows which keys there are')
        intervals, empty = spans(self.interval, given.pop('offset', None), given.pop('timezone', None)), self.emit_empty
        numbers = {'strategy': 'tumbling', 'interval': intervals.length, 'offset': intervals.offset,
                   'timezone': None if timezone is None else str(timezone)}
        self.placing = placing(lambda progress: TumblingShelf(intervals, progress, empty=bool(empty)), numbers,
                               max_ahead=max_ahead, idle=idle, **given)

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
