"""Which windows of a windowed table a time is in, and what time it is: of a message, of the stream, of the clock.

Times are whole microseconds since the epoch, so that a window's edge falls between two messages in the same way each
time. Windows are ``[start, end)`` and begin at multiples of their step.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minibatch.clock import SECOND, micros
from minibatch.errors import OptionError, TableError
from minibatch.scope import Scope
from minibatch.window.event import Unplaceable, time_of

_TIME = struct.Struct('q')


@dataclass(frozen=True, slots=True)
class Spans:
    """Windows of one size, one each step.

    :ivar size: microseconds
    :ivar step: microseconds

    >>> Spans(60, 10).around(125), Spans(60, 60).around(125)
    ([120, 110, 100, 90, 80, 70], [120])
    """

    size: int
    step: int

    def around(self, time: int) -> list[int]:
        """The starts of the windows that *time* is in, the latest one first."""
        return list(range(self.latest(time), time - self.size, -self.step))

    def latest(self, time: int) -> int:
        """The start of the latest window that *time* is in."""
        return time // self.step * self.step


def spans(size: Any, step: Any) -> Spans:
    """Windows of *size* seconds, one each *step* seconds.

    :raises OptionError: there are no such windows
    """
    for what, value in (('size', size), ('step', step)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1e-6 <= value < 1e10:
            raise OptionError(f'{what} must be a number of seconds, more than 0, not {value!r}')
    made = Spans(round(size * SECOND), round(step * SECOND))
    if made.step > made.size:
        raise OptionError(f'step={step!r} is more than size={size!r}: what is in between would be in no window')
    if made.size // made.step > 10_000:
        raise OptionError(f'step={step!r} puts each message into {made.size // made.step:,} windows, more than '
                          '10,000')
    return made


def of_message(inside: Scope, find: Callable[[Any], Any] | None, field: str) -> int:
    """The time of the message that a window function is at.

    It is at a message while it iterates over its window: ``for message in window``. Otherwise the time is that of the
    window's end.

    :param find: what finds the time in the message; ``None``: the time at which it was appended
    :raises TableError: there is no such time
    """
    batch = inside.batch
    at = batch._at
    if find is not None:
        if at is None:
            raise TableError(f'the time is in field {field!r} of the message, and there is none: iterate over the '
                             'window itself, with "for message in window"')
        try:
            return time_of(find(batch.data[at]))
        except (Unplaceable, ValueError) as error:
            raise TableError(f'message {at} of window {batch.id} has no time in field {field!r}: {error}') from None
    if at is not None and len(batch._times) >= 8 * (at + 1):
        (milliseconds,) = _TIME.unpack_from(batch._times, 8 * at)
        return int(milliseconds) * 1000
    return max(micros(batch.start), micros(batch.end) - 1)


def appended(inside: Scope) -> int:
    """When the message was appended that a window function is at; or the window's last one."""
    batch = inside.batch
    if len(batch._times) >= 8:
        at = len(batch._times) // 8 - 1 if batch._at is None else batch._at
        return int(_TIME.unpack_from(batch._times, 8 * min(at, len(batch._times) // 8 - 1))[0]) * 1000
    return micros(batch.end)
