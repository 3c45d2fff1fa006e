"""Kafka as a sink: keys, headers, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

import minibatch as mb
from minibatch.errors import (
    AccessRefused,
    DeliveryFailed,
    InvalidMessage,
    MessageTooLarge,
    OptionError,
    Unencodable,
)
from tests.support.brokers import Kafka
from tests.support.consuming import passed

pytest.importorskip('kafka')

from minibatch.contrib.kafka import KafkaSink


@pytest.fixture
def topic(kafka: Kafka) -> str:
    return kafka.topic(3)


def test_headers_tell_the_window_and_stay_the_same_when_it_is_sent_again(kafka: Kafka, topic: str,
                                                                         stream: mb.Stream) -> None:
    tries: list[Any] = []

    def other(result: Any) -> None:
        tries.append(result)
        if len(tries) == 1:
            raise ConnectionError('after the first one had sent')

    stream.extend({'n': n} for n in range(2))
    passed(stream, lambda window: list(window.data), size=2, sink=[KafkaSink(topic, kafka.url), other])
    told = sorted((json.loads(r.value)['n'], dict(r.headers)) for r in kafka.read(topic, 4))
    window = {'minibatch-window': b'clicks:1'}
    assert told == [(n, {**window, 'minibatch-index': b'%d' % n}) for n in (0, 0, 1, 1)]


@pytest.mark.parametrize('key', ['user', lambda result: result['user']], ids=['a field', 'a function'])
def test_messages_of_a_key_go_to_one_partition_in_order(kafka: Kafka, topic: str, key: Any) -> None:
    sink = KafkaSink(topic, kafka.url, key=key)
    sink.put([{'user': f'u{n % 5}', 'n': n} for n in range(50)])
    sink.flush()
    sink.close()
    records = kafka.read(topic, 50)
    assert {r.key for r in records} == {b'u0', b'u1', b'u2', b'u3', b'u4'}
    assert len({(r.key, r.partition) for r in records}) == 5
    assert len({r.partition for r in records}) > 1
    for user in range(5):
        assert [json.loads(r.value)['n'] for r in records if r.key == b'u%d' % user] == list(range(user, 50, 5))
    assert all(r.headers == [] for r in records), 'without an engine there is no window'


def test_keys_of_any_kind(kafka: Kafka, topic: str) -> None:
    sink = KafkaSink(topic, kafka.url, key='k', codec='json')
    sink.put([{'k': 'caf\u00e9'}, {'k': b'\xff'}, {'k': 7}, {'k': None}])
    sink.flush()
    sink.close()
    assert {r.key for r in kafka.read(topic, 4)} == {b'7', b'\xff', b'caf\xc3\xa9', None}


def test_a_result_without_its_key_sends_nothing(kafka: Kafka, topic: str) -> None:
    sink = KafkaSink(topic, kafka.url, key='user')
    with pytest.raises(InvalidMessage, match="no field 'user'"):
        sink.put([{'user': 'ann'}, {'n': 1}])
    with pytest.raises(Unencodable):
        sink.put([{'user': 'ann'}, {'user': 'bob', 'n': object()}])
    sink.flush()
    sink.put({'user': 'cid'})
    sink.flush()
    sink.close()
    assert [r.key for r in kafka.read(topic, 1)] == [b'cid']


def test_a_result_that_is_too_large_ends_with_the_dead(kafka: Kafka, topic: str, stream: mb.Stream) -> None:
    sink = KafkaSink(topic, kafka.url, max_request_size=10_000)
    with pytest.raises(MessageTooLarge, match=r'the result takes 10,0\d\d bytes'):
        sink.put({'text': 'x' * 10_000})
    stream.extend({'text': 'x' * size} for size in (10_000, 10))
    passed(stream, size=1, sink=sink, max_attempts=2)
    assert [len(json.loads(r.value)['text']) for r in kafka.read(topic, 1)] == [10]
    dead, = stream.dead.list()
    assert 'max_request_size' in dead.error


@pytest.mark.fault
def test_a_broker_that_does_not_answer_fails_the_flush_and_is_used_again(kafka: Kafka, topic: str) -> None:
    sink = KafkaSink(topic, kafka.url, timeout=1.0)
    sink.put({'n': 0})
    sink.flush()
    kafka.freeze()
    sink.put({'n': 1})
    with pytest.raises(DeliveryFailed, match=r'1 of 1 messages were not acknowledged.*will be tried again'):
        sink.flush()
    with pytest.raises(DeliveryFailed, match='no broker answers'):
        sink.put({'n': 1})
    kafka.thaw()
    sink.flush()
    sink.put({'n': 2})
    sink.flush()
    sink.close()
    assert {0, 2} <= {json.loads(r.value)['n'] for r in kafka.read(topic, 2)}


def test_wrong_credentials(locked_kafka: Kafka) -> None:
    sink = KafkaSink('counts', locked_kafka.url, security_protocol='SASL_PLAINTEXT', sasl_mechanism='SCRAM-SHA-512',
                     sasl_plain_username='ann', sasl_plain_password='wrong', timeout=2.0)
    with pytest.raises(AccessRefused, match="refuses user 'ann'"):
        sink.put({'n': 1})


@pytest.mark.parametrize(('options', 'says'), [
    ({'comperssion_type': 'gzip'}, 'did you mean compression_type'),
    ({'value_serializer': str}, 'give codec='),
    ({'transactional_id': 'x'}, 'headers'),
    ({'acks': 0}, 'nothing is acknowledged'),
    ({'key': 7}, 'name of a field'),
    ({'timeout': 0}, 'more than 0'),
    ({'topic': 'a b'}, 'no name of a Kafka topic'),
    ({'urls': 'http://x'}, 'no address of a Kafka broker'),
])
def test_what_cannot_be_is_refused_at_once(options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        KafkaSink(**{'topic': 'counts', **options})


def test_options_that_kafka_python_refuses_are_said_to_be(kafka: Kafka, topic: str) -> None:
    with pytest.raises(OptionError, match='lzma'):
        KafkaSink(topic, kafka.url, compression_type='lzma').put({'n': 1})
