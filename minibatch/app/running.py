"""The worker of an app: all its agents, each a consumer in a thread of this process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from minibatch import api, worker
from minibatch.app.agents import Agent, following, successors
from minibatch.app.handles import AppStream
from minibatch.app.iterators import IteratorExecutor
from minibatch.app.outlet import Outlet
from minibatch.errors import OptionError, WindowError, did_you_mean
from minibatch.models import Stream
from minibatch.operators.outlet import StreamSink
from minibatch.signals import stopped_by_signals
from minibatch.window.base import WindowEmitter

if TYPE_CHECKING:
    from typing_extensions import Self

    from minibatch.app import App

log = logging.getLogger('minibatch')


class Worker:
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
        self.died: dict[str, BaseException] = {}
        self._emitters: list[WindowEmitter] = []
        self._executors: list[IteratorExecutor] = []
        self._stop = False
        self._changed = threading.Event()

    def start(self) -> Self:
        """Start all agents; returns when they run.

        :raises minibatch.errors.OptionError: one cannot be run as it is defined
        :raises minibatch.errors.ConnectError: no MongoDB there
        """
        if worker.inside:
            # It imports the file of a function that it is to run; an app in that file is not started again.
            log.info('app %r: no agent is started in a worker process', self.app.name)
            self._stop = True
            return self
        try:
            for agent in self.agents:
                self._emitters.append(self._emitter(agent))
        except BaseException:
            self.stop()
            raise
        for agent, emitter in zip(self.agents, self._emitters, strict=True):
            if agent.source is not None:
                emitter.stream.attach(agent.source)
            emitter._thread = threading.Thread(target=self._consume, args=(agent, emitter), daemon=True,
                                               name=f'minibatch-{emitter.stream_name}')
            emitter._thread.start()
        return self

    def run(self) -> None:
        """Start, wait for Ctrl-C, SIGTERM or an agent's death, and stop.

        :raises minibatch.errors.WindowError: an agent has died
        """
        with stopped_by_signals(self):
            self.start()
            while not (self._stop or self.died):
                self._changed.wait(0.25)
            log.info('app %r: stopping when all that runs is finished; Ctrl-C once more does not wait', self.app.name)
            self.stop()
        self._tell()

    def _tell(self) -> None:
        for name, error in self.died.items():
            raise WindowError(f'agent {name!r} has died ({type(error).__name__}: {error}), so the worker has stopped; '
                              'its messages and windows are kept, and go on with the next worker') from error

    def wait(self, condition: Callable[[], Any], timeout: float = 60.0) -> None:
        """Wait until *condition* returns something true: for tests, and for programs that run agents for a while.

        :param timeout: seconds
        :raises TimeoutError: it did not, in time
        :raises minibatch.errors.WindowError: an agent has died meanwhile
        """
        until = time.monotonic() + timeout
        while not condition():
            self._tell()
            if time.monotonic() > until:
                raise TimeoutError(f'what was waited for has not happened within {timeout:g} s')
            self._changed.wait(0.02)

    def stop(self) -> None:
        """End all agents: windows that run are finished and committed, those that wait are given back.

        Called by an agent it does not wait, since it would wait for itself.
        """
        self._stop = True
        for emitter in self._emitters:
            emitter._stop = True
        # All at the same time: each may have a source that takes its time to say goodbye.
        threads = [threading.Thread(target=self._end, args=(emitter,), daemon=True, name=f'stop-{emitter.stream_name}')
                   for emitter in self._emitters]
        for thread in threads:
            thread.start()
        if threading.current_thread().name.startswith('minibatch-'):
            return
        for thread in threads:
            thread.join()
        for executor in self._executors:
            executor.shutdown()

    @staticmethod
    def _end(emitter: WindowEmitter) -> None:
        try:
            emitter.stop()
            emitter.stream.stop()
        except Exception:
            log.exception('stream %r: its consumer could not be ended in order; what it holds runs when its lease is '
                          'over', emitter.stream_name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

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

    def _consume(self, agent: Agent, emitter: WindowEmitter) -> None:
        try:
            emitter.engine.run()
        except BaseException as error:
            log.exception('agent %r has died', agent.name)
            self.died[agent.name] = error
        finally:
            self._changed.set()
