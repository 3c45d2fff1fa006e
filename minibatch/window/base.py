"""What a window is to the user's function, and the base class of all strategies that cut windows."""

from __future__ import annotations

import queue as queues
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from minibatch.order import Order

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    from minibatch.models import Buffer, Stream, Window
    from minibatch.window.placing import Placing


class Unread(Protocol):
    """Messages' data that are decoded when somebody looks at them."""

    def unpack(self) -> list[Any]: ...


class Batch:
    """The window that a user's function receives.

    The same window has the same id, members, order, start and end on every attempt, so its id can serve as an
    idempotency key for effects outside of MongoDB.

    :ivar id: ``'<stream>:<number>'``, unique in the database
    :ivar stream: name of the stream
    :ivar data: the messages, in order, as they were appended
    :ivar created: when the window was cut (naive, UTC)
    :ivar start: start of the interval of a time window; otherwise when the first message was appended
    :ivar end: end of the interval (exclusive) of a time window; otherwise when the last message was appended
    :ivar key: the key that the messages share, if the strategy groups by one
    :ivar attempt: 1 at the first try, one more at each further one
    :ivar query: what the emitter's ``window_ready`` passed to its ``query``
    :ivar final: ``False`` if it is handed out before it is over (``early=``) and will come again
    :ivar revision: 0; one more each time it comes again because messages came late (``late='update'``)
    :ivar late: whether its messages came when their window had been cut

    >>> window = Batch(id='clicks:1', stream='clicks', data=[{'ms': 12}, {'ms': 30}])
    >>> len(window), [each['ms'] for each in window]
    (2, [12, 30])
    """

    __slots__ = ('_at', '_data', '_times', '_trace', '_unread', '_url', 'attempt', 'created', 'end', 'final', 'id',
                 'key', 'late', 'query', 'revision', 'start', 'stream')

    def __init__(self, id: str, stream: str, data: list[Any] | None = None,  # noqa: A002 (the field's name)
                 created: datetime | None = None,
                 start: datetime | None = None, end: datetime | None = None, key: Any = None, attempt: int = 1,
                 query: Any = None, unread: Unread | None = None, times: bytes = b'', url: str | None = None,
                 final: bool = True, revision: int = 0, late: bool = False, trace: str | None = None) -> None:
        self.id = id
        self.stream = stream
        self.created = created
        self.start = start
        self.end = end
        self.key = key
        self.attempt = attempt
        self.query = query
        self.final = final
        self.revision = revision
        self.late = late
        self._data = data
        self._unread = unread
        self._times = times  # when each message was appended
        self._trace = trace  # the span in which it runs, as a traceparent
        self._url = url  # of the database in which the window is committed
        self._at: int | None = None  # which message the function is at

    @property
    def data(self) -> list[Any]:
        """The messages, in order, as they were appended."""
        if self._data is None:
            self._data = self._unread.unpack() if self._unread is not None else []
        return self._data

    def to_pandas(self) -> pandas.DataFrame:
        """The messages as a DataFrame, one row each, datetimes in UTC; :mod:`minibatch.frames` has the types.

        :raises minibatch.errors.MissingExtra: pandas is not installed

        >>> Batch(id='clicks:1', stream='clicks', data=[{'ms': 12}, {'ms': 30}]).to_pandas()['ms'].to_list()
        [12, 30]
        """
        from minibatch import frames
        return frames.to_pandas(self.data)

    def to_polars(self) -> polars.DataFrame:
        """The messages as a polars DataFrame.

        :raises minibatch.errors.MissingExtra: polars, or pyarrow, is not installed
        """
        from minibatch import frames
        return frames.to_polars(self.data)

    def to_arrow(self) -> pyarrow.Table:
        """The messages as an Arrow table.

        :raises minibatch.errors.MissingExtra: pyarrow is not installed
        """
        from minibatch import frames
        return frames.to_arrow(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Any]:
        # Which message it is that the function is at says which windows of a windowed table it changes.
        try:
            for at, message in enumerate(self.data):
                self._at = at
                yield message
        finally:
            self._at = None

    def __repr__(self) -> str:
        return f'<window {self.id}: {len(self)} messages, attempt {self.attempt}>'

    def __reduce__(self) -> tuple[Any, ...]:
        # What nobody has looked at goes to another process undecoded.
        return Batch, (self.id, self.stream, None if self._unread is not None else self._data, self.created, self.start,
                       self.end, self.key, self.attempt, self.query, self._unread, self._times, self._url, self.final,
                       self.revision, self.late, self._trace)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a strategy is told about its stream.

    :ivar now: the time
    :ivar count: messages in no window, counted no further than :meth:`WindowEmitter.need` says
    :ivar oldest: when the first of them was appended
    :ivar late: when the first of those was appended that belong before ``last_read``
    :ivar last_read: up to where time windows have been cut
    :ivar most: how many windows may be cut now
    """

    now: datetime
    count: int = 0
    oldest: datetime | None = None
    late: datetime | None = None
    last_read: datetime | None = None
    most: int = 1


@dataclass(frozen=True, slots=True)
class Decision:
    """What a strategy answers: what to cut now, and when to ask again if nothing new comes."""

    orders: Sequence[Order] = ()
    ask_at: datetime | None = None


class Engine(Protocol):
    """What an emitter needs of the runner that drives it."""

    def run(self, blocking: bool = True) -> None: ...
    def stop(self) -> None: ...
    def cut_once(self) -> bool: ...
    def view(self) -> View: ...
    def remove(self, window: Any) -> None: ...
    def idle(self, seconds: float) -> None: ...


@dataclass(kw_only=True)
class Options:
    """How an emitter's windows are run; see :func:`minibatch.streaming` for each."""

    lease: float = 15.0
    max_attempts: int = 8
    backoff: float = 1.0
    timeout: float | None = None
    ordered: bool = False
    max_backoff: float = field(default=60.0, repr=False)


