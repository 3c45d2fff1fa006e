"""Other people's pools as executors: concurrent.futures, dask, ray, or anything with ``submit(fn)``."""

from __future__ import annotations

import hashlib
import importlib
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future, InvalidStateError
from contextlib import suppress
from typing import Any

import cloudpickle

from minibatch.errors import MissingExtra, OptionError
from minibatch.lanes import Executor
from minibatch.outcome import Function, Outcome, close_loop, failure, flush_output, invoke, pack
from minibatch.scope import Pending


class PoolExecutor(Executor):
    """Runs batches on a pool that is not ours.

    A pool made here, from a class or a name, is made anew when it breaks, and shut down in the end. One that was given
    is only used: keeping it in order is up to its owner. Neither can stop a function that runs too long.

    :param spec: a class, a pool, or the name ``'dask'`` or ``'ray'``
    """

    def __init__(self, spec: Any, workers: int) -> None:
        super().__init__(workers)
        self._make = _maker(spec, workers)
        self._pool: Any = self._make() if self._make else _adapted(spec)
        if not callable(getattr(self._pool, 'submit', None)):
            raise OptionError(f'executor needs a method submit(fn), which {spec!r} has not')
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._waiting: dict[Future[list[Outcome]], int] = {}  # with the number of their batches
        self._closed = False

    def run(self, fn: Function, batches: list[Any], timeout: float | None = None) -> Future[list[Outcome]]:
        self.check(fn, timeout)
        promise: Future[list[Outcome]] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError('this executor is shut down; make another one')
            self._waiting[promise] = len(batches)
        call = Call(fn, list(batches))
        try:
            theirs = self._submit(call)
        except Exception as e:
            self._settle(promise, [_lost(e) for _ in batches])
            return promise

        def done(_: object = None) -> None:
            try:
                outcomes = theirs.result()
            except BaseException as e:
                outcomes = [_lost(e) for _ in batches]
            self._settle(promise, outcomes)

        if callable(getattr(theirs, 'add_done_callback', None)):
            theirs.add_done_callback(done)
        else:
            threading.Thread(target=done, name='minibatch-result', daemon=True).start()
        return promise

    def shutdown(self, wait: bool = True, kill: bool = False) -> None:
        with self._lock:
            self._closed = True
        if kill:
            if self._make:
                _kill(self._pool)
            with self._lock:
                cut_off = list(self._waiting.items())
            for promise, n in cut_off:
                self._settle(promise, [Outcome(kind='died', error='the executor was shut down') for _ in range(n)])
        elif wait:
            with self._lock:
                self._ended.wait_for(lambda: not self._waiting)
        if self._make:
            _shut(self._pool, wait and not kill)

    def _submit(self, call: Call) -> Any:
        pool = self._pool
        try:
            return pool.submit(call)
        except BrokenExecutor:
            # Now, and not in a callback: a breaking pool calls those while it holds the lock that its shutdown needs.
            return self._renew(pool).submit(call)

    def _renew(self, broken: Any) -> Any:
        with self._lock:
            if self._make and self._pool is broken and not self._closed:
                _shut(broken, False)
                self._pool = self._make()
            return self._pool

    def _settle(self, promise: Future[list[Outcome]], outcomes: list[Outcome]) -> None:
        with suppress(InvalidStateError):  # cancelled, or cut off by a shutdown
            promise.set_result(outcomes)
        with self._lock:
            self._waiting.pop(promise, None)
            self._ended.notify_all()


class Call:
    """A call without arguments that returns outcomes; where it has to be pickled, the function goes by value."""

    def __init__(self, fn: Function, batches: list[Any]) -> None:
        self.fn, self.batches = fn, batches

    def __call__(self) -> list[Outcome]:
        pending = Pending()
        try:
            return [invoke(self.fn, batch, pending=pending) for batch in self.batches]
        finally:
            close_loop()  # nobody would, later on: the thread is not ours

    def __reduce__(self) -> tuple[Any, ...]:
        blob = bytes(cloudpickle.dumps(self.fn, 5))
        return Sent, (hashlib.blake2b(blob, digest_size=16).hexdigest(), blob, [pack(batch) for batch in self.batches])


