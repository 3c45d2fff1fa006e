"""Waiting for a condition, which is the only thing that tests wait for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def wait_until(condition: Callable[[], Any], timeout: float = 10.0, *, what: str = '', every: float = 0.02) -> Any:
    """Call *condition* until it is true and return its value.

    :param condition: called about every *every* seconds, a little less often as time goes by
    :param timeout: seconds after which an :class:`AssertionError` says *what* did not happen
    """
    end = time.monotonic() + timeout
    pause = every
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f'waited {timeout:g} s in vain for {what or condition}')
        time.sleep(pause)
        pause = min(pause * 1.1, 0.2)
