"""The other end of MQTT in tests: publishes, and reads along; past the gate, so that nothing cuts it off."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterable
from typing import Any

from .brokers import Mqtt
from .waiting import wait_until


class Client:
    """A client of paho on one connection.

    :param name: of its session, which the broker keeps; without one it has none
    :param protocol: of paho's; MQTT 3.1.1 unless given
    :ivar messages: what has come, as paho has it
    """

    def __init__(self, broker: Mqtt, name: str = '', protocol: Any = None) -> None:
        from paho.mqtt import client as paho
        self.messages: list[Any] = []
        self._news = threading.Condition()
        self._answers: dict[int, Any] = {}
        self._published: set[int] = set()
        self._connected: list[Any] = []
        self.paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=name or f'test{uuid.uuid4().hex[:16]}',
            clean_session=None if protocol else not name, protocol=protocol or paho.MQTTv311)
        self.paho.username_pw_set(broker.user, broker.password)
        self.paho.max_inflight_messages_set(200)
        self.paho.on_connect = lambda c, u, flags, reason, p: self._connected.append(flags)
        self.paho.on_subscribe = lambda c, u, mid, codes, p: self._answers.update({mid: codes})
        self.paho.on_publish = lambda c, u, mid, reason, p: self._published.add(mid)
        self.paho.on_message = lambda c, u, message: self._got(message)
        self.paho.connect('127.0.0.1', broker.direct)
        self.paho.loop_start()
        wait_until(lambda: self._connected, what='the connection')

    @property
    def resumed(self) -> bool:
        """Whether the broker knew its session."""
        return bool(self._connected[-1].session_present)

    def _got(self, message: Any) -> None:
        with self._news:
            self.messages.append(message)

    def subscribed(self, topic: str, qos: int = 1) -> Any:
        """Subscribe; the broker's answer."""
        self.topic = topic
        _, mid = self.paho.subscribe(topic, qos)
        return wait_until(lambda: self._answers.get(mid), what=f'an answer to the subscription of {topic}')

    def send(self, topic: str, payloads: Iterable[bytes], qos: int = 1, retain: bool = False) -> None:
        """Publish, and wait until all is acknowledged."""
        # What is published while the broker is away is sent when it is back, for all that its code says.
        sent = {self.paho.publish(topic, payload, qos, retain).mid for payload in payloads}
        wait_until(lambda: sent <= self._published, 30, what='the acknowledgements')

    def read(self, count: int, timeout: float = 20) -> list[bytes]:
        """The payloads of all that was published to its topic before now; waits until they are *count* at least."""
        mark = f'mark {uuid.uuid4()}'.encode()
        self.send(self.topic, [mark])
        wait_until(lambda: any(each.payload == mark for each in list(self.messages)), timeout, what='the mark')

        def found() -> list[bytes]:
            return [each.payload for each in list(self.messages) if not each.payload.startswith(b'mark ')]
        wait_until(lambda: len(found()) >= count, timeout, what=f'{count} messages')
        return found()

    def close(self) -> None:
        """Disconnect."""
        self.paho.disconnect()
        self.paho.loop_stop()


def send(broker: Mqtt, topic: str, payloads: Iterable[bytes], qos: int = 1, retain: bool = False) -> None:
    """Publish over a connection of its own, and wait until all is acknowledged."""
    with contextlib.closing(Client(broker)) as client:
        client.send(topic, payloads, qos, retain)


def subscribe(broker: Mqtt, name: str, topic: str) -> None:
    """Make a session that keeps what is published to a topic from now on."""
    with contextlib.closing(Client(broker, name)) as client:
        codes = client.subscribed(topic)
        assert not any(code.is_failure for code in codes)
