"""What the runner puts around a user's function before it is sent to where it runs."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutine
from typing import Any

from minibatch.window.base import Batch


class Quiet:
    """A function whose result nobody wants, so that it need not be sent between processes.

    >>> Quiet(len)(Batch('clicks:1', 'clicks', [{}]))
    """

    def __init__(self, fn: Callable[[Any], Any]) -> None:
        self.fn = fn

    def __call__(self, batch: Batch) -> Any:
        """Nothing, once the function has run."""
        result = self.fn(batch)
        return _nothing(result, None) if iscoroutine(result) else None


class OrLate:
    """A function for windows, and another one for messages that came too late for theirs.

    >>> both = OrLate(len, lambda messages, start, end, key: print(messages, key))
    >>> both(Batch('clicks:1', 'clicks', [{}]))
    1
    >>> both(Batch('clicks:2', 'clicks', [{}], key='ann', late=True))
    [{}] ann
    []
    """

    def __init__(self, fn: Callable[[Any], Any], late: Callable[..., Any]) -> None:
        self.fn, self.late = fn, late

    def __call__(self, batch: Batch) -> Any:
        """The result of the one; of the other one nothing is for a sink."""
        if not batch.late:
            return self.fn(batch)
        result = self.late(batch.data, batch.start, batch.end, batch.key)
        return _nothing(result, []) if iscoroutine(result) else []


async def _nothing(result: Any, instead: Any) -> Any:
    await result
    return instead
