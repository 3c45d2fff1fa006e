"""Functions that users give to operators: plain ones, coroutine functions, and lists of these, all called alike."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CoroutineType
from typing import Any

from minibatch.errors import OptionError
from minibatch.operators.rows import Failed
from minibatch.outcome import wait_for

Function = Callable[..., Any]


class Call:
    """A user's function, or several that are applied in order.

    :param given: a function, a coroutine function, or a list of these
    :param what: how to name it if it is none
    :raises minibatch.errors.OptionError: it is none

    >>> Call([str.strip, str.upper], 'map').each([' a', 'b '])
    ['A', 'B']
    """

    def __init__(self, given: Any, what: str) -> None:
        functions = list(given) if isinstance(given, (list, tuple)) else [given]
        if not functions or not all(callable(each) for each in functions):
            raise OptionError(f'{what} takes a function of a message, or a list of functions that are applied in '
                              f'order, not {given!r}')
        self.functions: Sequence[Function] = functions

    def __str__(self) -> str:
        names = [name_of(each) for each in self.functions]
        return names[0] if len(names) == 1 else f'[{", ".join(names)}]'

    def __call__(self, value: Any) -> Any:
        """What becomes of one value."""
        return self.each([value])[0]

    def each(self, values: Sequence[Any]) -> list[Any]:
        """What becomes of each of *values*; coroutines are awaited, one after another.

        :raises Failed: the function raised
        """
        results = list(values)
        for function in self.functions:
            results = apply(function, results)
        return results


def apply(function: Function, values: Sequence[Any]) -> list[Any]:
    """Call *function* on each value.

    :raises Failed: it raised
    """
    results: list[Any] = []
    try:
        if waits(function):
            wait_for(_each(function, values, results))
        else:
            for value in values:
                results.append(function(value))
    except Exception as error:
        raise Failed(len(results)) from error
    if CoroutineType in set(map(type, results)):  # of a plain function that returns what it does not await
        coroutines, results = results, []
        try:
            wait_for(_await(coroutines, results))
        except Exception as error:
            raise Failed(len(results)) from error
    return results


def waits(function: Function) -> bool:
    """Whether it is a coroutine function."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, '__call__', None))  # noqa: B004


async def _each(function: Function, values: Sequence[Any], results: list[Any]) -> None:
    for value in values:
        results.append(await function(value))


async def _await(coroutines: Sequence[Any], results: list[Any]) -> None:
    try:
        for each in coroutines:
            results.append(await each if inspect.iscoroutine(each) else each)
    finally:
        for each in coroutines[len(results):]:
            if inspect.iscoroutine(each):
                each.close()


def name_of(function: Any) -> str:
    """How to call a function in what people read.

    >>> name_of(len), name_of(functools.partial(int, base=2))
    ('len', 'partial(int)')
    """
    if isinstance(function, functools.partial):
        return f'partial({name_of(function.func)})'
    code = getattr(function, '__code__', None)
    name = getattr(function, '__qualname__', None)
    if code is not None and name is not None and name.endswith('<lambda>'):
        return f'lambda at {Path(code.co_filename).name}:{code.co_firstlineno}'
    if name is None:
        return type(function).__qualname__
    return str(name.rpartition('<locals>.')[2])
