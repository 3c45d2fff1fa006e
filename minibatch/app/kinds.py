"""What kind of function an agent is: one that is called with each window, or one that iterates over all of them."""

from __future__ import annotations

import contextlib
import dis
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from minibatch.app.outlet import Results
from minibatch.errors import OptionError

#: Methods of :class:`minibatch.app.Windows` that a window does not have.
ITS_OWN = ('messages', '__aiter__', '__anext__')


def iterates(fn: Callable[..., Any]) -> bool:
    """Whether *fn* is an async function that iterates over its first argument with ``async for``.

    That is looked up in its bytecode, so it works without source code as well. What it cannot see is an iteration
    by way of another name, or of another function that is given the argument; say ``iterate=True`` then.

    >>> async def over(windows):
    ...     async for window in windows:
    ...         print(window.data)
    >>> async def one(window):
    ...     async for row in fetched(window.data):
    ...         print(row)
    >>> iterates(over), iterates(one), iterates(len)
    (True, False, False)
    """
    plain = bare(fn)
    if not (inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain)):
        return False
    name = next(iter(inspect.signature(plain).parameters), None)
    if inspect.ismethod(plain):
        plain = plain.__func__
    steps = list(dis.get_instructions(plain.__code__))
    for at, step in enumerate(steps):
        if step.opname == 'GET_AITER' and _bare_load(steps, at, name):
            return True
        if step.opname in ('LOAD_ATTR', 'LOAD_METHOD') and step.argval in ITS_OWN and _loads(steps[at - 1], name):
            return True
    return False


def bare(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself of a decorated one, a partial, or an object with ``__call__``."""
    while hasattr(fn, 'func'):
        fn = fn.func
    fn = inspect.unwrap(fn)
    called: Any = getattr(fn, '__call__', None)  # noqa: B004
    is_object = not inspect.isroutine(fn) and not inspect.isclass(fn) and inspect.ismethod(called)
    return inspect.unwrap(called) if is_object else fn


def _loads(step: dis.Instruction, name: str | None) -> bool:
    """Whether an instruction puts the variable on the stack last."""
    given = step.argval[-1] if isinstance(step.argval, tuple) else step.argval
    return step.opname.startswith('LOAD_') and given == name


def _bare_load(steps: list[dis.Instruction], at: int, name: str | None) -> bool:
    """Whether ``async for`` goes over the variable itself, or over an expression that it is the first part of."""
    depth = 0
    for step in reversed(steps[:at]):
        if step.opname in ('RESUME', 'CACHE', 'STORE_FAST', 'POP_TOP', 'RETURN_VALUE'):
            return False
        depth += dis.stack_effect(step.opcode, step.arg, jump=False)
        if _loads(step, name):
            return depth == 1
        if depth >= 1:
            return False
    return False


def yields(fn: Callable[..., Any]) -> bool:
    """Whether *fn* sends results by ``yield``.

    >>> yields(lambda window: (yield 1)), yields(len)
    (True, False)
    """
    plain = bare(fn)
    return inspect.isasyncgenfunction(plain) or inspect.isgeneratorfunction(plain)


class Yielding:
    """A generator function of a window as a function that returns what it yields.

    >>> def words(window):
    ...     for line in window:
    ...         yield from line.split()
    >>> Yielding(words)(['a b', 'c'])
    ['a', 'b', 'c']
    """

    def __init__(self, fn: Callable[[Any], Iterator[Any]]) -> None:
        self.fn = fn

    def __call__(self, batch: Any) -> Results:
        """All that it yields for a window."""
        return Results(self.fn(batch))


class AsyncYielding:
    """The same for an async generator function."""

    def __init__(self, fn: Callable[[Any], Any]) -> None:
        self.fn = fn

    async def __call__(self, batch: Any) -> Results:
        """All that it yields for a window."""
        return Results([value async for value in self.fn(batch)])


def check_function(fn: Any, name: str, most: int = 1) -> None:
    """Refuse what cannot be called with one argument, or as many as *most*.

    :raises minibatch.errors.OptionError: it cannot
    """
    if not callable(fn):
        raise OptionError(f'agent {name!r} must be a function that takes a window, not {fn!r}')
    try:
        signature = inspect.signature(fn)
    except ValueError:
        return  # a function of C that does not tell
    for n in range(1, most + 1):
        with contextlib.suppress(TypeError):
            signature.bind(*range(n))
            return
    raise OptionError(f'agent {name!r} must take one argument: a window, or, if it iterates, the windows')
