"""One membership in a consumer group, from joining to leaving: what is polled, where it goes on, what is committed."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from minibatch.contrib.inlet import Durable, Inlet, Stopped
from minibatch.contrib.kafka.client import (
    PASSING,
    ConsumerRebalanceListener,
    KafkaConsumer,
    Link,
    OffsetAndMetadata,
    TopicPartition,
    connect,
    errors,
    has_joined,
    is_refusal,
    membership,
    refused,
)
from minibatch.contrib.kafka.history import Log, lost, resumed
from minibatch.errors import HistoryLost, PositionMoved

log = logging.getLogger(__name__)

#: Milliseconds of one poll; a cancel waits for it.
POLL = 100
#: The same while it joins its group: an answer of the broker that comes in between two polls may be lost, and with a
#: pattern kafka-python spends the first 100 ms of each on asking for the topics.
JOINING = 400
#: Seconds for storing what is in hand when partitions go to somebody else. No heartbeats are sent meanwhile.
HANDOVER = 2.0
#: Seconds between two commits of offsets to the group, which nothing but people and their tools look at.
COMMIT_EVERY = 1.0
#: Seconds without any connection after which that is an outage.
OUTAGE = 1.0
#: Seconds without any of the topics after which somebody should hear of it.
MISSING = 5.0
#: Seconds that a request to Kafka may take, in tries of so many milliseconds, so that a cancel is noticed.
PATIENCE, TRY = 15.0, 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is read, and how.

    :ivar urls: brokers
    :ivar subscription: arguments of ``subscribe``
    :ivar size: most records of one poll
    :ivar envelope: whether the records are wanted whole
    :ivar start: ``'earliest'`` or ``'latest'``, for partitions that were never read
    :ivar committed: whether the group's offsets count for them
    :ivar on_history_lost: as for ``KafkaSource``
    :ivar config: options for kafka-python
    """

    urls: Sequence[str]
    subscription: dict[str, Any]
    size: int
    envelope: bool
    start: str
    committed: bool
    on_history_lost: str
    config: dict[str, Any]


@dataclass(slots=True)
class _Part:
    """A partition that is read: the id of its topic, where it is read on, how often it seemed to end before that."""

    topic_id: str | None
    offset: int
    doubts: int = field(default=0)


