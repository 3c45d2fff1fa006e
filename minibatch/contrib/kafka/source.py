"""Topics of Kafka as a source."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from minibatch.contrib import codecs
from minibatch.contrib.base import group_of
from minibatch.contrib.inlet import Inlet
from minibatch.contrib.kafka.client import PASSING, KafkaConsumer, errors
from minibatch.contrib.kafka.history import POLICIES
from minibatch.contrib.kafka.options import Topic, addresses, check_options, subscription
from minibatch.contrib.kafka.session import Reading, Session
from minibatch.contrib.reconnect import persist
from minibatch.errors import AccessRefused, OptionError, check_choice

_OURS = {
    'bootstrap_servers': 'give urls=',
    'key_deserializer': 'keys come as text, or as bytes if they are none; see envelope=',
    'value_deserializer': 'give codec=',
    'enable_auto_commit': 'offsets are committed when the messages are in the stream',
    'auto_commit_interval_ms': 'offsets are committed when the messages are in the stream',
    'default_offset_commit_callback': 'offsets are committed when the messages are in the stream',
    'max_poll_records': 'give size=',
    'consumer_timeout_ms': 'a source runs until it is cancelled',
    'kafka_client': 'it is used here',
}


class KafkaSource:
    """Bring the messages of topics into a stream, each of them exactly once.

    Any number of sources may read the same topics into the same stream, on any machines: Kafka gives each of them
    some of the partitions, and others when one comes or goes.

    :param topic: name of a topic, or a compiled pattern that matches whole names (``re.compile('sensor-.*')``), or a
        list of both. Topics that a pattern matches later are read, too, within *metadata_max_age_ms* (30 s).
    :param urls: ``'host:port'`` of one or more brokers, or a list of them
    :param group_id: the consumer group that shares the partitions. By default one of the stream's own, so that each
        stream gets all messages. A group that is named, and has offsets from before, goes on where they are when
        the stream has not read the partition yet.
    :param codec: how to read values: a name such as ``'json'``, ``'base64|json'``, or an object
        (:mod:`minibatch.contrib.codecs`)
    :param schema: what a value has to fit: a dataclass, a pydantic model or a JSON Schema
        (:mod:`minibatch.contrib.schemas`)
    :param envelope: what a message of the stream is. ``False``: the decoded value; ``{'value': it}`` if it is no
        mapping. ``True``: a dict of ``topic``, ``partition``, ``offset``, ``timestamp`` (a datetime in UTC), ``key``
        (text; bytes if it is no UTF-8; or ``None``), ``headers`` (a list of ``[name, value]``, values as for ``key``),
        and ``value``. A message without a value (a tombstone) has ``None`` there.
    :param name: names the stored positions; needed if two sources of one stream read topics of the same name from
        different Kafkas
    :param size: most messages stored at once
    :param linger: seconds that a message waits for others at the most
    :param auto_offset_reset: where to begin with a partition that was never read: ``'earliest'`` or ``'latest'``
    :param on_history_lost: what to do when the place to go on at is gone, because messages were deleted before they
        were read, or the topic was made anew. ``'fail'``: the source ends with
        :class:`~minibatch.errors.HistoryLost`. ``'resume'``: go on with the first message that cannot have been read.
        ``'rescan'``: go on with the first message there is.
    :param options: anything else that kafka-python's ``KafkaConsumer`` takes, for example ``security_protocol``,
        ``sasl_mechanism``, ``isolation_level``
    :raises OptionError: an option is unknown, or has a value that cannot be

    Errors that :meth:`stream` ends with: :class:`~minibatch.errors.HistoryLost`, and
    :class:`~minibatch.errors.AccessRefused` if the credentials were never accepted. All others are waited out.

    >>> KafkaSource('clicks', urls='kafka:9092', grup_id='me')
    Traceback (most recent call last):
    minibatch.errors.OptionError: KafkaSource has no option 'grup_id'; did you mean group_id?
    """

    def __init__(self, topic: Topic | Sequence[Topic], urls: str | Sequence[str] = 'localhost:9092',
                 group_id: str | None = None, *, codec: Any = 'json', schema: Any = None, envelope: bool = False,
                 name: str | None = None, size: int = 1000, linger: float = 0.05,
                 auto_offset_reset: str = 'earliest', on_history_lost: str = 'fail', **options: Any) -> None:
        check_options('KafkaSource', options, {*KafkaConsumer.DEFAULT_CONFIG, 'group_id'} - {*_OURS}, _OURS)
        check_choice('auto_offset_reset', auto_offset_reset, ('earliest', 'latest'))
        check_choice('on_history_lost', on_history_lost, POLICIES)
        if group_id is not None and (not isinstance(group_id, str) or not group_id):
            raise OptionError(f"group_id is {group_id!r}; give a name, or nothing for a group of the stream's own")
        session = options.get('session_timeout_ms', 10_000)
        if not isinstance(session, int) or session < 3:
            raise OptionError(f'session_timeout_ms is {session!r}; give milliseconds')
        self.topic, self.group_id = topic, group_id
        self.name = name or (f'kafka:{group_id}' if group_id else 'kafka')
        self._inlet = {'codec': codecs.codec(codec), 'schema': schema, 'shape': _envelope if envelope else None,
                       'size': size, 'linger': linger}
        self._reading = Reading(
            urls=addresses(urls), subscription=subscription(topic), size=size, envelope=envelope,
            start=auto_offset_reset, committed=group_id is not None, on_history_lost=on_history_lost,
            config={'bootstrap_timeout_ms': 5_000, 'reconnect_backoff_max_ms': 2_000, 'metadata_max_age_ms': 30_000,
                    'allow_auto_create_topics': False, 'session_timeout_ms': session,
                    'heartbeat_interval_ms': session // 3, **options})
        self._cancelled = threading.Event()
        self._session: Session | None = None

    def __repr__(self) -> str:
        return f'KafkaSource({self.topic!r}, urls={",".join(self._reading.urls)!r})'

    def stream(self, stream: Any) -> None:
        """Read until :meth:`cancel`; called by ``stream.attach``.

        :param stream: the :class:`minibatch.Stream`
        :raises HistoryLost: the place to go on at is gone, and ``on_history_lost='fail'``
        :raises AccessRefused: Kafka refuses the credentials
        """
        who, group = f'{self!r} of stream {stream.name!r}', self.group_id or group_of(stream)
        trusted = False

        def session(up: Any) -> None:
            nonlocal trusted
            self._session = session = Session(self._reading, group, inlet, self._cancelled, who)
            try:
                session.run(up)
            except AccessRefused as error:
                if not trusted and not session.connected:
                    raise
                raise errors.KafkaConnectionError(str(error)) from error  # it was good before, and may be again
            finally:
                trusted = trusted or session.connected

        with Inlet(stream, self.name, cancelled=self._cancelled, **self._inlet) as inlet:
            persist(session, who, cancelled=self._cancelled, on=PASSING)

    def cancel(self) -> None:
        """End :meth:`stream` within a second; what it has in hand is stored, or comes again."""
        self._cancelled.set()
        session = self._session
        if session is not None:
            session.wake()


def _envelope(value: Any, record: Any) -> dict[str, Any]:
    at = record.timestamp
    return {
        'topic': record.topic, 'partition': record.partition, 'offset': record.offset,
        'timestamp': None if at is None or at < 0 else datetime.fromtimestamp(at / 1000, timezone.utc),
        'key': _text(record.key), 'headers': [[name, _text(each)] for name, each in record.headers or ()],
        'value': value,
    }


def _text(raw: bytes | None) -> str | bytes | None:
    """Text where it is some.

    >>> _text(b'caf\\xc3\\xa9'), _text(b'\\xff')
    ('café', b'\\xff')
    """
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return bytes(raw) if raw is not None else None
