"""One connection to a broker, kept up by a thread of its own: pings go on whatever its user is waiting for."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from minibatch.contrib.mqtt.address import Address
from minibatch.contrib.mqtt.redelivery import Arrived
from minibatch.contrib.reconnect import GRACE, Stopped
from minibatch.errors import AccessRefused, MissingExtra, OptionError

try:
    from paho.mqtt import client as paho
    from paho.mqtt import properties
    from paho.mqtt.enums import CallbackAPIVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.subscribeoptions import SubscribeOptions
except ImportError as error:
    raise MissingExtra('mqtt', 'paho-mqtt') from error

log = logging.getLogger(__name__)

#: Seconds that a broker may take to answer.
PATIENCE = 5.0
#: Messages without an acknowledgement (QoS 0) that wait at the most; nobody could hold up those that send them.
MOST_UNASKED = 10_000

#: paho has types, but not this.
_Properties: Any = properties.Properties
_VERSIONS = {'5': paho.MQTTv5, '3.1.1': paho.MQTTv311}
_NO_SUCH_VERSION, _NO_SUCH_CLIENT, _NOT_AUTHORIZED, _TAKEN_OVER = 0x84, 0x85, 0x87, 0x8E
#: Bad user or password, not authorized, banned, bad method of authentication.
_REFUSALS = (0x86, _NOT_AUTHORIZED, 0x8A, 0x8C)


class OtherVersion(ConnectionError):
    """The broker does not speak this version of MQTT, or would not say why it speaks with nobody."""


@dataclass(frozen=True)
class Wish:
    """How to connect.

    :ivar client_id: names the session at the broker
    :ivar protocol: ``'5'``, ``'3.1.1'``, or ``None`` to find out
    :ivar keepalive: seconds of silence after which a connection is tried
    :ivar expiry: seconds that the broker keeps the session for without a connection; 0 for no session at all
    :ivar window: most messages that the broker sends ahead of their acknowledgement
    :ivar topics: to subscribe to, with the QoS
    """

    address: Address
    client_id: str
    protocol: str | None = None
    keepalive: int = 30
    expiry: int = 0
    window: int = 65535
    topics: Sequence[str] = ()
    qos: int = 1


class Link:
    """A connection; made by :func:`connect`.

    :ivar resumed: whether the broker has known the session before
    :ivar taken_over: whether somebody else has connected with the same id, says the broker (MQTT 5)
    :ivar inbox: messages that have come
    :ivar answers: of the broker to ``SUBSCRIBE`` and ``UNSUBSCRIBE``, by packet id: the codes
    :ivar published: what became of messages that were sent, by packet id: the code
    :ivar news: notified when any of them changes
    :ivar unasked: how many messages with QoS 0 were dropped, since nobody took them
    """

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.news = threading.Condition()
        self.connected = self.resumed = self.taken_over = False
        self.inbox: deque[Arrived] = deque()
        self.answers: dict[int, Sequence[Any]] = {}
        self.published: dict[int, Any] = {}
        self.most_bytes: int | None = None
        self.most_unconfirmed = 65535
        self.unasked = 0
        self.subscribing: int | None = None
        self.failure: BaseException | None = None
        self._said = ''
        self._closing = False
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=wish.client_id, protocol=_VERSIONS[wish.protocol or '5'],
            clean_session=None if wish.protocol == '5' else not wish.expiry, reconnect_on_failure=False,
            manual_ack=True)
        client.max_inflight_messages_set(0)  # who sends counts for itself, as the broker may allow less
        if wish.address.user is not None:
            client.username_pw_set(wish.address.user, wish.address.password)
        if wish.address.tls is not None:
            client.tls_set_context(wish.address.tls)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_message, client.on_publish = self._on_message, self._on_publish
        client.on_subscribe = client.on_unsubscribe = self._on_answer
        # With this set paho leaves all writing to the thread that calls loop().
        client.on_socket_register_write = lambda *_: None
        self._client: Any = client
        self._thread = threading.Thread(target=self._run, name=f'minibatch-mqtt-{wish.client_id}', daemon=True)
        self._thread.start()

    # -- what its user calls

    def wait(self, condition: Callable[[], Any], timeout: float, cancelled: threading.Event | None = None) -> bool:
        """Wait until *condition* is true, which is called whenever there are news.

        :return: whether it is
        :raises Stopped: *cancelled* was set
        :raises OSError: the connection is lost
        """
        until = time.monotonic() + timeout
        with self.news:
            while not condition():
                self.check()
                if cancelled is not None and cancelled.is_set():
                    raise Stopped
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self.news.wait(min(left, 0.1))
            return True

    def check(self) -> None:
        """Raise what has ended the connection, if it has ended."""
        if self.failure is not None:
            raise self.failure

    def take(self, most: int, timeout: float) -> list[Arrived]:
        """Take messages that have come; wait for the first one.

        :raises OSError: the connection is lost, and all that came is taken
        """
        with self.news:
            if not self.inbox:
                self.check()
                self.news.wait(timeout)
            return [self.inbox.popleft() for _ in range(min(most, len(self.inbox)))]

    def ack(self, arrived: Arrived) -> None:
        """Acknowledge a message that came over this connection."""
        client = self._client
        if client is not None:
            client.ack(arrived.mid, arrived.qos)

    def subscribe(self) -> int | None:
        """Subscribe to the topics; the packet id of the question."""
        wish, options = self.wish, None
        if wish.protocol == '5':  # a retained message comes with the first subscription only
            options = SubscribeOptions(qos=wish.qos, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        return self._ask(lambda client: client.subscribe([(each, options or wish.qos) for each in wish.topics]))

    def unsubscribe(self, topics: Sequence[str]) -> int | None:
        """Unsubscribe; the packet id of the question."""
        return self._ask(lambda client: client.unsubscribe(list(topics)))

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, headers: Sequence[tuple[str, str]]) -> Any:
        """Send a message; what paho tells of it.

        :raises OSError: the connection is lost
        """
        more = None
        if headers and self.wish.protocol == '5':
            more = _Properties(PacketTypes.PUBLISH)
            more.UserProperty = list(headers)
        client = self._client
        self.check()
        if client is None:
            raise ConnectionError('the connection is closed')
        return client.publish(topic, payload, qos, retain, more)

    def close(self, timeout: float = GRACE / 2) -> None:
        """Say good-bye, and do not wait for long; the session stays."""
        self._closing = True
        client = self._client
        if client is not None and self.connected:
            with contextlib.suppress(OSError, ValueError):
                client.disconnect()
        self._thread.join(timeout if self.connected else 0)

    # -- its thread

    def _run(self) -> None:
        wish, client = self.wish, self._client
        tick = min(1.0, wish.keepalive / 5)  # seconds by which a ping may be late
        failure: BaseException | None = None
        try:
            if wish.protocol == '5':
                asked = _Properties(PacketTypes.CONNECT)
                asked.SessionExpiryInterval, asked.ReceiveMaximum = wish.expiry, wish.window
                client.connect(wish.address.host, wish.address.port, wish.keepalive, clean_start=not wish.expiry,
                               properties=asked)
            else:
                client.connect(wish.address.host, wish.address.port, wish.keepalive)
            code = paho.MQTT_ERR_SUCCESS
            while code == paho.MQTT_ERR_SUCCESS:
                if self._closing and not self.connected:
                    break
                if self._closing:  # before it was connected, so that there was nobody to say good-bye to
                    client.disconnect()
                code = client.loop(tick if self.connected else 0.2)
            failure = self._why(code)
        except Exception as error:  # of the network, of TLS
            failure = error if isinstance(error, OSError) else ConnectionError(f'{type(error).__name__}: {error}')
            failure.with_traceback(None)  # which has paho's client in it
        finally:
            del client
            with self.news:
                self._client = None  # nothing refers to it any more, so it closes its sockets
                if self.failure is None:
                    self.failure = ConnectionError('the connection was closed') if failure is None else failure
                self.news.notify_all()

    def _why(self, code: Any) -> Exception:
        what = self._said or paho.error_string(code).rstrip('.')
        if self.connected:
            return ConnectionError(f'the connection to {self.wish.address} is lost: {what}')
        return OtherVersion(f'{self.wish.address} ends the connection without an answer, as some brokers do at a wrong '
                            f'password, too (over MQTT {self.wish.protocol}: {what})')

    def _ask(self, question: Callable[[Any], tuple[Any, int | None]]) -> int | None:
        client = self._client
        return None if client is None else question(client)[1]

    def _on_connect(self, client: Any, _data: Any, flags: Any, reason: Any, told: Any) -> None:
        with self.news:
            if reason.is_failure:
                self.failure = self._refused(reason)
            else:
                self.connected, self.resumed = True, bool(flags.session_present)
                self.most_bytes = getattr(told, 'MaximumPacketSize', None)
                self.most_unconfirmed = getattr(told, 'ReceiveMaximum', 65535)
                # At once, so that there is never a session without its subscription.
                if self.wish.topics and (self.wish.protocol == '5' or not self.resumed):
                    self.subscribing = self.subscribe()
            self.news.notify_all()

    def _refused(self, reason: Any) -> Exception:
        address = self.wish.address
        if reason.value == _NO_SUCH_VERSION:
            return OtherVersion(f'{address} does not speak MQTT {self.wish.protocol}')
        if reason.value in _REFUSALS:
            who = 'a client without a user' if address.user is None else f'user {address.user!r}'
            return AccessRefused(f'{address} refuses {who}: {reason}; look at the user and the password in the URL, '
                                 'and at what that user may do')
        if reason.value == _NO_SUCH_CLIENT:
            return OptionError(f'{address} does not take {self.wish.client_id!r} as a client_id: {reason}')
        return ConnectionError(f'{address} refuses the connection: {reason}')

    def _on_disconnect(self, client: Any, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self.taken_over = reason.value == _TAKEN_OVER
            self._said = f'the broker says {reason}'

    def _on_message(self, client: Any, _data: Any, message: Any) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = message._topic.decode(errors='replace')
        with self.news:
            if message.qos == 0 and len(self.inbox) >= MOST_UNASKED:
                self.unasked += 1
                return
            self.inbox.append(Arrived(topic, bytes(message.payload), message.qos, message.retain, message.mid,
                                      message.dup))
            if len(self.inbox) == 1:
                self.news.notify_all()

    def _on_publish(self, client: Any, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        with self.news:
            self.published[mid] = reason
            self.news.notify_all()

    def _on_answer(self, client: Any, _data: Any, mid: int, codes: Sequence[Any], _properties: Any) -> None:
        with self.news:
            self.answers[mid] = codes
            self.news.notify_all()


def connect(wish: Wish, cancelled: threading.Event | None = None, timeout: float = PATIENCE + 1) -> Link:
    """Connect, by MQTT 5 if the broker speaks it, else by MQTT 3.1.1.

    :param timeout: seconds that it may take with either
    :raises AccessRefused: the broker refuses the user
    :raises OptionError: it refuses the client id
    :raises OSError: there is no broker, or it does not answer
    :raises Stopped: *cancelled* was set
    """
    for protocol in (wish.protocol,) if wish.protocol else ('5', '3.1.1'):
        link = Link(replace(wish, protocol=protocol))
        try:
            if link.wait(lambda link=link: link.connected, timeout, cancelled):  # type: ignore[misc]
                return link
            link.close()
            raise ConnectionError(f'{wish.address} does not answer')
        except OtherVersion:
            if protocol == '3.1.1' or wish.protocol:
                raise
        except BaseException:
            link.close()
            raise
    raise AssertionError


def refused(codes: Sequence[Any], topics: Sequence[str], address: Address) -> AccessRefused | None:
    """The error of a subscription that was refused; ``None`` if all is well."""
    bad = [f'{topic!r} ({code})' for topic, code in zip(topics, codes, strict=False) if code.value >= 0x80]
    if not bad:
        return None
    return AccessRefused(f'{address} refuses the subscription to {", ".join(bad)}; look at what the user may read, and '
                         'at what the broker supports')


def random_id() -> str:
    """A client id that nobody has, of characters and a length that every broker has to take."""
    return f'mb{uuid.uuid4().hex[:20]}'
