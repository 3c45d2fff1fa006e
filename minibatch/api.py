"""The functions that a program calls first: options are checked here; unknown ones are refused with a suggestion."""

from __future__ import annotations

import atexit
import contextlib
import inspect
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from minibatch import worker
from minibatch.errors import OptionError, did_you_mean
from minibatch.frames import framed
from minibatch.models import Stream, check_name
from minibatch.placer import refuse_another
from minibatch.runner import Runner
from minibatch.sinks import one_sink
from minibatch.window.base import Options, WindowEmitter
from minibatch.window.choice import BUILT_IN, own_options, refuse_foreign, strategy
from minibatch.window.count import CountWindow

log = logging.getLogger('minibatch')

Function = Callable[[Any], Any]

#: What the engine passes to a strategy itself.
_GIVEN = {'self', 'args', 'kwargs', 'stream', 'stream_url', 'emitfn', 'options', 'interval', 'executor', 'max_workers',
          'sink', 'queue', 'keep', 'emit_empty'}
#: Options of which ``None`` means something else than not given.
_MAY_BE_NONE = ('idle', 'max_ahead')


#: Where consumers are put while somebody collects them; else they start where they are defined.
_collected: list[Defined] | None = None


@dataclass(frozen=True)
class Defined:
    """A consumer that was defined, and not started.

    :ivar name: its function's
    :ivar stream: the name of what it consumes
    :ivar make: makes its emitters, with further options
    :ivar source: what feeds the stream while it runs
    """

    name: str
    stream: str
    make: Callable[..., list[WindowEmitter]]
    source: Any = None


@contextlib.contextmanager
def collecting() -> Iterator[list[Defined]]:
    """While this lasts, consumers do not start where they are defined: they are put into a list.

    So a program can be loaded to see what it consumes. It goes for all threads of the process.

    >>> with collecting() as found:
    ...     @streaming('docs-collecting', size=2)
    ...     def work(window): ...
    >>> [(each.name, each.stream) for each in found]
    [('work', 'docs-collecting')]
    """
    global _collected
    before, _collected = _collected, []
    try:
        yield _collected
    finally:
        _collected = before


def collected(one: Defined) -> bool:
    """Put a consumer that is about to start where they are collected; ``False`` if nobody collects."""
    if _collected is None:
        return False
    _collected.append(one)
    return True


def stream(name: str, url: str | None = None, **options: Any) -> Stream:
    """Get a stream, creating it if it is new.

    :param name: 1 to 120 characters
    :param url: its database (default: as :func:`minibatch.connectdb` finds it)
    :param options: as of :meth:`Stream.get_or_create`
    :raises minibatch.errors.OptionError: an option is not known, or its value cannot be
    :raises minibatch.errors.ConnectError: no MongoDB there

    >>> numbers = stream('docs-numbers')
    >>> numbers.append({'n': 1})
    >>> numbers.clear()
    1
    """
    known = set(inspect.signature(Stream.get_or_create).parameters) - {'name', 'url'}
    _refuse_unknown(options, known)
    return Stream.get_or_create(name, url=url, **options)


def source(rows: Any, name: str | None = None) -> Any:
    """Make a source of anything that can be iterated over, to be given to ``stream.attach`` or as ``source=``.

    With a *name*, the number of items that are in the stream is stored together with them. Attached again, also in
    another process and after a crash, it passes over as many, so that each item is in the stream exactly once,
    provided that it yields the same items in the same order each time. Without one it starts at the beginning.

    :param rows: an iterable, or a function that makes one. What it yields and is no mapping becomes ``{'value': it}``
    :param name: 1 to 200 characters
    :raises minibatch.errors.OptionError: it is no iterable

    >>> numbers = stream('docs-source')
    >>> numbers.attach(source([1, 2], name='two'), background=False)
    >>> numbers.attach(source([1, 2, 3], name='two'), background=False)
    >>> [message.data['value'] for message in numbers.buffer()]
    [1, 2, 3]
    >>> numbers.clear()
    3
    """
    from minibatch.contrib.iterables import IterableSource
    return IterableSource(rows, name)


