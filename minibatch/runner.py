"""The loop of a consumer: take windows, submit them, settle what is finished, wait.

Two threads share the work: the :class:`~minibatch.cutter.Cutter` decides what the windows are, while this one runs
them. What it may hold at a time is what its workers do in a tenth of a second, so that a quick function is given
hundreds of small windows in one go, and a slow one no window that another consumer could run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from minibatch.cutter import Cutter
from minibatch.delivery import Delivery, Settled
from minibatch.errors import LeaseLost, OptionError, StoreUnavailable
from minibatch.executor import Executor, make_executor
from minibatch.housekeeping import housekeeper
from minibatch.outcome import Outcome, failure
from minibatch.points import reached
from minibatch.signals import stopped_by_signals
from minibatch.store import Record
from minibatch.store.record import milliseconds
from minibatch.store.schema import MAX_GROUP
from minibatch.tables.closing import closing
from minibatch.upkeep import Upkeep
from minibatch.window.base import Batch, View, WindowEmitter
from minibatch.wrapped import OrLate, Quiet

log = logging.getLogger('minibatch')

#: How many seconds of work a consumer holds, and how many windows and messages at the most.
AHEAD, MOST_WINDOWS, MOST_MESSAGES = 0.1, 500, 2 * MAX_GROUP
#: Longest pause between two looks for windows that others have cut, in seconds: when leading, and when not.
LEADING, FOLLOWING = 3.0, 1.0
#: How long a stop waits for MongoDB to come back before it leaves windows to their leases, in seconds.
GRACE = 10.0


class Runner:
    """Drives one emitter: one consumer of its stream.

    :param emitter: what to run, with its function, sink and options
    """

    def __init__(self, emitter: WindowEmitter) -> None:
        if not callable(emitter.emitfn):
            raise OptionError(f'a consumer needs a function that takes a window, not {emitter.emitfn!r}')
        self.emitter = emitter
        self.options = emitter.options
        self.store = emitter.stream.store
        self.stream = emitter.stream_name
        self.host, self.pid = socket.gethostname(), os.getpid()
        self.id = f'{self.host}:{self.pid}:{uuid.uuid4().hex[:8]}'
        self.executor: Executor = make_executor(emitter.executor, emitter.max_workers)
        self._own_executor = self.executor is not emitter.executor
        self.fn = self._function(emitter.emitfn)
        self.delivery = Delivery(self.store, emitter, self.options, self._patient)
        self.cutter = Cutter(self)
        self._handed: deque[Record] = deque()
        self._finished: deque[Future[list[Outcome]]] = deque()
        self._calls: dict[Future[list[Outcome]], list[tuple[Record, Batch]]] = {}
        self._held: dict[str, Record] = {}
        self._event = threading.Event()
        self._seconds = 0.0  # how long the function takes for a window, as a moving average; 0: not known yet
        self._size = 1.0  # messages in a window, likewise
        self._take_at = 0.0
        self._round_at = time.monotonic()
        self._pause = 0.01
        self._stop_at: float | None = None
        self.upkeep = Upkeep(self)
        self._busy = threading.Lock()
        self._away = False

    def _function(self, fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
        emitter = self.emitter
        wanted = emitter.sink is not None or emitter.forwardfn is not None or (
            type(emitter).forward is not WindowEmitter.forward)
        if emitter.placing is not None and callable(emitter.placing.late):
            fn = OrLate(fn, emitter.placing.late)
        fn = fn if wanted else Quiet(fn)
        self.executor.check(fn, self.options.timeout)
        return fn

    # -- what the emitter asks of its engine

    def run(self, blocking: bool = True) -> None:
        """Run until :meth:`stop`; or, not blocking, until nothing is due any more."""
        with self._busy, closing(self.store, self.options.lease, blocking=blocking):
            self._stop_at = None
            housekeeper.add(self.upkeep)
            try:
                if blocking:
                    with stopped_by_signals(self.emitter):
                        self.cutter.start()
                        self._loop()
                else:
                    self._drain()
            except BaseException:
                self._close(kill=True)
                raise
            else:
                self._close()

    def stop(self) -> None:
        """Ask the loop to end; it notices within a quarter of a second. Without a loop, let go of everything."""
        self._event.set()
        if self._busy.acquire(blocking=False):
            try:
                self._close()
            finally:
                self._busy.release()

    def cut_once(self) -> bool:
        """Cut what is due and run it, once."""
        with self._busy:
            cut = self.cutter.step()
            self._submit(self._next())
            self._finish()
            return cut

    def view(self) -> View:
        """What the strategy is told when it asks by itself."""
        return self.cutter.view()

    def remove(self, window: Any) -> None:
        """Remove a committed window and its messages."""
        self.store.clean([Record(id=window.id, stream=self.stream, seq=0, n=0, state='done')], kept=True)

    def idle(self, seconds: float) -> None:
        """Wait for something to do."""
        self.cutter.idle(seconds)

    # -- what the cutter asks

    @property
    def lsid(self) -> Any:
        """Id of the session that commits windows with their sink's writes, for whoever has to end it."""
        return self.delivery.lsid

    def target(self) -> int:
        """How many windows this consumer should hold."""
        workers = self.executor.workers
        by_time = workers if not self._seconds else max(
            workers, min(MOST_WINDOWS, int(workers * AHEAD / self._seconds)))
        return max(workers, min(by_time, int(MOST_MESSAGES / max(1.0, self._size))))

    def room(self) -> tuple[int, int]:
        """How many windows may be cut now: for this consumer, and in all, with what others should find ready."""
        if self._stop_at is not None:
            return 0, 0
        target = self.target()
        own = 0 if self.stuck() else max(0, target - len(self._held))
        if not self.upkeep.others:
            return own, own
        stock = 2 * target * self.upkeep.others
        return own, own + max(0, stock - self.store.ready(self.stream, stock))

    def stuck(self) -> bool:
        """Whether the loop is held up, by a sink or by a function that runs in place."""
        return time.monotonic() - self._round_at > max(1.0, self.options.lease / 4)

    def held(self) -> list[Record]:
        """The windows that this consumer has taken and not settled."""
        return list(self._held.values())

    def look(self) -> None:
        """Look for windows at once: some have come back."""
        self._take_at = 0.0
        self._event.set()

    def hand_over(self, records: Sequence[Record]) -> None:
        """Windows that were cut for this consumer, running already."""
        for record in records:
            self._held[record.id] = record
        if records:
            self._size = records[0].n or 1
            self._handed.extend(records)
            self._event.set()

    # -- the loop

    def _loop(self) -> None:
        while True:
            self._settle()
            if self._stop_at is None and self.emitter.should_stop():
                self._stop_at = time.monotonic()
                self._leave(lambda: self.store.release(self._all_handed()))
            if self._stop_at is None:
                self._submit(self._next())
            elif not self._calls:
                return
            if not self._finished:
                self._event.wait(0.25 if self._stop_at is not None else self._wait())
            self._event.clear()

    def _wait(self) -> float:
        if self._handed:
            return 0.0
        return max(0.0, min(0.25, self._take_at - time.monotonic()))

    def _drain(self) -> None:
        """One pass: whatever is due now is cut and run, after what has been cut before."""
        more = True
        while not self.emitter.should_stop():
            self._take_at = 0.0
            records = self._next()
            if not records and not more:
                break
            self._submit(records)
            self._finish()
            more = self.cutter.step_again()

    def _finish(self) -> None:
        while self._calls:
            self._event.wait(0.25)
            self._event.clear()
            self._settle()

    def _next(self) -> list[Record]:
        """Windows to run, those that were handed over and those that wait for anybody, in the order of the stream."""
        records = self._all_handed()
        now = self._round_at = time.monotonic()
        due = [at for at in self.delivery.retry_at if at <= now]
        if due:
            self.delivery.retry_at = [at for at in self.delivery.retry_at if at > now]
            self._take_at = 0.0
        room = self.target() - len(self._held)
        if room > 0 and now >= self._take_at:
            try:
                room = min(room, self._in_a_group())
                taken = self.store.take(self.stream, self.id, room, self.options.lease, self.lsid,
                                        ordered=self.options.ordered)
            except StoreUnavailable as error:
                log.info('%s: cannot take windows: %s', self.stream, error, extra={'stream': self.stream})
                taken = []
            for record in taken:
                self._held[record.id] = record
            records += taken
            self._pause = 0.01 if taken else min(self._pause * 2, LEADING if self.cutter.leads else FOLLOWING)
            self._take_at = 0.0 if taken else now + self._pause
        return sorted(records, key=lambda each: each.seq)

    def _in_a_group(self) -> int:
        return max(1, int(MAX_GROUP / max(1.0, self._size)))

    def _submit(self, records: Sequence[Record]) -> None:
        """Give windows to the executor: several in one call if they are quick; retried ones alone, as they may kill."""
        fresh: list[tuple[Record, Batch]] = []
        for record in records:
            pair = self._loaded(record)
            if pair is None:
                continue
            if record.attempt > 1:
                self._call([pair])
            else:
                fresh.append(pair)
        share = max(1, -(-len(fresh) // self.executor.workers)) if self._seconds else 1
        if self._seconds:
            share = min(share, max(1, int(AHEAD / 2 / self._seconds)))
        for at in range(0, len(fresh), share):
            self._call(fresh[at:at + share])

    def _loaded(self, record: Record) -> tuple[Record, Batch] | None:
        data = record.data
        if data is None and record.packed is None:
            try:
                data = self.store.load(record)
            except LeaseLost as lost:
                log.info('%s: %s', self.stream, lost, extra={'stream': self.stream})
                self._held.pop(record.id, None)
                return None
            except StoreUnavailable as error:
                log.info('%s: %s; window %s waits for its lease', self.stream, error, record.id,
                         extra={'stream': self.stream, 'window': record.id})
                self._held.pop(record.id, None)
                return None
        return record, Batch(record.shown or record.id, self.stream, data, record.created, record.start, record.end,
                             record.key, record.attempt, record.query, record.packed, record.times,
                             self.store.connection.url, record.final, record.revision, record.late)

    def _call(self, pairs: list[tuple[Record, Batch]]) -> None:
        reached('run:submitted')
        records = [record for record, _ in pairs]
        self._waited(records)
        self.delivery.spans.begin(records, [batch for _, batch in pairs])
        try:
            future = self.executor.run(self.fn, [batch for _, batch in pairs], self.options.timeout)
        except Exception as error:
            future = Future()
            future.set_result([failure(error) for _ in pairs])
        self._calls[future] = pairs
        future.add_done_callback(self._done)

    def _waited(self, records: Sequence[Record]) -> None:
        """Measure for how long windows of a first attempt have waited since the last of their messages came."""
        now = milliseconds(self.store.clock.now())
        waited = self.delivery.measured['queue'].add
        for record in records:
            if record.attempt <= 1 and record.times:
                waited(record.waited(now))

    def _done(self, future: Future[list[Outcome]]) -> None:
        self._finished.append(future)
        self._event.set()

    def _settle(self) -> None:
        """Settle all that is finished, as one group."""
        settled: list[Settled] = []
        while self._finished:
            future = self._finished.popleft()
            pairs = self._calls.pop(future)
            outcomes = self._outcomes(future, len(pairs))
            settled += [(record, batch, outcome) for (record, batch), outcome in zip(pairs, outcomes, strict=True)]
        if not settled:
            return
        began = time.monotonic()
        try:
            self.delivery.settle(settled)
        finally:
            # A slow sink holds windows up as a slow function does; but it has one thread, not one for each worker.
            sinking = (time.monotonic() - began) * self.executor.workers
            took = max(1e-6, (sum(outcome.seconds for _, _, outcome in settled) + sinking) / len(settled))
            self._seconds = took if not self._seconds else 0.7 * self._seconds + 0.3 * took
            self.delivery.spans.end([record for record, _, _ in settled])
            for record, _, _ in settled:
                self._held.pop(record.id, None)
            if self.options.ordered:
                self._take_at = 0.0  # the next windows of these keys may be there
            self.cutter.wake()
        self.upkeep.count_now_and_then()

    @staticmethod
    def _outcomes(future: Future[list[Outcome]], n: int) -> list[Outcome]:
        error = future.exception()
        return [failure(error) for _ in range(n)] if error is not None else future.result()

    def _all_handed(self) -> list[Record]:
        records = []
        with contextlib.suppress(IndexError):  # housekeeping may be giving them back
            while True:
                records.append(self._handed.popleft())
        return records

    def give_back(self) -> None:
        """Windows that were taken but not begun go to the other consumers."""
        records = self._all_handed()
        try:
            self.store.release(records)
        except StoreUnavailable:
            log.info('%s: MongoDB is away; %d windows run when their lease is over', self.stream, len(records),
                     extra={'stream': self.stream})
        for record in records:
            self._held.pop(record.id, None)

    def _patient(self) -> bool:
        if self._stop_at is None and self.emitter._stop:
            self._stop_at = time.monotonic()
        return self._stop_at is None or time.monotonic() - self._stop_at < GRACE

    def _leave(self, step: Callable[[], Any]) -> None:
        """Stop cutting, and take one step on the way out; none after MongoDB did not answer, as each would wait."""
        try:
            self.cutter.stop()
            if not self._away:
                step()
        except StoreUnavailable:
            self._away = True
            log.info('%s: MongoDB is away; what this consumer holds runs when its lease is over', self.stream,
                     extra={'stream': self.stream})

    def _close(self, *, kill: bool = False) -> None:
        """End everything; *kill*: without waiting for functions that run."""
        self._stop_at = self._stop_at or time.monotonic()
        housekeeper.remove(self.upkeep)
        for step in (lambda: self.store.release(self._all_handed()), self.upkeep.flush_counts,
                     self.upkeep.leave):
            self._leave(step)
        if self._own_executor:
            self.executor.shutdown(wait=not kill, kill=kill)
        self.delivery.close()
        self.emitter._engine = None  # a further run starts anew


WindowEmitter.make_engine = Runner
