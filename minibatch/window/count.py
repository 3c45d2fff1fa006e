"""Windows of a fixed number of messages, with an optional deadline."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from minibatch.errors import OptionError
from minibatch.order import Order
from minibatch.window.base import Decision, View, WindowEmitter


class CountWindow(WindowEmitter):
    """Exactly *size* messages; with *within*, fewer once the first of them has waited that long.

    The deadline counts from the append of the first message, which is stored with it, and so outlives any crash.

    :param size: messages in each window (``interval`` in programs for the original)
    :param within: seconds that the first message may wait for the others (default: without limit)

    >>> from datetime import datetime
    >>> from minibatch.models import Stream
    >>> window = CountWindow(Stream(name='clicks'), size=2)
    >>> window.decide(View(now=datetime(2026, 1, 1), count=1)).orders
    ()
    >>> window.decide(View(now=datetime(2026, 1, 1), count=2)).orders[0].size
    2
    """

    def __init__(self, *args: Any, size: int | None = None, within: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        size = self.interval if size is None else size
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise OptionError(f'size must be a whole number of messages, 1 or more, not {size!r}')
        full = self.stream.max_backlog
        if full is not None and full < size and within is None:
            raise OptionError(f'stream {self.stream_name!r} holds producers up at max_backlog={full}, so a window of '
                              f'size={size} would never be full: raise the one, lower the other, or add within=')
        self.size = self.interval = size
        self.within = within

    def need(self) -> int:
        """Count as far as one window needs."""
        return self.size

    def decide(self, view: View) -> Decision:
        """Cut as many full windows as may be; a shorter one when its first message has waited long enough."""
        if view.count >= self.size:
            return Decision([Order(size=self.size, most=view.most)], view.now)
        if self.within is None or view.oldest is None:
            return Decision()
        due = view.oldest + timedelta(seconds=self.within)
        if self.within and view.now < due:
            return Decision(ask_at=due)
        return Decision([Order(size=self.size, partial=True)], view.now)
