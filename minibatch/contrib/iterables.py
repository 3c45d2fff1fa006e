"""Anything that can be iterated over, as a source."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from minibatch.contrib.inlet import Inlet
from minibatch.contrib.reconnect import detached
from minibatch.errors import OptionError


class IterableSource:
    """What an iterable yields, as a source; made by :func:`minibatch.source`.

    :param rows: an iterable, or a function without arguments that makes one
    :param name: if given, how many of its items are in the stream is stored with them
    :raises minibatch.errors.OptionError: it is no iterable
    """

    def __init__(self, rows: Iterable[Any] | Callable[[], Iterable[Any]], name: str | None = None) -> None:
        if isinstance(rows, (Mapping, str, bytes, bytearray)) or not (isinstance(rows, Iterable) or callable(rows)):
            raise OptionError('a source is an object with stream(stream) and cancel(), or an iterable of messages, '
                              f'not a value of type {type(rows).__name__}')
        self.rows, self.name = rows, name
        self.cancelled = threading.Event()
        self._used = False

    def __repr__(self) -> str:
        return f'source({type(self.rows).__name__}{f", name={self.name!r}" if self.name else ""})'

    def stream(self, stream: Any) -> None:
        """Append what it yields, until it ends or :meth:`cancel` is called.

        :raises minibatch.errors.OptionError: it is an iterator that was begun before, and has a name: it cannot tell
            which items to pass over
        """
        if self._used and self.name and isinstance(self.rows, Iterator):
            raise OptionError(f'{self!r} is an iterator that was begun already: give mb.source() a list, or the '
                              'function that makes the iterator')
        self._used = True
        with Inlet(stream, self.name, cancelled=self.cancelled, replays=self.name is not None) as inlet:
            detached(lambda: self._pump(inlet), self.cancelled)

    def cancel(self) -> None:
        """Stop within a second; what was taken from the iterable is stored."""
        self.cancelled.set()

    def _pump(self, inlet: Inlet) -> None:
        rows = iter(self.rows() if callable(self.rows) and not isinstance(self.rows, Iterable) else self.rows)
        done = 0 if self.name is None else inlet.open() or 0
        for number, row in enumerate(islice(rows, done, None), done + 1):
            if self.name is None:
                inlet.add(row)  # before it looks whether it was cancelled: nobody brings this one again
            if self.cancelled.is_set():
                return
            if self.name is not None:
                inlet.add(row, number)
            if number % 1000 == 0:
                inlet.durable()  # there is nobody to tell


def as_source(given: Any) -> Any:
    """*given*, if it is a source; else a source of what it yields.

    >>> as_source(range(3))
    source(range)
    >>> as_source(3)
    Traceback (most recent call last):
    minibatch.errors.OptionError: a source is an object with stream(stream) and cancel(), or an iterable of ...
    """
    if callable(getattr(given, 'stream', None)):
        return given  # one without cancel() ends when it ends: programs written for the original have such
    return IterableSource(given)
