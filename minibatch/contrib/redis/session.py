"""Reading with a consumer group, from one outage to the next: whom to read as, what is left behind, what is gone."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minibatch.contrib.inlet import Inlet
from minibatch.contrib.redis.client import PASSING, Server, errors
from minibatch.contrib.redis.fields import Fields
from minibatch.errors import HistoryLost, OptionError

log = logging.getLogger(__name__)

#: Of the names of our consumers.
PREFIX = 'minibatch-'
#: Milliseconds that the server holds a request when there is nothing new; a cancel waits for it.
_BLOCK = 200
#: Seconds between signs of life while there is no room for more.
_BEAT = 1.0
#: The last id but one: nothing is pending after it. (To Redis, the very last one means ``>``.)
_END = '18446744073709551615-18446744073709551614'

Entry = tuple[str, dict[bytes, bytes]]


class GroupGone(ConnectionError):
    """The group has disappeared while it was read, and maybe the stream with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is read, and how; see ``RedisSource``.

    :ivar server: where
    :ivar key: of the stream
    :ivar size: most entries asked for at once
    :ivar fields: what of an entry is the message
    :ivar start: where a new group begins
    :ivar on_history_lost: what to do when entries are gone
    :ivar claim_after: seconds without a sign of life
    """

    server: Server
    key: str
    size: int
    fields: Fields
    start: str
    on_history_lost: str
    claim_after: float


class Session:
    """Reads with one connection.

    Every entry belongs to the consumer to which Redis has given it first. What is stored of it is stored under that
    consumer's name (a part of the source), with its id: only so can anybody else know of it. Therefore entries are not
    claimed for oneself (``XCLAIM``, ``XAUTOCLAIM``), which would part them from that name.

    :param reading: what to read
    :param group: the consumer group
    :param inlet: where to
    :param cancelled: ends it
    :param who: for the log
    :ivar connected: whether it was, and might do what it has to
    :ivar consumer: the name it reads as
    """

    def __init__(self, reading: Reading, group: str, inlet: Inlet, cancelled: threading.Event, who: str) -> None:
        self._reading, self._group, self._inlet, self._who = reading, group, inlet, who
        self._cancelled = cancelled
        self._redis: Any = None
        self.connected, self.consumer = False, ''
        self._hand: set[str] = set()  # ids that were added, and are not known to be durable
        self._looked = self._beaten = 0.0

    def run(self, up: Callable[[], None], consumer: str, moved: bool) -> None:
        """Read until cancelled.

        :param up: called when there is a connection
        :param consumer: the name of the last session; empty if this is the first
        :param moved: whether another process has used that name meanwhile
        :raises redis.exceptions.ConnectionError: the connection broke off
        """
        self._redis = self._reading.server.connect()
        try:
            with self._asking():
                self._ready_group()
                left = self._enlist(consumer, moved)
                up()
                for each in left:
                    self._recover(each)
                self.connected = True
                self._looked = time.monotonic()
                while not self._cancelled.is_set():
                    self._take(self.consumer, self._read(self.consumer, '>'))
                    self._acknowledge()
                    self._look_after_others()
                self._inlet.flush()
                self._acknowledge()
                self._call_me('')  # so that the next one need not wait for the connection to be gone
        finally:
            with contextlib.suppress(*PASSING):
                self._redis.close()

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            with self._reading.server.asking():
                yield
        except errors.ResponseError as error:
            said = str(error)
            if said.startswith(('NOGROUP', 'UNBLOCKED')):
                raise GroupGone(f'group {self._group!r} of {self._reading.key!r} is gone') from error
            if said.startswith('WRONGTYPE'):
                raise OptionError(f'what Redis has at {self._reading.key!r} is no stream; nothing was read') from error
            raise

    # -- the group

    def _ready_group(self) -> None:
        """See to it that there is a group, and that it goes on where this source was."""
        reading = self._reading
        known = self._inlet.open()  # whether there was a group before
        info = self._group_info()
        if info is None:
            begin = '0' if reading.start == 'earliest' else '$'
            if known is not None:
                begin = self._begin_again()
            try:
                self._redis.xgroup_create(reading.key, self._group, begin, mkstream=True)
            except errors.ResponseError as error:
                if not str(error).startswith('BUSYGROUP'):  # as it does if somebody else was faster
                    raise
        elif known is not None:
            self._check_trimmed(info)
        if known is None:
            self._inlet.advance({'group': self._group})
            self._inlet.flush()

    def _group_info(self) -> dict[str, Any] | None:
        try:
            groups = self._redis.xinfo_groups(self._reading.key)
        except errors.ResponseError as error:
            if 'no such key' in str(error).lower():
                return None
            raise
        return next((each for each in groups if each['name'] == self._group.encode()), None)

    def _begin_again(self) -> str:
        """Where a group begins that was there before and is gone."""
        key = self._reading.key
        self._lost(f'group {self._group!r} of {key!r} is gone, and maybe entries that were not read: the server was '
                   'emptied, or the stream or the group was deleted')
        positions = [each['position'] for each in self._inlet.stream.store.positions(self._inlet.stream.name,
                                                                                    self._inlet.name)]
        last = max((each for each in positions if isinstance(each, str)), key=_order, default='0-0')
        if self._reading.on_history_lost == 'rescan' or not self._redis.exists(key):
            return '0'
        newest = self._redis.xinfo_stream(key)['last-generated-id'].decode()
        return last if _order(newest) >= _order(last) else '0'

    def _check_trimmed(self, info: dict[str, Any]) -> None:
        """Notice entries that were trimmed before they were read; from Redis 7 on, which counts them."""
        read, delivered = info.get('entries-read'), info['last-delivered-id'].decode()
        if read is None or delivered == '0-0':
            return
        stream = self._redis.xinfo_stream(self._reading.key)
        first = stream.get('first-entry')
        if first is None or _order(delivered) < _order(first[0].decode()):
            gone = stream['entries-added'] - read - stream['length']
            if gone > 0:
                self._lost(f'{gone} entries of {self._reading.key!r} were trimmed, or deleted, before they were read')

    def _lost(self, what: str) -> None:
        if self._reading.on_history_lost == 'fail':
            raise HistoryLost(f'{self._who}: {what}. Nothing was appended; on_history_lost= says how to go on')
        log.warning('%s: %s; it goes on', self._who, what)

    # -- names

    def _enlist(self, consumer: str, moved: bool) -> list[str]:
        """Find a name to read as; whose pending entries are to be stored first, oldest first."""
        fresh = f'{PREFIX}{uuid.uuid4().hex[:12]}'
        self._call_me(consumer if consumer and not moved else fresh)
        dead = self._dead(consumer)
        ours = [name for name, _ in dead if name.startswith(PREFIX)]
        if ours and not consumer and not moved:
            self._call_me(ours[0])
        left = {name for name, pending in dead if pending} | {self.consumer, consumer or self.consumer}
        return sorted(left, key=self._oldest)

    def _call_me(self, name: str) -> None:
        """Read as *name* from now on; the connection tells others that somebody does."""
        self.consumer = name or self.consumer
        with contextlib.suppress(errors.ResponseError):
            self._redis.client_setname(name)

    def _dead(self, consumer: str = '', rest: float = 0.0) -> list[tuple[str, int]]:
        """The other consumers of which nothing is to be expected any more, and how much is pending for each.

        :param consumer: one that is not to be among them
        :param rest: seconds without a sign of life even if its connection is gone; who takes over gives some, too
        """
        others = [(each['name'].decode(), each['pending'], each['idle'] / 1000)
                  for each in self._redis.xinfo_consumers(self._reading.key, self._group)]
        others = [each for each in others if each[0] not in (self.consumer, consumer)]
        there = self._connected() if others else None
        return [(name, pending) for name, pending, idle in others if idle > self._reading.claim_after
                or (there is not None and name.startswith(PREFIX) and name not in there and idle >= rest)]

    def _connected(self) -> set[str] | None:
        """The names of connections to the server; ``None`` if it does not tell."""
        try:
            names = {each.get('name', '') for each in self._redis.client_list()}
        except errors.ResponseError:
            return None
        return names if self.consumer in names else None  # behind a proxy it may be somebody else's list

    def _oldest(self, consumer: str) -> tuple[int, int]:
        pending = self._redis.xpending_range(self._reading.key, self._group, '-', '+', 1, consumer)
        return _order(pending[0]['message_id'].decode()) if pending else (0, 0)

    def _look_after_others(self) -> None:
        """Now and then, see what dead consumers have left."""
        reading = self._reading
        if time.monotonic() - self._looked < min(reading.claim_after / 2, 5.0):
            return
        self._looked = time.monotonic()
        mine = self._redis.xpending_range(reading.key, self._group, '-', '+', len(self._hand) + 1, self.consumer)
        left = [name for name, pending in self._dead(rest=_BEAT) if pending]
        if len(mine) > len(self._hand):  # somebody has read in our name
            left.append(self.consumer)
        for each in sorted(left, key=self._oldest):
            self._recover(each)

    # -- entries

    def _recover(self, consumer: str) -> None:
        """Store what is pending for a consumer, unless it is stored, and acknowledge it if it is."""
        if consumer != self.consumer:
            log.info('%s takes over what is pending for %s', self._who, consumer)
        self._inlet.open(consumer)
        self._acknowledge()
        after = '0-0'
        while not self._cancelled.is_set():
            entries = self._read(consumer, after)
            if not entries:
                return
            after = entries[-1][0]
            others = [each for each in entries if each[0] not in self._hand]
            stored = [entry for entry, _ in others if self._inlet.seen(entry, consumer)]
            known = set(stored)
            gone = [entry for entry, fields in others if not fields and entry not in known]
            if gone:
                self._lost(f'{len(gone)} entries of {self._reading.key!r} were trimmed, or deleted, after they were '
                           f'given to {consumer} and before they were stored, from {gone[0]} to {gone[-1]}')
            self._take(consumer, [each for each in others if each[1] and each[0] not in known])
            self._confirm(stored + gone)
            self._acknowledge()

    def _read(self, consumer: str, after: str, count: int | None = None) -> list[Entry]:
        """New entries (``'>'``), or pending ones *after* an id; without their fields if they are gone."""
        reading = self._reading
        found = self._redis.xreadgroup(self._group, consumer, {reading.key: after}, count=count or reading.size,
                                       block=_BLOCK if after == '>' else None)
        return [(entry.decode(), fields) for _, entries in found or () for entry, fields in entries]

    def _take(self, consumer: str, entries: Sequence[Entry]) -> None:
        """Hand entries over to the inlet, as soon as there is room."""
        if not entries:
            return
        while self._inlet.full and not self._cancelled.is_set():
            self._acknowledge(0.1)
            if time.monotonic() - self._beaten > _BEAT:  # so that nobody takes us for dead
                self._beaten = time.monotonic()
                self._read(self.consumer, _END, 1)
        ids = [entry for entry, _ in entries]
        raws = [self._reading.fields.entry(fields) for _, fields in entries]
        self._inlet.extend(raws, ids, part=consumer, metas=ids, tokens=ids, keys=ids)
        self._hand.update(ids)

    def _acknowledge(self, timeout: float = 0.0) -> None:
        """Tell Redis what is durable."""
        for durable in self._inlet.durable(timeout):
            self._confirm(durable.tokens)
            self._hand.difference_update(durable.tokens)

    def _confirm(self, ids: Iterable[str]) -> None:
        ids = list(ids)
        for at in range(0, len(ids), 1000):
            self._redis.xack(self._reading.key, self._group, *ids[at:at + 1000])


def _order(entry: str) -> tuple[int, int]:
    """Ids in the order of their numbers.

    >>> max(['9-1', '10-0', '9-11'], key=_order)
    '10-0'
    """
    ms, _, number = entry.partition('-')
    return int(ms), int(number or 0)
