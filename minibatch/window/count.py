"""Windows of a number of messages, with an optional deadline; for each key, of so many bytes, up to one that closes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from minibatch.errors import OptionError
from minibatch.order import Order
from minibatch.window.base import Decision, View, WindowEmitter
from minibatch.window.batching import CountShelf
from minibatch.window.placing import described, placing
from minibatch.window.spans import microseconds


class CountWindow(WindowEmitter):
    """Exactly *size* messages; with *within*, fewer once the first of them has waited that long.

    The deadline counts from the append of the first message, which is stored with it, and so outlives any crash.

    :param size: messages in each window (``interval`` in programs for the original)
    :param within: seconds that the first message may wait for the others (default: without limit)

    With any of the following it looks into messages, and *size* may be left out. A window is cut as soon as one of
    the conditions holds.

    :param key: dotted path of the key, a function, or a list of these: each key fills windows of its own
    :param when: function of a message: whether a window ends with it
    :param bytes: a window ends before its messages are more than so many bytes of BSON; one that is larger by itself
        is a window alone
    :param early: seconds after which windows that have grown are handed out with ``final`` false

    >>> from datetime import datetime
    >>> from minibatch.models import Stream
    >>> window = CountWindow(Stream(name='clicks'), size=2)
    >>> window.decide(View(now=datetime(2026, 1, 1), count=1)).orders
    ()
    >>> window.decide(View(now=datetime(2026, 1, 1), count=2)).orders[0].size
    2
    """

    def __init__(self, *args: Any, size: int | None = None, within: float | None = None, key: Any = None,
                 when: Callable[[Any], Any] | None = None, bytes: int | None = None,  # noqa: A002 (the option's name)
                 early: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        size = self.interval if size is None else size
        if not (size is None and (when is not None or bytes is not None)):
            _check_number(size, 'size', 'messages')
        full = self.stream.max_backlog
        if full is not None and size is not None and full < size and within is None:
            raise OptionError(f'stream {self.stream_name!r} holds producers up at max_backlog={full}, so a window of '
                              f'size={size} would never be full: raise the one, lower the other, or add within=')
        self.size = self.interval = size
        self.within = within
        if (key, when, bytes, early) != (None, None, None, None):
            self._place(bytes, key, when, early)

    def _place(self, most: int | None, key: Any, when: Any, early: Any) -> None:
        if most is not None:
            _check_number(most, 'bytes', 'bytes')
        if self.emit_empty:
            raise OptionError('emit_empty= is for intervals that follow one another; a CountWindow has only windows '
                              'with messages')
        size, wait = self.size, None if self.within is None else microseconds(self.within, 'within')
        self.placing = placing(
            lambda progress: CountShelf(size, most, wait, named=early is not None, progress=progress),
            {'strategy': 'count', 'size': size, 'bytes': most, 'within': wait, 'when': described(when)},
            key=key, when=when, early=early)

    def need(self) -> int:
        """Count as far as one window needs."""
        return self.size or 1

    def decide(self, view: View) -> Decision:
        """Cut as many full windows as may be; a shorter one when its first message has waited long enough."""
        if view.count >= self.need():
            return Decision([Order(size=self.size, most=view.most)], view.now)
        if self.within is None or view.oldest is None:
            return Decision()
        due = view.oldest + timedelta(seconds=self.within)
        if self.within and view.now < due:
            return Decision(ask_at=due)
        return Decision([Order(size=self.size, partial=True)], view.now)


def _check_number(value: Any, option: str, unit: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionError(f'{option} must be a whole number of {unit}, 1 or more, not {value!r}')
