"""What the strategies have in common that go by the time and the key in a message, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from minibatch.errors import OptionError
from minibatch.window.base import Decision, View, WindowEmitter
from minibatch.window.placing import IDLE, MAX_AHEAD, placing
from minibatch.window.shelf import Mark, Shelf
from minibatch.window.spans import microseconds


class PlacedWindow(WindowEmitter):
    """A strategy that looks into messages (``docs/design/event-time.md``); the base of those that always do.

    :param time: dotted path of the time in a message, or a function of the message (default: when it was appended). A
        datetime, seconds since the epoch, or ISO 8601; without a zone it is UTC
    :param key: dotted path of the key, a function, or a list of these: each key has windows of its own
    :param lateness: seconds that a window waits for messages of earlier times (default: 0)
    :param late: what becomes of a message that came when its window had been cut: ``'dead'`` (default): a dead
        window, which can be redriven; ``'drop'``: it is removed, and counted; or a function of (messages, start, end,
        key)
    :param max_ahead: seconds that a message's time may be ahead of its append before it becomes a dead letter (default:
        3600; ``None``: any)
    :param idle: seconds that event time stays behind the clock while no message comes (default: 0.2; ``None``: it
        stands still)
    :param watermark: ``'key'``: each key has a watermark of its own (default: ``'stream'``)
    """

    WATCH: ClassVar[bool] = False

    def __init__(self, *args: Any, time: Any = None, key: Any = None, lateness: Any = None, late: Any = None,
                 max_ahead: Any = MAX_AHEAD, idle: Any = IDLE, watermark: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.emit_empty:
            raise OptionError(f'emit_empty= is for intervals that follow one another; a {type(self).__name__} has only '
                              'windows with messages')
        self._common = {'time': time, 'key': key, 'lateness': lateness, 'late': late, 'max_ahead': max_ahead,
                        'idle': idle, 'watermark': watermark}

    def _place(self, shelf: Callable[[Mark], Shelf], numbers: Mapping[str, Any], **options: Any) -> None:
        """Say how messages are placed.

        :param shelf: makes the strategy's shelf
        :param numbers: the strategy's own numbers, which have to stay the same while windows are open
        """
        if self._common['late'] == 'update':
            raise OptionError(f"late='update' is for intervals that follow one another: in a {type(self).__name__} a "
                              "late message is also in the windows that are still open; 'dead' and 'drop' go with it")
        self.placing = placing(shelf, numbers, **self._common, **options)

    def decide(self, view: View) -> Decision:
        """Not asked: what is due says the shelf."""
        raise NotImplementedError(f'a {type(self).__name__} does not decide from counts and times of appends')


def duration(value: Any, option: str, strategy: str, example: str) -> int:
    """Check an option that a strategy cannot be without: seconds, a millisecond or more.

    :return: microseconds
    :raises OptionError: it is missing, or no such number

    >>> duration(0.5, 'gap', 'SessionWindow', 'gap=30')
    500000
    """
    if value is None:
        raise OptionError(f'a {strategy} needs {option}=, a number of seconds: {example}')
    return microseconds(value, option, 0.001)
