"""The documents as people see them: mongoengine models of streams, messages and windows.

They are for reading, for custom emitters, and for a stream's producers. The engine itself works through
:mod:`minibatch.store`, which is also what creates the indexes.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mongoengine import (
    BooleanField,
    DateTimeField,
    DictField,
    Document,
    DynamicField,
    FloatField,
    IntField,
    ListField,
    ObjectIdField,
    QuerySet,
    StringField,
    queryset_manager,
)

from minibatch.connection import connect
from minibatch.dead import DeadWindows
from minibatch.errors import OptionError
from minibatch.fluent import Operators
from minibatch.states import StreamStatus, WindowState
from minibatch.store import Store
from minibatch.writer import Writer

if TYPE_CHECKING:
    from minibatch.operators.pipeline import Pipeline

log = logging.getLogger('minibatch')

#: Options that cut windows, and are no fields of a window document.
CUTTING = {'size', 'within', 'interval', 'relaxed', 'emitter', 'emit_empty', 'every', 'gap', 'sliding', 'when', 'bytes'}
#: The stream whose emitter is asking, as (mongoengine alias, name): its ``Buffer.objects`` sees that stream only.
_SCOPE: contextvars.ContextVar[tuple[str, str] | None] = contextvars.ContextVar('minibatch-scope', default=None)
_NAME_LIMIT = 120


@contextlib.contextmanager
def scoped(stream: Stream) -> Iterator[None]:
    """While this lasts, ``Buffer.objects`` and ``Window.objects`` of this thread are those of *stream*.

    So an emitter that asks for ``Buffer.objects.filter(processed=False)`` does not take other streams' messages.
    """
    token = _SCOPE.set((stream.store.connection.alias, stream.name))
    try:
        yield
    finally:
        _SCOPE.reset(token)


def _visible(queryset: QuerySet) -> QuerySet:
    scope = _SCOPE.get()
    return queryset if scope is None else queryset.using(scope[0]).filter(stream=scope[1])


def store_for(url: str | None = None) -> Store:
    """The store at *url*, or at the default place; the same one each time, for each process.

    :raises minibatch.errors.ConnectError: no MongoDB there
    """
    connection = connect(url)
    with _STORES_LOCK:
        store = _STORES.get(id(connection.client))
        if store is None or store.connection is not connection:
            store = _STORES[id(connection.client)] = Store(connection)
        return store


def store_of(database: Any) -> Store | None:
    """The store of this process that is in *database*, if there is one."""
    with _STORES_LOCK:
        return next((each for each in _STORES.values() if each.connection.db is database), None)


_STORES: dict[int, Store] = {}
_STORES_LOCK = threading.Lock()


class Buffer(Document):
    """One message: ``processed`` is false until it becomes a member of a window, which ``window`` then names."""

    meta = {'collection': 'buffer', 'db_alias': 'minibatch', 'strict': False, 'auto_create_index': False}  # noqa: RUF012
    id = ObjectIdField(primary_key=True)
    stream = StringField(required=True)
    created = DateTimeField()
    data = DynamicField()
    processed = BooleanField(default=False)
    window = StringField()

    @queryset_manager  # type: ignore[untyped-decorator]
    def objects(self, queryset: QuerySet) -> QuerySet:
        """The messages, of all streams; inside an emitter's hooks, of its stream."""
        return _visible(queryset)


class Window(Document):
    """One window as it is stored; a user's function receives it as :class:`minibatch.window.Batch`."""

    meta = {'collection': 'window', 'db_alias': 'minibatch', 'strict': False, 'auto_create_index': False}  # noqa: RUF012
    id = StringField(primary_key=True)
    stream = StringField(required=True)
    seq = IntField()
    state = StringField(choices=[each.value for each in WindowState])
    n = IntField()
    data = ListField(DynamicField())
    processed = BooleanField(default=False)
    created = DateTimeField()
    start = DateTimeField()
    end = DateTimeField()
    key = DynamicField()
    query = DynamicField()
    attempt = IntField(default=0)
    owner = StringField()
    until = DateTimeField()
    not_before = DateTimeField()
    final = BooleanField(default=True)
    revision = IntField(default=0)
    late = BooleanField(default=False)
    errors = ListField(DictField())

    @queryset_manager  # type: ignore[untyped-decorator]
    def objects(self, queryset: QuerySet) -> QuerySet:
        """The windows, of all streams; inside an emitter's hooks, of its stream."""
        return _visible(queryset)


