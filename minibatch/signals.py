"""Ctrl-C and SIGTERM end a consumer cleanly."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Protocol

log = logging.getLogger('minibatch')


class Stoppable(Protocol):
    """What a signal stops."""

    _stop: bool


@contextlib.contextmanager
def stopped_by_signals(emitter: Stoppable) -> Iterator[None]:
    """While this lasts, the first Ctrl-C or SIGTERM asks *emitter* to stop, and a second one does not wait for it.

    Only in the main thread, where Python handles signals; elsewhere it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        # Only a flag is set here: the signal may have come in the middle of anything, with locks held.
        if emitter._stop:
            raise KeyboardInterrupt
        emitter._stop = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
