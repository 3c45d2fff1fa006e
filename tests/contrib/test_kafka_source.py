"""Kafka as a source: what the conformance suite does not ask, since no other bridge has it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import minibatch as mb
from minibatch.errors import AccessRefused, HistoryLost, OptionError
from tests.support.brokers import Kafka
from tests.support.waiting import wait_until
from tests.support.world import World

pytest.importorskip('kafka')

from kafka.structs import MemberState

from minibatch.contrib.base import group_of
from minibatch.contrib.kafka import KafkaSource, session
from minibatch.contrib.kafka.client import KafkaConsumer, Link, connect, errors

Source = Callable[..., KafkaSource]


@pytest.fixture
def source(kafka: Kafka) -> Source:
    """Makes sources that are quick to join and to notice."""
    quick = {'session_timeout_ms': 1000} if kafka.own else {}

    def make(topic: Any, **options: Any) -> KafkaSource:
        return KafkaSource(topic, kafka.url, **{'metadata_max_age_ms': 500, **quick, **options})
    return make


def messages(count: int, start: int = 0) -> list[bytes]:
    return [b'{"n": %d}' % n for n in range(start, start + count)]


def data(db: Any, stream: str = 'clicks') -> list[Any]:
    return [doc['data'] for doc in db.buffer.find({'stream': stream}).sort('_id', 1)]


def numbers(db: Any, stream: str = 'clicks') -> list[int]:
    return sorted(each['n'] for each in data(db, stream))


def holds(db: Any, count: int, timeout: float = 30) -> None:
    wait_until(lambda: db.buffer.count_documents({}) >= count, timeout, what=f'{count} messages in the stream')


def read(kafka: Kafka, db: Any, stream: mb.Stream, source: Source, topic: str, count: int) -> None:
    """Let a source read *count* messages, and stop it."""
    stream.attach(source(topic))
    holds(db, count)
    stream.stop()


# -- which topics


def test_several_topics_and_patterns(kafka: Kafka, db: Any, stream: mb.Stream, source: Source) -> None:
    """Names are names, patterns match whole names, and a topic that comes later is read, too."""
    mark = kafka.name('t').replace('-', '')
    one, two = kafka.topic(name=f'{mark}.one'), kafka.topic(2, name=f'{mark}-sensor-a')
    kafka.topic(name=f'{mark}-sensor-b-old')
    kafka.topic(name=f'{mark}xone')
    for number, topic in enumerate([one, two, f'{mark}-sensor-b-old', f'{mark}xone']):
        kafka.send(topic, messages(1, number))
    stream.attach(source([one, re.compile(f'{mark}-SENSOR-[a-z]', re.IGNORECASE)]))
    holds(db, 2)
    three = kafka.topic(name=f'{mark}-sensor-c')
    kafka.send(three, messages(1, 4))
    holds(db, 3)
    assert numbers(db) == [0, 1, 4]


def test_a_missing_topic_is_waited_for_and_told_of(
    kafka: Kafka, db: Any, stream: mb.Stream, source: Source, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, 'MISSING', 0.1)
    name = kafka.name()
    stream.attach(source(re.compile(name), metadata_max_age_ms=1000))
    wait_until(lambda: 'there is no topic' in caplog.text, 20)
    kafka.send(kafka.topic(name=name), messages(1))
    holds(db, 1)
    assert caplog.text.count('there is no topic') == 1


# -- what a message is


def test_a_message_is_the_value_unless_it_is_wanted_whole(kafka: Kafka, db: Any, url: str, source: Source) -> None:
    topic = kafka.topic()
    kafka.send(topic, [b'{"n": 1}'], key=b'ann', headers=[('a.b', b'x'), ('a.b', b'\xff')])
    kafka.send(topic, [b'7'], key=b'\xff')
    kafka.send(topic, [None], key=b'ann')
    for name, envelope in (('plain', False), ('whole', True)):
        stream = mb.stream(name, url=url)
        stream.attach(source(topic, envelope=envelope))
        wait_until(lambda name=name: len(data(db, name)) == 3, 20)
        stream.stop()
    assert data(db, 'plain') == [{'n': 1}, {'value': 7}, {'value': None}]
    first, second, third = data(db, 'whole')
    at = first.pop('timestamp').replace(tzinfo=timezone.utc)
    assert abs(datetime.now(timezone.utc) - at) < timedelta(minutes=5)
    assert first == {'topic': topic, 'partition': 0, 'offset': 0, 'key': 'ann',
                     'headers': [['a.b', 'x'], ['a.b', b'\xff']], 'value': {'n': 1}}
    assert [second['key'], second['value'], second['offset']] == [b'\xff', 7, 1]
    assert [third['key'], third['value']] == ['ann', None]
    assert mb.stream('whole', url=url).dead.list() == []


def test_codec_and_schema_are_those_of_the_value(kafka: Kafka, db: Any, stream: mb.Stream, source: Source) -> None:
    topic = kafka.topic()
    kafka.send(topic, [b'eyJuIjogMX0=', b'eyJuIjogIngifQ==', b'eyJuIjogMn0='])
    stream.attach(source(topic, codec='base64|json', envelope=True, schema={
        'type': 'object', 'properties': {'n': {'type': 'integer'}}}))
    holds(db, 2)
    assert [each['value'] for each in data(db)] == [{'n': 1}, {'n': 2}]
    letter = wait_until(lambda: stream.dead.list())[0].data[0]
    assert letter['raw'] == b'eyJuIjogIngifQ=='
    assert letter['part'] == f'{topic}/0'
    assert letter['position']['offset'] == 2


# -- groups


def test_each_stream_has_a_group_of_its_own(url: str, server: Any, dbname: str) -> None:
    streams = [mb.stream(name, url=url) for name in ('one', 'two')]
    again = mb.stream('one', url=url)
    elsewhere = mb.stream('one', url=server.url(f'{dbname}_2'))
    groups = [group_of(each) for each in (*streams, elsewhere)]
    assert len({*groups}) == 3
    assert groups[0].startswith('minibatch.one.')
    assert group_of(again) == groups[0]
    server.client.drop_database(f'{dbname}_2')


def test_offsets_are_committed_to_the_group_after_the_append(kafka: Kafka, db: Any, stream: mb.Stream,
                                                             source: Source) -> None:
    from kafka import KafkaConsumer, TopicPartition
    topic, group = kafka.topic(), kafka.name('group')
    kafka.send(topic, messages(10))
    stream.attach(source(topic, group_id=group))
    holds(db, 10)
    stream.stop()
    consumer = KafkaConsumer(bootstrap_servers=kafka.url, group_id=group, enable_auto_commit=False)
    assert consumer.committed(TopicPartition(topic, 0)) == 10
    consumer.close()


def test_a_named_group_goes_on_where_it_was_committed(kafka: Kafka, db: Any, stream: mb.Stream, source: Source) -> None:
    """A program that read the topic so far is replaced by a stream; the stream's own positions count from then on."""
    from kafka import KafkaConsumer, TopicPartition
    from kafka.structs import OffsetAndMetadata
    topic, group = kafka.topic(), kafka.name('group')
    kafka.send(topic, messages(10))
    consumer = KafkaConsumer(bootstrap_servers=kafka.url, group_id=group, enable_auto_commit=False)
    partition = TopicPartition(topic, 0)
    consumer.commit({partition: OffsetAndMetadata(4, '', -1)})
    stream.attach(source(topic, group_id=group))
    holds(db, 6)
    stream.stop()
    consumer.commit({partition: OffsetAndMetadata(0, '', -1)})
    consumer.close()
    kafka.send(topic, messages(1, 10))
    stream.attach(source(topic, group_id=group))
    holds(db, 7)
    assert numbers(db) == list(range(4, 11))


