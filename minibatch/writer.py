"""Appends on their way to the store: one by one or in batches, within the backlog, none lost and none twice."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, TypeVar

from minibatch.backlog import Backlog, Store
from minibatch.chunks import MOST_BYTES, chunks, is_collection
from minibatch.errors import BacklogFull, MinibatchError, OptionError, StoreUnavailable
from minibatch.linger import lingering
from minibatch.messages import Document, Message, convert, wrap

log = logging.getLogger(__name__)
T = TypeVar('T')

_SHORTEST, _LONGEST = 0.1, 5.0  # seconds between two tries while MongoDB is away
_PATIENT = 60.0  # seconds that one try may take with on_unavailable='wait'
_LAST = 10.0  # seconds that the end of the process waits for a batch which is on its way


class _Stopped(MinibatchError):
    """The writer was closed."""


class Writer:
    """Appends messages to one stream; any number of threads may share it.

    With ``batchsize=1`` a message is durable when :meth:`append` returns. With more, appends are gathered in this
    process and go out together: when there are *batchsize* of them, *linger* seconds after the first, and on
    :meth:`flush`, :meth:`close` and the end of the process. A batch that fails is kept, with its ids, and is
    repeated until the store has it; each of its messages is stored once. Only a crash of this process loses it.

    :param store: where to
    :param stream: the stream's name
    :param batchsize: how many appends to gather
    :param linger: for how many seconds at most
    :param max_backlog: how many messages may be in the stream that are in no window yet; ``None`` for any number
    :param on_full: ``'block'`` waits until there is room, ``'raise'`` raises :class:`~minibatch.errors.BacklogFull`
    :param block_timeout: how many seconds ``'block'`` waits before it raises as well; ``None`` for ever
    :param on_unavailable: ``'raise'`` raises :class:`~minibatch.errors.StoreUnavailable` when MongoDB is away,
       ``'wait'`` tries again until it is back
    """

    def __init__(
        self, store: Store, stream: str, *, batchsize: int = 1, linger: float = 0.1, max_backlog: int | None = None,
        on_full: str = 'block', block_timeout: float | None = None, on_unavailable: str = 'raise',
    ) -> None:
        _check_number('batchsize', batchsize, least=1, whole=True)
        _check_number('linger', linger)
        if max_backlog is not None:
            _check_number('max_backlog', max_backlog, least=1, whole=True)
        if block_timeout is not None:
            _check_number('block_timeout', block_timeout)
        _check_choice('on_full', on_full, 'block', 'raise')
        _check_choice('on_unavailable', on_unavailable, 'raise', 'wait')
        self._store, self._stream = store, stream
        self._fields = {'stream': stream}
        self._batchsize, self._linger = batchsize, float(linger)
        self._max_backlog, self._block, self._timeout = max_backlog, on_full == 'block', block_timeout
        self._patient = on_unavailable == 'wait'
        self._closing = threading.Event()
        self._renew()
        _writers.add(self)

    def _renew(self) -> None:
        # Also called in a child after a fork: what waits is the parent's to send, and its locks may be held.
        closed, self._closing = self._closing.is_set(), threading.Event()
        if closed:
            self._closing.set()
        self._sending = threading.Lock()  # one batch at a time, in order; taken before the other
        self._lock = threading.Lock()  # guards what follows
        self._waiting: list[Document] = []
        self._bytes = 0
        self._since = 0.0
        self._batch: list[Document] = []  # on its way, or failed
        self._failures = 0
        self._asked = False
        self._backlog = Backlog(self._store, self._stream, self._max_backlog, self._closing, self._timeout)

    def append(self, row: Any) -> None:
        """Append one message.

        :param row: a mapping, or an object with fields (dataclass, pydantic, attrs); it is copied
        :raises InvalidMessage: it cannot be stored, and was not
        :raises BacklogFull: the stream is full and set to raise; the message was not stored
        :raises StoreUnavailable: MongoDB is away; the text says what became of the message
        """
        if self._batchsize > 1:
            self._gather(row)
            return
        self._check_open()
        messages, _ = convert(self._stream, (row,))
        self._admit(1)
        self._send(messages)

    def extend(self, rows: Iterable[Any]) -> int:
        """Append many messages; they are durable when it returns.

        What was appended before is sent first. If *rows* is a list or another collection, all of it is checked before
        any of it is stored, and with ``on_full='raise'`` there is room for all of it or none is stored.

        :param rows: any iterable of mappings or of objects with fields
        :return: how many
        :raises InvalidMessage: one cannot be stored; the text says which, and how many before it were stored
        :raises BacklogFull: as for :meth:`append`
        :raises StoreUnavailable: MongoDB is away; the text says how many were stored
        """
        self._check_open()
        self.flush()
        total = reserved = 0
        try:
            for chunk in chunks(self._stream, rows):
                if not (total or self._block) and is_collection(rows):
                    reserved = self._admit(len(rows))
                while chunk:
                    self._check_open(total)
                    n = min(reserved, len(chunk)) or self._admit(len(chunk), part=self._block, stored=total)
                    reserved = max(reserved - n, 0)
                    self._send(chunk[:n])
                    total, chunk = total + n, chunk[n:]
        except StoreUnavailable as exc:
            raise StoreUnavailable(f'of what was to extend stream {self._stream!r}, the first {total:,} messages are '
                                   f'stored and of those after it some may be: {exc}') from exc
        finally:
            self._backlog.dropped(reserved)
        return total

    def flush(self) -> None:
        """Send what waits; it is durable when this returns.

        :raises StoreUnavailable: MongoDB is away; what waits is kept and sent later
        """
        self._flush('do not append them again')

    def close(self) -> None:
        """End all waiting, send what is left and take no more; may be called again.

        :raises StoreUnavailable: MongoDB is away; what waits is kept, and tried again until the process ends
        """
        self._closing.set()
        self.flush()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closing.is_set()

    @property
    def waiting(self) -> int:
        """How many appended messages are not stored yet."""
        with self._lock:
            return len(self._batch) + len(self._waiting)

    def _gather(self, row: Any) -> None:
        self._check_open()
        messages, size = convert(self._stream, (row,))
        if self._failures:
            self._flush('this message was not taken, append it again later')
        self._admit(1)
        with self._lock:
            if self._closing.is_set():
                self._backlog.dropped(1)
                self._check_open()
            if not self._waiting:
                self._since = time.monotonic()
            # Their ids are made here, under the lock and once: they keep the order of appending.
            self._waiting += wrap(self._stream, messages, self._store.clock.now())
            self._bytes += size
            full = len(self._waiting) >= self._batchsize or self._bytes >= MOST_BYTES
            ask, self._asked = not self._asked, True
        if ask:
            lingering.ask(self, self._linger)
        if full:
            self._flush('do not append them again')

    def _check_open(self, stored: int = 0) -> None:
        if self._closing.is_set():
            kept = f'the first {stored:,} messages of this call were stored' if stored else 'nothing was stored'
            raise _Stopped(f'stream {self._stream!r} was stopped and takes no more from this writer; {kept}; '
                           f'get it again with mb.stream({self._stream!r})')

    def _admit(self, n: int, *, part: bool = False, stored: int = 0) -> int:
        granted = self._patiently(lambda: self._backlog.admit(n, part=part))
        if granted or not n:
            return granted
        if not self._block:
            raise self._backlog.full(n, stored)
        self._flush('this message was not taken, append it again later')  # no consumer makes room for what waits here
        try:
            return self._patiently(lambda: self._backlog.wait(n, part=part))
        except BacklogFull:
            self._check_open(stored)
            raise

    def _send(self, messages: list[Message]) -> None:
        docs = wrap(self._stream, messages, self._store.clock.now())
        try:
            self._patiently(lambda: self._append(docs))
        except BaseException:
            self._backlog.dropped(len(docs))
            raise
        self._backlog.stored(len(docs))

    def _append(self, docs: list[Document]) -> None:
        # One long try, not many short ones: what the driver repeats is stored once even if it is consumed meanwhile.
        if self._patient and not self._closing.is_set():
            self._store.append(docs, patience=_PATIENT)
        else:
            self._store.append(docs)

    def _flush(self, advice: str) -> None:
        with self._sending:
            try:
                self._send_batches(self._patiently)
            except StoreUnavailable as exc:
                raise StoreUnavailable(
                    f'{self.waiting:,} messages appended to stream {self._stream!r} are not stored yet; they are kept '
                    f'in this process and sent by a later append, flush or stop; {advice} ({exc})') from exc

    def _send_batches(self, call: Callable[[Callable[[], None]], None]) -> None:
        for _ in range(2):  # a batch that failed before, then what has come since
            with self._lock:
                if not self._batch:
                    self._batch, self._waiting, self._bytes = self._waiting, [], 0
                batch = self._batch
            if not batch:
                return
            try:
                call(lambda batch=batch: self._append(batch))  # type: ignore[misc]
            except BaseException:
                self._failures += 1
                raise
            with self._lock:
                self._batch, self._failures = [], 0
            self._backlog.stored(len(batch))

    def _patiently(self, call: Callable[[], T]) -> T:
        delay = _SHORTEST
        while True:
            try:
                return call()
            except StoreUnavailable as exc:
                if not self._patient or self._closing.is_set():
                    raise
                if delay == _SHORTEST:
                    log.warning('stream %r waits for MongoDB: %s', self._stream, exc, extra=self._fields)
                if self._closing.wait(delay):
                    raise
                delay = min(delay * 2, _LONGEST)

    def send_waiting(self) -> float | None:
        """Send what has waited long enough; called by the thread of :mod:`minibatch.linger`."""
        with self._lock:
            if not (self._waiting or self._batch):
                self._asked = False
                return None
            left = self._since + self._linger - time.monotonic()
        if not self._batch and left > 0:
            return left
        if not self._sending.acquire(blocking=False):  # a flush is on its way
            return self._linger
        try:
            self._send_batches(lambda call: call())
        except Exception as exc:
            if self._failures == 1:
                log.warning('%d messages appended to stream %r are kept and tried again: %s',
                            self.waiting, self._stream, exc, extra=self._fields)
            return float(min(max(self._linger, _SHORTEST) * 2 ** min(self._failures, 10), _LONGEST))
        finally:
            self._sending.release()
        return self._linger

    def send_last(self) -> None:
        """Send what is left; called at the end of the process."""
        if self._sending.acquire(timeout=_LAST):
            try:
                self._send_batches(lambda call: call())
            except Exception as exc:
                log.error('the process ends, and %d messages appended to stream %r are lost: %s',
                          self.waiting, self._stream, exc, extra=self._fields)
            finally:
                self._sending.release()


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _after_fork() -> None:
    for writer in list(_writers):
        writer._renew()


if hasattr(os, 'register_at_fork'):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork)


def _check_number(name: str, value: Any, *, least: int = 0, whole: bool = False) -> None:
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value < float('inf'):
        what = f'a whole number of at least {least}' if whole else 'a number of seconds, at least 0'
        raise OptionError(f'{name} is {what}, not {value!r}')


def _check_choice(name: str, value: Any, *choices: str) -> None:
    if value not in choices:
        raise OptionError(f'{name} is {" or ".join(map(repr, choices))}, not {value!r}')