class streaming:
    """Run a function on the windows of a stream.

    As a decorator it starts to consume when the function is defined, and blocks until it is stopped: by Ctrl-C,
    SIGTERM, or a true value put into ``queue``. Then windows that run are finished and committed, and those that wait
    are given back.

    :param name: the stream's name
    :param fn: the function; if given, ``streaming(name, fn, ...)`` starts at once. It receives a
        :class:`minibatch.window.Batch`; what it returns goes to the sink: ``None`` stands for the window's data, and
        ``[]`` for nothing. Coroutine functions are awaited.
    :param size: :class:`CountWindow`: messages in each window
    :param within: with ``size``: seconds that the first message of a window waits for the others at the most
    :param interval: seconds; :class:`RelaxedTimeWindow`, or :class:`FixedTimeWindow` if not ``relaxed``
    :param relaxed: see ``interval``
    :param every: with ``interval``: :class:`HoppingWindow`: seconds from the start of one window to that of the next
    :param sliding: ``True``: :class:`SlidingWindow`: at each message the last ``interval`` seconds or ``size`` messages
    :param gap: :class:`SessionWindow`: seconds of silence that end a session; ``max_length``: its most seconds
    :param key: dotted path of what messages of one window share, a function, or a list of these; with ``size`` each
        key fills windows of its own
    :param time: dotted path of the time in a message, or a function: windows by time go by it; with it ``lateness``,
        ``late``, ``max_ahead``, ``idle`` and ``watermark``, see :class:`~minibatch.window.placed.PlacedWindow`
    :param when: :class:`CountWindow`: function of a message: whether a window ends with it
    :param bytes: likewise: a window ends before it has more bytes
    :param ordered: ``True``: windows of one key (of the stream, without keys) run one after another (default: False)
    :param reset: forget how far the stream was cut by another strategy, or by other numbers
    :param emitter: a :class:`WindowEmitter` subclass of your own; options that its ``__init__`` takes are passed on
    :param keep: keep messages and windows after they are committed (default: False)
    :param url: the stream's database
    :param sink: receives results: an object with ``put``, any callable, or a list of these
    :param source: attached to the stream while it is consumed
    :param queue: a true value put into it ends the consumer
    :param workers: windows that run at the same time (default: the number of processors); also ``max_workers``
    :param executor: ``'process'`` (default), ``'thread'``, ``'inline'``, ``'dask'``, ``'ray'``, a class, or an object
        with ``submit``
    :param blocking: ``False``: handle what is due now, and return
    :param background: ``True``: run in a thread, and return the emitter, whose ``stop()`` ends it
    :param lease: seconds after which another consumer takes over the work of one that died (default: 15)
    :param max_attempts: how often a window is tried before it is dead (default: 8)
    :param backoff: seconds before the second attempt (default: 1); doubled for each further one, up to a minute
    :param timeout: seconds that the function may run for a window, and the sink for a result (default: no limit)
    :param as_: ``'pandas'``, ``'polars'`` or ``'arrow'``: the function gets the window's messages as such a frame, and
        the window itself if it has a second parameter (needs the extra ``dataframe``)
    :param emit_empty: also run on windows without messages (default: only :class:`FixedTimeWindow` does)
    :raises minibatch.errors.OptionError: an option is not known, or does not go with the others
    :raises minibatch.errors.ConnectError: no MongoDB there

    >>> results = []
    >>> stream('docs-streaming').extend({'n': n} for n in range(4))
    4
    >>> @streaming('docs-streaming', size=2, executor='inline', sink=results.append, blocking=False)
    ... def total(window):
    ...     return sum(each['n'] for each in window)
    >>> results
    [1, 5]
    """

    def __new__(cls, name: str, fn: Function | None = None, **options: Any) -> Any:
        """Check the options; with a function, run it."""
        self = super().__new__(cls)
        self.name = name
        self.blocking = options.pop('blocking', True)
        self.background = options.pop('background', False)
        self.source = options.pop('source', None)
        self.options = options
        _check(name, options, extra=('blocking', 'background', 'source'))
        return self if fn is None else self(fn)

    name: str
    blocking: bool
    background: bool
    source: Any
    options: dict[str, Any]

    def make(self, fn: Function) -> WindowEmitter:
        """The emitter for *fn*, not running yet."""
        return make_emitter(self.name, fn, **self.options)

    def apply(self, fn: Function) -> Any:
        """Run *fn*, as the decorator does."""
        return self(fn)

    def __call__(self, fn: Function) -> Any:
        """Run *fn*; returns it, or the emitter if it runs in the background."""
        if worker.inside:
            # It imports the module of a function that it is to run; a consumer in that module is not started again.
            log.info('%s: no consumer is started in a worker process', self.name)
            return fn
        if collected(Defined(getattr(fn, '__name__', type(fn).__name__), self.name, lambda **more: [
                make_emitter(self.name, fn, **{**self.options, **more})], self.source)):
            return fn
        emitter = self.make(fn)
        if self.source is not None:
            emitter.stream.attach(self.source)
        if self.background:
            return _in_background(emitter)
        try:
            emitter.run(blocking=self.blocking)
        finally:
            if self.source is not None:
                emitter.stream.stop()
        return fn