def test_latest_begins_at_the_end_and_remembers_it(kafka: Kafka, db: Any, stream: mb.Stream, source: Source) -> None:
    """What comes while the source is down is not skipped, although it has never stored a message."""
    topic = kafka.topic()
    for n in range(3):  # one by one: asked for the end, Tansu tells the start of the last batch
        kafka.send(topic, messages(1, n))
    stream.attach(source(topic, auto_offset_reset='latest'))
    wait_until(lambda: db.source.find_one({'position.offset': 3}), 20)
    stream.stop()
    kafka.send(topic, messages(2, 3))
    stream.attach(source(topic, auto_offset_reset='latest'))
    holds(db, 2)
    assert numbers(db) == [3, 4]


@pytest.mark.fault
@pytest.mark.slow
def test_partitions_go_from_one_to_another_without_loss_or_doubles(kafka: Kafka, world: World, source: Source) -> None:
    """Sources come and go while messages flow, on four partitions; one is stopped, loses its own, and wakes up late."""
    topic, db, sent = kafka.topic(4), world.db, 0
    streams = [mb.stream('clicks', url=world.deployment.url(world.dbname)) for _ in range(2)]
    ended = threading.Event()

    def feed() -> None:
        nonlocal sent
        while not ended.wait(0.01):
            kafka.send(topic, messages(50, sent))
            sent += 50

    def flows() -> None:
        holds(db, db.buffer.count_documents({}) + 400)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        streams[0].attach(source(topic, size=20))
        flows()
        child = world._start({
            'role': 'source', 'adapter': 'tests.contrib.conformance.bridge_kafka:KafkaUpstream', 'at': [],
            'config': {'topic': topic, 'urls': kafka.url, 'session_timeout_ms': 1000 if kafka.own else 6000},
            'options': {'size': 20}})
        wait_until(lambda: len(db.source.distinct('owner')) == 2, 30, what='the second one to get some')
        flows()
        child.pause()
        wait_until(lambda: len(db.source.distinct('owner')) == 1, 30, what='the first one to get them back')
        flows()
        child.resume()
        wait_until(lambda: len(db.source.distinct('owner')) == 2, 30, what='the second one to get some again')
        flows()
        streams[1].attach(source(topic, size=20))
        wait_until(lambda: len(db.source.distinct('owner')) == 3, 30, what='the third one to get some')
        flows()
        streams[0].stop()
        child.kill()
        flows()
    finally:
        ended.set()
        feeder.join(30)
    holds(db, sent)
    for each in streams:
        each.stop()
    assert numbers(db) == list(range(sent))


