"""What happens to a window after its function ran: result to the sink, then the commit; or back, or to the dead."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLong
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from minibatch.errors import BacklogFull, LeaseLost, StoreUnavailable, WindowTimeout
from minibatch.logs import line
from minibatch.measures import MEASURED, Histogram
from minibatch.outcome import Outcome, failure
from minibatch.points import reached
from minibatch.sinks import put_all_in, rows_for
from minibatch.store import Record, Store, Verdict
from minibatch.store.record import milliseconds
from minibatch.tracing import Spans
from minibatch.window.base import Batch, Options, WindowEmitter

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

log = logging.getLogger('minibatch')
T = TypeVar('T')

#: A window with its data, what ran on it, and what became of that.
Settled = tuple[Record, Batch, Outcome]


class Delivery:
    """Settles windows of one consumer, in groups; called from one thread.

    :param store: where
    :param emitter: whose ``forward`` hands results to the sink
    :param options: attempts, delays
    :param patience: asked while MongoDB is away, whether to go on waiting for it
    """

    def __init__(self, store: Store, emitter: WindowEmitter, options: Options, patience: Callable[[], bool]) -> None:
        self.store = store
        self.emitter = emitter
        self.fields = {'stream': emitter.stream_name}
        self.options = options
        self.patience = patience
        self.exactly_once = bool(getattr(emitter.sink, 'exactly_once', False))
        # One session for all commits with more than the window in them: its id is in the windows, for their rescuer.
        self.session = store.session() if self.exactly_once or store.transactions else None
        self.committed = 0
        self.messages = 0
        self.failed = 0
        self.dead = 0
        self.stale = 0
        self.retried = 0
        self.measured = {name: Histogram(bounds) for name, (bounds, _) in MEASURED.items()}
        self.retry_at: list[float] = []
        self.spans = Spans(emitter.stream_name, store.spans_of)
        self._guard: ThreadPoolExecutor | None = None

    @property
    def lsid(self) -> Any:
        """Id of the server session in which windows are committed with a sink's writes, or with changes of tables."""
        return dict(self.session.session_id) if self.session else None

    def close(self) -> None:
        """Close the sink, which opens again if it is used again, and end what is held open."""
        sink = self.emitter.sink
        if hasattr(sink, 'put') and hasattr(sink, 'close'):
            try:
                self._guarded(sink.close)
            except Exception as error:
                log.warning('%s: the sink could not be closed: %s: %s', self.emitter.stream_name,
                            type(error).__name__, line(str(error)), extra=self.fields)
        if self._guard is not None:
            self._guard.shutdown(wait=False)
        if self.session is not None:
            self.session.end_session()

    def totals(self) -> dict[str, int]:
        """What this consumer has done so far, by the names of a stream's totals."""
        totals = {'windows': self.committed, 'messages': self.messages, 'failed': self.failed, 'dead': self.dead,
                  'retried': self.retried}
        for name, measured in self.measured.items():
            totals |= measured.totals(name)
        return totals

    def recovered(self, records: Sequence[Record]) -> None:
        """Count windows that were taken from a consumer that died or hung; that was an attempt, too."""
        for record in records:
            self.failed += 1
            if record.attempt < self.options.max_attempts:
                self.retried += 1
                continue
            self.dead += 1
            log.error('%s: window %s is dead after %d attempts (the consumer %s died or hung while it had the window); '
                      'it is kept: `minibatch dead` or stream.dead lists, redrives and drops it',
                      record.stream, record.id, record.attempt, record.owner,
                      extra=self._about(record, f'the consumer {record.owner} died or hung while it had the window'))

    def _about(self, record: Record, error: str | None) -> dict[str, Any]:
        return self.fields | {'window': record.id, 'attempt': record.attempt, 'messages': record.n,
                              'max_attempts': self.options.max_attempts, 'error': error}

    def settle(self, settled: Sequence[Settled]) -> None:
        """Deliver and commit those that went well, put the others back or to the dead."""
        good = []
        took = self.measured['duration'].add
        for record, batch, outcome in settled:
            if outcome.ran:
                took(round(outcome.seconds * 1e6))
            if outcome.kind == 'ok':
                good.append((record, batch, outcome))
            else:
                self._fail(record, outcome)
        if not good:
            return
        reached('run:done')
        if self.exactly_once and not getattr(self.emitter.sink, 'mixed', False):
            self._commit_in_transaction(good)
            return
        delivered = [each for each in self._fresh(good) if self._forwarded(*each)]
        for each in self._flushed(delivered):
            if self.exactly_once:
                self._commit_in_transaction(each)
                continue
            changed = [one for one in each if one[2].changes is not None]
            if len(changed) < len(each):
                self._commit([one for one in each if one[2].changes is None])
            if changed:
                self._commit_together(changed)

    def _commit_in_transaction(self, settled: Sequence[Settled]) -> None:
        if any(outcome.changes is not None for _, _, outcome in settled):
            self._commit_together(settled)
        else:
            self._commit_with_effects(settled)

    # -- at least once: sink, then commit

    def _forwarded(self, record: Record, batch: Batch, outcome: Outcome) -> bool:
        """Hand one result to the sink; whether it was delivered."""
        if not self._forwards:
            return True
        result = result_of(batch, outcome, self.emitter.sink)
        if isinstance(result, list) and not result:
            return True
        try:
            begin = getattr(self.emitter.sink, 'begin', None)
            if begin is not None:
                begin(batch)
            self._guarded(lambda: self.emitter.forward(result))
        except Exception as error:
            self._fail(record, replace(failure(error), error=f'the sink failed: {failure(error).error}'))
            return False
        return True

    @property
    def _forwards(self) -> bool:
        emitter = self.emitter
        return emitter.sink is not None or emitter.forwardfn is not None or (
            type(emitter).forward is not WindowEmitter.forward)

    def _flushed(self, delivered: list[Settled]) -> Iterator[list[Settled]]:
        flush = getattr(self.emitter.sink, 'flush', None)
        if flush is not None and delivered:
            try:
                self._guarded(flush)
            except Exception as error:
                for record, _, _ in delivered:
                    self._fail(record, replace(failure(error), error=f'the sink failed: {failure(error).error}'))
                return
        if delivered:
            reached('sink:done')
            yield delivered

    def _guarded(self, call: Callable[[], T]) -> T:
        """Call the user's sink; if it takes longer than ``timeout``, give up waiting (its thread is left alone)."""
        if self.options.timeout is None:
            return call()
        if self._guard is None:
            self._guard = ThreadPoolExecutor(1, thread_name_prefix='minibatch-sink')
        try:
            return self._guard.submit(call).result(self.options.timeout)
        except TooLong:
            self._guard.shutdown(wait=False)
            self._guard = None
            raise WindowTimeout(f'it took longer than {self.options.timeout} s') from None

    def _commit(self, settled: Sequence[Settled]) -> None:
        records = [record for record, _, _ in settled]
        done = self._lasting(lambda: self.store.commit(records))
        if done is not None:
            self._count(settled, done)

    def _count(self, settled: Sequence[Settled], done: int) -> None:
        self.committed += done
        if done == len(settled):
            sized, late = self.measured['size'].add, self.measured['latency'].add
            now = milliseconds(self.store.clock.now())
            for record, _, _ in settled:
                self.messages += record.n
                sized(record.n)
                if record.times:
                    late(record.waited(now))
        if done < len(settled):
            log.info('%s: %d window(s) had gone to another consumer; their results here do not count',
                     self.emitter.stream_name, len(settled) - done, extra=self.fields)
        if self.emitter.hooked:
            for record, _, _ in settled:
                self._hook('commit', record)

    def _hook(self, name: str, record: Record) -> None:
        """Tell a custom emitter's ``commit`` or ``undo``; the window's state is settled, whatever it does."""
        if getattr(type(self.emitter), name) is getattr(WindowEmitter, name):
            return
        from minibatch.models import scoped
        stream = self.emitter.stream
        try:
            with scoped(stream):
                window = stream.window(id=record.id).first()
                if window is not None:
                    getattr(self.emitter, name)(stream.buffer(window=record.id), window)
        except Exception:
            log.exception('%s: %s.%s failed for window %s', stream.name, type(self.emitter).__name__, name, record.id,
                          extra=self.fields | {'window': record.id})

    # -- exactly once: sink and commit in one transaction

    def _commit_with_effects(self, settled: Sequence[Settled]) -> None:
        def effects(session: ClientSession) -> None:
            self._effects(settled, session)

        records = [record for record, _, _ in settled]
        try:
            done = self._lasting(lambda: self.store.commit(records, effects, self.session), alone=len(settled) == 1)
        except LeaseLost as lost:
            if len(settled) > 1:
                self._one_by_one(settled)
            else:
                log.info('%s: %s', self.emitter.stream_name, lost, extra=self.fields)
            return
        except Exception as error:
            if len(settled) > 1:
                self._one_by_one(settled)
            else:
                self._fail(records[0], replace(failure(error), error=f'the sink failed: {failure(error).error}'))
            return
        if done is not None:
            self._count(settled, done)

    def _effects(self, settled: Sequence[Settled], session: ClientSession) -> None:
        sink = self.emitter.sink
        given = [(result_of(batch, outcome, sink), batch) for _, batch, outcome in settled]
        put_all_in(sink, session, [(result, batch) for result, batch in given
                                   if not (isinstance(result, list) and not result)])

    # -- tables: what functions changed, and the commit, in one transaction

    def _fresh(self, settled: list[Settled]) -> list[Settled]:
        """Those of which all that they read in tables is so still: a sink need not get what will not be committed."""
        if not self._forwards or not any(outcome.changes for _, _, outcome in settled):
            return settled
        verdict = self._lasting(lambda: self.store.foresee([record for record, _, _ in settled],
                                                           [outcome.changes for _, _, outcome in settled]))
        if verdict is None:
            return []
        self._set_aside(settled, verdict)
        return [settled[index] for index in verdict.committed]

    def _commit_together(self, settled: Sequence[Settled]) -> None:
        session = self.session
        assert session is not None  # without transactions, a table refuses to be changed
        records = [record for record, _, _ in settled]
        changes = [outcome.changes for _, _, outcome in settled]

        def effects(session: ClientSession, chosen: list[int]) -> None:
            self._effects([settled[index] for index in chosen], session)

        try:
            verdict = self._lasting(lambda: self.store.commit_together(
                session, records, changes, effects if self.exactly_once else None), alone=len(settled) == 1)
        except Exception as error:
            if len(settled) > 1:
                for each in settled:
                    self._commit_together([each])
            elif isinstance(error, LeaseLost):
                log.info('%s: %s', self.emitter.stream_name, error, extra=self.fields)
            else:
                self._fail(records[0], replace(failure(error), error=f'the sink failed: {failure(error).error}'))
            return
        if verdict is not None:
            self._set_aside(settled, verdict)
            self._count([settled[index] for index in verdict.committed], len(verdict.committed))
            marks: dict[str, tuple[int, int]] = {}
            for one in [changes[index] for index in verdict.committed]:
                for table, mark in (one.marks if one is not None else {}).items():
                    marks[table] = max(marks.get(table, mark), mark)
            self._lasting(lambda: self.store.table_seen(marks, self.emitter.stream_name))

    def _set_aside(self, settled: Sequence[Settled], verdict: Verdict) -> None:
        """What is not committed: run again at once where others were faster with a key, for that is nobody's fault."""
        if verdict.lost:
            log.info('%s: %d window(s) had gone to another consumer; their results here do not count',
                     self.emitter.stream_name, len(verdict.lost), extra=self.fields)
        for index, error in verdict.refused.items():
            self._fail(settled[index][0], failure(error))
        stale = [settled[index][0] for index in verdict.stale]
        if stale:
            self.stale += len(stale)
            self._lasting(lambda: self.store.release(stale))
            self.retry_at.append(time.monotonic())

    def _one_by_one(self, settled: Sequence[Settled]) -> None:
        for each in settled:
            self._commit_with_effects([each])

    # -- failure

    def _fail(self, record: Record, outcome: Outcome) -> None:
        """Put a window back to be tried again after a growing, jittered delay; past its attempts, to the dead."""
        if not outcome.ran:
            self._lasting(lambda: self.store.release([record]))
            return
        self.failed += 1
        self.spans.failed(record, outcome.error)
        error = {'attempt': record.attempt, 'error': storable(outcome.error or outcome.kind), 'kind': outcome.kind,
                 'traceback': storable(outcome.traceback or '') or None, 'when': self.store.clock.now()}
        name = self.emitter.stream_name
        if record.attempt >= self.options.max_attempts:
            if self._lasting(lambda: self.store.bury(record, error)):
                self.dead += 1
                log.error('%s: window %s is dead after %d attempts (%s); it is kept: `minibatch dead` or stream.dead '
                          'lists, redrives and drops it', name, record.id, record.attempt, line(outcome.error),
                          extra=self._about(record, outcome.error))
        else:
            delay = backoff(record.attempt, self.options)
            if self._lasting(lambda: self.store.retry(record, error, delay)):
                self.retried += 1
                self.retry_at.append(time.monotonic() + delay)
                log.warning('%s: attempt %d of %d at window %s failed (%s); again in %.1f s',
                            name, record.attempt, self.options.max_attempts, record.id, line(outcome.error), delay,
                            extra=self._about(record, outcome.error) | {'again_in': round(delay, 3)})
        if self.emitter.hooked:
            self._hook('undo', record)

    def _lasting(self, action: Callable[[], T], *, alone: bool = False) -> T | None:
        """Do a write that has to be done while MongoDB may be away: the lease decides who wins when it is back.

        :param alone: it is for one window, so it also waits for a stream that has no room for the window's result
        """
        pause = 0.02
        while True:
            try:
                return action()
            except (StoreUnavailable, BacklogFull) as error:
                if isinstance(error, BacklogFull) and not alone:
                    raise
                if not self.patience():
                    log.warning('%s: gave up: %s; the windows run again when their lease is over',
                                self.emitter.stream_name, error, extra=self.fields)
                    return None
                if pause > 0.5:
                    log.warning('%s: waiting: %s', self.emitter.stream_name, error, extra=self.fields)
            threading.Event().wait(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, 2.0)


def result_of(batch: Batch, outcome: Outcome, sink: Any = None) -> Any:
    """What goes to the sink: the result, the rows of a data frame; the window's data if there is none."""
    value = outcome.value
    if value is None or isinstance(value, Batch):
        return batch.data
    return rows_for(sink, value)


def storable(text: str) -> str:
    """The text of an error without what BSON has no place for: surrogates that stand alone.

    >>> storable('caf\\ud800')
    'caf\\\\ud800'
    """
    return text.encode('utf-8', 'backslashreplace').decode()


def backoff(attempt: int, options: Options) -> float:
    """Seconds until the next attempt: doubled each time up to a cap, with half of it left to chance.

    >>> 2 <= backoff(3, Options(backoff=1.0)) <= 4
    True
    """
    full = min(options.max_backoff, options.backoff * 2.0 ** min(attempt - 1, 30))
    return full * random.uniform(0.5, 1.0)
