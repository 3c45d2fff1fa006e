"""A sink that keeps what it gets."""

from __future__ import annotations

import threading
from typing import Any

from minibatch.errors import OptionError


class MemorySink:
    """Keeps what a consumer hands to it, in this process's memory: for tests and notebooks.

    :param fails: how often :meth:`put` raises first, to see what happens then: the window is run again
    :ivar results: what it got, in order, a result of a window each
    :raises minibatch.errors.OptionError: *fails* is no number

    >>> sink = MemorySink(fails=1)
    >>> sink.put({'n': 1})
    Traceback (most recent call last):
    ConnectionError: this MemorySink was told to fail: 0 times more
    >>> sink.put([{'n': 1}, {'n': 2}])
    >>> sink.results, sink.messages
    ([[{'n': 1}, {'n': 2}]], [{'n': 1}, {'n': 2}])
    """

    def __init__(self, fails: int = 0) -> None:
        if isinstance(fails, bool) or not isinstance(fails, int) or fails < 0:
            raise OptionError(f'fails must be how often put() raises, a whole number, 0 or more, not {fails!r}')
        self.results: list[Any] = []
        self._fails = fails
        self._lock = threading.Lock()

    def put(self, message: Any) -> None:
        """Keep a result.

        :raises ConnectionError: it was told to fail
        """
        with self._lock:
            if self._fails:
                self._fails -= 1
                raise ConnectionError(f'this MemorySink was told to fail: {self._fails} times more')
            self.results.append(message)

    @property
    def messages(self) -> list[Any]:
        """What it got, one by one: the items of a result that is a list."""
        with self._lock:
            return [each for result in self.results for each in (result if isinstance(result, list) else [result])]

    def clear(self) -> None:
        """Forget what it got."""
        with self._lock:
            self.results.clear()

    def __len__(self) -> int:
        return len(self.results)

    def __repr__(self) -> str:
        return f'<MemorySink: {len(self)} results>'
