"""Kafka in the suites."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from tests.support.brokers import Kafka

from .adapters import SinkAdapter, SourceAdapter


class KafkaUpstream(SourceAdapter):
    """A topic of one partition, since the order across partitions is nobody's."""

    name = 'kafka'
    group = 'kafka_broker'

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.kafka: Kafka = request.getfixturevalue('kafka')
        self.topic = self.kafka.topic()

    def config(self) -> dict[str, Any]:
        # Who was killed stays a member of its group until its session is over; Kafka itself allows 6 s and more.
        return {'topic': self.topic, 'urls': self.kafka.url, 'bootstrap_timeout_ms': 1000,
                'session_timeout_ms': 1000 if self.kafka.own else 6000}

    @staticmethod
    def make(config: dict[str, Any], **options: Any) -> Any:
        from minibatch.contrib.kafka import KafkaSource
        return KafkaSource(**config, **options)

    def feed(self, numbers: Iterable[int]) -> None:
        self.kafka.send(self.topic, [b'{"n": %d}' % n for n in numbers])

    def feed_raw(self, raw: bytes) -> None:
        self.kafka.send(self.topic, [raw])

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        with self.kafka.away():
            yield


class KafkaDownstream(SinkAdapter):
    name = 'kafka'
    group = 'kafka_broker'

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.kafka: Kafka = request.getfixturevalue('kafka')
        self.topic = self.kafka.topic()

    def sink(self, **options: Any) -> Any:
        from minibatch.contrib.kafka import KafkaSink
        return KafkaSink(self.topic, self.kafka.url, **{'timeout': 3.0, **options})

    def read(self, count: int) -> Sequence[Any]:
        return [json.loads(record.value) for record in self.kafka.read(self.topic, count)]

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        with self.kafka.away():
            yield


SOURCES = [KafkaUpstream]
SINKS = [KafkaDownstream]
