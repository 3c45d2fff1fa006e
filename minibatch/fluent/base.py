"""What the operators are methods of."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from minibatch.errors import OptionError, did_you_mean

if TYPE_CHECKING:
    from minibatch.operators.pipeline import Pipeline

P = ParamSpec('P')
R = TypeVar('R')
T = TypeVar('T')


class Fluent:
    """Something that a pipeline may begin with."""

    def _pipeline(self) -> Pipeline:
        """The pipeline that an operator adds to."""
        raise NotImplementedError


def suggesting(method: Callable[P, R]) -> Callable[P, R]:
    """Let a function refuse arguments that it does not have by saying which one may be meant.

    >>> @suggesting
    ... def top(n, by=None): ...
    >>> top(3, bye='ms')
    Traceback (most recent call last):
    minibatch.errors.OptionError: top() has no argument 'bye'; did you mean by?
    """
    parameters = inspect.signature(method).parameters.values()
    names = [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return method

    @functools.wraps(method)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in names:
                raise OptionError(f'{method.__name__}() has no argument {name!r}{did_you_mean(name, names)}')
        return method(*args, **kwargs)

    return checked


def operators(cls: type[T]) -> type[T]:
    """A class whose public methods are all :func:`suggesting`."""
    for name, method in list(vars(cls).items()):
        if inspect.isfunction(method) and not name.startswith('_'):
            setattr(cls, name, suggesting(method))
    return cls