def test_two_groups_on_one_position_do_not_double(kafka: Kafka, db: Any, url: str, source: Source) -> None:
    """Both are given all partitions, as one that was thrown out and does not know it: MongoDB decides."""
    topic = kafka.topic(2)
    streams = [mb.stream('clicks', url=url) for _ in range(2)]
    for number, each in enumerate(streams):
        each.attach(source(topic, group_id=kafka.name(f'group{number}'), name='same', size=10))
    try:
        for start in range(0, 300, 50):
            kafka.send(topic, messages(50, start))
            holds(db, start + 50)
    finally:
        for each in streams:
            each.stop()
    assert numbers(db) == list(range(300))


# -- a place that is gone


@pytest.mark.parametrize('policy', ['resume', 'rescan'])
def test_a_topic_that_was_made_anew_is_read_from_its_start(
    kafka: Kafka, db: Any, stream: mb.Stream, source: Source, policy: str, caplog: pytest.LogCaptureFixture,
) -> None:
    topic = renewed(kafka, db, stream, source)
    stream.attach(source(topic, on_history_lost=policy))
    holds(db, 8)
    stream.stop()
    assert [each['n'] for each in data(db)] == [0, 1, 2, 3, 4, 0, 1, 2]
    assert 'was deleted and made anew' in caplog.text


def test_a_topic_that_was_made_anew_ends_the_source_unless_told_otherwise(kafka: Kafka, db: Any, stream: mb.Stream,
                                                                          source: Source) -> None:
    topic = renewed(kafka, db, stream, source)
    with pytest.raises(HistoryLost, match=r'made anew since it was read up to offset 5.*on_history_lost='):
        stream.attach(source(topic), background=False)
    assert numbers(db) == list(range(5))


