"""The way into a stream that every source takes: in bulk, together with the position, each message exactly once.

A source reads from outside and hands over what it gets. The inlet decodes it, checks it, and stores it in a thread of
its own, many messages at a time, in one transaction with the position behind them. What cannot be read becomes a dead
letter (``stream.dead`` lists it) and stops nothing. Then it tells the source what is durable, to be acknowledged.

This is a whole source, of a queue whose entries are numbered and stay there until they are acknowledged:

>>> class QueueSource:
...     def __init__(self, queue, name='queue'):
...         self.queue, self.name, self.cancelled = queue, name, threading.Event()
...     def stream(self, stream):
...         with Inlet(stream, self.name, codec='json', cancelled=self.cancelled) as inlet:
...             persist(lambda up: self.session(inlet, up), 'QueueSource', cancelled=self.cancelled, on=(OSError,))
...     def session(self, inlet, up):
...         position = inlet.open()                     # what is in the stream already, for sure
...         entries = self.queue.connect(after=position)
...         up()                                        # connected: the next outage starts with a short wait
...         for number, raw in entries:
...             if self.cancelled.is_set():
...                 break
...             inlet.add(raw, number)                  # waits while the stream is full or MongoDB away
...             self.acknowledge(inlet.durable())       # never blocks
...         inlet.flush()
...         self.acknowledge(inlet.durable())
...     def acknowledge(self, done):
...         for durable in done:
...             self.queue.done(upto=durable.positions[''])
...     def cancel(self):
...         self.cancelled.set()
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any

from minibatch.contrib.intake import NOWHERE, Durable, Intake, Item, Part
from minibatch.contrib.reading import Reader
from minibatch.contrib.reconnect import GRACE, Stopped
from minibatch.errors import OptionError, PositionMoved

__all__ = ['Durable', 'Inlet', 'Stopped']
class Inlet:
    """Appends to a stream what a source reads. Any number of threads may add; one thread stores.

    :param stream: the :class:`minibatch.Stream` that ``Source.stream`` was given
    :param name: of the source: together with the stream it names the stored positions, so it must stay the same from
        run to run, and differ between sources of one stream. ``None`` stores no positions: for what cannot be read
        twice anyway.
    :param codec: name of a codec, or an object with ``decode(bytes)`` (:mod:`minibatch.contrib.codecs`); ``None`` if
        what is added are messages already
    :param schema: what a message has to fit (:mod:`minibatch.contrib.schemas`); ``None`` for anything
    :param shape: ``shape(decoded, meta)`` makes the message of what was decoded and of the *meta* it was added with; by
        default it is what was decoded, and ``{'value': decoded}`` if that is no mapping
    :param size: most messages stored at once (a batch is also limited to about 4 MB)
    :param linger: seconds that a message waits for others at the most
    :param recents: how many keys of recent messages each part remembers (see :meth:`seen`)
    :param cancelled: the source's own event; when it is set, all waiting ends
    :param replays: whether upstream brings again what was not acknowledged. If not, a cancelled inlet stores what it
        has in hand even into a full stream.
    """

    def __init__(self, stream: Any, name: str | None, *, codec: Any = None, schema: Any = None,
                 shape: Callable[[Any, Any], Any] | None = None, size: int = 1000, linger: float = 0.05,
                 recents: int = 1000, cancelled: threading.Event | None = None, replays: bool = True) -> None:
        _check(name, size, linger, recents)
        self.stream, self.name = stream, name
        self._size, self._linger, self._recents = size, linger, recents
        self._cancelled = cancelled or threading.Event()
        self._intake = Intake(stream, name, _reader(codec, schema, shape), self._cancelled, replays)
        self._owner = uuid.uuid4().hex
        self._news = threading.Condition()  # guards what follows
        self._parts: dict[str, Part] = {}
        self._hand: deque[Item] = deque()
        self._since = self._end = 0.0
        self._rush = self._closed = self._busy = self._lost = False
        self._opening: str | None = None
        self._opened: dict[str, Part] = {}
        self._durable: list[Durable] = []
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    # -- what a source calls

    def open(self, part: str = '') -> Any:
        """Begin to read a part, or begin again after an outage: where to go on.

        What was added before is stored first, so the position is that of the last message which is in the stream.
        While MongoDB is away it waits.

        :param part: of the source: a partition, a file; a source that has no such parts has the one called ``''``
        :return: the position stored with the last message; ``None`` if there is none yet
        :raises Stopped: the source was cancelled meanwhile
        :raises OptionError: the inlet has no name, and so no positions
        """
        if self.name is None:
            raise OptionError('an inlet without a name has no positions: give it the name of the source')
        if self._parts and not self.flush():
            raise Stopped
        with self._news:
            self._opening, self._lost = part, False
            self._opened.pop(part, None)
            self._start()
            while part not in self._opened:
                if self._cancelled.is_set() or self._closed:
                    self._opening = None
                    raise Stopped
                self._news.wait(0.1)
                self._raise()
            self._parts[part] = self._opened.pop(part)
            return self._parts[part].position

    def seen(self, key: Any, part: str = '') -> bool:
        """Whether a message with this key was added lately: for sources whose redeliveries have no position.

        It remembers the last *recents* keys, those stored by earlier runs too.

        :param key: any BSON value that is hashable, as given to :meth:`add`
        :param part: an open part
        """
        with self._news:
            return key in self._open_part(part).recent

    def keys(self, part: str = '') -> list[Any]:
        """The keys that an open part remembers, oldest first; lists among them come back as tuples."""
        with self._news:
            return list(self._open_part(part).recent)

    def add(self, raw: Any, position: Any = NOWHERE, *, part: str = '', meta: Any = None, token: Any = None,
            key: Any = None) -> None:
        """Take one message. It waits while there is no room: the stream is full, or MongoDB is away.

        :param raw: bytes for the codec; without a codec, the message (a mapping, a ``RawBSONDocument``, or any value).
            It must not be changed afterwards.
        :param position: where the part is to be read on when this message is stored, any BSON value; a part that
            has no positions leaves it out
        :param part: an open part
        :param meta: for ``shape``
        :param token: comes back by :meth:`durable`
        :param key: to be remembered, for :meth:`seen`
        :raises Stopped: the source was cancelled while it waited; the message was not taken
        :raises PositionMoved: another process has read on; nothing in hand was stored, and every part has to be
            opened anew
        """
        self._take((raw,), (position,), part, (meta,), (token,), (key,))

    def extend(self, raws: Sequence[Any], positions: Sequence[Any], *, part: str = '',
               metas: Sequence[Any] | None = None, tokens: Sequence[Any] | None = None,
               keys: Sequence[Any] | None = None) -> None:
        """Take many messages of one part, as :meth:`add` does; cheaper than one by one.

        :param raws: the messages
        :param positions: of each
        :param metas: of each, for ``shape``
        :param tokens: of each
        :param keys: of each; ``None`` for one that need not be remembered
        """
        none = (None,) * len(raws)
        self._take(raws, positions, part, metas or none, tokens or none, keys or none)

    def advance(self, position: Any, *, part: str = '', token: Any = None) -> None:
        """Note that a part was read on to *position* without a message; stored like one."""
        self._take((NOWHERE,), (position,), part, (None,), (token,), (None,))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was added is stored.

        :param timeout: seconds to wait at the most
        :return: whether all is stored. A cancelled source waits for 0.4 s and no longer: what is not stored then
            has not been acknowledged either, and comes again.
        :raises PositionMoved: as for :meth:`add`
        """
        until = None if timeout is None else time.monotonic() + timeout
        with self._news:
            self._rush = True
            self._news.notify_all()
            while (self._hand or self._busy) and self._error is None:
                if self._cancelled.is_set():
                    self._end = self._end or time.monotonic() + GRACE
                    if not self._news.wait_for(self._settled, max(self._end - time.monotonic(), 0)):
                        return False
                elif until is not None and time.monotonic() > until:
                    return False
                else:
                    self._news.wait(0.1)
            self._raise()
            return not self._lost

    def durable(self, timeout: float = 0.0) -> list[Durable]:
        """What has become durable since the last call: acknowledge it upstream, all of it.

        Each has ``positions``, of the parts that were read on, and ``tokens``, in the order of adding.

        :param timeout: seconds to wait if there is nothing new
        :raises PositionMoved: as for :meth:`add`
        """
        with self._news:
            if timeout and not self._durable:
                self._news.wait_for(lambda: self._durable or self._error or self._cancelled.is_set(), timeout)
            done, self._durable = self._durable, []
            if not done:
                self._raise()
            return done

    @property
    def full(self) -> bool:
        """Whether :meth:`add` would wait now; for sources that must not."""
        return len(self._hand) >= self._size

    def cancel(self) -> None:
        """End all waiting; the same as setting the event that was given."""
        self._cancelled.set()
        with self._news:
            self._news.notify_all()

    def close(self, timeout: float | None = None) -> None:
        """Store what is in hand, unless that takes too long when cancelled, and end the thread.

        :param timeout: seconds to wait at the most
        """
        try:
            with contextlib.suppress(PositionMoved):
                self.flush(timeout)
        finally:
            with self._news:
                self._closed = True
                self._news.notify_all()
            self._intake.close(self._busy)

    def __enter__(self) -> Inlet:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close(None if exc is None else GRACE)

    # -- taking

    def _take(self, raws: Iterable[Any], positions: Iterable[Any], part: str, metas: Iterable[Any],
              tokens: Iterable[Any], keys: Iterable[Any]) -> None:
        with self._news:
            self._raise()
            while len(self._hand) >= self._size and not self._closed:
                if self._cancelled.is_set():
                    raise Stopped
                self._news.wait(0.1)
                self._raise()
            # What was in hand when a cancel cut its storing short is gone; nothing that comes after it may be taken.
            if self._closed or (self._lost and self._cancelled.is_set()):
                raise Stopped
            opened = None if self.name is None else self._open_part(part)
            if not self._hand:
                self._since = time.monotonic()
            for raw, position, meta, token, key in zip(raws, positions, metas, tokens, keys, strict=True):
                if opened is not None and key is not None:
                    opened.remember(key)
                self._hand.append((opened, position, raw, meta, token, key))
            self._start()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f'minibatch-inlet-{self.name}', daemon=True)
            self._thread.start()
        elif not self._busy:
            self._news.notify_all()

    def _open_part(self, part: str) -> Part:
        try:
            return self._parts[part]
        except KeyError:
            raise OptionError(f'part {part!r} of source {self.name!r} is not open: call open({part!r}) first') from None

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            self._parts.clear()
            raise error

    def _settled(self) -> bool:
        return self._error is not None or not (self._hand or self._busy)

    # -- storing, in a thread of its own

    def _run(self) -> None:
        while True:
            with self._news:
                self._busy = False
                self._news.notify_all()
                while not (batch := self._next()) and self._opening is None:
                    if self._closed:
                        return
                    self._news.wait(self._since + self._linger - time.monotonic() if self._hand else None)
                opening, self._opening = self._opening, None
                self._busy = True
                self._news.notify_all()
            try:
                if batch:
                    self._intake.store(batch, self._note)
                if opening is not None:
                    self._opened[opening] = self._intake.open(opening, self._owner, self._recents)
            except BaseException as error:
                with self._news:
                    self._hand.clear()
                    self._lost = True
                    if not isinstance(error, Stopped):
                        self._error = error

    def _next(self) -> list[Item]:
        if not self._hand:
            self._rush = False
            return []
        ready = self._rush or self._closed or self._cancelled.is_set() or len(self._hand) >= self._size
        if not ready and time.monotonic() < self._since + self._linger:
            return []
        batch = [self._hand.popleft() for _ in range(min(self._size, len(self._hand)))]
        self._since = time.monotonic()
        return batch

    def _note(self, durable: Durable) -> None:
        with self._news:
            self._durable.append(durable)
            self._news.notify_all()


def _reader(codec: Any, schema: Any, shape: Callable[[Any, Any], Any] | None) -> Reader:
    check = None
    if codec is not None:
        from minibatch.contrib import codecs
        codec = codecs.codec(codec)
    if schema is not None:
        from minibatch.contrib import schemas
        check = schemas.checker(schema)
    return Reader(codec, check, shape)


def _check(name: Any, size: Any, linger: Any, recents: Any) -> None:
    if name is not None and (not isinstance(name, str) or not 1 <= len(name) <= 200 or '\0' in name):
        raise OptionError(f'a source is named by a string of 1 to 200 characters without NUL, not {name!r}')
    for option, value, least in (('size', size, 1), ('recents', recents, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise OptionError(f'{option} must be a whole number, {least} or more, not {value!r}')
    if isinstance(linger, bool) or not isinstance(linger, (int, float)) or not 0 <= linger < float('inf'):
        raise OptionError(f'linger must be a number of seconds, 0 or more, not {linger!r}')
