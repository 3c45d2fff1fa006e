"""What a consumer does every few seconds beside its work: hold its leases, recover what dead ones left, be counted."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from typing import TYPE_CHECKING

from minibatch.errors import StoreUnavailable

if TYPE_CHECKING:
    from minibatch.runner import Runner


#: The look for copies of messages whose window is gone asks for every window with messages in the buffer, of which
#: there may be many dead ones: it takes no more of the time than one part in this.
RARELY = 200


class Upkeep:
    """The housekeeping of one consumer; called by the thread of :mod:`minibatch.housekeeping`.

    :param runner: the consumer
    :ivar every: seconds between two rounds
    :ivar others: how many further consumers of the stream are alive
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.stream = runner.stream
        self.store = runner.store
        self.every = max(0.1, runner.options.lease / 3)
        self.others = 0
        self._counted: dict[str, int] = {}
        self._rated = (time.monotonic(), 0)
        self._expire_at = self._sweep_at = self._stray_at = self._flush_at = 0.0
        self._counting = threading.Lock()
        self._present = threading.Lock()
        self._left = False
        self._started = self.store.clock.now()

    def keep_up(self) -> None:
        """One round."""
        runner, lease = self.runner, self.runner.options.lease
        held = runner.held()
        if held:
            self.store.renew(held, lease)
        if runner.stuck():
            runner.give_back()  # others need not wait for what this consumer has not begun
        if runner.cutter.leads:
            runner.cutter.renew()
        self._beat()
        self.others = len(self.store.consumers_of(self.stream, alive_within=2 * self.every + 1)) - 1
        recovered = self.store.recover(self.stream, runner.options.max_attempts, max(1.0, self.every))
        if recovered:
            runner.delivery.recovered(recovered)
            runner.look()
        self.flush_counts()
        if runner.cutter.leads:
            self._tidy()

    def _beat(self) -> None:
        runner = self.runner
        with self._present:
            if not self._left:
                self.store.beat({'_id': runner.id, 'stream': self.stream, 'host': runner.host, 'pid': runner.pid,
                                 'started': self._started, 'workers': runner.executor.workers, 'every': self.every,
                                 'rate': self._rate()})

    def leave(self) -> None:
        """Give no further sign of life, not even that of a round which is under way, and be gone at once."""
        with self._present:
            self._left = True
            self.store.leave(self.runner.id)

    def _rate(self) -> float:
        """Messages committed a second since the last time this was asked."""
        (at, messages), now = self._rated, (time.monotonic(), self.runner.delivery.messages)
        self._rated = now
        return round((now[1] - messages) / max(now[0] - at, 1e-3), 1)

    def flush_counts(self) -> None:
        """Add what this consumer has done since the last time to the stream's totals."""
        with self._counting:
            self._flush_counts()

    def _flush_counts(self) -> None:
        now = self.runner.delivery.totals()
        change = {name: n - self._counted.get(name, 0) for name, n in now.items() if n != self._counted.get(name, 0)}
        if change:
            self.store.count(self.stream, change)
            self._counted = now

    def count_now_and_then(self) -> None:
        """As :meth:`flush_counts`, once a second at the most; for the loop, so that people see what goes on."""
        if time.monotonic() >= self._flush_at:
            self._flush_at = time.monotonic() + 1.0
            with contextlib.suppress(StoreUnavailable):  # they go in later
                self.flush_counts()

    def _tidy(self) -> None:
        """Remove what consumers that died left behind, and what is older than the stream's ``max_age``."""
        stream, now = self.runner.emitter.stream, time.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + 6 * self.every
            self.store.sweep(self.stream)
            self.store.roll_forward(self.stream)
        if not self.runner.emitter.keep and now >= self._stray_at:
            self.store.sweep_strays(self.stream)
            self._stray_at = now + max(6 * self.every, RARELY * (time.monotonic() - now))
        if stream.max_age and now >= self._expire_at:
            self._expire_at = now + min(30.0, stream.max_age / 4) * random.uniform(0.5, 1.0)
            self.store.expire(self.stream, stream.max_age, bool(stream.expire_unprocessed))
