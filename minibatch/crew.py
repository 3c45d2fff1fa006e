"""Several consumers in one process, each in a thread: started together, ended together."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minibatch import worker
from minibatch.errors import WindowError
from minibatch.signals import stopped_by_signals
from minibatch.window.base import WindowEmitter

if TYPE_CHECKING:
    from typing_extensions import Self

log = logging.getLogger('minibatch')


@dataclass(frozen=True)
class Member:
    """One consumer.

    :ivar name: what people call it
    :ivar make: makes its emitter, when the crew starts
    :ivar source: attached to its stream while it runs
    """

    name: str
    make: Callable[[], WindowEmitter]
    source: Any = None


class Crew:
    """Runs consumers, in this process.

    :param title: what people call all of them
    :param members: the consumers
    :param kind: what people call one of them
    :ivar died: what consumers have died of, by name
    """

    def __init__(self, title: str, members: Sequence[Member], kind: str = 'consumer') -> None:
        self.title, self.members, self.kind = title, list(members), kind
        self.died: dict[str, BaseException] = {}
        self._emitters: list[WindowEmitter] = []
        self._stop = False
        self._changed = threading.Event()

    def start(self) -> Self:
        """Start all; returns when they run.

        :raises minibatch.errors.OptionError: one cannot be run as it is defined
        :raises minibatch.errors.ConnectError: no MongoDB there
        """
        if worker.inside:
            # It imports the file of a function that it is to run; what is in that file is not started again.
            log.info('%s: no %s is started in a worker process', self.title, self.kind)
            self._stop = True
            return self
        try:
            for member in self.members:
                self._emitters.append(member.make())
        except BaseException:
            self.stop()
            raise
        for member, emitter in zip(self.members, self._emitters, strict=True):
            if member.source is not None:
                emitter.stream.attach(member.source)
            emitter._thread = threading.Thread(target=self._consume, args=(member, emitter), daemon=True,
                                               name=f'minibatch-{emitter.stream_name}')
            emitter._thread.start()
        return self

    def run(self) -> None:
        """Start, wait for Ctrl-C, SIGTERM, the end of all consumers or one's death, and stop.

        :raises minibatch.errors.WindowError: a consumer has died
        """
        with stopped_by_signals(self):
            self.start()
            while not (self._stop or self.died or self._ended()):
                self._changed.wait(0.25)
                self._changed.clear()
            log.info('%s: stopping when all that runs is finished; Ctrl-C once more does not wait', self.title)
            self.stop()
        self._tell()

    def wait(self, condition: Callable[[], Any], timeout: float = 60.0) -> None:
        """Wait until *condition* returns something true: for tests, and for programs that run consumers for a while.

        :param timeout: seconds
        :raises TimeoutError: it did not, in time
        :raises minibatch.errors.WindowError: a consumer has died meanwhile
        """
        until = time.monotonic() + timeout
        while not condition():
            self._tell()
            if time.monotonic() > until:
                raise TimeoutError(f'what was waited for has not happened within {timeout:g} s')
            self._changed.wait(0.02)

    def stop(self) -> None:
        """End all: windows that run are finished and committed, those that wait are given back.

        Called by a consumer's function it does not wait, since it would wait for itself.
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
        self._stopped()

    def _stopped(self) -> None:
        """Called when all have ended."""

    def _ended(self) -> bool:
        return all(emitter._thread is None or not emitter._thread.is_alive() for emitter in self._emitters)

    def _tell(self) -> None:
        for name, error in self.died.items():
            raise WindowError(f'{self.kind} {name!r} has died ({type(error).__name__}: {error}), so the worker has '
                              'stopped; its messages and windows are kept, and go on with the next worker') from error

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

    def _consume(self, member: Member, emitter: WindowEmitter) -> None:
        try:
            emitter.engine.run()
        except BaseException as error:
            log.exception('%s %r has died', self.kind, member.name)
            self.died[member.name] = error
        finally:
            self._changed.set()