class WindowEmitter:
    """A strategy that decides which messages form the next window, and when.

    A strategy of one's own overrides :meth:`window_ready` and :meth:`query`, and any of the other hooks. It has the
    guarantees of the built-in ones: it is asked in one process at a time, what it selects is written down before it
    runs, and a window that was cut stays as it is until it is committed or dead.

    :param stream: the stream, or its name
    :param interval: the strategy's number: seconds, or messages
    :param processfn: called with the list of messages of each window before it is cut; returns those to take
    :param emitfn: the function that receives each window
    :param emit_empty: also emit windows without messages; ``None``: as the strategy does by itself
    :param executor: where functions run: a name, a class, or an object with ``submit``
    :param max_workers: windows that run at the same time (default: the number of processors)
    :param stream_url: the database, if *stream* is a name
    :param sink: receives results: an object with ``put``, or any callable
    :param queue: a true value put into it ends :meth:`run`
    :param forwardfn: receives results in place of *sink*
    :param keep: keep messages and windows after they are committed
    :param options: how windows are run
    """

    #: The hooks that a subclass may override; if one is, windows are cut through them.
    HOOKS: ClassVar = ('window_ready', 'query', 'process', 'emit', 'commit', 'undo', 'timestamp')
    #: Whether new messages can make a window due (then the engine watches for them).
    WATCH: ClassVar[bool] = True
    #: How the strategy places messages by what is in them; ``None`` for one that only counts, or looks at the clock.
    placing: Placing | None = None
    #: Makes the engine that drives an emitter; set by :mod:`minibatch.runner`, since strategies do no I/O.
    make_engine: ClassVar[Callable[[WindowEmitter], Engine]]

    def __init__(self, stream: Stream | str, interval: Any = None, processfn: Callable[..., Any] | None = None,
                 emitfn: Callable[..., Any] | None = None, emit_empty: bool | None = None, executor: Any = None,
                 max_workers: int | None = None, stream_url: str | None = None, sink: Any = None, queue: Any = None,
                 forwardfn: Callable[[Any], Any] | None = None, keep: bool = False,
                 options: Options | None = None) -> None:
        if isinstance(stream, str):
            from minibatch.models import Stream as Streams
            stream = Streams.get_or_create(stream, url=stream_url)
        self.stream = stream
        self.stream_name: str = stream.name
        self.interval = interval
        self.processfn = processfn
        self.emitfn = emitfn
        self.emit_empty = emit_empty
        self.executor = executor
        self.max_workers = max_workers
        self.sink = sink
        self.queue = queue
        self.forwardfn = forwardfn
        self.keep = keep
        self.options = options or Options()
        self._stop = False
        self._order: Order | None = None
        self._engine: Engine | None = None
        self._thread: threading.Thread | None = None

    @property
    def engine(self) -> Engine:
        """The runner that drives this emitter; made at the first use."""
        if self._engine is None:
            self._engine = type(self).make_engine(self)
        return self._engine

    # -- what built-in strategies implement

    def need(self) -> int:
        """How far messages have to be counted for :meth:`decide`."""
        return 1

    def decide(self, view: View) -> Decision:
        """Decide from *view* what to cut. Without side effects; asked again whenever something may have changed."""
        raise NotImplementedError(f'{type(self).__name__} has to override window_ready() and query(), or decide()')

    # -- the documented hooks

    def window_ready(self) -> tuple[bool, tuple[Any, ...]]:
        """Whether there is a window to cut, and the arguments for :meth:`query`."""
        orders = self.decide(self.engine.view()).orders
        self._order = orders[0] if orders else None
        if self._order is None:
            return False, ()
        return True, () if self._order.advance is None else (self._order.start, self._order.end)

    def query(self, *args: Any) -> Iterable[Buffer]:
        """The messages of the next window, as :class:`minibatch.models.Buffer` objects."""
        order = self._order or Order(size=None)
        filters: dict[str, Any] = {'processed': False, 'window': None}
        if order.since is not None:
            filters['created__gte'] = order.since
        if order.until is not None:
            filters['created__lt'] = order.until
        found = self.stream.buffer(**filters).order_by('id')
        limited: Iterable[Buffer] = found.limit(order.size) if order.size else found
        return limited

    def process(self, qs: Iterable[Buffer]) -> Iterable[Buffer]:
        """Choose among the messages of :meth:`query`, or put them in order; those left out stay in the buffer."""
        messages = list(qs)
        return list(self.processfn(messages)) if self.processfn else messages

    def emit(self, qs: Iterable[Buffer], query_args: Any = None) -> Window:
        """Make the window document for the chosen messages, not stored yet. Change its ``data`` here if need be."""
        from minibatch.models import Window as Windows
        messages = list(qs)
        return Windows(stream=self.stream_name, query=list(query_args or ()), data=[each.data for each in messages])

    def commit(self, qs: Iterable[Buffer], window: Window) -> None:
        """Called when *window* is committed: removes its messages and its document, unless they are to be kept."""
        if not self.keep:
            self.engine.remove(window)

    def undo(self, qs: Iterable[Buffer], window: Window) -> None:
        """Called after an attempt at *window* failed; the engine has put it back to be tried again, or to the dead."""

    def timestamp(self, query_args: Any = None) -> None:
        """Called after a window was cut by the hooks: notes the time in ``stream.last_read``."""
        self.stream.touch()

    def forward(self, data: Any) -> None:
        """Hand a result to the sink; raise if it was not delivered."""
        if self.forwardfn is not None:
            self.forwardfn(data)
        elif self.sink is not None:
            put = getattr(self.sink, 'put', self.sink)
            put(data)

    def sleep(self) -> None:
        """Wait for new messages, a due window or :meth:`stop`, between two questions to the strategy."""
        self.engine.idle(0.5)

    def should_stop(self) -> bool:
        """Whether :meth:`run` is to end: after :meth:`stop`, or a true value in ``queue``."""
        if self._stop:
            return True
        if self.queue is not None:
            try:
                return bool(self.queue.get_nowait())
            except queues.Empty:
                return False
        return False

    # -- running

    def run(self, blocking: bool = True) -> None:
        """Cut windows and run the function on them.

        :param blocking: go on until :meth:`stop`; else handle what is due now, and return
        """
        self._stop = False
        self.engine.run(blocking)

    def _run_once(self) -> bool:
        """One pass, without waiting for more; whether a window was cut."""
        return self.engine.cut_once()

    def stop(self) -> None:
        """End :meth:`run`: windows that run are finished and committed, those that wait are given back.

        If it runs in the background, this waits until it has ended.
        """
        self._stop = True
        if self._engine is not None:
            self._engine.stop()
        # A function or a sink that stops its own consumer cannot wait for it: it waits for them.
        if self._thread is not None and not threading.current_thread().name.startswith('minibatch-'):
            self._thread.join()
            self._thread = None

    def persist(self, flag: bool = True) -> None:
        """Keep messages and windows after they are committed, from the next window on."""
        self.keep = flag

    @property
    def hooked(self) -> bool:
        """Whether a subclass overrides a hook, so that windows have to be cut through them."""
        return self.processfn is not None or any(
            getattr(type(self), name) is not getattr(WindowEmitter, name) for name in self.HOOKS)
