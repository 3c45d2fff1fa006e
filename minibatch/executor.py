"""Where a consumer's function runs: in worker processes (the default), in threads, in place, or on somebody's pool.

The runner sees one thing only, an :class:`Executor`: it gives it batches and gets an :class:`Outcome` for each.
"""

from __future__ import annotations

import os
from concurrent.futures import Future
from typing import Any

from minibatch.errors import OptionError, did_you_mean
from minibatch.lanes import Executor, ThreadExecutor
from minibatch.outcome import Function, Outcome, close_loop, invoke
from minibatch.scope import Pending

__all__ = ['Executor', 'InlineExecutor', 'Outcome', 'ThreadExecutor', 'make_executor']

NAMES = ('process', 'thread', 'inline', 'dask', 'ray')


class InlineExecutor(Executor):
    """Runs the function at once, in the thread that asks: for tests, for debuggers, and where nothing else may run.

    It cannot stop a function, so it refuses a timeout. A Ctrl-C is not the function's failure here: it goes through.

    >>> InlineExecutor().run(len, ['a', 'bc']).result()[1].value
    2
    """

    def __init__(self, workers: int = 1) -> None:
        super().__init__(workers)
        self.workers = 1
        self._closed = False

    def run(self, fn: Function, batches: list[Any], timeout: float | None = None) -> Future[list[Outcome]]:
        self.check(fn, timeout)
        if self._closed:
            raise RuntimeError('this executor is shut down; make another one')
        future: Future[list[Outcome]] = Future()
        pending = Pending()
        try:
            future.set_result([invoke(fn, batch, interruptible=True, pending=pending) for batch in batches])
        finally:
            close_loop()
        return future

    def shutdown(self, wait: bool = True, kill: bool = False) -> None:
        self._closed = True


def make_executor(spec: Any = None, workers: int | None = None) -> Executor:
    """The executor that the option ``executor=`` means.

    :param spec: ``'process'`` (also ``None``), ``'thread'``, ``'inline'``, ``'dask'`` or ``'ray'``; a class to make it
        of, such as :class:`concurrent.futures.ProcessPoolExecutor`; or anything with ``submit(fn)``, which stays its
        owner's: it is not shut down
    :param workers: how many calls run at the same time; by default, as many as there are processors for this process,
        or as many as *spec* has
    :raises OptionError: there is no such executor, or no such number of workers
    :raises MissingExtra: it needs a package that is not installed

    >>> make_executor('thread', 2).workers
    2
    >>> make_executor('tread')
    Traceback (most recent call last):
        ...
    minibatch.errors.OptionError: there is no executor called 'tread'; did you mean thread?
    """
    if isinstance(spec, Executor):
        return spec
    if workers is None:
        workers = getattr(spec, '_max_workers', None) or processors()
    if spec is None or spec == 'process':
        if os.name != 'posix':
            raise OptionError("worker processes need Linux or macOS; use executor='thread'")
        from minibatch.processes import ProcessExecutor  # needs POSIX
        return ProcessExecutor(workers)
    if spec == 'thread':
        return ThreadExecutor(workers)
    if spec == 'inline':
        return InlineExecutor(workers)
    if isinstance(spec, str) and spec not in NAMES:
        near = did_you_mean(spec, NAMES) or f'; there are {", ".join(NAMES)}'
        raise OptionError(f'there is no executor called {spec!r}{near}')
    if isinstance(spec, type) and issubclass(spec, Executor):
        return spec(workers)
    from minibatch.pools import PoolExecutor
    return PoolExecutor(spec, workers)


def processors() -> int:
    """How many processors this process may use.

    >>> processors() > 0
    True
    """
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1
