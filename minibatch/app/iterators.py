"""The executor of agents that iterate: coroutines that live as long as the consumer does, in an event loop of its own.

An iterator is started with the first window that there is for it, and again after it has raised or returned. So a
failure to start is the failure of a window, with its attempts, delays and dead letters, like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from minibatch.app.windows import Turn, Windows, settle
from minibatch.lanes import Executor, Job
from minibatch.outcome import Function, Outcome, failure
from minibatch.scope import Pending

log = logging.getLogger('minibatch')


class IteratorExecutor(Executor):
    """Gives windows to agents that ask for them.

    :param agent: an async function, or an async generator function, of :class:`minibatch.app.Windows`
    :param name: of the agent
    :param workers: how many iterators there are: so many windows are worked on at the same time
    """

    keeps_timeout = True

    def __init__(self, agent: Callable[[Windows], Any], name: str, workers: int = 1) -> None:
        super().__init__(workers)
        self.agent, self.name = agent, name
        self._lock = threading.Lock()
        self._jobs: asyncio.Queue[Job | None] = asyncio.Queue()
        self._open: set[Job] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = self._killed = False

    def run(self, fn: Function, batches: list[Any], timeout: float | None = None) -> Future[list[Outcome]]:
        job = Job(fn, list(batches), timeout)
        with self._lock:
            if self._closed:
                raise RuntimeError('this executor is shut down; make another one')
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._live, name=f'minibatch-agent-{self.name}', daemon=True)
                self._thread.start()
            self._open.add(job)
            job.future.add_done_callback(lambda _: self._open.discard(job))
            self._loop.call_soon_threadsafe(self._jobs.put_nowait, job)
        return job.future

    def shutdown(self, wait: bool = True, kill: bool = False) -> None:
        with self._lock:
            first, self._closed, self._killed = not self._closed, True, self._killed or kill
            loop, thread = self._loop, self._thread
            cut_off = list(self._open) if kill else []
        for job in cut_off:  # before the iterators are interrupted, which is no failure of their windows
            job.give_up(running=True)
            job.resolve()
        if loop is not None and thread is not None and thread.is_alive():
            loop.call_soon_threadsafe(self._end, first, kill)
        if wait and thread is not None and thread is not threading.current_thread():
            thread.join()

    def _end(self, first: bool, kill: bool) -> None:
        if first:
            self._jobs.put_nowait(None)
        if kill:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()

    def _live(self) -> None:
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # killed
                self._loop.run_until_complete(self._iterate())
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _iterate(self) -> None:
        await asyncio.gather(*(self._one() for _ in range(self.workers)), return_exceptions=True)

    async def _one(self) -> None:
        """One iterator's life: the agent is run over and over, each time with a window that waits for it."""
        turns = _Turns(self._jobs)
        while (turn := await turns.following()) is not None:
            windows = Windows(turn, turns.following)
            windows.task = asyncio.create_task(self._run(windows), name=self.name)
            error = await windows.task
            unasked = windows.waiting
            if unasked is not None:
                settle(unasked, _outcome(error or RuntimeError(
                    f'agent {self.name!r} returned without asking for a window; it is to iterate over its argument')))
            elif error is not None:
                if windows.current is None and not self._killed:
                    log.error('agent %r failed where it had no window: %s', self.name, _outcome(error).traceback)
                windows.finish(_outcome(error))
            else:
                windows.finish()
            if windows.ended:
                return

    async def _run(self, windows: Windows) -> BaseException | None:
        """Run the agent once; the error that it ended with. Never raises, for a loop ends by some exceptions."""
        try:
            running = self.agent(windows)
            if inspect.isasyncgen(running):
                async with contextlib.aclosing(running):
                    async for value in running:
                        windows.collect(value)
            else:
                await running
        except BaseException as error:
            return error
        return None

    def check(self, fn: Function, timeout: float | None = None) -> None:
        """There is nothing to check: what runs is the agent that it was made for."""


class _Turns:
    """The windows of the jobs that one iterator takes from the queue."""

    def __init__(self, jobs: asyncio.Queue[Job | None]) -> None:
        self._jobs = jobs
        self._job: Job | None = None
        self._pending = Pending()

    async def following(self) -> Turn | None:
        """The next window; None if there will be none."""
        while self._job is None or not self._job.rest():
            self._job = await self._jobs.get()
            if self._job is None:
                self._jobs.put_nowait(None)  # for the other iterators
                return None
            self._job.future.set_running_or_notify_cancel()
            self._pending = Pending()
        return Turn(self._job, self._job.rest()[0], self._pending)


def _outcome(error: BaseException) -> Outcome:
    """The outcome of a window whose agent has raised, without the frames of this module."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return failure(error.with_traceback(trace))
