"""A pipeline that runs: one thread for each pass, ended together."""

from __future__ import annotations

import atexit
import logging
import queue as queues
import threading
import time
import weakref
from typing import Any

from minibatch import worker
from minibatch.errors import OptionError
from minibatch.models import Stream
from minibatch.operators.pipeline import Pipeline
from minibatch.operators.plan import emitters
from minibatch.signals import stopped_by_signals
from minibatch.window.base import WindowEmitter

log = logging.getLogger('minibatch')


class Running:
    """A handle on the passes of a pipeline.

    :param pipeline: what to run
    :param wait: hold passes up while a stream that they feed is full
    :raises minibatch.errors.OptionError: it cannot be run as it is, or another pipeline of this program consumes one of
        its streams

    >>> import minibatch as mb
    >>> stream, seen = mb.stream('docs-running'), []
    >>> with stream.map(dict).to(seen.append).start(executor='thread') as running:
    ...     stream.append({'n': 1})
    ...     while not seen:
    ...         _ = running.wait(0.01)
    >>> seen, running.alive
    ([{'n': 1}], False)
    """

    def __init__(self, pipeline: Pipeline, *, wait: bool = True) -> None:
        self.pipeline = pipeline
        #: What ended a pass, if an error did.
        self.error: BaseException | None = None
        self._stop = False
        self._done = threading.Event()
        self._threads: list[threading.Thread] = []
        self._source: Stream | None = None
        self.emitters: list[WindowEmitter] = []
        if worker.inside:
            log.info('%s: no pipeline is started in a worker process', pipeline.root.name)
            return
        self.emitters = emitters(pipeline, wait=wait)
        self._refuse_rivals()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether all passes run."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def start(self) -> Running:
        """Start all passes, each in a thread."""
        self._attach(background=True)
        for emitter in self.emitters:
            thread = threading.Thread(target=self._run, args=(emitter,), daemon=True,
                                      name=f'minibatch-{emitter.stream_name}')
            emitter._thread = thread
            self._threads.append(thread)
        for thread in self._threads:
            thread.start()
        _started.add(self)
        return self

    def once(self) -> None:
        """One pass each over what is there, in the order in which messages reach them."""
        self._attach(background=False)
        for emitter in self.emitters:
            emitter.run(blocking=False)

    def wait(self, timeout: float | None = None, *, signals: bool = False) -> bool:
        """Wait until it has ended; whether it has.

        :param timeout: seconds
        :param signals: let Ctrl-C and SIGTERM end it
        :raises BaseException: what ended a pass, if an error did; all are stopped then
        """
        until = None if timeout is None else time.monotonic() + timeout
        if not signals:
            return self._wait(until)
        try:
            with stopped_by_signals(self):
                return self._wait(until)
        except BaseException:
            for emitter in self.emitters:
                emitter._stop = True
            raise

    def _wait(self, until: float | None) -> bool:
        while self._threads and not (self._stop or self._done.is_set() or self._told()):
            left = 0.25 if until is None else min(0.25, until - time.monotonic())
            if left <= 0:
                return False
            self._done.wait(left)
        self.stop()
        if self.error is not None:
            raise self.error
        return True

    def stop(self) -> None:
        """End all passes: windows that run are finished and committed, those that wait are given back."""
        self._stop = True
        for emitter in self.emitters:
            emitter._stop = True  # all at once, before waiting for each
        if self._source is not None:
            self._source.stop()
        for emitter in self.emitters:
            emitter.stop()
        self._done.set()

    def _refuse_rivals(self) -> None:
        """Refuse to take messages away from another pipeline of this program."""
        mine = dict(zip(self.emitters, self.pipeline.legs(), strict=True))
        for other in [each for each in _started if each.alive]:
            for its, leg in zip(other.emitters, other.pipeline.legs(), strict=True):
                if any(its.stream.store is emitter.stream.store and leg.stream == own.stream and not leg.same(own)
                       for emitter, own in mine.items()):
                    raise OptionError(
                        f'another pipeline of this program consumes stream {leg.stream!r}, and each message would go '
                        'to one of them only: a stream has one group of consumers. Give each a branch of its own: '
                        'one, other = stream.branch(one=True, other=True)')

    def _run(self, emitter: WindowEmitter) -> None:
        try:
            emitter.engine.run()
        except BaseException as error:
            self.error = self.error or error
            log.exception('%s: a pass of the pipeline has ended with an error, so all are ended; nothing is lost',
                          emitter.stream_name)
        finally:
            for each in self.emitters:
                each._stop = True
            self._done.set()

    def _attach(self, *, background: bool) -> None:
        source = self.pipeline.running.get('source')
        if source is None or not self.emitters:
            return
        self._source = self.emitters[0].stream
        self._source.attach(source, background=background)

    def _told(self) -> bool:
        """Whether a true value has been put into ``queue``."""
        queue: Any = self.pipeline.running.get('queue')
        try:
            return queue is not None and bool(queue.get_nowait())
        except queues.Empty:
            return False


_started: weakref.WeakSet[Running] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Pipelines in the background finish what they run when the program ends."""
    for running in list(_started):
        running.stop()
