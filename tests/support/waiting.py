"""Waiting for a condition, which is the only thing that tests wait for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

#: However busy the machine is, nothing is waited for longer than so many times what it takes where it is not.
MOST = 4.0


def patience(seconds: float) -> float:
    """*seconds*, as they are on this machine now: with twice as many that want to run as CPUs, twice as many."""
    return seconds * min(MOST, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))


def wait_until(condition: Callable[[], Any], timeout: float = 10.0, *, what: str = '', every: float = 0.02) -> Any:
    """Call *condition* until it is true and return its value.

    :param condition: called about every *every* seconds, a little less often as time goes by
    :param timeout: seconds after which an :class:`AssertionError` says *what* did not happen, with :func:`patience`
    """
    end = time.monotonic() + max(timeout, min(60.0, patience(timeout)))
    pause = every
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f'waited {timeout:g} s in vain for {what or condition}')
        time.sleep(pause)
        pause = min(pause * 1.1, 0.2)