def renewed(kafka: Kafka, db: Any, stream: mb.Stream, source: Source) -> str:
    """A topic of which five messages were read, and that was deleted then, and created again with three others."""
    topic = kafka.topic()
    kafka.send(topic, messages(5))
    read(kafka, db, stream, source, topic, 5)
    if kafka.own:
        kafka.restart_empty()
    else:
        kafka.drop(topic)
    kafka.topic(name=topic)
    kafka.send(topic, messages(3))
    return topic


@pytest.mark.parametrize(('policy', 'expected'), [
    ('resume', [0, 1, 2, 3, 4, 7]), ('rescan', [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 7])])
def test_a_partition_that_ends_before_the_place_to_go_on_at(
    kafka: Kafka, db: Any, stream: mb.Stream, source: Source, policy: str, expected: list[int],
) -> None:
    """As after the election of a broker that had not got all."""
    topic = beyond(kafka, db, stream, source)
    stream.attach(source(topic, on_history_lost=policy))
    wait_until(lambda: db.source.find_one({'position.offset': 5}), 30, what='the place to be found')
    kafka.send(topic, messages(1, 7))
    holds(db, len(expected))
    stream.stop()
    assert [each['n'] for each in data(db)] == expected


def test_a_place_behind_the_end_ends_the_source_unless_told_otherwise(kafka: Kafka, db: Any, stream: mb.Stream,
                                                                      source: Source) -> None:
    topic = beyond(kafka, db, stream, source)
    with pytest.raises(HistoryLost, match='read up to offset 50 and now ends at 5'):
        stream.attach(source(topic), background=False)


def beyond(kafka: Kafka, db: Any, stream: mb.Stream, source: Source) -> str:
    topic = kafka.topic()
    kafka.send(topic, messages(5))
    read(kafka, db, stream, source, topic, 5)
    assert db.source.update_one({}, {'$set': {'position.offset': 50}}).modified_count
    return topic


@pytest.mark.fault
def test_a_broker_that_comes_back_empty(kafka: Kafka, db: Any, stream: mb.Stream, source: Source) -> None:
    """In the middle of reading; what it gets then is new."""
    topic = kafka.topic()
    kafka.send(topic, messages(5))
    stream.attach(source(topic, on_history_lost='resume'))
    holds(db, 5)
    kafka.restart_empty()
    kafka.topic(name=topic)
    kafka.send(topic, messages(3, 5))
    holds(db, 8)
    assert numbers(db) == list(range(8))


@pytest.mark.fault
def test_a_topic_that_comes_back_long_after_the_broker(kafka: Kafka, db: Any, stream: mb.Stream,
                                                       source: Source) -> None:
    """The source has joined its group again by then, and was given nothing, since there was nothing."""
    topic = kafka.topic()
    kafka.send(topic, messages(5))
    reader = source(topic, on_history_lost='resume')
    stream.attach(reader)
    holds(db, 5)
    kafka.restart_empty()
    is_given_nothing(reader)
    kafka.topic(name=topic)
    kafka.send(topic, messages(3, 5))
    holds(db, 8)
    assert numbers(db) == list(range(8))


