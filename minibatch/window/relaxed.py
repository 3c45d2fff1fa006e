"""Every so many seconds, whatever is there."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from minibatch.errors import OptionError
from minibatch.order import Order
from minibatch.window.base import Decision, View, WindowEmitter
from minibatch.window.placing import placing
from minibatch.window.spans import microseconds
from minibatch.window.ticks import TickShelf


class RelaxedTimeWindow(WindowEmitter):
    """Every *interval* seconds, all messages that came since the last window.

    A message is in the next window after it became visible, whenever it was created; so nothing can come too late.
    Without messages there is no window, unless ``emit_empty`` is set.

    :param interval: seconds between two windows
    :param key: dotted path of a key, a function of the message, or a list of these: a window for each key that has
        messages

    >>> from datetime import datetime
    >>> from minibatch.models import Stream
    >>> window = RelaxedTimeWindow(Stream(name='clicks'), interval=10)
    >>> view = View(now=datetime(2026, 1, 1, 0, 0, 4), count=1, last_read=datetime(2026, 1, 1))
    >>> window.decide(view).ask_at
    datetime.datetime(2026, 1, 1, 0, 0, 10)
    """

    WATCH: ClassVar[bool] = False

    def __init__(self, *args: Any, key: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.interval = seconds_of(self.interval)
        if key is not None:
            if self.emit_empty:
                raise OptionError('emit_empty= goes without key=: nobody knows which keys there are')
            step = microseconds(self.interval, 'interval')
            self.placing = placing(lambda progress: TickShelf(step, progress),
                                   {'strategy': 'relaxed', 'interval': step}, key=key)
        self._begin: datetime | None = None

    def decide(self, view: View) -> Decision:
        """Cut when the interval is over; the first one begins with the first message, or now."""
        step = timedelta(seconds=self.interval)
        self._begin = min(self._begin or view.now, view.oldest or view.now)
        start = view.last_read or self._begin
        due = start + step
        if view.now < due:
            return Decision(ask_at=due)
        if not view.count and not self.emit_empty:
            return Decision(ask_at=view.now + step)
        return Decision([Order(size=None, start=start, end=view.now, advance=view.now, empty=bool(self.emit_empty))],
                        view.now + step)


def seconds_of(interval: Any) -> float:
    """Check an interval: seconds, a millisecond or more.

    :raises OptionError: it is not
    """
    if isinstance(interval, bool) or not isinstance(interval, (int, float)) or not 0.001 <= interval < float('inf'):
        raise OptionError(f'interval must be a number of seconds, 0.001 or more, not {interval!r}')
    return float(interval)