def make_emitter(name: str, fn: Function, **options: Any) -> WindowEmitter:
    """An emitter that is not running yet; ``run()`` starts it, ``stop()`` ends it.

    :param name: the stream's name
    :param fn: the function for its windows
    :param options: as of :class:`streaming`, but for ``blocking``, ``background`` and ``source``
    """
    _check(name, options)
    if not callable(fn):
        raise OptionError(f'the second argument must be a function that takes a window, not {fn!r}')
    fn = framed(fn, options.pop('as_', None))
    options = {each: value for each, value in options.items() if value is not None or each in _MAY_BE_NONE}
    cls = _strategy(options)
    reset = options.pop('reset', False)
    for each in ('relaxed', 'sliding', 'emitter'):
        options.pop(each, None)
    workers = options.pop('workers', None) or options.pop('max_workers', None)
    options.pop('max_workers', None)
    running = Options(**{each: options.pop(each) for each in ('lease', 'max_attempts', 'backoff', 'timeout', 'ordered')
                         if each in options})
    interval = options.pop('interval', None)
    if interval is None and cls.decide is WindowEmitter.decide:
        interval = options.pop('size', None)  # a strategy of the user's own finds its number in ``interval``
    sink = options.pop('sink', None)
    keep = bool(options.pop('keep', False))
    target = Stream.get_or_create(name, url=options.pop('url', None))
    emitter = cls(target, emitfn=fn, interval=interval, executor=options.pop('executor', None), max_workers=workers,
                  sink=one_sink(sink), queue=options.pop('queue', None), emit_empty=options.pop('emit_empty', None),
                  **options)
    emitter.keep, emitter.options = keep or emitter.keep, running
    bind = getattr(emitter.sink, 'bind', None)
    if bind is not None:
        bind(target.store.connection.db)
    _refuse_another(emitter, reset)
    emitter._engine = Runner(emitter)
    return emitter


def _refuse_another(emitter: WindowEmitter, reset: bool) -> None:
    """Refuse another strategy than the one that has placed the stream's messages so far, unless it is to be reset."""
    stored = emitter.stream.store.placed(emitter.stream_name)
    if stored is None:
        return
    used = stored.get('mark') or stored.get('watermark')
    numbers = dict(emitter.placing.numbers) if emitter.placing is not None else {}
    if used and not reset:
        refuse_another(emitter.stream_name, stored, numbers)
    elif reset or stored['strategy'] != numbers:
        emitter.stream.store.reset_placed(emitter.stream_name, numbers)


def _strategy(options: dict[str, Any]) -> type[WindowEmitter]:
    cls = strategy(options)
    refuse_foreign(cls, options)
    if cls is CountWindow and all(options.get(each) is None for each in ('emitter', 'size', 'when', 'bytes')):
        options['size'] = 1  # as the original does: message by message
    return cls


def _check(name: Any, options: dict[str, Any], extra: tuple[str, ...] = ()) -> None:
    """Refuse options that nobody would read, and values that cannot be."""
    check_name(name)
    cls = _strategy(dict(options))
    own = own_options(cls) - _GIVEN
    known = {'relaxed', 'sliding', 'emitter', 'url', 'workers', 'max_workers', 'executor', 'sink', 'queue', 'keep',
             'emit_empty', 'lease', 'max_attempts', 'backoff', 'timeout', 'interval', 'size', 'within', 'as_', 'reset',
             'ordered', *own, *extra}
    _refuse_unknown(options, known, known | (set().union(*map(own_options, BUILT_IN)) - _GIVEN))
    for option, least in (('lease', 0.2), ('backoff', 0.0), ('timeout', 0.001), ('within', 0.0)):
        value = options.get(option)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))
                                  or not least <= value < float('inf')):
            raise OptionError(f'{option} must be a number of seconds, {least} or more, not {value!r}')
    for option in ('ordered', 'reset'):
        if not isinstance(options.get(option, False), bool):
            raise OptionError(f'{option} must be True or False, not {options[option]!r}')
    for option in ('workers', 'max_workers', 'max_attempts'):
        value = options.get(option)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise OptionError(f'{option} must be a whole number, 1 or more, not {value!r}')


def _refuse_unknown(options: dict[str, Any], known: set[str], meant: set[str] | None = None) -> None:
    for option in options:
        if option not in known:
            raise OptionError(f'there is no option {option!r}{did_you_mean(option, meant or known)}')


_running: weakref.WeakSet[WindowEmitter] = weakref.WeakSet()


def _in_background(emitter: WindowEmitter) -> WindowEmitter:
    thread = threading.Thread(target=emitter.engine.run, name=f'minibatch-{emitter.stream_name}', daemon=True)
    emitter._thread = thread
    _running.add(emitter)
    thread.start()
    return emitter


@atexit.register
def _stop_all() -> None:
    """Consumers in the background finish what they run when the program ends."""
    for emitter in list(_running):
        emitter.stop()
