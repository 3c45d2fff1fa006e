"""Apps: agents, streams and tables of one program, and the command that runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from minibatch import api, worker
from minibatch.app.agents import Agent, make_agent, several, successors
from minibatch.app.handles import AppStream, name_of
from minibatch.app.outlet import Results
from minibatch.app.windows import Windows
from minibatch.errors import OptionError
from minibatch.table import Table, table

__all__ = ['Agent', 'App', 'AppStream', 'Results', 'Windows']

F = TypeVar('F', bound=Callable[..., Any])


class App:
    """Agents that consume streams, and hand their results on to each other and to sinks.

    Defining an app connects to nothing and starts nothing; ``app.main()`` at the end of its file makes that a command:
    ``python app.py worker`` runs its agents, ``python app.py --help`` tells of the others.

    :param name: of the app
    :param url: its database (default: as :func:`minibatch.connectdb` finds it)
    :param defaults: options of :func:`minibatch.streaming` for all its agents, such as ``workers`` or ``max_attempts``
    :ivar agents: its agents, by name
    :ivar streams: its streams, by name
    :ivar tables: its tables, by name
    :raises minibatch.errors.OptionError: an option is not known, or its value cannot be

    >>> app = App('docs-app')
    >>> @app.agent('docs-lines', size=2, executor='inline', then='count')
    ... def split(window):
    ...     return [{'word': word} for line in window for word in line['text'].split()]
    >>> counts = []
    >>> @app.agent(size=3, executor='inline', sinks=[counts.append])
    ... def count(window):
    ...     return len(window)
    >>> app.stream('docs-lines').extend([{'text': 'to be'}, {'text': 'or not to be'}])
    2
    >>> with app.start() as running:
    ...     running.wait(lambda: len(counts) == 2)
    >>> counts
    [3, 3]
    """

    def __init__(self, name: str, url: str | None = None, **defaults: Any) -> None:
        api.streaming(name, **defaults)  # which checks the name and the options
        self.name, self.url, self.defaults = name, url, defaults
        self.agents: dict[str, Agent] = {}
        self.streams: dict[str, AppStream] = {}
        self.tables: dict[str, Table] = {}

    def __repr__(self) -> str:
        return f'App({self.name!r})'

    def __reduce__(self) -> tuple[Any, ...]:
        # An agent that uses the app in a worker process needs its streams and tables there, and not its agents.
        return _again, (self.name, self.url, self.defaults)

    def stream(self, name: str, **options: Any) -> AppStream:
        """A stream, opened when it is used.

        :param name: of the stream, the same as for :func:`minibatch.stream`
        :param options: as of :func:`minibatch.stream`, but for ``url``, which is the app's
        :raises minibatch.errors.OptionError: the stream was defined with other options before
        """
        known = self.streams.get(name)
        if known is None:
            known = self.streams[name] = AppStream(name, self.url, **options)
        elif options and options != known.options:
            if known.options:
                raise OptionError(f'stream {name!r} of this app has the options {known.options!r} already; give them '
                                  'in one place')
            known.options = options
        return known

    def table(self, name: str, default: Any = None, **options: Any) -> Table:
        """A table: a dict that is kept in MongoDB, and that changes together with the windows of agents that use it.

        :param name: of the table, the same as for :func:`minibatch.table`
        :param default: what a key that is not there has for its value: a function such as ``int``, or the value
        :param options: as of :func:`minibatch.table`, but for ``url``, which is the app's
        :raises minibatch.errors.OptionError: the app has a table of that name
        """
        if name in self.tables:
            raise OptionError(f'this app has a table {name!r} already; define it in one place')
        self.tables[name] = made = table(name, default, url=self.url, **options)
        return made

    def agent(self, stream: Any = None, *, name: str | None = None, then: Any = None, sinks: Iterable[Any] = (),
              atomic_send: bool | None = None, source: Any = None, iterate: bool | None = None,
              **options: Any) -> Callable[[F], F]:
        """Make a function an agent of this app; the function itself stays as it is.

        An agent is a function of a window, like any that :func:`minibatch.streaming` runs, in worker processes; or a
        coroutine function of a window; or an async function that iterates over its windows,
        ``async for window in windows``, and lives in the worker's own process. What it returns, or yields, is its
        result.

        :param stream: what it consumes: a name, or ``app.stream(name)`` (default: a stream of its own, named
            ``'<app>.<agent>'``)
        :param name: of the agent (default: the function's)
        :param then: the agent, or agents, that its results go to: names, or functions. They are written into the
            streams of these in the transaction that commits the window, so each arrives exactly once
        :param sinks: what its results go to, besides: streams, callables, objects with ``put``
        :param atomic_send: ``True``: the items of a list are sent one by one; ``False``: a list is sent as one
            (default: one by one to agents and streams, as one to sinks)
        :param source: feeds the stream in each process that runs the agent, while it does
        :param iterate: whether the function iterates over its windows, for those where that cannot be seen (default:
            whether it has ``async for`` over its argument)
        :param options: as of :func:`minibatch.streaming`
        :raises minibatch.errors.OptionError: of what the definition says
        """
        if callable(stream) and not hasattr(stream, 'append'):
            raise OptionError("app.agent needs brackets: @app.agent('stream'), or @app.agent() for a stream of its own")
        given = None if stream is None else self.stream(name_of(stream))

        def define(fn: F) -> F:
            agent = make_agent(fn, name, given, lambda own: self.stream(f'{self.name}.{own}'), iterate,
                               {**self._defaults_for(fn, iterate), **options}, then=several(then),
                               sinks=several(sinks), atomic_send=atomic_send, source=source)
            self._add(agent)
            return fn
        return define

    def start(self, agents: Iterable[str] | None = None) -> Any:
        """Run agents in the background.

        :param agents: names (default: all)
        :return: the :class:`minibatch.app.running.Worker`, whose ``stop()`` ends them; also at the end of a ``with``
        :raises minibatch.errors.OptionError: of what the definitions say
        :raises minibatch.errors.ConnectError: no MongoDB there
        """
        from minibatch.app.running import Worker
        return Worker(self, agents).start()

    def run(self, agents: Iterable[str] | None = None) -> None:
        """Run agents until Ctrl-C or SIGTERM, which lets running windows finish.

        :param agents: names (default: all)
        :raises minibatch.errors.WindowError: one of the agents has died
        """
        from minibatch.app.running import Worker
        Worker(self, agents).run()

    def main(self, args: list[str] | None = None) -> None:
        """The command of the app's file; it ends the process: with code 0, 1 (an error) or 2 (wrong use).

        :param args: instead of those of the command line
        """
        from minibatch.app.command import main
        if not worker.inside:  # a worker process imports the app's file for its functions
            raise SystemExit(main(self, args))

    def _defaults_for(self, fn: Any, iterate: bool | None) -> dict[str, Any]:
        from minibatch.app.kinds import iterates
        left_out = {'executor'} if (iterates(fn) if iterate is None else iterate) else set()
        return {option: value for option, value in self.defaults.items() if option not in left_out}

    def _add(self, agent: Agent) -> None:
        if agent.name in self.agents:
            raise OptionError(f'this app has an agent {agent.name!r} already; give this one a name= of its own')
        for other in self.agents.values():
            if other.stream.name == agent.stream.name:
                raise OptionError(
                    f'agents {other.name!r} and {agent.name!r} consume the same stream {agent.stream.name!r}: they '
                    'would share its messages, and each get a part of them. For both to get all, let one agent pass '
                    f'them on: then=[{other.name!r}, {agent.name!r}], with streams of their own')
        self.agents[agent.name] = agent

    def check(self) -> None:
        """Refuse what cannot work between agents.

        :raises minibatch.errors.OptionError: a ``then=`` names no agent
        """
        for agent in self.agents.values():
            successors(agent, self.agents)


def _again(name: str, url: str | None, defaults: dict[str, Any]) -> App:
    return App(name, url, **defaults)
