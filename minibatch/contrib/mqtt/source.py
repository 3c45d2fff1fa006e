"""Topics of MQTT as a source."""

from __future__ import annotations

import hashlib
import random
import ssl
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from minibatch.contrib import codecs
from minibatch.contrib.inlet import Inlet
from minibatch.contrib.mqtt.address import address, check_number, check_protocol, filters
from minibatch.contrib.mqtt.link import Wish
from minibatch.contrib.mqtt.redelivery import Arrived
from minibatch.contrib.mqtt.session import Session
from minibatch.contrib.reconnect import persist
from minibatch.errors import AccessRefused, OptionError

#: Seconds for ever, as MQTT 5 writes it.
_NEVER = 0xFFFFFFFF
#: Seconds that who was taken over by another of the same id leaves it alone.
_STEP_BACK = (1.0, 4.0)
#: At least so many messages are remembered; a broker may send as many ahead of their acknowledgement.
_RECENT = 10_000


class MQTTSource:
    """Bring the messages of topics into a stream, each of them exactly once.

    The broker keeps a session for it, and in it the messages that come while the source is away. They are acknowledged
    when they are in the stream.

    :param url: ``mqtt://user:password@host:1883``, or ``mqtts://`` (port 8883) for TLS
    :param topic: what to subscribe to, with the wildcards ``+`` and ``#`` or without; or a list of such
    :param qos: 1, or 0: then messages are lost while the source is away. QoS 2 is not needed: what was published with
        it comes with 1, and what comes a second time is recognized.
    :param client_id: names the session at the broker; by default it is made of the names of the database, the stream
        and the source, and so it is the same in each run
    :param name: names the stored position, and the session; by default ``mqtt:`` and the topics. With a name, topics
        can be added and taken away and the session stays.
    :param codec: how to read payloads: a name such as ``'json'``, ``'base64|json'``, or an object
        (:mod:`minibatch.contrib.codecs`)
    :param schema: what a payload has to fit (:mod:`minibatch.contrib.schemas`)
    :param size: most messages stored at once
    :param linger: seconds that a message waits for others at the most
    :param window: most messages that the broker sends ahead of their acknowledgement, by default twice the *size*; for
        MQTT 5. With 3.1.1 the broker has a setting for it.
    :param session_expiry: seconds that the broker keeps the session for while the source is away; by default for ever,
        or as long as the broker is set to. For MQTT 5.
    :param protocol: ``'5'`` or ``'3.1.1'``; by default what the broker speaks
    :param keepalive: seconds of silence after which the connection is tried
    :param ca: path of a file with the certificates to trust, for ``mqtts://``
    :param tls: a ``ssl.SSLContext`` instead, with a certificate of the client's for instance
    :raises OptionError: an option has a value that cannot be

    A message of the stream is ``{'topic': str, 'payload': decoded, 'qos': int, 'retain': bool}``.

    Errors that :meth:`stream` ends with: :class:`~minibatch.errors.AccessRefused`, if the credentials or the
    subscription were never accepted. All others are waited out.

    >>> MQTTSource('mqtt://ann:secret@broker', ['sensors/+/climate', 'alarms/#'])
    MQTTSource('mqtt://broker:1883', ['sensors/+/climate', 'alarms/#'])
    """

    def __init__(self, url: str, topic: str | Sequence[str], qos: int = 1, *, client_id: str | None = None,
                 name: str | None = None, codec: Any = 'json', schema: Any = None, size: int = 1000,
                 linger: float = 0.05, window: int | None = None, session_expiry: float | None = None,
                 protocol: str | None = None, keepalive: int = 30, ca: str | None = None,
                 tls: ssl.SSLContext | None = None) -> None:
        if qos == 2:
            raise OptionError('qos=2: the driver acknowledges such messages before they are in the stream, so that '
                              'some would be lost if the process is killed; with qos=1 each comes exactly once')
        check_number('qos', qos, 0, 1)
        check_number('keepalive', keepalive, 1, 65535)
        check_number('size', size, 1, 1 << 31)
        if window is not None:
            check_number('window', window, 1, 65535)
        if session_expiry is not None:
            check_number('session_expiry', session_expiry, 1, _NEVER, whole=False)
        check_protocol(protocol)
        if client_id is not None and (not isinstance(client_id, str) or not 1 <= len(client_id.encode()) <= 65535):
            raise OptionError(f'client_id is {client_id!r}; give text, or nothing for one that is made up')
        topics = filters(topic)
        self.topic, self.client_id, self.size = topic, client_id, size
        self.name = name or _name(topics)
        self._wish = Wish(address(url, ca, tls), '', protocol, keepalive,
                          int(session_expiry) if session_expiry is not None else _NEVER,
                          window or min(2 * size, 65535), topics, qos)
        self._inlet = {'codec': codecs.codec(codec), 'schema': schema, 'shape': _message, 'size': size,
                       'linger': linger, 'recents': max(_RECENT, 2 * self._wish.window)}
        self._cancelled = threading.Event()

    def __repr__(self) -> str:
        return f'MQTTSource({str(self._wish.address)!r}, {self.topic!r})'

    def stream(self, stream: Any) -> None:
        """Read until :meth:`cancel`; called by ``stream.attach``.

        :param stream: the :class:`minibatch.Stream`
        :raises AccessRefused: the broker refuses the credentials, or the subscription
        """
        who = f'{self!r} of stream {stream.name!r}'
        wish = replace(self._wish, client_id=self.client_id or session_id(
            stream.store.connection.db.name, stream.name, self.name))
        trusted = False

        def session(up: Any) -> None:
            nonlocal trusted, wish
            session = Session(wish, inlet, self.size, self._cancelled, who)

            def good() -> None:
                nonlocal trusted
                trusted = True
                up()

            try:
                session.run(good)
            except AccessRefused as error:
                if not trusted:
                    raise
                raise ConnectionError(str(error)) from error  # it was good before, and may be again
            except OSError:
                if session.link is not None and session.link.taken_over:
                    self._cancelled.wait(random.uniform(*_STEP_BACK))  # one of the two should get somewhere
                raise
            finally:
                if session.link is not None and session.link.wish.protocol == '5':
                    wish = session.link.wish

        with Inlet(stream, self.name, cancelled=self._cancelled, **self._inlet) as inlet:
            persist(session, who, cancelled=self._cancelled, on=(OSError,))

    def cancel(self) -> None:
        """End :meth:`stream` within a second; what it has in hand is stored, or comes again."""
        self._cancelled.set()


def session_id(database: str, stream: str, source: str) -> str:
    """The client id of a source, unless it is given one: the same in each run, and what every broker has to take.

    >>> session_id('minibatch', 'climate', 'mqtt:sensors/#')
    'mb2f3c438c49ae3157de42'
    """
    return f'mb{hashlib.sha256(chr(0).join((database, stream, source)).encode()).hexdigest()[:20]}'


def _name(topics: Sequence[str]) -> str:
    """The name of a source of these topics.

    >>> _name(['a', 'b/#']), len(_name(['a' * 300]))
    ('mqtt:a,b/#', 25)
    """
    name = f'mqtt:{",".join(topics)}'
    return name if len(name) <= 200 else f'mqtt:{hashlib.sha256(name.encode()).hexdigest()[:20]}'


def _message(payload: Any, arrived: Arrived) -> dict[str, Any]:
    return {'topic': arrived.topic, 'payload': payload, 'qos': arrived.qos, 'retain': arrived.retain}