class Session(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads with one consumer.

    A partition that is assigned is not read before its place in MongoDB is known: until then it is paused. That of one
    which was lost is guarded by MongoDB: whoever gets it opens it anew, and then our writes fail.

    :param reading: what to read
    :param group: the consumer group
    :param inlet: where to
    :param cancelled: ends it
    :param who: for the log
    :ivar connected: whether it was, ever
    """

    def __init__(self, reading: Reading, group: str, inlet: Inlet, cancelled: threading.Event, who: str) -> None:
        self._reading, self._group, self._inlet, self._who = reading, group, inlet, who
        self._cancelled = cancelled
        self._link = Link()
        self._consumer: Any = None
        self.connected = False
        self._parts: dict[TopicPartition, _Part] = {}
        self._fresh: set[TopicPartition] = set()  # those that are to be opened first
        self._ends: dict[TopicPartition, int] = {}  # of those that end before the place to go on at
        self._verify_at = 0.0
        self._moved = False
        self._held = False
        self._durable: dict[TopicPartition, int] = {}
        self._commit_at = 0.0
        self._seen = time.monotonic()
        self._since = 0.0
        self._missing_at = time.monotonic() + MISSING
        self._membership: tuple[str, int] | None = None  # the member that we are, and the round that it is in
        self._outdated = False

    def run(self, up: Callable[[], None]) -> None:
        """Read until cancelled.

        :param up: called when there is a connection
        :raises kafka.errors.KafkaError: it broke off
        """
        reading = self._reading
        self._consumer = connect(KafkaConsumer, self._link, reading.urls, {
            **reading.config, 'group_id': self._group, 'enable_auto_commit': False, 'auto_offset_reset': 'none',
            'max_poll_records': reading.size})
        try:
            self.connected = True
            self._consumer.subscribe(listener=self, **reading.subscription)
            up()
            while not self._cancelled.is_set():
                self._round()
            self._inlet.flush()
            self._acknowledge(self._inlet.durable(), last=True)
        except PASSING as error:
            if is_refusal(error, reading.config):
                raise refused(reading.urls, reading.config, error) from error
            raise
        finally:
            self._close()

    def wake(self) -> None:
        """Break off an attempt to connect, after ``cancelled`` was set."""
        if self._consumer is None:
            self._link.close()

    def _close(self) -> None:
        with contextlib.suppress(*PASSING):
            self._consumer.close(autocommit=False, timeout_ms=200)
        self._link.close()

    # -- called by kafka-python, in a thread of its own, while ours is in poll or close

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """They go to somebody else: what is in hand of them is stored first, if that does not take long."""
        gone = self._forget(revoked)
        if gone and not self._cancelled.is_set():
            try:
                self._inlet.flush(HANDOVER)
            except PositionMoved:
                self._moved = True
            except Stopped:
                pass

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        """They have gone already, and somebody may have read them on: there is nothing to be done for them."""
        self._forget(lost)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """They are ours; to be opened before they are read.

        Who joins again, because there are other topics or partitions now, begins a new round. Some brokers do not begin
        one for a member that they know: they answer with what it was given before, which may be nothing, for ever.
        """
        self._missing_at = float('inf')
        before, self._membership = self._membership, membership(self._consumer)
        self._outdated = self._membership == before
        self._refresh(assigned)

    def _forget(self, partitions: Iterable[TopicPartition]) -> bool:
        gone = self._parts.keys() & set(partitions)
        for each in gone:
            del self._parts[each]
        self._fresh.difference_update(partitions)
        return bool(gone)

    def _refresh(self, partitions: Iterable[TopicPartition]) -> None:
        """Read no further in them before they are opened again."""
        for each in partitions:
            self._parts.pop(each, None)
            self._fresh.add(each)
            self._consumer.pause(each)
            # Any position, so that the group's is not asked for, nor the lack of one raised.
            self._consumer.seek(each, 0)

    # -- a round

    def _round(self) -> None:
        self._hold()
        timeout = POLL if has_joined(self._consumer) else JOINING
        try:
            records = self._consumer.poll(timeout_ms=timeout, max_records=self._reading.size)
        except errors.OffsetOutOfRangeError as error:
            records = {}
            for each in self._parts.keys() & set(error.args[0]):  # before its first message, or behind its last one
                self._ends[each] = self._asked('end_offsets', [each])[each]
                self._refresh([each])
        # Not while it joins once more: it could not leave before that is answered, and Tansu keeps who is gone.
        if self._outdated and has_joined(self._consumer):
            raise errors.KafkaError('the broker did not share out the partitions anew; it joins as a new member')
        try:
            if self._moved:
                self._moved = False
                raise PositionMoved('another process has read on')
            self._open()
            for partition, batch in records.items():
                self._take(partition, batch)
            self._acknowledge(self._inlet.durable())
        except PositionMoved as error:
            log.info('%s goes on where another process is: %s', self._who, error)
            self._cancelled.wait(0.1)
            self._refresh(list(self._parts))
        self._look(bool(records))

    def _verify(self) -> None:
        """Notice a topic that was made anew, and a partition that ends before the place where it is read on.

        Brokers tell of the latter, too; but not all of them, and not if the new one is longer already.
        """
        for partition, reader in list(self._parts.items()):
            end = self._consumer.highwater(partition)
            # It may be that of a fetch before the last seek; the next ones have the right one.
            reader.doubts = reader.doubts + 1 if end is not None and end < reader.offset else 0
            if reader.doubts >= 3:
                self._ends[partition] = end
            elif self._link.topic_id(partition.topic) == reader.topic_id:
                continue
            self._refresh([partition])

    def _hold(self) -> None:
        """While the inlet takes no more, poll nothing but go on polling: who does not is thrown out of the group."""
        until = time.monotonic() + POLL / 1000
        while self._inlet.full and time.monotonic() < until and not self._cancelled.is_set():
            self._acknowledge(self._inlet.durable(POLL / 1000))
        if self._inlet.full != self._held:
            self._held = not self._held
            (self._consumer.pause if self._held else self._consumer.resume)(*self._parts)

    def _take(self, partition: TopicPartition, batch: Sequence[Any]) -> None:
        if partition not in self._parts:
            return
        reader = self._parts[partition]
        topic_id = reader.topic_id
        if topic_id != self._link.topic_id(partition.topic):
            self._refresh([partition])
            return
        self._inlet.extend(
            [record.value for record in batch],
            [{'offset': record.offset + 1, 'topic_id': topic_id} for record in batch],
            part=_part(partition), metas=batch if self._reading.envelope else None)
        reader.offset = batch[-1].offset + 1

    # -- where to go on

    def _open(self) -> None:
        for partition in sorted(self._fresh):
            part = _part(partition)
            position = self._inlet.open(part)
            now = Log(first=self._asked('beginning_offsets', [partition])[partition],
                      end=self._ends.pop(partition, None), topic_id=self._link.topic_id(partition.topic))
            offset = self._started(partition, now) if position is None else self._resumed(partition, position, now)
            stored = {'offset': offset, 'topic_id': now.topic_id}
            if position != stored:  # so that 'latest' is the same after a crash
                self._inlet.advance(stored, part=part)
            self._consumer.seek(partition, offset)
            self._parts[partition] = _Part(now.topic_id, offset)
            self._fresh.discard(partition)
            if not self._held:
                self._consumer.resume(partition)

    def _started(self, partition: TopicPartition, now: Log) -> int:
        if self._reading.committed:
            offset = self._asked('committed', partition)
            if offset is not None and offset >= now.first:
                return int(offset)
        if self._reading.start == 'latest':
            return int(self._asked('end_offsets', [partition])[partition])
        return now.first

    def _resumed(self, partition: TopicPartition, position: dict[str, Any], now: Log) -> int:
        reason = lost(position, now)
        if not reason:
            return int(position['offset'])
        policy = self._reading.on_history_lost
        where = f'{self._who}: partition {partition.partition} of topic {partition.topic!r}: {reason}'
        if policy == 'fail':
            raise HistoryLost(f"{where}. Nothing was appended, and the source ends; on_history_lost='resume' goes on "
                              "with what cannot have been read, 'rescan' with the first message there is")
        offset = now.first if policy == 'rescan' else resumed(position, now)
        log.warning('%s; it goes on at offset %d (on_history_lost=%r)', where, offset, policy)
        return offset

    def _asked(self, request: str, about: Any) -> Any:
        """The answer to a request, which is tried several times, so that a cancel is noticed."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return getattr(self._consumer, request)(about, timeout_ms=TRY)
            except errors.KafkaTimeoutError:
                if self._cancelled.is_set():
                    raise Stopped from None
                if time.monotonic() > until:
                    raise

    # -- what is done

    def _acknowledge(self, done: Iterable[Durable], last: bool = False) -> None:
        """Commit to the group what is in the stream."""
        for durable in done:
            for part, position in durable.positions.items():
                self._durable[_partition(part)] = position['offset']
        now = time.monotonic()
        if not self._durable or self._since or (now < self._commit_at and not last):
            return
        offsets = {partition: OffsetAndMetadata(offset, '', -1) for partition, offset in self._durable.items()
                   if partition in self._parts}
        self._durable.clear()
        self._commit_at = now + COMMIT_EVERY
        if not offsets:
            return
        with contextlib.suppress(*PASSING):  # it is for people's tools: what counts is in MongoDB
            if last:
                self._consumer.commit(offsets, timeout_ms=200)
            else:
                self._consumer.commit_async(offsets)

    def _look(self, busy: bool) -> None:
        """Notice an outage, which kafka-python waits out by itself without raising anything; and missing topics."""
        now = time.monotonic()
        if busy or self._link.up or (not self._since and (self._held or not self._parts)):
            self._seen = now
            if self._since:
                log.info('%s is connected again after %.1f s', self._who, now - self._since)
                self._since = 0.0
        elif not self._since and now - self._seen > OUTAGE:
            self._since = self._seen
            log.warning('%s was interrupted (%s); it tries again until it can go on where it was', self._who,
                        self._link.failure or 'no connection to any broker')
        if now > self._verify_at and not self._since and not self._held:
            self._verify_at = now + 1.0
            self._verify()
        if now > self._missing_at:
            self._missing_at = float('inf')
            missing = set(self._reading.subscription.get('topics', ())) - self._link.topics
            if missing or 'pattern' in self._reading.subscription:
                log.warning('%s: there is no topic %s; it is read as soon as there is', self._who,
                            ', '.join(map(repr, sorted(missing))) or 'that the pattern matches')


def _part(partition: TopicPartition) -> str:
    return f'{partition.topic}/{partition.partition}'


def _partition(part: str) -> TopicPartition:
    topic, _, number = part.rpartition('/')
    return TopicPartition(topic, int(number))
