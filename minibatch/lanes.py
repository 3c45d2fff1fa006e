"""Executors made of lanes: each a thread of this process that takes one call after the other and sees it through.

A lane that is stuck (a process that is being replaced, a thread that never returns) does not hold up the others.
Lanes are started when there is work for them, up to ``workers``.
"""

from __future__ import annotations

import math
import os
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from minibatch.errors import OptionError
from minibatch.outcome import Function, Outcome, close_loop, invoke
from minibatch.scope import Pending


class Executor(ABC):
    """Runs a function on batches, somewhere, at most *workers* calls at a time.

    :param workers: how many calls run at the same time
    """

    #: Whether this executor can end a call that takes too long.
    keeps_timeout = False

    def __init__(self, workers: int) -> None:
        if type(workers) is not int or workers < 1:
            raise OptionError(f'workers must be a whole number from 1 on, not {workers!r}')
        self.workers = workers

    def check(self, fn: Function, timeout: float | None = None) -> None:
        """Refuse, with an :class:`~minibatch.errors.OptionError`, what this executor could never run.

        :param fn: the function
        :param timeout: seconds that each batch may take
        """
        if not callable(fn):
            raise OptionError(f'a function is needed to run on windows, not {fn!r}')
        if timeout is not None and not self.keeps_timeout:
            raise OptionError(f"{type(self).__name__} cannot stop a function that runs too long: "
                              "leave timeout out, or use executor='process'")

    @abstractmethod
    def run(self, fn: Function, batches: list[Any], timeout: float | None = None) -> Future[list[Outcome]]:
        """Run *fn* on each of *batches*, one after the other in one worker.

        :param timeout: seconds that each batch may take
        :return: a future of one outcome for each batch, in order; it never raises for what *fn* does. Its callbacks
            are called by the thread that sees the call through, so they should be short
        """

    @abstractmethod
    def shutdown(self, wait: bool = True, kill: bool = False) -> None:
        """Take no more calls. Those accepted finish, unless killed; every future gets its outcomes in any case.

        May be called again, from any thread: to kill, for example, what an earlier call still waits for.

        :param wait: return when all is done and no worker is left
        :param kill: end running calls now; the outcomes of their batches are ``died``
        """

    def close(self) -> None:
        """The same as :meth:`shutdown`."""
        self.shutdown()

    def pids(self) -> list[int]:
        """The ids of the worker processes that live now; empty where there are none, or none of ours."""
        return []

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()


@dataclass(eq=False)
class Job:
    """One call of :meth:`Executor.run`, with the outcomes so far."""

    fn: Function
    batches: list[Any]
    timeout: float | None
    outcomes: list[Outcome] = field(default_factory=list)
    future: Future[list[Outcome]] = field(default_factory=Future)

    def rest(self) -> list[Any]:
        """The batches that have no outcome yet."""
        return self.batches[len(self.outcomes):]

    def give_up(self, *, running: bool) -> None:
        """Complete the outcomes with what is true of batches that a shutdown cut off.

        :param running: whether the first of them had begun
        """
        for i, _ in enumerate(self.rest()):
            self.outcomes.append(Outcome(kind='died', ran=running and i == 0, error=(
                'the executor was shut down while the function ran' if running and i == 0 else
                'the executor was shut down before the function ran')))

    def resolve(self) -> None:
        """Give the outcomes to whoever waits for them."""
        with suppress(InvalidStateError):  # cancelled: nobody waits
            self.future.set_result(self.outcomes)


