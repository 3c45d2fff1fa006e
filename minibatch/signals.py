"""Ctrl-C and SIGTERM end a consumer cleanly."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Protocol

Handler = Callable[[int, FrameType | None], None]


class Stoppable(Protocol):
    """What a signal stops."""

    _stop: bool


@contextlib.contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """While this lasts, Ctrl-C and SIGTERM call *handler*; afterwards, what they called before.

    Only in the main thread, where Python handles signals; elsewhere it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


def stopped_by_signals(emitter: Stoppable) -> contextlib.AbstractContextManager[None]:
    """While this lasts, the first Ctrl-C or SIGTERM asks *emitter* to stop, and a second one does not wait for it."""
    def ask(number: int, frame: FrameType | None) -> None:
        # Only a flag is set here: the signal may have come in the middle of anything, with locks held.
        if emitter._stop:
            raise KeyboardInterrupt
        emitter._stop = True

    return handled_by(ask)
