"""A consumer run on a list of messages: in place, by a manual clock, on a real MongoDB."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from minibatch import api
from minibatch.clock import ManualClock
from minibatch.dead import DeadWindow
from minibatch.errors import OptionError
from minibatch.executor import InlineExecutor
from minibatch.models import Stream
from minibatch.outcome import Function, Outcome
from minibatch.testing.scratch import database
from minibatch.testing.sinks import MemorySink
from minibatch.window import Batch

#: Options of a consumer in production that have no meaning here, where it runs in place and nothing waits.
_ELSEWHERE = ('executor', 'workers', 'max_workers', 'timeout', 'backoff', 'blocking', 'background', 'queue')


@dataclass(frozen=True)
class Later:
    """Between messages: so many seconds pass, and the consumer handles what is due before and after.

    :param seconds: how many, more than 0
    :raises minibatch.errors.OptionError: it is no such number
    """

    seconds: float

    def __post_init__(self) -> None:
        seconds: Any = self.seconds
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0.001 <= seconds < float('inf'):
            raise OptionError(f'Later takes a number of seconds, 0.001 or more, not {seconds!r}')


@dataclass
class Consumed:
    """What became of messages.

    :ivar windows: those that were committed, in the order in which they were run
    :ivar results: what was handed to the sink, in order: what the function returned, or the window's data for ``None``
    :ivar dead: windows out of attempts, and messages that could be in no window
    :ivar calls: how often the function was called
    :ivar waiting: how many messages are in no window yet
    """

    windows: list[Batch] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    dead: list[DeadWindow] = field(default_factory=list)
    calls: int = 0
    waiting: int = 0


def consume(fn: Callable[..., Any], messages: Iterable[Any] = (), *, stream: Stream | None = None,
            expect_dead: bool = False, **options: Any) -> Consumed:
    """Append *messages*, run *fn* on all windows that are due, and return what became of them.

    The engine does the same as in production: messages are checked, windows cut, a window whose function raises is
    run again and dead in the end, results go to the sink before the commit. But all of it happens in this thread, by
    the time of a manual clock, which moves where there is a :class:`Later` among the messages. A retry does not wait.

    :param fn: the function, as of :func:`minibatch.streaming`
    :param messages: in order, with :class:`Later` between them where time is to pass
    :param stream: one in a :func:`database`, such as the fixture ``minibatch_stream``, with what is in it already
        (default: the stream ``'test'`` of an empty database)
    :param expect_dead: with a dead window the test fails, by the exception that *fn* raised, unless this is true
    :param options: as of :func:`minibatch.streaming`, but for ``url`` and ``source``. They may be those of production:
        ``executor``, ``workers``, ``timeout``, ``backoff``, ``blocking``, ``background`` and ``queue`` are checked,
        and have no meaning here. ``max_attempts`` is 8 here, too
    :raises minibatch.errors.OptionError: an option cannot be, or the stream is in no :func:`database`
    :raises minibatch.errors.InvalidMessage: a message cannot be stored
    :raises AssertionError: a window is dead that *fn* did not raise for, and *expect_dead* is false

    >>> def count(window):
    ...     return {'from': window.start.minute, 'n': len(window)}
    >>> consumed = consume(count, [{'n': 1}, Later(30), {'n': 2}, Later(40), {'n': 3}], interval=60, relaxed=False)
    >>> consumed.results, consumed.waiting
    ([{'from': 0, 'n': 2}], 1)
    """
    for option, why in (('url', 'stream= says where'), ('source', 'messages are what comes')):
        if options.get(option) is not None:
            raise OptionError(f'consume() takes no {option}=: {why}')
    with contextlib.nullcontext() if stream is not None else database():
        target = stream if stream is not None else api.stream('test')
        clock = target.store.clock
        if not isinstance(clock, ManualClock):
            raise OptionError(f'stream {target.name!r} is in no database for tests, so nothing was run on it: take one '
                              'that was opened within minibatch.testing.database(), or the fixture minibatch_stream')
        return _consume(fn, messages, target, clock, expect_dead, options)


def _consume(fn: Callable[..., Any], messages: Iterable[Any], stream: Stream, clock: ManualClock, expect_dead: bool,
             options: dict[str, Any]) -> Consumed:
    api.streaming(stream.name, **options)  # which checks the options, those too that have no meaning here
    given = options.get('sink')
    sink, place = MemorySink(), _InPlace()
    options = {name: value for name, value in options.items() if name not in (*_ELSEWHERE, 'sink')}
    others = list(given) if isinstance(given, (list, tuple)) else [given] if given is not None else []
    emitter = api.make_emitter(stream.name, fn, url=stream.store.connection.url, executor=place, backoff=0.0,
                               sink=[*others, sink] if others else sink, **options)
    for each in messages:
        if isinstance(each, Later):
            emitter.run(blocking=False)
            clock.advance(each.seconds)
            emitter.run(blocking=False)
        else:
            stream.append(each)
    stream.flush()
    emitter.run(blocking=False)
    dead = stream.dead.list()
    if dead and not expect_dead:
        _fail(dead, place.raised)
    gone = {each.id for each in dead}
    return Consumed([each for each in place.last.values() if each.id not in gone], sink.results, dead, place.calls,
                    int(stream.status()['waiting']))


def _fail(dead: list[DeadWindow], raised: dict[str, BaseException]) -> None:
    for each in dead:
        if each.id in raised:
            raise raised[each.id]
    first = dead[0]
    raise AssertionError(f'{first.id} is dead after {first.attempts} attempts: {first.error} (its messages: '
                         f'{first.data!r}); with expect_dead=True it would be in what consume() returns')


class _InPlace(InlineExecutor):
    """Runs windows at once, and remembers them."""

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[tuple[Any, ...], Batch] = {}
        self.raised: dict[str, BaseException] = {}
        self.calls = 0

    def run(self, fn: Function, batches: list[Any], timeout: float | None = None) -> Future[list[Outcome]]:
        def noted(batch: Batch) -> Any:
            self.calls += 1
            key = batch.id, batch.final, batch.revision, batch.late
            self.last.pop(key, None)
            self.last[key] = batch
            self.raised.pop(batch.id, None)  # an attempt before this one
            try:
                value = fn(batch)
            except BaseException as error:
                self.raised[batch.id] = error
                raise
            return self._awaited(value, batch) if inspect.iscoroutine(value) else value
        return super().run(noted, batches, timeout)

    async def _awaited(self, coroutine: Any, batch: Batch) -> Any:
        try:
            return await coroutine
        except BaseException as error:
            self.raised[batch.id] = error
            raise
