"""One agent: a function, the stream it consumes, how, and where its results go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from minibatch import api
from minibatch.app.handles import AppStream
from minibatch.app.kinds import AsyncYielding, Yielding, bare, check_function, iterates, yields
from minibatch.errors import OptionError, did_you_mean

log = logging.getLogger('minibatch')

#: Options of ``mb.streaming`` that an app has other words for, or none.
_NOT_HERE = {
    'blocking': "the app's worker runs its agents", 'background': "the app's worker runs its agents",
    'queue': "the app's worker runs its agents", 'url': 'it is given to the app',
    'buffer_size': 'it is called size=', 'max_workers': 'it is called workers=',
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Agent:
    """One agent of an app.

    :ivar name: unique in its app
    :ivar fn: what was decorated
    :ivar stream: what it consumes
    :ivar options: as of :func:`minibatch.streaming`
    :ivar sinks: where its results go, besides
    :ivar then: the agents that they go to, by name or as functions
    :ivar atomic_send: whether the items of a list are sent one by one
    :ivar source: feeds its stream while it runs
    :ivar iterating: whether *fn* iterates over its windows, and is not called with each
    """

    name: str
    fn: Callable[..., Any]
    stream: AppStream
    options: dict[str, Any] = field(default_factory=dict)
    sinks: Sequence[Any] = ()
    then: Sequence[Any] = ()
    atomic_send: bool | None = None
    source: Any = None
    iterating: bool = False

    @property
    def function(self) -> Callable[..., Any]:
        """What the consumer calls with each window."""
        if self.iterating or not yields(self.fn):
            return self.fn
        return AsyncYielding(self.fn) if _is_async(self.fn) else Yielding(self.fn)

    @property
    def kind(self) -> str:
        """What it is, in a word."""
        return 'iterator' if self.iterating else 'function'

    def check(self) -> None:
        """Refuse what cannot work, before anything is started.

        :raises minibatch.errors.OptionError: of what the definition says
        """
        for option, why in _NOT_HERE.items():
            if option in self.options:
                raise OptionError(f'agent {self.name!r} takes no {option}=: {why}')
        if self.atomic_send is not None and not isinstance(self.atomic_send, bool):
            raise OptionError(f'agent {self.name!r}: atomic_send must be True or False, not {self.atomic_send!r}')
        for sink in self.sinks:
            if not (callable(getattr(sink, 'put', sink)) or hasattr(sink, 'extend')):
                raise OptionError(f'agent {self.name!r}: a sink is a stream, an object with put(message), or a '
                                  f'callable, not {sink!r}')
        if self.iterating and 'executor' in self.options:
            raise OptionError(f'agent {self.name!r} iterates, so it lives in the process of the worker and takes no '
                              'executor=; workers= says how many iterators there are')
        if self.iterating and 'as_' in self.options:
            raise OptionError(f'agent {self.name!r} iterates over windows, not frames, so it takes no as_=; a window '
                              'has to_pandas(), to_polars() and to_arrow()')
        if self.iterating and not yields(self.fn) and (self.sinks or self.then):
            raise OptionError(f'agent {self.name!r} iterates and yields nothing, so there is nothing to send to '
                              'then= or sinks=; let it yield its results')
        try:
            api.streaming(self.stream.name, **self.options)
        except OptionError as error:
            raise OptionError(f'agent {self.name!r}: {error}') from None


def _is_async(fn: Callable[..., Any]) -> bool:
    import inspect
    return inspect.isasyncgenfunction(bare(fn))


def make_agent(fn: Any, name: str | None, stream: AppStream | None, default_stream: Callable[[str], AppStream],
               iterate: bool | None, options: dict[str, Any], **rest: Any) -> Agent:
    """An agent of what its decorator was given, checked.

    :raises minibatch.errors.OptionError: it cannot be
    """
    name = name or getattr(bare(fn), '__name__', None) or type(fn).__name__
    check_function(fn, name, 2 if 'as_' in options else 1)
    agent = Agent(name=name, fn=fn, stream=stream or default_stream(name), options=options,
                  iterating=iterates(fn) if iterate is None else bool(iterate), **rest)
    agent.check()
    return agent


def several(given: Any) -> tuple[Any, ...]:
    """What may be given as one, as a list, or not at all.

    >>> several(None), several('a'), several(['a', 'b'])
    ((), ('a',), ('a', 'b'))
    """
    return () if given is None else tuple(given) if isinstance(given, (list, tuple)) else (given,)


def successors(agent: Agent, agents: dict[str, Agent]) -> list[Agent]:
    """The agents that the results of one go to.

    :raises minibatch.errors.OptionError: there is no such agent
    """
    found = []
    for given in agent.then:
        named = given if isinstance(given, str) else next(
            (each.name for each in agents.values() if each.fn is given), repr(given))
        if named not in agents:
            raise OptionError(f'agent {agent.name!r} has then={named!r}, and the app has no agent of that name'
                              f'{did_you_mean(named, agents)}; for a stream that others consume, give '
                              f"sinks=[app.stream('...')]")
        found.append(agents[named])
    return found


def following(agent: Agent, agents: dict[str, Agent]) -> list[Agent]:
    """All agents that results of one may come to in the end; itself, too, if they go in a circle."""
    found: list[Agent] = []
    todo = successors(agent, agents)
    while todo:
        each = todo.pop()
        if each not in found:
            found.append(each)
            todo += successors(each, agents)
    return found
