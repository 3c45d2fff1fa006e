"""Consuming a stream from a test: in place and in one pass, or in the background until something has happened."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import minibatch as mb


def passed(stream: mb.Stream, fn: Callable[[Any], Any] | None = None, **options: Any) -> list[list[Any]]:
    """One pass over what is due; the data of the windows that *fn* got, in the order in which it got them."""
    got: list[list[Any]] = []

    def work(window: Any) -> Any:
        got.append(window.data)
        return fn(window) if fn is not None else None

    stream.streaming(work, **{'executor': 'inline', 'blocking': False, 'backoff': 0, **options})
    return got


@contextlib.contextmanager
def running(stream: mb.Stream, fn: Callable[[Any], Any], **options: Any) -> Iterator[Any]:
    """A consumer in the background; its emitter."""
    emitter = stream.streaming(fn, **{'executor': 'inline', 'background': True, 'backoff': 0.01, **options})
    try:
        yield emitter
    finally:
        emitter.stop()
