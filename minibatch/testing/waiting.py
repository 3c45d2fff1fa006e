"""Waiting for a condition, which is what tests wait for instead of a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar('T')


def wait_until(condition: Callable[[], T], timeout: float = 10.0, *, what: str = '') -> T:
    """Call *condition* until what it returns is true, and return that.

    For tests of what runs in the background. It is called every few hundredths of a second, a little less often as
    time goes by.

    :param condition: a function without arguments
    :param timeout: seconds (default: 10)
    :param what: what is waited for, for the error's text (default: the function's name)
    :raises AssertionError: it was not true within *timeout* seconds

    >>> wait_until(lambda: 'there')
    'there'
    >>> wait_until(lambda: [], 0.01, what='the first message')
    Traceback (most recent call last):
    AssertionError: waited 0.01 s in vain for the first message; the condition returned []
    """
    end = time.monotonic() + timeout
    pause = 0.01
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            name: Any = what or getattr(condition, '__name__', condition)
            raise AssertionError(f'waited {timeout:g} s in vain for {name}; the condition returned {value!r}')
        time.sleep(pause)
        pause = min(pause * 1.1, 0.2)
