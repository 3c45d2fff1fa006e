"""What an agent that iterates receives: the windows of its stream, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from minibatch import scope
from minibatch.app.outlet import Results
from minibatch.lanes import Job
from minibatch.outcome import Outcome, failure
from minibatch.window.base import Batch


@dataclass(eq=False)
class Turn:
    """One window in the hands of an agent.

    :ivar pending: what the windows before it, in the same job, have done to tables
    :ivar began: when (the loop's time), or None if the agent has not been given it
    :ivar late: whether it took longer than its time-out
    """

    job: Job
    batch: Batch
    pending: scope.Pending
    began: float | None = None
    late: bool = False
    timer: asyncio.TimerHandle | None = None


class Windows:
    """The windows of an agent's stream, for ``async for window in windows``.

    A window is committed when the body of the loop has finished with it, that is, when the next one is asked for or
    the agent returns. If the body raises, that window has failed, and is tried again like any other; the agent is
    started anew for it, so local variables start anew, too. They live on from window to window otherwise.
    What the body does to tables is committed with the window.

    The iteration ends when the app is stopped: what comes after the loop is run then.
    """

    def __init__(self, first: Turn, following: Callable[[], Awaitable[Turn | None]]) -> None:
        self._first: Turn | None = first
        self._following = following
        self._values = Results()
        self._scope: scope.Scope | None = None
        self.task: asyncio.Task[Any] | None = None
        self.current: Turn | None = None
        self.ended = False

    def __aiter__(self) -> Windows:
        return self

    async def __anext__(self) -> Batch:
        self.finish()
        turn, self._first = self._first, None
        if turn is None:
            turn = await self._following()
        if turn is None:
            self.ended = True
            raise StopAsyncIteration
        self._scope = scope.Scope(turn.batch._url, turn.batch, turn.pending)
        scope.current.set(self._scope)  # for the body of the loop, which runs in the same context
        loop = asyncio.get_running_loop()
        self.current, turn.began = turn, loop.time()
        if turn.job.timeout is not None:
            turn.timer = loop.call_later(turn.job.timeout, self._late, turn)
        return turn.batch

    async def messages(self) -> AsyncIterator[Any]:
        """The messages of all windows, one by one.

        Those of a window are committed together, after the last one of them.
        """
        async for window in self:
            for message in window:
                yield message

    # -- what the executor asks

    def _late(self, turn: Turn) -> None:
        turn.late = True
        if self.task is not None:
            self.task.cancel()

    @property
    def waiting(self) -> Turn | None:
        """The window that the agent was started for and has not asked for."""
        return self._first

    def collect(self, value: Any) -> None:
        """Note what the agent has yielded.

        :raises RuntimeError: there is no window that it could belong to
        """
        if self.current is None:
            raise RuntimeError('an agent that yields outside of its loop: no window stands for such a result, so it '
                               'was not sent')
        self._values.append(value)

    def finish(self, outcome: Outcome | None = None) -> None:
        """The window at hand is done with: *outcome*, or what the agent has yielded for it."""
        turn, self.current = self.current, None
        values, self._values = self._values, Results()
        run, self._scope = self._scope, None
        scope.current.set(None)
        if run is not None and outcome is None:
            try:
                outcome = Outcome(values, changes=run.finish())
            except Exception as error:  # what it did to tables cannot be
                outcome = failure(error)
        elif run is not None:
            run.over = True
        if turn is not None:
            settle(turn, outcome or Outcome(values))


def settle(turn: Turn, outcome: Outcome) -> None:
    """Tell the consumer what became of a window."""
    if turn.timer is not None:
        turn.timer.cancel()
    if turn.began is not None:
        outcome.seconds = asyncio.get_running_loop().time() - turn.began
    if turn.late:
        outcome = Outcome(kind='timeout', seconds=outcome.seconds, error=(
            f'the agent took longer than timeout={turn.job.timeout:g} s for it, and was started anew'))
    if len(turn.job.outcomes) < len(turn.job.batches):  # else it was given up
        turn.job.outcomes.append(outcome)
        if len(turn.job.outcomes) == len(turn.job.batches):
            turn.job.resolve()
