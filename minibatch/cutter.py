"""The side of a consumer that decides: leads the stream if nobody else does, asks the strategy, cuts, hands over."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from minibatch.errors import LeaseLost, OptionError, StoreUnavailable
from minibatch.models import scoped
from minibatch.order import Claim, Order
from minibatch.placer import Placer
from minibatch.points import reached
from minibatch.store import Record
from minibatch.store.base import conflicted
from minibatch.store.schema import MAX_GROUP, Document
from minibatch.store.watch import Watch
from minibatch.window.base import View, WindowEmitter

if TYPE_CHECKING:
    from minibatch.models import Window
    from minibatch.runner import Runner

log = logging.getLogger('minibatch')

#: Longest pause between two looks at a stream that is watched, and one that is polled, in seconds.
WATCHED, POLLED = 5.0, 1.0
#: Longest pause before a stream is looked at again whose windows go by what is in the messages, in seconds.
PLACED = 0.5
#: Seconds for which a consumer does not try to lead again when the stream has been taken over by another strategy.
FOREIGN = 30.0
#: Window numbers taken from the stream's counter in one go; a crash leaves a gap of so many at the most.
BLOCK = 100
#: Longest pause before a full stock for other consumers is looked at again, in seconds.
RESTOCK = 0.2
#: Cuts in a row after which a stream counts as busy, and is not watched (a watch taxes its producers).
BUSY = 20
#: Seconds to leave the interpreter to the runner, after the first cut, before the next look.
GIVE_WAY = 0.001
#: How often one pass over a stream repeats a look that another write has come in between of.
CONFLICTS = 5


class Cutter:
    """Cuts one stream's windows while its consumer leads.

    :param runner: the consumer, which says how many windows it can run now and receives them
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.emitter: WindowEmitter = runner.emitter
        self.store = runner.store
        self.stream = runner.stream
        self.leads = False
        self._session = self.store.session() if self.store.transactions else None
        self._lsid = dict(self._session.session_id) if self._session else None
        self._placer = Placer(self.emitter, self._session) if self.emitter.placing else None
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._watch: Watch | None = None
        self._watch_again = 0.0
        self._in_a_row = 0
        self._lead_at = 0.0
        self._leads_until = 0.0
        self._numbers = (1, 0)  # window numbers allocated and not used yet: first and last
        self._seen: Any = None  # id of a message that the watch has seen come
        self._known: Any = None  # that of the first message that can be cut, if there was no need to ask
        self._drained = False  # the last look found no message at all, so the first one seen since is the first of all
        self._stocked = False
        self._unfinished = False  # the last cut was broken off in the middle
        self._pause = 0.01
        self._ask_at: float | None = None
        self._thread: threading.Thread | None = None

    # -- as a thread

    def start(self) -> None:
        """Cut in a thread of its own until :meth:`stop`."""
        self._thread = threading.Thread(target=self._run, name=f'minibatch-cut-{self.stream}', daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look again now: the runner has room, or something else has changed."""
        self._wake.set()

    def _message_came(self, first: Any) -> None:
        if self._seen is None:
            self._seen = first
        self._wake.set()

    def stop(self) -> None:
        """End the thread, and give the lead to whoever wants it."""
        self._stopped.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._close_watch()
        self.resign()

    def resign(self) -> None:
        """Stop leading.

        :raises StoreUnavailable: MongoDB is away; the lead runs out by itself
        """
        if self.leads:
            self.leads = False
            self.store.resign(self.stream, self.runner.id, self._numbers)

    def _run(self) -> None:
        trouble = 0.02
        while not self._stopped.is_set():
            self._wake.clear()
            try:
                cut = self.step()
                trouble = 0.02
            except StoreUnavailable as error:
                if trouble > 0.5:
                    log.warning('%s: cannot cut windows: %s', self.stream, error, extra={'stream': self.stream})
                    self._repair()
                self._stopped.wait(trouble)
                trouble = min(trouble * 2, 2.0)
                continue
            except Exception:
                log.exception('%s: %s failed; asked again in %.2f s', self.stream, type(self.emitter).__name__, trouble,
                              extra={'stream': self.stream})
                self._stopped.wait(trouble)
                trouble = min(trouble * 4, 10.0)
                continue
            if cut:
                self._in_a_row += 1
                self._pause = 0.01
                if self._in_a_row > BUSY:
                    self._close_watch()
                elif self._in_a_row == 1:
                    self._wake.wait(GIVE_WAY)
            else:
                self._in_a_row = 0
                self._rest()

    def _repair(self) -> None:
        with contextlib.suppress(StoreUnavailable):  # said already; the next look tells more
            self.store.repair()

    def _rest(self) -> None:
        if type(self.emitter).sleep is not WindowEmitter.sleep:
            self.emitter.sleep()
            return
        if self._placer is not None and self.leads and not self.emitter.WATCH:
            self.idle(min(self._next_pause(), PLACED))
        elif self._stocked:  # nobody tells when other consumers take from the stock
            self.idle(min(self._next_pause(), RESTOCK))
        else:
            self.idle(WATCHED if self._watching() else self._next_pause())

    def idle(self, most: float) -> None:
        """Wait until something may have come, the strategy's time, or *most* seconds."""
        if self._ask_at is not None:
            most = min(most, max(0.0, self._ask_at - time.monotonic()))
        if not self.leads:
            most = min(most, max(0.0, self._lead_at - time.monotonic()))
        self._wake.wait(most)

    def _next_pause(self) -> float:
        self._pause = min(self._pause * 1.5, POLLED)
        return self._pause

    def _watching(self) -> bool:
        if not self.leads:
            return True  # nothing to look for but the lead
        if not self.emitter.WATCH:
            return self._ask_at is not None
        if not self.store.transactions:
            return False
        if self._watch is None or not self._watch.alive:
            if time.monotonic() < self._watch_again:
                return False
            self._watch_again = time.monotonic() + 1.0
            self._watch = Watch(self.store, self.stream, self._message_came)
        return True

    def _close_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    # -- one look

    def step(self) -> bool:
        """Look once, and cut if there is something to cut.

        :return: whether there may be more right now
        """
        if not self._lead():
            return False
        reached('lead:held')
        own, most = self.runner.room()
        self._stocked = most <= 0 and self.runner.upkeep.others > 0
        if most <= 0:
            self._ask_at = None
            return False
        own = 0 if self.runner.options.ordered else own  # who takes them looks whether it is their turn
        if self._unfinished:
            # What was written down comes first; else its messages that are not marked yet went into later windows.
            self.store.roll_forward(self.stream)
        self._unfinished = True
        try:
            if self._placer is not None:
                docs, more = self._place(self._placer, own, most)
            elif self.emitter.hooked:
                docs, more = self._cut_by_hooks(own)
            else:
                docs, more = self._cut(own, most)
            self._unfinished = False
        except LeaseLost as lost:
            log.debug('%s: %s', self.stream, lost, extra={'stream': self.stream})
            return self.renew()
        if docs and self.runner.options.ordered:
            self.runner.look()
        self.runner.hand_over([Record.from_document(doc) for doc in docs if doc.get('token') is not None])
        return more

    def step_again(self) -> bool:
        """Look once, and again if another write of the stream's document comes in between: for one pass over a stream.

        The thread needs none of this, as it looks again in any case.
        """
        for _ in range(CONFLICTS):
            try:
                return self.step()
            except StoreUnavailable as error:
                if not conflicted(error):
                    raise
        return self.step()

    def renew(self) -> bool:
        """Hold the lead for another lease; whether it still is this consumer's."""
        until = time.monotonic() + self.runner.options.lease
        self.leads = self.store.renew_lead(self.stream, self.runner.id, self.runner.options.lease)
        self._leads_until = until if self.leads else 0.0
        if not self.leads:
            self._numbers = (1, 0)
        return self.leads

    def _allocate(self, n: int) -> int:
        """Window numbers, from a block that was taken from the stream's counter in one go.

        :raises LeaseLost: this process slept, maybe before it read the messages that the numbers are for: another
            leader may have cut what came before them, and given out higher numbers
        """
        if time.monotonic() >= self._leads_until and not self.renew():
            raise LeaseLost(f'another consumer cuts the windows of {self.stream!r} now')
        first, last = self._numbers
        if last - first + 1 < n:
            block = max(n, BLOCK)
            first = self.store.allocate(self.stream, self.runner.id, block, self.runner.options.lease)
            last = first + block - 1
        self._numbers = (first + n, last)
        return first

    def _lead(self) -> bool:
        now = time.monotonic()
        if self.leads:
            # Who slept through its own lease asks before it goes on: somebody else may lead by now.
            return now < self._leads_until or self.renew()
        if now < self._lead_at:
            return False
        lease = self.runner.options.lease
        self._lead_at = now + min(lease / 3, 5.0)
        self.leads = self.store.lead(self.stream, self.runner.id, lease, self._lsid)
        if self.leads:
            self._leads_until = now + lease
            self._numbers = (1, 0)
            self._drained = False
            self.store.roll_forward(self.stream)
            if self._placer is not None:
                self._placer.reset()
        return self.leads

    def view(self, most: int = 1) -> View:
        """What the strategy is told."""
        timed = not self.emitter.WATCH
        need = self.emitter.need()
        # The watch has seen a message, so there is no need to ask whether there is one, nor to search for it among the
        # many that have just been deleted, which the server goes past one by one. But what it saw while others waited
        # comes after those.
        self._known = self._seen if need == 1 and not timed and self._drained else None
        self._seen = None
        count, most = (1, 1) if self._known is not None else (self.store.count_free(self.stream, need), most)
        self._drained = count == 0
        last_read = self.store.last_read(self.stream) if timed else None
        ask = timed or (count and getattr(self.emitter, 'within', None) is not None)
        return View(now=self.store.clock.now(), count=count, most=most, last_read=last_read,
                    oldest=self.store.oldest_free(self.stream) if count and ask else None,
                    late=self.store.oldest_free(self.stream, last_read) if timed and count and last_read else None)

    def _claim(self, own: int) -> Claim:
        return Claim(owner=self.runner.id, token=uuid.uuid4().hex, ttl=self.runner.options.lease, windows=own,
                     lsid=self.runner.lsid)

    def _cut(self, own: int, most: int) -> tuple[list[Document], bool]:
        decision = self.emitter.decide(self.view(most))
        self._ask_at = None
        if decision.ask_at is not None and not decision.orders:
            self._ask_at = time.monotonic() + (decision.ask_at - self.store.clock.now()).total_seconds()
        docs: list[Document] = []
        for order in decision.orders:
            docs += self._cut_order(order, self._claim(own - len(docs)))
        return docs, bool(docs) or (bool(decision.orders) and not self.emitter.WATCH)

    def _place(self, placer: Placer, own: int, most: int) -> tuple[list[Document], bool]:
        try:
            docs, more = placer.step(self._claim(own), most)
        except OptionError:
            # Another strategy has taken over: its consumers lead from now on.
            self.resign()
            self._lead_at = time.monotonic() + max(FOREIGN, 2 * self.runner.options.lease)
            raise
        if placer.busy:
            self._pause = min(self._pause, 0.05)
        wait = placer.ask_in()
        self._ask_at = None if wait is None else time.monotonic() + wait
        return docs, more

    def _cut_order(self, order: Order, claim: Claim) -> list[Document]:
        if self._session is not None and not self.emitter.keep and (order.size or 0) <= MAX_GROUP:
            docs = self.store.move(self._session, self.stream, order, claim, self._allocate, self._known)
            if docs is not None:
                return docs
        return self.store.mark(self.stream, order, claim, self._allocate, keep=self.emitter.keep)

    def _cut_by_hooks(self, own: int) -> tuple[list[Document], bool]:
        emitter = self.emitter
        self._ask_at = None
        with scoped(emitter.stream):
            ready, args = emitter.window_ready()
            if not ready:
                return [], False
            chosen = [each for each in emitter.process(emitter.query(*args)) if each.stream == self.stream]
            order = emitter._order
            if not chosen and not (order.empty if order else emitter.emit_empty):
                if order is not None and order.advance is not None:
                    self.store.note_read(self.stream, order.advance)  # an interval without messages is over, too
                return [], order is not None and order.advance is not None
            window = emitter.emit(chosen, args)
        part = [{'_id': each.id, 'created': each.created, 'data': each.data} for each in chosen]
        # Who overrides commit() says himself what becomes of messages and windows; nobody sweeps them away.
        keep = emitter.keep or type(emitter).commit is not WindowEmitter.commit
        docs = self.store.select(
            self.stream, part, self._claim(min(own, 1)), self._allocate, keep=keep, **_plain(window),
            start=window.start or (order.start if order else None),
            end=window.end or (order.end if order else None), advance=order.advance if order else None)
        with scoped(emitter.stream):
            emitter.timestamp(args)
        return docs, True


def _plain(window: Window) -> dict[str, Any]:
    """What an emitter's window says, in plain dicts and lists, not those of mongoengine."""
    query, window.query = window.query, None
    said = window.to_mongo().to_dict()
    return {'data': said.get('data', []), 'key': said.get('key'), 'query': query}
