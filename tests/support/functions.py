"""Window functions and sinks that write down what they get, and misbehave in a chosen way.

They are objects with nothing but data in them, so that they travel to any worker process.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .log import Log


@dataclass
class Record:
    """Write down the window, then misbehave as told.

    :ivar seconds: how long to work
    :ivar fault: ``raise``, ``hang``, ``exit``, ``kill``, ``memory``, ``unpicklable``, or empty
    :ivar on: only for windows with the message of this id; None for every window
    :ivar attempts: misbehave in the first so many attempts only; None for all of them
    :ivar returns: what to return; ``unpicklable`` for something that cannot leave the process
    """

    log: Log
    seconds: float = 0.0
    fault: str = ''
    on: str | None = None
    attempts: int | None = None

    def __call__(self, window: Any) -> Any:
        members = [m['id'] for m in window.data]
        self.log.write('run', window=str(window.id), attempt=window.attempt, members=members,
                       start=str(window.start), end=str(window.end))
        if self.seconds:
            time.sleep(self.seconds)
        result = None
        if self.fault and (self.on is None or self.on in members) and (
                self.attempts is None or window.attempt <= self.attempts):
            result = misbehave(self.fault)
        self.log.write('returned', window=str(window.id), attempt=window.attempt)
        return result


@dataclass
class Summary:
    """One row for each window: which one, how many messages, and what a field of theirs sums up to.

    :ivar field: a number, which may be missing
    """

    field: str

    def __call__(self, window: Any) -> dict[str, Any]:
        given = [message[self.field] for message in window.data if message[self.field] is not None]
        return {'_id': str(window.id), 'start': window.start, 'end': window.end, 'key': window.key,
                'n': len(window), 'given': len(given), 'total': sum(given), 'most': max(given, default=None)}


def misbehave(how: str) -> Any:
    if how == 'raise':
        raise RuntimeError('the function raises, as told')
    if how == 'hang':
        time.sleep(3600)
    elif how == 'exit':
        os._exit(3)
    elif how == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == 'memory':
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        hoard = []
        while True:
            hoard.append(bytearray(64 << 20))
    elif how == 'unpicklable':
        return Unpicklable()
    else:
        raise ValueError(how)
    return None


class Unpicklable:
    def __reduce__(self) -> str:
        raise TypeError('this object cannot be pickled, as told')


@dataclass
class Count:
    """Count each message in a table, as anybody would write it.

    :ivar keys: over how many keys: 1 for a single one that all windows want
    """

    table: Any
    keys: int = 1

    def __call__(self, window: Any) -> None:
        for message in window:
            self.table[message['n'] % self.keys] += 1
            self.table.add('all')


@dataclass
class CountInWindows:
    """Count each message in the window of a windowed table that its ``ts`` is in; its end goes into another table."""

    table: Any

    def __call__(self, window: Any) -> None:
        for message in window:
            self.table[message['n'] % 2] += 1


@dataclass
class Close:
    """Add a window's value to a total, and write down that it was told of it."""

    log: Log
    totals: Any

    def __call__(self, key: Any, value: int, start: Any, end: Any) -> None:
        self.totals[key] += value
        self.log.write('closed', key=key, start=str(start))


def make(options: dict[str, Any], log: Log, url: str | None = None) -> Any:
    if 'count' in options:
        import minibatch as mb
        options = dict(options)
        return Count(mb.table(options.pop('count'), default=int, url=url), **options)
    if 'close' in options:
        import minibatch as mb
        close = Close(log, mb.table('totals', default=int, url=url))
        table = mb.table(options['close'], default=int, url=url).tumbling(60, on_window_close=close)
        return CountInWindows(table.relative_to_field('ts'))
    if 'summary' in options:
        return Summary(options['summary'])
    return Record(log, **options)


class Sink:
    """A plain sink: one line in the log for each put.

    :param fail: ``always``, ``once in two``, ``hang``, or the path of a file while whose existence it raises
    """

    def __init__(self, log: Log, fail: str = '', seed: int = 0) -> None:
        self.log = log
        self.fail = fail
        self.random = random.Random(seed)

    def put(self, message: Any) -> None:
        messages = message if isinstance(message, list) else [message]
        if self.fail:
            self.misbehave()
        self.log.write('put', ids=[m['id'] for m in messages])

    def misbehave(self) -> None:
        if self.fail == 'hang':
            time.sleep(3600)
        down = self.fail == 'always' or (self.fail == 'once in two' and self.random.random() < 0.5) or (
            self.fail.startswith('/') and Path(self.fail).exists())
        if down:
            self.log.write('sink failed')
            raise ConnectionError('the sink is down, as told')
