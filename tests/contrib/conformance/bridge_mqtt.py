"""MQTT in the suites."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from tests.support import mqtt
from tests.support.brokers import Mqtt

from .adapters import SinkAdapter, SourceAdapter


class MqttUpstream(SourceAdapter):
    """A topic, to which the stream of the suites has a subscription before it is read for the first time."""

    name = 'mqtt'
    group = 'mqtt_broker'

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        pytest.importorskip('paho.mqtt.client')
        from minibatch.contrib.mqtt.source import session_id
        self.mqtt: Mqtt = request.getfixturevalue('mqtt')
        self.topic = f'numbers/{uuid.uuid4().hex}'
        name = session_id(request.getfixturevalue('dbname'), 'clicks', f'mqtt:{self.topic}')
        mqtt.subscribe(self.mqtt, name, self.topic)

    def config(self) -> dict[str, Any]:
        return {'url': self.mqtt.url, 'topic': self.topic}

    @staticmethod
    def make(config: dict[str, Any], **options: Any) -> Any:
        from minibatch.contrib.mqtt import MQTTSource
        return MQTTSource(**config, **options)

    def feed(self, numbers: Iterable[int]) -> None:
        mqtt.send(self.mqtt, self.topic, [b'{"n": %d}' % n for n in numbers])

    def feed_raw(self, raw: bytes) -> None:
        mqtt.send(self.mqtt, self.topic, [raw])

    def number(self, data: Any) -> int:
        return int(data['payload']['n'])

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        with self.mqtt.away():
            yield


class MqttDownstream(SinkAdapter):
    name = 'mqtt'
    group = 'mqtt_broker'

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        pytest.importorskip('paho.mqtt.client')
        self.mqtt: Mqtt = request.getfixturevalue('mqtt')
        self.topic = f'results/{uuid.uuid4().hex}'
        self.client = mqtt.Client(self.mqtt)
        self.client.subscribed(self.topic)

    def sink(self, **options: Any) -> Any:
        from minibatch.contrib.mqtt import MQTTSink
        return MQTTSink(self.mqtt.url, self.topic, **{'timeout': 3.0, **options})

    def read(self, count: int) -> Sequence[Any]:
        return [json.loads(payload) for payload in self.client.read(count)]

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        with self.mqtt.away():
            yield

    def close(self) -> None:
        self.client.close()


SOURCES = [MqttUpstream]
SINKS = [MqttDownstream]
