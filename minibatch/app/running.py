"""The worker of an app: all its agents, each a consumer in a thread of this process."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from minibatch import api
from minibatch.app.agents import Agent, following, successors
from minibatch.app.handles import AppStream
from minibatch.app.iterators import IteratorExecutor
from minibatch.app.outlet import Outlet
from minibatch.crew import Crew, Member
from minibatch.errors import OptionError, did_you_mean
from minibatch.models import Stream
from minibatch.operators.outlet import StreamSink
from minibatch.window.base import WindowEmitter

if TYPE_CHECKING:
    from minibatch.app import App


class Worker(Crew):
    """Runs agents of an app, in this process.

    Several workers of the same app, on as many machines as you like, share the work.

    :param app: whose agents
    :param agents: their names (default: all)
    :ivar died: what agents have died of, by name
    :raises minibatch.errors.OptionError: there is no such agent, or one is not defined as it should be
    """

    def __init__(self, app: App, agents: Iterable[str] | None = None) -> None:
        app.check()
        self.app = app
        names = list(app.agents if agents is None else agents)
        for name in names:
            if name not in app.agents:
                raise OptionError(f'app {app.name!r} has no agent {name!r}{did_you_mean(name, app.agents)}')
        if not names:
            raise OptionError(f"app {app.name!r} has no agents; define one with @app.agent('stream')")
        self.agents = [app.agents[name] for name in dict.fromkeys(names)]
        self._executors: list[IteratorExecutor] = []
        super().__init__(f'app {app.name!r}', [Member(each.name, partial(self._emitter, each), each.source)
                                               for each in self.agents], kind='agent')

    def _stopped(self) -> None:
        for executor in self._executors:
            executor.shutdown()

    def _emitter(self, agent: Agent) -> WindowEmitter:
        options = dict(agent.options)
        if agent.iterating:
            executor = IteratorExecutor(agent.fn, agent.name, options.pop('workers', None) or 1)
            self._executors.append(executor)
            options['executor'] = executor
        agent.stream.open()
        return api.make_emitter(agent.stream.name, agent.function, url=self.app.url, sink=self._outlet(agent),
                                **options)

    def _outlet(self, agent: Agent) -> Outlet | None:
        of = agent.stream.open()
        # In a circle nobody can wait for room: it would wait for itself.
        streams = [StreamSink(each.stream.open(), of, wait=agent not in [each, *following(each, self.app.agents)])
                   for each in successors(agent, self.app.agents)]
        sinks = []
        for sink in agent.sinks:
            if isinstance(sink, (AppStream, Stream)):
                streams.append(StreamSink(sink.open() if isinstance(sink, AppStream) else sink, of))
            else:
                sinks.append(sink)
        return Outlet(streams, sinks, agent.atomic_send) if streams or sinks else None