class LaneExecutor(Executor):
    """Lanes, and the queue of jobs before them. What a lane does with a job is up to the subclasses."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._jobs: deque[Job] = deque()
        self._lanes: set[threading.Thread] = set()
        self._idle = 0
        self._closed = self._killed = False
        self._pid = os.getpid()

    def run(self, fn: Function, batches: list[Any], timeout: float | None = None) -> Future[list[Outcome]]:
        job = Job(fn, list(batches), timeout)
        with self._lock:
            if self._closed or os.getpid() != self._pid:
                why = 'is shut down' if self._closed else 'belongs to the process that this one was forked from'
                raise RuntimeError(f'this executor {why}; make another one')
            self._jobs.append(job)
            if self._idle < len(self._jobs) and len(self._lanes) < self.workers:
                self._start()
            self._changed.notify()
        return job.future

    def shutdown(self, wait: bool = True, kill: bool = False) -> None:
        with self._lock:
            self._closed = True
            self._killed = self._killed or kill
            waiting, cut_off = ([*self._jobs], self._kill()) if kill else ([], [])
            if kill:
                self._jobs.clear()
            self._changed.notify_all()
        for job in waiting + cut_off:
            job.give_up(running=job in cut_off)
            job.resolve()
        if wait and self._pid == os.getpid():
            with self._lock:
                # Not join(): a lane that shuts down in a callback must not wait for itself.
                self._changed.wait_for(lambda: self._lanes <= {threading.current_thread()})

    @abstractmethod
    def _drive(self) -> None:
        """A lane's life: :meth:`_next` job after job, each brought to its end."""

    @abstractmethod
    def _kill(self) -> list[Job]:
        """End what runs; called with the lock held. Returns the jobs that no lane will bring to their end now."""

    def _next(self) -> Job | None:
        """The next job, or ``None`` when there will be none."""
        with self._lock:
            while True:
                while not self._jobs:
                    if self._closed:
                        return None
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                job = self._jobs.popleft()
                if job.future.running() or job.future.set_running_or_notify_cancel():
                    return job

    def _start(self) -> None:
        # Daemons: a consumer that ends without a shutdown must not hang in its last moment. Their processes follow it.
        lane = threading.Thread(target=self._live, name='minibatch-lane', daemon=True)
        self._lanes.add(lane)
        lane.start()

    def _live(self) -> None:
        try:
            self._drive()
        finally:
            with self._lock:
                self._lanes.discard(threading.current_thread())
                self._changed.notify_all()


class ThreadExecutor(LaneExecutor):
    """Runs the function in threads of this process.

    A thread cannot be killed. One whose function runs longer than *timeout* is abandoned: the batch gets its outcome
    and a new thread takes its place, so that there are always *workers* of them; the old one runs on to its own end,
    and what its function returns there is dropped.
    """

    keeps_timeout = True

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._calls: dict[threading.Thread, tuple[Job, float]] = {}  # what each lane runs, and until when it may
        self._sooner = threading.Condition(self._lock)
        self._watched_until = math.inf
        self._watch: threading.Thread | None = None

    def _drive(self) -> None:
        me = threading.current_thread()
        try:
            while (job := self._next()) is not None:
                pending = Pending()
                for batch in job.rest():
                    self._begin(me, job)
                    outcome = invoke(job.fn, batch, pending=pending)
                    with self._lock:
                        if self._calls.pop(me, None) is None:
                            return  # abandoned: its outcome is known, and another lane runs the rest
                        job.outcomes.append(outcome)
                job.resolve()
        finally:
            close_loop()

    def _kill(self) -> list[Job]:
        cut_off = [job for job, _ in self._calls.values()]
        self._lanes -= self._calls.keys()
        self._calls.clear()
        self._sooner.notify()
        return cut_off

    def _live(self) -> None:
        super()._live()
        with self._lock:
            self._sooner.notify()  # the last one out

    def _begin(self, lane: threading.Thread, job: Job) -> None:
        until = math.inf if job.timeout is None else time.monotonic() + job.timeout
        with self._lock:
            self._calls[lane] = job, until
            if until < self._watched_until:
                self._watched_until = until
                self._sooner.notify()
                if self._watch is None:
                    self._watch = threading.Thread(target=self._abandon_late, name='minibatch-timeout', daemon=True)
                    self._watch.start()

    def _abandon_late(self) -> None:
        with self._lock:
            while self._lanes or not self._closed:
                now = time.monotonic()
                for lane, (job, until) in [*self._calls.items()]:
                    if until <= now:
                        self._abandon(lane, job)
                self._watched_until = min((until for _, until in self._calls.values()), default=math.inf)
                self._sooner.wait(min(self._watched_until - now, threading.TIMEOUT_MAX))

    def _abandon(self, lane: threading.Thread, job: Job) -> None:
        assert job.timeout is not None
        del self._calls[lane]
        self._lanes.discard(lane)
        job.outcomes.append(Outcome(kind='timeout', seconds=job.timeout, error=(
            f'the function ran longer than timeout={job.timeout:g} s; its thread was left to itself')))
        self._jobs.appendleft(job)
        self._start()
