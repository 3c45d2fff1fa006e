"""What strategies have in common that look into messages: where time and key are, how late a message may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minibatch.coerce import UNKNOWN, plain
from minibatch.errors import OptionError
from minibatch.window.event import Event, Unplaceable, finder, slot_of, time_of
from minibatch.window.shelf import Mark, Shelf
from minibatch.window.spans import microseconds
from minibatch.window.watermark import ClockMark, Watermark

#: Seconds that event time stays behind the clock while no message comes: those being appended need a moment.
IDLE = 0.2
#: Seconds that a message's time may be ahead of the time at which it was appended.
MAX_AHEAD = 3600.0
#: Keys that are remembered, so that equal ones are one object.
MOST_SLOTS = 200_000
#: The options that make a time window look into messages.
PLACING = ('time', 'key', 'lateness', 'offset', 'timezone', 'early', 'late', 'max_ahead', 'idle', 'watermark')


@dataclass(frozen=True, kw_only=True)
class Placing:
    """How one strategy places messages in windows.

    :ivar shelf: makes the shelf for a stream that has been cut up to a mark
    :ivar numbers: what must stay the same while windows are open: an interval, a field
    """

    shelf: Callable[[Mark], Shelf]
    numbers: Mapping[str, Any]
    time: Callable[[Any], Any] | None = None
    key: Callable[[Any], Any] | None = None
    when: Callable[[Any], Any] | None = None
    right: Callable[[Any], Any] | None = None
    lateness: int = 0
    idle: int | None = 0
    max_ahead: int | None = None
    late: str | Callable[..., Any] = 'dead'
    early: int | None = None
    by_key: bool = False
    _slots: dict[str, tuple[str, bytes]] = field(default_factory=dict, compare=False, repr=False)

    def watermark(self, stored: Mapping[str, Any] | None = None) -> Watermark:
        """A watermark that goes on from where it was."""
        cls = Watermark if self.time is not None else ClockMark
        return cls(self.lateness, self.idle, dict(stored or {}))

    @property
    def reads(self) -> bool:
        """Whether messages have to be decoded to be placed."""
        return not (self.time is None and self.key is None and self.when is None and self.right is None)

    def event(self, id_: bytes, created: int, size: int, data: Any, held: bool = False) -> Event:
        """Place one message.

        :param data: what the message holds; not looked at unless :attr:`reads`
        :raises Unplaceable: it belongs to no window
        """
        time, key, slot, closes = created, None, b'', False
        if self.time is not None:
            time = self._time(data)
            if self.max_ahead is not None and time - created > self.max_ahead:
                raise Unplaceable(f'its time is {(time - created) / 1e6:.0f} s ahead of the time at which it was '
                                  f'appended, more than max_ahead={self.max_ahead / 1e6:g}')
        if self.key is not None:
            key, slot = self._key(data)
        if self.when is not None:
            closes = bool(_called(self.when, data, 'when'))
        right = self.right is not None and bool(_called(self.right, data, 'right'))
        # As Event(...), in half the time.
        return tuple.__new__(Event, (time, id_, created, key, slot, size, closes, right, held))

    def _time(self, data: Any) -> int:
        assert self.time is not None
        value = _called(self.time, data, 'time')
        try:
            return time_of(value)
        except ValueError as error:
            raise Unplaceable(f'{self.numbers.get("time", "time")}: {error}') from None

    def _key(self, data: Any) -> tuple[Any, bytes]:
        assert self.key is not None
        key = _called(self.key, data, 'key')
        if type(key) is str:
            known = self._slots.get(key)
            if known is None:
                if len(self._slots) >= MOST_SLOTS:
                    self._slots.clear()
                known = self._slots[key] = (key, slot_of(key))
            return known  # one object for each key, and not one for each message
        if type(key).__module__ != 'builtins':  # such as numpy's, which a function may return
            converted = plain(key)
            key = key if converted is UNKNOWN else converted
        slot = slot_of(key)
        return tuple(key) if isinstance(key, list) else key, slot


def _called(function: Callable[[Any], Any], data: Any, option: str) -> Any:
    try:
        return function(data)
    except Unplaceable:
        raise
    except Exception as error:
        raise Unplaceable(f'{option}= raised {type(error).__name__}: {error}') from error


def placing(shelf: Callable[[Mark], Shelf], numbers: Mapping[str, Any], *, time: Any = None, key: Any = None,
            when: Any = None, right: Any = None, lateness: Any = None, idle: Any = IDLE, max_ahead: Any = MAX_AHEAD,
            late: Any = None, early: Any = None, watermark: Any = None) -> Placing:
    """Check options as users give them, in seconds.

    :param shelf: makes the strategy's shelf
    :param numbers: the strategy's own, to be stored with the stream
    :param time: dotted path of the time in a message, or a function of the message (default: when it was appended)
    :param key: dotted path of the key, a function, or a list of these (default: not keyed)
    :param when: function of a message: whether it closes its batch
    :param right: dotted path, or function of a message: whether it is on the right side of a join
    :param lateness: seconds that a window waits for messages of earlier times
    :param idle: seconds that event time stays behind the clock while no message comes; ``None``: it stands still
    :param max_ahead: seconds that a message may be ahead of the time at which it was appended; ``None``: any
    :param late: what becomes of a message whose window was cut: ``'dead'``, ``'drop'``, ``'update'`` or a function
    :param early: seconds after which windows that have grown are handed out before they are over
    :param watermark: ``'stream'`` or ``'key'``
    :raises OptionError: they cannot be
    """
    if isinstance(time, (list, tuple)):
        raise OptionError(f'time must be a dotted field path or a function of the message, not {time!r}')
    if time is None:
        for option, value in (('lateness', lateness), ('late', late)):
            if value is not None and value != 0:
                raise OptionError(f'{option}= goes with time=: by the time of its append no message is late')
    if watermark not in (None, 'stream', 'key'):
        raise OptionError(f"watermark must be 'stream' or 'key', not {watermark!r}")
    if watermark == 'key' and (key is None or time is None):
        raise OptionError("watermark='key' goes with time= and key=: it has one watermark for each key")
    if not (late in (None, 'dead', 'drop', 'update') or callable(late)):
        raise OptionError("late must be 'dead', 'drop', 'update' or a function of (messages, start, end, key), "
                          f'not {late!r}')
    if when is not None and not callable(when):
        raise OptionError(f'when must be a function of a message, not {when!r}')
    fixed = {**numbers, 'time': described(time), 'key': described(key), 'watermark': watermark or 'stream'}
    return Placing(
        shelf=shelf, numbers=fixed, time=None if time is None else finder(time, 'time'),
        key=None if key is None else finder(key, 'key'), when=when,
        right=None if right is None else finder(right, 'right'),
        lateness=microseconds(lateness or 0, 'lateness'), idle=None if idle is None else microseconds(idle, 'idle'),
        max_ahead=None if max_ahead is None else microseconds(max_ahead, 'max_ahead'), late=late or 'dead',
        early=None if early is None else microseconds(early, 'early', 0.01), by_key=watermark == 'key')


def described(value: Any) -> Any:
    """An option that is a path or a function as it is stored: two functions of one name count as the same one."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return [described(each) for each in value]
    return f'{getattr(value, "__qualname__", type(value).__name__)}()'