class Sent:
    """A :class:`Call` that has arrived in another process, which keeps the last function that it has loaded."""

    _loaded: tuple[str, Function] | None = None

    def __init__(self, digest: str, blob: bytes, batches: list[bytes]) -> None:
        self.digest, self.blob, self.batches = digest, blob, batches

    def __call__(self) -> list[Outcome]:
        try:
            if Sent._loaded is None or Sent._loaded[0] != self.digest:
                Sent._loaded = self.digest, pickle.loads(self.blob)
            call = Call(Sent._loaded[1], [pickle.loads(batch) for batch in self.batches])
        except BaseException as e:
            return [failure(e, 'pickle') for _ in self.batches]
        outcomes = call()
        flush_output()
        return outcomes

    def __reduce__(self) -> tuple[Any, ...]:
        return Sent, (self.digest, self.blob, self.batches)


class _Ray:
    """The small part of an executor that ray does not have itself."""

    def __init__(self, ray: Any, workers: int) -> None:
        self._ray, self._ours = ray, not ray.is_initialized()
        if self._ours:
            ray.init(num_cpus=workers)
        self._remote = ray.remote(_call)

    def submit(self, call: Call) -> Future[list[Outcome]]:
        future: Future[list[Outcome]] = self._remote.remote(call).future()
        return future

    def shutdown(self, wait: bool = True) -> None:
        if self._ours:
            self._ray.shutdown()


class _Dask:
    """A cluster of dask on this machine, with one process for each worker."""

    def __init__(self, distributed: Any, workers: int) -> None:
        self._client = distributed.Client(n_workers=workers, threads_per_worker=1, dashboard_address=None)
        self._executor = _adapted(self._client)

    def submit(self, call: Call) -> Any:
        return self._executor.submit(call)

    def shutdown(self, wait: bool = True) -> None:
        self._client.shutdown()
        self._client.close()


def _call(call: Call) -> list[Outcome]:
    return call()


def _maker(spec: Any, workers: int) -> Callable[[], Any] | None:
    """What makes the pool; ``None`` if it has been made already, by its owner."""
    if spec == 'dask':
        distributed = _imported('dask', 'distributed')
        return lambda: _Dask(distributed, workers)
    if spec == 'ray':
        ray = _imported('ray', 'ray')
        return lambda: _Ray(ray, workers)
    if not isinstance(spec, type):
        return None

    def make() -> Any:
        try:
            return spec(max_workers=workers)
        except TypeError as e:
            raise OptionError(f'executor={spec.__name__} cannot be made with max_workers={workers}: {e}; '
                              'give an instance instead') from e
    return make


def _imported(extra: str, package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingExtra(extra, package) from None


def _adapted(pool: Any) -> Any:
    """*pool* itself or, for a client of dask, its executor: dask's own ``submit`` runs equal calls only once."""
    return pool.get_executor(pure=False) if callable(getattr(pool, 'get_executor', None)) else pool


def _lost(e: BaseException) -> Outcome:
    """The outcome of a batch whose call came to nothing in somebody's pool."""
    if isinstance(e, CancelledError):
        return Outcome(kind='died', ran=False, error='the pool has cancelled the call')
    outcome = failure(e, 'pickle' if isinstance(e, (pickle.PicklingError, TypeError, AttributeError)) else 'died')
    outcome.error = f'the pool could not run the function: {outcome.error}'
    return outcome


def _kill(pool: Any) -> None:
    for process in list((getattr(pool, '_processes', None) or {}).values()):  # of ProcessPoolExecutor; public in 3.14
        process.kill()


def _shut(pool: Any, wait: bool) -> None:
    if callable(getattr(pool, 'shutdown', None)):
        pool.shutdown(wait=wait)