def test_joining_again_takes_longer_than_a_poll(kafka: Kafka, db: Any, stream: mb.Stream, source: Source,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    """Because there is a topic now: kafka-python takes it for done when it is not."""
    topic = kafka.name()
    reader = source(topic)
    stream.attach(reader)
    is_given_nothing(reader)
    monkeypatch.setattr(session, 'POLL', 3)
    monkeypatch.setattr(session, 'JOINING', 3)
    kafka.send(kafka.topic(name=topic), messages(1))
    holds(db, 1, 60)


def is_given_nothing(reader: KafkaSource) -> None:
    """Wait until a source is a member of its group to which no partition is assigned."""
    def idle() -> bool:
        current = reader._session
        return current is not None and current._consumer is not None and not current._parts and (
            current._consumer.group_metadata().state == MemberState.STABLE)
    wait_until(idle, 30, what='it to be a member without partitions')


# -- bad weather


def test_wrong_credentials_end_the_source_with_words(locked_kafka: Kafka, stream: mb.Stream) -> None:
    source = KafkaSource('clicks', locked_kafka.url, security_protocol='SASL_PLAINTEXT', sasl_mechanism='SCRAM-SHA-512',
                         sasl_plain_username='ann', sasl_plain_password='wrong', bootstrap_timeout_ms=2000)
    with pytest.raises(AccessRefused, match=r"refuses user 'ann'.*sasl_mechanism") as caught:
        stream.attach(source, background=False)
    assert 'wrong' not in str(caught.value)


@pytest.mark.fault
def test_a_broker_that_does_not_answer_is_waited_for(kafka: Kafka, db: Any, stream: mb.Stream, source: Source) -> None:
    topic = kafka.topic()
    kafka.send(topic, messages(5))
    stream.attach(source(topic, request_timeout_ms=2000))
    holds(db, 5)
    with frozen(kafka):
        thread = stream._sources[0][1]
        assert thread.is_alive()
    kafka.send(topic, messages(5, 5))
    holds(db, 10)
    stream.stop()
    assert numbers(db) == list(range(10))


class frozen:
    """A broker that hangs until somebody has noticed: a request of the tests' own runs out of time."""

    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka

    def __enter__(self) -> None:
        self.kafka.freeze()
        with pytest.raises(errors.KafkaError):
            connect(KafkaConsumer, Link(), [self.kafka.url], {'bootstrap_timeout_ms': 1500})

    def __exit__(self, *_: object) -> None:
        self.kafka.thaw()


@pytest.mark.fault
def test_a_cancel_is_noticed_while_the_broker_hangs(kafka: Kafka, db: Any, stream: mb.Stream, source: Source) -> None:
    topic = kafka.topic()
    kafka.send(topic, messages(5))
    thread = stream.attach(source(topic))
    holds(db, 5)
    assert thread is not None
    kafka.freeze()
    began = datetime.now()
    stream.stop()
    assert not thread.is_alive()
    assert datetime.now() - began < timedelta(seconds=1.2)
    kafka.thaw()


# -- options


@pytest.mark.parametrize(('options', 'says'), [
    ({'grup_id': 'me'}, 'did you mean group_id'),
    ({'bootstrap_servers': 'x'}, 'give urls='),
    ({'value_deserializer': str}, 'give codec='),
    ({'enable_auto_commit': True}, 'when the messages are in the stream'),
    ({'auto_offset_reset': 'earlist'}, "did you mean 'earliest'|did you mean earliest"),
    ({'on_history_lost': 'ignore'}, "'fail', 'resume', 'rescan'"),
    ({'group_id': ''}, 'group_id'),
    ({'urls': []}, 'urls is empty'),
    ({'urls': 'kafka:port'}, 'no address of a Kafka broker'),
    ({'codec': 'jsn'}, 'did you mean json'),
    ({'session_timeout_ms': 'long'}, 'milliseconds'),
])
def test_what_cannot_be_is_refused_at_once(options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        KafkaSource('clicks', **options)


@pytest.mark.parametrize('topic', ['', 'a/b', [], ['ok', ''], re.compile('x', re.DOTALL), None])
def test_a_topic_that_cannot_be_is_refused_at_once(topic: Any) -> None:
    with pytest.raises((OptionError, TypeError)):
        KafkaSource(topic)


def test_options_that_kafka_python_refuses_are_said_to_be(kafka: Kafka, stream: mb.Stream) -> None:
    source = KafkaSource('clicks', kafka.url, fetch_max_wait_ms=10_000, request_timeout_ms=1_000)
    with pytest.raises(OptionError, match='fetch_max_wait_ms'):
        stream.attach(source, background=False)
