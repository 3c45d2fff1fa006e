"""One run of a user's function on one batch, and its result as data: no exception of the user escapes, none is dropped.

The same few lines run a function in a worker process, in a thread and in place, so that it behaves alike everywhere.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import pickle
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import cloudpickle

from minibatch import scope, tracing
from minibatch.logs import hidden
from minibatch.scope import Changes, Pending, Scope

Kind = Literal['ok', 'raised', 'timeout', 'died', 'pickle']
Function = Callable[[Any], Any]

#: A window document keeps the text of every failed attempt, so one text must not fill it.
LONGEST_ERROR, LONGEST_TRACEBACK = 2_000, 20_000

#: What calls a function, and all that is not the user's.
_CALLERS = (__file__, str(Path(__file__).with_name('wrapped.py')), f'{Path(asyncio.__file__).parent}{os.sep}')
_OURS = (*_CALLERS, f'{Path(__file__).parent}{os.sep}')
_local = threading.local()


@dataclass
class Outcome:
    """What became of one batch.

    :param value: what the function returned, if *kind* is ``ok``
    :param error: one line on what went wrong, else ``None``
    :param kind: ``ok``; ``raised`` an exception; ``timeout``: it ran too long; ``died``: its process did;
        ``pickle``: the function, the batch or the result could not be sent between processes
    :param traceback: the traceback as text, from the user's own frames on
    :param seconds: how long the function ran
    :param ran: false if the function has certainly not been called for this batch, so that no attempt was used up
    :param changes: what it did to tables, to be committed with its window

    >>> Outcome('hello').kind
    'ok'
    """

    value: Any = None
    error: str | None = None
    kind: Kind = 'ok'
    traceback: str | None = None
    seconds: float = 0.0
    ran: bool = True
    changes: Changes | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Whoever pickles an outcome (a process pool that is not ours) must not fail because of the value in it.
        return thaw, (freeze(self),)


def invoke(fn: Function, batch: Any, *, interruptible: bool = False, pending: Pending | None = None) -> Outcome:
    """Call *fn* on *batch*; wait for it if it is a coroutine. Never raises.

    :param interruptible: let a Ctrl-C through after all
    :param pending: what calls before this one did to tables, which it sees, and will be rejected with

    >>> invoke(len, [1, 2]).value
    2
    >>> invoke(len, 5).error
    "TypeError: object of type 'int' has no len()"
    """
    started = time.perf_counter()
    run = Scope(getattr(batch, '_url', None), batch, pending)
    entered = scope.current.set(run)
    try:
        trace = getattr(batch, '_trace', None)
        with nullcontext() if trace is None else tracing.inside(trace):
            value = fn(batch)
            if inspect.iscoroutine(value):
                value = wait_for(value)
        outcome = Outcome(value, changes=run.finish())
    except BaseException as e:  # SystemExit and KeyboardInterrupt of a function fail its window, not the consumer
        if interruptible and isinstance(e, KeyboardInterrupt):
            raise
        outcome = failure(e)
    finally:
        run.over = True
        scope.current.reset(entered)
    outcome.seconds = time.perf_counter() - started
    return outcome


def failure(e: BaseException, kind: Kind = 'raised') -> Outcome:
    """The outcome of a call that raised *e*.

    Passwords in URLs are masked.

    >>> failure(KeyError('user')).error
    "KeyError: 'user'"
    >>> failure(OSError('nobody at redis://:geheim@cache/0')).error
    'OSError: nobody at redis://:***@cache/0'
    """
    report = traceback.TracebackException(type(e), e, _users_frames(e.__traceback__))
    line = ''.join(report.format_exception_only()).strip()
    # Masked where it comes into being: it goes to the window's document, to logs, pages and traces.
    return Outcome(error=shorten(hidden(line), LONGEST_ERROR), kind=kind,
                   traceback=shorten(hidden(''.join(report.format())), LONGEST_TRACEBACK))


def shorten(text: str, limit: int) -> str:
    """Cut the middle out of *text*: what was called is at its start, what went wrong at its end.

    >>> shorten('abcdefghij', 9)
    'ab ... ij'
    """
    if len(text) <= limit:
        return text
    half = (limit - 5) // 2
    return f'{text[:half]} ... {text[-half:]}'


def pack(value: Any) -> bytes:
    """Pickle *value* for another process.

    A name in ``__main__`` means something else over there, so what refers to one travels by value.
    """
    try:
        blob = pickle.dumps(value, 5)
    except Exception:
        return bytes(cloudpickle.dumps(value, 5))
    return bytes(cloudpickle.dumps(value, 5)) if b'__main__' in blob else blob


def freeze(outcome: Outcome) -> bytes:
    """Pickle *outcome*; a value that cannot be pickled turns it into the outcome that says so."""
    try:
        value = pack(outcome.value)
    except Exception as e:
        what = type(outcome.value).__name__
        outcome = Outcome(kind='pickle', seconds=outcome.seconds, error=(
            f'the function returned something ({what}) that cannot be sent back from its worker process: {_say(e)}; '
            "return plain data such as dicts and lists, or use executor='thread'"))
        value = pack(None)
    o = outcome
    changes = o.changes if o.kind == 'ok' else None
    return pickle.dumps((value, o.error, o.kind, o.traceback, o.seconds, o.ran, changes), 5)


def thaw(blob: bytes) -> Outcome:
    """The outcome that :func:`freeze` pickled; one whose value cannot be rebuilt here says so.

    >>> thaw(freeze(Outcome('hello'))).value
    'hello'
    >>> thaw(freeze(Outcome(threading.Lock()))).kind
    'pickle'
    """
    value, error, kind, text, seconds, ran, changes = pickle.loads(blob)
    try:
        return Outcome(pickle.loads(value), error, kind, text, seconds, ran, changes)
    except Exception as e:
        return Outcome(kind='pickle', seconds=seconds, error=(
            f'the function returned something that cannot be read outside of its worker process: {_say(e)}; '
            "return plain data such as dicts and lists, or use executor='thread'"))


def close_loop() -> None:
    """Close this thread's event loop, if a coroutine function made one."""
    loop: asyncio.AbstractEventLoop | None = _local.__dict__.pop('loop', None)
    if loop is not None:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def flush_output() -> None:
    """Hand on what the function printed, before its process may be killed."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # closed, or never there: nothing to lose
            stream.flush()


def wait_for(coroutine: Any) -> Any:
    """Run a coroutine to its end, in this thread's event loop, and answer what it returns."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:  # in place, inside of a notebook's loop
        with ThreadPoolExecutor(1) as aside:
            return aside.submit(contextvars.copy_context().run, asyncio.run, coroutine).result()
    # One loop per thread, not per call: what the function keeps open (HTTP sessions, drivers) belongs to a loop.
    loop: asyncio.AbstractEventLoop | None = getattr(_local, 'loop', None)
    if loop is None or loop.is_closed():
        loop = _local.loop = asyncio.new_event_loop()
    return loop.run_until_complete(coroutine)


def _users_frames(tb: TracebackType | None) -> TracebackType | None:
    # What was raised in a part of ours, such as an operator or a sink, is told from there on.
    return _past(tb, _OURS) or _past(tb, _CALLERS)


def _past(tb: TracebackType | None, places: tuple[str, ...]) -> TracebackType | None:
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(places):
        tb = tb.tb_next
    return tb


def _say(e: BaseException) -> str:
    return shorten(hidden(f'{type(e).__name__}: {e}'), 500)
