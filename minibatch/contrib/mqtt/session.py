"""One connection of a source, from the beginning to the end: what comes, what is acknowledged, what is written down."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from minibatch.contrib.inlet import Inlet
from minibatch.contrib.intake import NOWHERE
from minibatch.contrib.mqtt.link import PATIENCE, Link, Wish, connect, refused
from minibatch.contrib.mqtt.redelivery import Arrived, Key, Sorter, fingerprint

log = logging.getLogger(__name__)

#: Seconds that a connection has to last before it counts as a good one, if nothing comes.
STEADY = 1.0
#: Seconds without a message after which the last one is acknowledged, too; at the most, and at the least.
IDLE, IDLE_LEAST = 1.0, 0.02
#: Seconds in which a broker should have sent what is needed to tell whether it was sent before.
UNDECIDED = 5.0


class Session:
    """Reads over one connection.

    What is stored as the source's position is a dict: ``client``, the id that the broker knows the session by;
    ``topics``, with the QoS of each; ``settled``, the number of a message up to which the broker has got all
    acknowledgements, for sure; ``released``, the number of one that was the last, and may have been acknowledged; and
    ``marks``, whether this broker has been seen to set the DUP flag.

    :param wish: what to connect to
    :param inlet: where to
    :param size: most messages taken at once
    :param who: the source, for the log
    :ivar link: the connection, as soon as there is one
    """

    def __init__(self, wish: Wish, inlet: Inlet, size: int, cancelled: threading.Event, who: str) -> None:
        self.wish, self.inlet, self.size, self.cancelled, self.who = wish, inlet, size, cancelled, who
        self.link: Link | None = None
        self._state: dict[str, Any] = {}
        self._wanted: list[list[Any]] = []
        self._asked: int | None = None         # the subscription that was not answered yet
        self._number = 0
        self._sorter = Sorter((), False)
        self._open: dict[int, bytes] = {}      # not acknowledged: packet id, fingerprint
        self._closed: dict[int, bytes] = {}    # acknowledged over this connection
        self._stored: deque[Arrived] = deque()  # in the stream, to be acknowledged
        self._active = self._released = 0.0
        self._idle = IDLE
        self._released_to = -1                 # what is written down as released
        self._barrier: tuple[int, int | None] | None = None
        self._warned = False

    def run(self, up: Callable[[], None]) -> None:
        """Connect, and read until cancelled.

        :raises OSError: the connection is lost, or there is none
        :raises AccessRefused: the broker refuses the user, or the subscription
        """
        self.link = link = connect(self.wish, self.cancelled)
        try:
            self._begin(link)
            began = self._active = time.monotonic()
            good = False
            while not self.cancelled.is_set():
                arrived = self._arrived(link)
                if not good and (arrived or (self._asked is None and time.monotonic() - began > STEADY)):
                    good = True
                    up()
                self._round(link, arrived)
            if self.inlet.flush():
                self._acknowledge(link)
        finally:
            link.close()

    # -- beginning

    def _begin(self, link: Link) -> None:
        """Find out what is in the stream, and see to it that the broker knows what is wanted."""
        wish, old = self.wish, self.inlet.open() or {}
        self.inlet.durable()  # of an earlier connection, whose ids mean nothing any more
        keys = list(map(Key.unpacked, self.inlet.keys()))
        settled, known = old.get('settled', -1), old.get('client') == wish.client_id
        last = max(settled, keys[-1].number if keys else -1)
        self._number = last + 1
        if known and not link.resumed:
            log.warning('%s: the broker does not know the session of client %r any more (it was restarted empty, or '
                        'the session has expired); what it kept for it is lost', self.who, wish.client_id)
        resumed = known and link.resumed
        if not resumed:
            settled = last
        marks = bool(known and old.get('marks'))
        released = self._released_to = old.get('released', -1)
        self._sorter = Sorter([key for key in keys if key.number > settled], marks, anchored=released < last)
        before = old.get('topics', []) if resumed else []
        self._state = {'client': wish.client_id, 'topics': before, 'settled': settled, 'released': released,
                       'marks': marks}
        self._wanted = [[each, wish.qos] for each in wish.topics]
        self._asked = link.subscribing
        if self._asked is None and before != self._wanted:
            self._asked = link.subscribe()
        stale = [topic for topic, _ in before if topic not in wish.topics]
        if stale:
            link.unsubscribe(stale)
        if self._state != old:
            self.inlet.advance(dict(self._state))

    def _subscribed(self, link: Link, now: float) -> None:
        """Look at the answer to the subscription. Some brokers send messages first, and want them acknowledged."""
        if self._asked not in link.answers:
            if not self._open and now - self._active > PATIENCE:
                raise ConnectionError(f'{self.wish.address} does not answer to the subscription')
            return
        codes = link.answers[self._asked]
        error = refused(codes, self.wish.topics, self.wish.address)
        if error is not None:
            raise error
        self._asked = None
        less = [each for each, code in zip(self.wish.topics, codes, strict=False) if code.value < self.wish.qos]
        if less:
            log.warning('%s: the broker grants QoS 0 only for %s: it does not keep these messages, nor send them '
                        'again', self.who, ', '.join(map(repr, less)))
        if self._state['topics'] != self._wanted:
            self._state['topics'] = self._wanted
            self.inlet.advance(dict(self._state))

    # -- reading

    def _arrived(self, link: Link) -> list[Arrived]:
        """Wait for messages, if there is room for them."""
        if self.inlet.full:
            link.check()
            self._acknowledge(link, 0.05)
            return []
        quiet = len(self._open) == len(self._stored) < 2 and self._asked is None
        return link.take(self.size, min(self._idle / 2, 0.2) if quiet else 0.01)

    def _round(self, link: Link, arrived: Sequence[Arrived]) -> None:
        now = time.monotonic()
        if arrived:
            self._add(link, arrived)
            self._active = now
        self._acknowledge(link)
        if self._asked is not None:
            self._subscribed(link, now)
        self._settle(link, now)
        if link.unasked and not self._warned:
            self._warned = True
            log.warning('%s: messages with QoS 0 come faster than they can be stored, and some are dropped', self.who)

    def _add(self, link: Link, arrived: Iterable[Arrived]) -> None:
        found: list[tuple[Arrived, bool]] = []
        for each in arrived:
            if each.qos == 0:
                found.append((each, False))
                continue
            mark = fingerprint(each.topic, each.payload)
            if each.dup and each.mid in self._open:
                continue  # a broker that grew impatient: the acknowledgement is still to come
            if each.dup and self._closed.get(each.mid) == mark:
                link.ack(each)  # or has not seen it yet when it did
                continue
            self._open[each.mid] = mark
            if self._released:  # does the broker wait for each acknowledgement before it sends the next one?
                quick = time.monotonic() - self._released < 0.05
                self._idle = max(self._idle / 2, IDLE_LEAST) if quick else min(self._idle * 2, IDLE)
                self._released = 0.0
            found += self._sorter.sort(each)
        self._take(found)

    def _take(self, found: Iterable[tuple[Arrived, bool]]) -> None:
        new: list[Arrived] = []
        keys: list[bytes | None] = []
        for each, again in found:
            if again:
                self._stored.append(each)
                continue
            new.append(each)
            if each.qos == 0:
                keys.append(None)
            else:
                keys.append(Key(self._number, each.mid, self._open[each.mid]).packed())
                self._number += 1
        if new:
            self.inlet.extend([each.payload for each in new], [NOWHERE] * len(new), metas=new, keys=keys,
                              tokens=[each if each.qos else None for each in new])
        if self._sorter.marks != self._state['marks']:
            self._state['marks'] = self._sorter.marks
            self.inlet.advance(dict(self._state))

    # -- acknowledging

    def _acknowledge(self, link: Link, timeout: float = 0.0) -> None:
        """Acknowledge what is in the stream, but for the last message: see :mod:`.redelivery`."""
        for durable in self.inlet.durable(timeout):
            self._stored.extend(durable.tokens)
            self._released_to = durable.positions['']['released']
        while len(self._stored) > 1:
            self._release(link)

    def _release(self, link: Link) -> None:
        arrived = self._stored.popleft()
        self._closed[arrived.mid] = self._open.pop(arrived.mid)
        link.ack(arrived)

    def _settle(self, link: Link, now: float) -> None:
        """When all is quiet, acknowledge the last message, too, in steps each of which is known to be done.

        The broker says that it has got what was acknowledged before; that the last one may be acknowledged is written
        down; it is; the broker says that it has got this; and that is written down.
        """
        if self._sorter.holds and now - self._active > UNDECIDED:
            self._take(self._sorter.give_up())
        last = self._number - 1
        if len(self._open) == len(self._stored) == 1 and now - self._active >= self._idle:
            if self._state['released'] != last:
                if self._confirmed(link, last - 1):
                    self._state['released'] = last
                    self.inlet.advance(dict(self._state))
            elif self._released_to == last:
                self._release(link)
                self._released = time.monotonic()
                self._barrier = None
        elif not self._open and self._state['settled'] != last and self._confirmed(link, last):
            self._state['settled'] = last
            self.inlet.advance(dict(self._state))

    def _confirmed(self, link: Link, number: int) -> bool:
        """Whether the broker has got the acknowledgements up to this message, since it answers to what came after.

        One that does not (rumqttd) keeps the last message as one on its way, until there is another one.
        """
        if self._barrier is None or self._barrier[0] != number:  # nobody has subscribed to this
            self._barrier = (number, link.unsubscribe([f'minibatch/{self.wish.client_id}']))
        return self._barrier[1] in link.answers