class Stream(Operators, Document):
    """A named, durable sequence of messages.

    Get one with :func:`minibatch.stream` or :meth:`get_or_create`. The operators that make pipelines (``filter``,
    ``map``, ``group_by``, ``window``, ``count``, ...) are those of :class:`minibatch.fluent.Operators`.
    """

    meta = {'collection': 'stream', 'db_alias': 'minibatch', 'strict': False, 'auto_create_index': False}  # noqa: RUF012
    name = StringField(primary_key=True)
    created = DateTimeField()
    state = StringField(db_field='status', choices=[each.value for each in StreamStatus],
                        default=StreamStatus.OPEN.value)
    interval = DynamicField()
    batchsize = IntField(default=1)
    linger = FloatField(default=0.1)
    max_age = FloatField()
    expire_unprocessed = BooleanField(default=False)
    max_backlog = IntField()
    on_full = StringField(choices=['block', 'raise'], default='block')
    block_timeout = FloatField()
    on_unavailable = StringField(choices=['raise', 'wait'], default='raise')
    last_read = DateTimeField()

    _store: Store | None = None
    _writer: Writer | None = None
    _making = threading.RLock()

    @classmethod
    def get_or_create(cls, name: str, url: str | None = None, interval: Any = None, batchsize: int | None = None,
                      max_age: float | None = None, linger: float | None = None, max_backlog: int | None = None,
                      on_full: str | None = None, block_timeout: float | None = None,
                      on_unavailable: str | None = None,
                      expire_unprocessed: bool | None = None) -> Stream:
        """Get the stream called *name*, creating it if it is new. Options that are given are stored with it.

        :param name: 1 to 120 characters
        :param url: where its database is (default: as :func:`minibatch.connectdb` finds it)
        :param interval: kept with the stream for programs that want to
        :param batchsize: messages that :meth:`append` collects in this process before it stores them
        :param max_age: seconds after which kept messages and windows are removed
        :param linger: seconds that a collected message waits at the most
        :param max_backlog: messages in no window at which producers are held up
        :param on_full: what holding up means: ``'block'`` or ``'raise'`` :class:`~minibatch.errors.BacklogFull`
        :param block_timeout: seconds after which ``'block'`` raises, too (default: never)
        :param on_unavailable: while MongoDB is away: ``'raise'`` after 5 s, or ``'wait'`` until it is back
        :param expire_unprocessed: let *max_age* remove messages that no window has taken, too
        :raises minibatch.errors.OptionError: an option has a value that cannot be
        :raises minibatch.errors.ConnectError: no MongoDB there
        """
        check_name(name)
        given: dict[str, Any] = {
            'interval': interval, 'batchsize': batchsize, 'max_age': max_age, 'linger': linger,
            'max_backlog': max_backlog, 'on_full': on_full, 'block_timeout': block_timeout,
            'on_unavailable': on_unavailable, 'expire_unprocessed': expire_unprocessed}
        options = {option: value for option, value in given.items() if value is not None}
        _check_options(options)
        store = store_for(url)
        stream: Stream = cls._from_son(store.open_stream(name, options))
        stream._store = store
        return stream

    @property
    def store(self) -> Store:
        """The store that this stream lives in."""
        if self._store is None:
            self._store = store_for()
        return self._store

    @property
    def writer(self) -> Writer:
        """What stores this stream's messages; one for each ``Stream`` object."""
        with self._making:
            if self._writer is None:
                self._writer = Writer(
                    self.store, self.name, batchsize=self.batchsize or 1,
                    linger=0.1 if self.linger is None else self.linger, max_backlog=self.max_backlog,
                    on_full=self.on_full, block_timeout=self.block_timeout, on_unavailable=self.on_unavailable)
            return self._writer

    # -- producing

    def append(self, data: Any) -> None:
        """Append one message; it is durable when this returns (with ``batchsize``: when its batch is flushed).

        :param data: a mapping, a dataclass, a pydantic or an attrs object
        :raises minibatch.errors.InvalidMessage: it cannot be stored; nothing was
        :raises minibatch.errors.BacklogFull: the stream is full, and set to raise
        :raises minibatch.errors.StoreUnavailable: MongoDB is away
        """
        self.writer.append(data)

    def extend(self, rows: Iterable[Any]) -> int:
        """Append many messages, in bulk; they are durable when this returns.

        :param rows: any iterable of messages, a generator too; a sized one is checked whole before any is stored
        :return: how many were appended
        :raises: as :meth:`append` does
        """
        return self.writer.extend(rows)

    def flush(self) -> None:
        """Store what ``batchsize`` has collected in this process."""
        if self._writer is not None:
            self._writer.flush()

    def attach(self, source: Any, background: bool = True) -> threading.Thread | None:
        """Feed the stream from a source: an object with ``stream(stream)`` and ``cancel()``, or any iterable.

        What an iterable yields and is no mapping becomes ``{'value': it}``; what cannot be stored becomes a dead letter
        and stops nothing. See :func:`minibatch.source` for one that goes on where it was.

        :param background: in a thread of its own, which is returned; an error there is logged, and ends the source.
            Else until the source ends, and an error is raised.
        :raises minibatch.errors.OptionError: it is no source

        >>> import minibatch
        >>> stream = minibatch.stream('docs-attach')
        >>> stream.attach(range(3), background=False)
        >>> [message.data for message in stream.buffer()]
        [{'value': 0}, {'value': 1}, {'value': 2}]
        >>> stream.clear()
        3
        """
        from minibatch.contrib.iterables import as_source
        source = as_source(source)
        if not background:
            source.stream(self)
            return None
        thread = threading.Thread(target=self._feed, args=(source,), name=f'minibatch-source-{self.name}', daemon=True)
        self._sources.append((source, thread))
        thread.start()
        return thread

    def _feed(self, source: Any) -> None:
        try:
            source.stream(self)
        except Exception:
            log.exception('stream %r: its source %r has ended with an error; what came before is in the stream, and it '
                          'is not attached any more', self.name, source)

    @property
    def _sources(self) -> list[tuple[Any, threading.Thread]]:
        held: list[tuple[Any, threading.Thread]] = self.__dict__.setdefault('_attached', [])
        return held

    def stop(self) -> None:
        """End attached sources, and store what ``batchsize`` has collected."""
        for source, _ in self._sources:
            if hasattr(source, 'cancel'):
                source.cancel()
        with self._making:
            if self._writer is not None:
                self._writer.close()  # before waiting for the sources: one may be held up by a full stream
                self._writer = None
        for _, thread in self._sources:
            thread.join(timeout=5)
        self._sources.clear()

    def clear(self) -> int:
        """Remove all messages and windows, the dead ones too; returns how many messages were in the buffer."""
        return self.store.clear(self.name)

    # -- looking

    def buffer(self, **filters: Any) -> QuerySet:
        """The messages in the buffer, as a mongoengine query set."""
        return Buffer.objects.using(self.store.connection.alias).filter(stream=self.name, **filters)

    def window(self, **filters: Any) -> Any:
        """The windows, as a mongoengine query set; with options that cut windows (``size=``), a pipeline.

        >>> import minibatch as mb
        >>> stream = mb.stream('docs-windows')
        >>> stream.window(state='dead').count()
        0
        >>> stream.window(size=10).count()
        <pipeline on 'docs-windows': 1 pass; explain() says what it does>
        """
        if set(filters) & CUTTING:
            return super().window(**filters)
        return Window.objects.using(self.store.connection.alias).filter(stream=self.name, **filters)

    @property
    def dead(self) -> DeadWindows:
        """Windows that are out of attempts: ``list()``, ``show(id)``, ``redrive()``, ``drop()``."""
        return DeadWindows(self.store, self.name)

    def status(self, most: int | None = None) -> dict[str, Any]:
        """What the stream is doing, in figures: see :func:`minibatch.status.status`.

        :param most: count no more than so many of the messages that wait (default: all of them, of which MongoDB counts
            some millions a second): if there are more, ``waiting`` is *most*, and ``backlog`` too low as well
        """
        from minibatch.status import figures
        return figures(self.store, self.name, most)

    def measured(self) -> dict[str, dict[str, Any]]:
        """How long, how large and how late the stream's windows were, over all consumers that ever were.

        :return: ``duration``: of each attempt, in seconds of the function; ``size``: of each committed window, in
            messages; ``queue``: seconds from when the last of a window's messages was appended to when its function
            was called first; ``latency``: seconds from there to its commit. Each as ``buckets``, pairs of an upper
            bound and how many were no larger, up to infinity, and their ``sum``

        >>> import minibatch as mb
        >>> mb.stream('docs-measured').measured()['size']['buckets'][-1]
        (inf, 0)
        """
        from minibatch.status import measured
        return measured(self.store, self.name)

    def touch(self, now: datetime | None = None) -> None:
        """Note in ``last_read`` that a window was cut now."""
        self.last_read = now or self.store.clock.now()
        self.store.note_read(self.name, self.last_read)

    # -- consuming

    def _pipeline(self) -> Pipeline:
        from minibatch.operators.pipeline import Pipeline
        return Pipeline.of(self)

    def streaming(self, fn: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Consume this stream: :func:`minibatch.streaming` without the name."""
        from minibatch.api import streaming
        return streaming(self.name, fn, url=options.pop('url', None) or self.store.connection.url, **options)


def check_name(name: Any) -> None:
    """Refuse what cannot be a stream's name.

    :raises minibatch.errors.OptionError: it cannot
    """
    if not isinstance(name, str) or not 1 <= len(name) <= _NAME_LIMIT or '\0' in name:
        raise OptionError(f'a stream is named by a string of 1 to {_NAME_LIMIT} characters without NUL, not {name!r}')


def _check_options(options: dict[str, Any]) -> None:
    for option in ('batchsize', 'max_backlog'):
        value = options.get(option, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise OptionError(f'{option} must be a whole number of messages, 1 or more, not {value!r}')
    for option in ('linger', 'max_age', 'block_timeout'):
        value = options.get(option, 1.0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float('inf'):
            raise OptionError(f'{option} must be a number of seconds, more than 0, not {value!r}')
    for option, choices in (('on_full', ('block', 'raise')), ('on_unavailable', ('raise', 'wait'))):
        if options.get(option, choices[0]) not in choices:
            raise OptionError(f'{option} must be {choices[0]!r} or {choices[1]!r}, not {options[option]!r}')
