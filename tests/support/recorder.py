"""A store that only records, for what the writer decides by itself, and small helpers to append with."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

from minibatch.clock import ManualClock
from minibatch.writer import Writer

NEVER = 3600.0


class Recorder:
    """A store that keeps what it gets, fails when told to and can be held up."""

    def __init__(self) -> None:
        self.clock = ManualClock(dt.datetime(2026, 1, 31))
        self.calls: list[list[dict[str, Any]]] = []
        self.tries: list[list[Any]] = []
        self.counts = 0
        self.consumed = 0
        self.error: Exception | None = None
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()

    def append(self, docs: list[dict[str, Any]], patience: float = 5.0) -> None:
        self.tries.append([doc['_id'] for doc in docs])
        self.entered.set()
        self.open.wait()
        if self.error is not None:
            raise self.error
        self.calls.append(list(docs))

    def count_free(self, stream: str, limit: int = 0) -> int:
        self.counts += 1
        if self.error is not None:
            raise self.error
        n = len(self.stored) - self.consumed
        return min(n, limit) if limit else n

    @property
    def stored(self) -> list[Any]:
        return [doc['data']['i'] for call in list(self.calls) for doc in call]

    @property
    def sizes(self) -> list[int]:
        return [len(call) for call in self.calls]


def rows(n: int, start: int = 0) -> list[dict[str, Any]]:
    return [{'i': i} for i in range(start, start + n)]


def append(writer: Writer, n: int, start: int = 0) -> None:
    for row in rows(n, start):
        writer.append(row)


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Start *call* in a thread; what it returns or raises comes into the list."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(call())
        except Exception as exc:
            result.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, result
