"""Worker processes: each lane has one of its own, and replaces it when it dies or hangs.

Why not :class:`concurrent.futures.ProcessPoolExecutor`: there one death breaks all workers and every call in flight,
a hanging call cannot be told from the others, and a script without a main guard starts itself in every child.
"""

from __future__ import annotations

import inspect
import os
from typing import Any

import cloudpickle

from minibatch.errors import OptionError, WindowTimeout, WorkerDied
from minibatch.lanes import Job, LaneExecutor
from minibatch.outcome import Function, Outcome, failure, pack
from minibatch.process import Process, Shipment
from minibatch.worker import KEPT

#: Seconds before a lane starts a process after two deaths in a row, and after very many.
PAUSE, LONGEST_PAUSE = 0.1, 5.0

#: How many processes in a row may die before they begin with a batch.
TRIES = 3

#: Seconds that loading a function may take where there is a timeout, for it imports what the function needs.
LOADING = 60.0


class ProcessExecutor(LaneExecutor):
    """Runs the function in processes of its own, so that neither the GIL, nor a crash, nor a hang reaches the consumer.

    The function travels once to each process, by value if it is of the main module, and so do the batches. A function
    that runs longer than *timeout* is killed with its process, and so is whatever it has started; the batches
    before and after it in the same call are not harmed.
    """

    keeps_timeout = True

    def __init__(self, workers: int) -> None:
        if os.name != 'posix':
            raise OptionError("worker processes need Linux or macOS; use executor='thread'")
        super().__init__(workers)
        self._processes: set[Process] = set()
        self._functions: dict[int, Shipment] = {}

    def check(self, fn: Function, timeout: float | None = None) -> None:
        super().check(fn, timeout)
        try:
            cloudpickle.dumps(fn, 5)
        except Exception as e:
            name = getattr(fn, '__qualname__', repr(fn))
            raise OptionError(f'{name} cannot be sent to a worker process{_culprits(fn)}: {e}; '
                              "make that inside of the function, or use executor='thread'") from e

    def pids(self) -> list[int]:
        with self._lock:
            return [process.pid for process in self._processes]

    def _drive(self) -> None:
        lane = Lane(self)
        try:
            while (job := self._next()) is not None:
                lane.work(job)
                job.resolve()
        finally:
            lane.replace(end=True)

    def _kill(self) -> list[Job]:
        for process in self._processes:
            process.kill()
        return []  # their lanes notice

    def shipment(self, fn: Function) -> Shipment:
        """*fn*, pickled; once, and not for each call.

        :raises Exception: it cannot be pickled
        """
        with self._lock:
            known = self._functions.get(id(fn))
        if known is None:
            known = Shipment(fn)
            with self._lock:
                while len(self._functions) >= KEPT:
                    del self._functions[next(iter(self._functions))]
                self._functions[id(fn)] = known
        return known

    def forget(self, fn: Function) -> None:
        """Pickle *fn* anew for the next call.

        Of a function of the main module, the globals travel along. One decorated in the background may run before the
        script has come to define what it uses; its next attempt then finds it.
        """
        with self._lock:
            self._functions.pop(id(fn), None)

    def enter(self, process: Process) -> None:
        """Take *process* among those that :meth:`shutdown` kills."""
        with self._lock:
            self._processes.add(process)
            if self._killed:
                process.kill()

    def leave(self, process: Process) -> None:
        """Strike *process* off: it is dead."""
        with self._lock:
            self._processes.discard(process)

    def killed(self, within: float = 0.0) -> bool:
        """Whether a shutdown has killed this executor, now or within some seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._killed, within)


class Lane:
    """One lane's process, and its successors."""

    def __init__(self, executor: ProcessExecutor) -> None:
        self.executor = executor
        self.process: Process | None = None
        self.deaths = 0  # in a row

    def work(self, job: Job) -> None:
        """Run all batches of *job*, on as many processes as it kills."""
        try:
            shipment = self.executor.shipment(job.fn)
        except Exception as e:
            job.outcomes += [_never_ran(failure(e, 'pickle')) for _ in job.batches]
            return
        packed = [_packed(batch) for batch in job.batches]
        vain = 0
        while job.rest():
            outcomes = self._attempt(shipment, packed[len(job.outcomes):], job.timeout)
            vain = 0 if outcomes else vain + 1
            if vain == TRIES:
                outcomes = [Outcome(kind='died', ran=False, error='its worker processes died before the function ran')
                            for _ in job.rest()]
            job.outcomes += outcomes
            if self.executor.killed():
                job.give_up(running=False)
        if any(outcome.error and outcome.error.startswith('NameError') for outcome in job.outcomes):
            self.executor.forget(job.fn)

    def replace(self, *, end: bool = False) -> None:
        """Part with the process: it is of no use any more or, with *end*, the work is done."""
        if self.process is not None:
            if end and not self.executor.killed():
                self.process.end()
            self.process.bury()
            self.executor.leave(self.process)
            self.process = None

    def _attempt(self, shipment: Shipment, packed: list[bytes], timeout: float | None) -> list[Outcome]:
        """The outcomes of the first batches; of none if somebody has killed the process before it began."""
        try:
            process = self._ready()
        except (WorkerDied, WindowTimeout, OSError) as e:
            self._died()
            return [Outcome(kind='died', ran=False, error=f'no worker process could be started: {e}') for _ in packed]
        try:
            trouble = process.load(shipment, None if timeout is None else max(timeout, LOADING))
            if trouble is not None:
                return [trouble for _ in packed]
            outcomes = process.run(shipment, packed, timeout)
        except WindowTimeout as e:  # only loading raises
            self._died()
            return [Outcome(kind='timeout', ran=False, error=f'the function could not be loaded: {e}') for _ in packed]
        except WorkerDied as e:
            self._died()
            return [Outcome(kind='died', ran=False, error=f'the function could not be loaded: {e}') for _ in packed]
        if process.dead:
            self._died()
        else:
            self.deaths = 0
        return outcomes

    def _ready(self) -> Process:
        if self.process is not None and self.process.gone():
            self._died()  # it was killed while idle: no batch is to blame
        if self.process is None:
            if self.deaths > 1:
                self.executor.killed(within=min(PAUSE * 2 ** min(self.deaths - 2, 20), LONGEST_PAUSE))
            self.process = Process()
            self.executor.enter(self.process)
            self.process.greet()
        return self.process

    def _died(self) -> None:
        self.deaths += 1
        self.replace()


def _packed(batch: Any) -> bytes:
    try:
        return pack(batch)
    except Exception as e:
        outcome = _never_ran(failure(e, 'pickle'))
        outcome.error = f'the batch cannot be sent to a worker process: {outcome.error}'
        return pack(outcome)  # the worker hands it back in the batch's place


def _never_ran(outcome: Outcome) -> Outcome:
    outcome.ran = False
    return outcome


def _culprits(fn: Function) -> str:
    """Name the variables of *fn* that cannot be pickled, as a part of a sentence."""
    try:
        variables = inspect.getclosurevars(fn)
    except TypeError:
        return ''
    names = []
    for name, value in {**variables.globals, **variables.nonlocals}.items():
        try:
            cloudpickle.dumps(value)
        except Exception:
            names.append(name)
    return f' because of {", ".join(names)}' if names else ''
