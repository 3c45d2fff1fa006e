"""Topics of MQTT as a sink."""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any

from minibatch.contrib import codecs
from minibatch.contrib.base import spread
from minibatch.contrib.mqtt.address import address, check_number, check_protocol, wrong_name
from minibatch.contrib.mqtt.link import Link, Wish, connect, random_id
from minibatch.errors import AccessRefused, DeliveryFailed, InvalidMessage, MessageTooLarge, OptionError

#: User properties of each message (MQTT 5): the window that it comes from, and which of its messages it is.
WINDOW, INDEX = 'minibatch-window', 'minibatch-index'

#: Most bytes of an MQTT packet, and what it needs besides topic and payload, about.
_MOST, _OVERHEAD = 268_435_455, 100
#: Most messages on their way.
_AHEAD = 1000
#: Bytes from which on a broker may hang up since a message is too large for it.
_LARGE = 100_000
_NOT_AUTHORIZED, _TOO_LARGE = 0x87, 0x95


class MQTTSink:
    """Publish results of windows; a window is committed when the broker has acknowledged all of its result.

    Delivery is at least once: a window that is tried again, because something failed or its consumer died, is
    published again. With MQTT 5 each message has two user properties to know it by: ``minibatch-window`` is the
    window's id, which is the same for each attempt, and ``minibatch-index`` tells which of the window's messages it is
    (0, 1, 2 ...).

    :param url: ``mqtt://user:password@host:1883``, or ``mqtts://`` (port 8883) for TLS
    :param topic: where to publish: a topic; one with names of fields in it, such as ``'means/{sensor}'``, which are
        replaced by what the result has there; or a function that makes the topic of a result
    :param qos: 1, or 2; or 0: then nothing is acknowledged, and a window is committed when its result is on its way
    :param retain: whether the broker keeps the last message of each topic for those who subscribe later
    :param expand: what a list is: ``True``: one message for each of its items; ``False``: one message
    :param codec: how to write payloads: a name such as ``'json'`` (:mod:`minibatch.contrib.codecs`), or an object
    :param timeout: seconds that the broker may take to acknowledge a window; then it has failed
    :param client_id: what the broker knows the connection by; by default one that nobody has
    :param protocol: ``'5'`` or ``'3.1.1'``; by default what the broker speaks
    :param keepalive: seconds of silence after which the connection is tried
    :param ca: path of a file with the certificates to trust, for ``mqtts://``
    :param tls: a ``ssl.SSLContext`` instead, with a certificate of the client's for instance
    :raises OptionError: an option has a value that cannot be

    >>> MQTTSink('mqtt://ann:secret@broker', 'means/{sensor}')
    MQTTSink('mqtt://broker:1883', 'means/{sensor}')
    """

    def __init__(self, url: str, topic: str | Callable[[Any], str], qos: int = 1, retain: bool = False,
                 expand: bool = True, *, codec: Any = 'json', timeout: float = 30.0, client_id: str | None = None,
                 protocol: str | None = None, keepalive: int = 30, ca: str | None = None,
                 tls: ssl.SSLContext | None = None) -> None:
        check_number('qos', qos, 0, 2)
        check_number('keepalive', keepalive, 1, 65535)
        check_number('timeout', timeout, 0.001, 1e9, whole=False)
        check_protocol(protocol)
        if client_id is not None and (not isinstance(client_id, str) or not 1 <= len(client_id.encode()) <= 65535):
            raise OptionError(f'client_id is {client_id!r}; give text, or nothing for one that is made up')
        self.topic, self.qos, self.retain, self.expand, self.timeout = topic, qos, bool(retain), bool(expand), timeout
        self._fields = [] if callable(topic) else _fields(topic)
        self._codec = codecs.codec(codec)
        self._wish = Wish(address(url, ca, tls), client_id or '', protocol, keepalive)
        self._window: str | None = None
        self._link: Link | None = None
        self._waiting: deque[tuple[str, bytes, list[tuple[str, str]]]] = deque()
        self._sent: dict[int, str] = {}
        self._largest = 0

    def __repr__(self) -> str:
        return f'MQTTSink({str(self._wish.address)!r}, {self.topic!r})'

    def begin(self, batch: Any) -> None:
        """Note which window comes next; called by the engine."""
        self._window = str(batch.id)

    def put(self, message: Any) -> None:
        """Begin to publish a result; :meth:`flush` waits until it has arrived.

        :param message: what the window function returned
        :raises InvalidMessage: there is no topic for it; nothing was published
        :raises Unencodable: the codec cannot write it; nothing was published
        :raises MessageTooLarge: the broker does not take messages of this size; nothing was published
        :raises DeliveryFailed: the broker cannot be reached
        :raises AccessRefused: it refuses the credentials
        """
        ready = []
        for index, each in enumerate(spread(message, self.expand)):
            headers = [(WINDOW, self._window), (INDEX, str(index))] if self._window is not None else []
            ready.append((self._topic_of(each), self._codec.encode(each), headers))
        try:
            link = self._connected()
            most = min(link.most_bytes or _MOST, _MOST)
            for topic, payload, _ in ready:
                size = len(payload) + len(topic.encode()) + _OVERHEAD
                if size > most:
                    raise MessageTooLarge(f'{self!r}: a message takes {size:,} bytes, and the broker takes {most:,} at '
                                          'the most')
                self._largest = max(self._largest, size)
            self._waiting.extend(ready)
            self._publish(link)
        except OSError as error:
            raise self._lost(error) from error

    def flush(self) -> None:
        """Wait until the broker has acknowledged all that was put.

        :raises DeliveryFailed: it has not, within *timeout*, or the connection was lost
        :raises AccessRefused: it does not let this user publish there
        """
        link = self._link
        if link is None or not (self._waiting or self._sent):
            return
        total, until = len(self._waiting) + len(self._sent), time.monotonic() + self.timeout
        try:
            while self._waiting or self._sent:
                self._confirm(link)
                self._publish(link)
                if self._sent and not link.wait(lambda: link.published, until - time.monotonic()):
                    left = len(self._waiting) + len(self._sent)
                    raise self._failed(f'{left} of {total} messages were not acknowledged within {self.timeout:g} s')
            self._largest = 0
        except DeliveryFailed:
            self._give_up()
            raise
        except OSError as error:
            raise self._lost(error) from error
        except BaseException:
            self._give_up()
            raise

    def close(self) -> None:
        """End the connection; a later ``put`` opens another one."""
        self._give_up()

    def _topic_of(self, message: Any) -> str:
        if callable(self.topic):
            topic = self.topic(message)
        elif self._fields:
            for name in self._fields:
                if not isinstance(message, Mapping) or name not in message:
                    raise InvalidMessage(f'the result has no field {name!r}, which its topic {self.topic!r} needs; '
                                         'return it from the window function', path=f'data.{name}')
            topic = self.topic.format_map(message)
        else:
            return self.topic
        wrong = wrong_name(topic)
        if wrong:
            raise InvalidMessage(f'{topic!r} cannot be the topic of a message: {wrong}')
        return topic

    def _connected(self) -> Link:
        if self._link is not None and self._link.failure is not None and not (self._waiting or self._sent):
            self._give_up()  # it was lost while there was nothing to do
        if self._link is None:
            wish = self._wish
            self._link = connect(Wish(wish.address, wish.client_id or random_id(), wish.protocol, wish.keepalive),
                                 timeout=self.timeout)
        return self._link

    def _publish(self, link: Link) -> None:
        """Publish what waits, as far as the broker lets us go ahead of its acknowledgements."""
        most = min(link.most_unconfirmed, _AHEAD)
        while self._waiting and len(self._sent) < most:
            topic, payload, headers = self._waiting.popleft()
            info = link.publish(topic, payload, self.qos, self.retain, headers)
            self._sent[info.mid] = topic

    def _confirm(self, link: Link) -> None:
        with link.news:
            published, link.published = link.published, {}
        for mid, reason in published.items():
            topic = self._sent.pop(mid, None)
            if topic is not None and reason.is_failure:
                if reason.value == _NOT_AUTHORIZED:
                    raise AccessRefused(f'{self!r}: the broker does not let this user publish to {topic!r}')
                if reason.value == _TOO_LARGE:
                    raise MessageTooLarge(f'{self!r}: the broker does not take a message to {topic!r} of that size; '
                                          f'the largest one takes {self._largest:,} bytes')
                raise self._failed(f'the broker refuses a message to {topic!r}: {reason}')

    def _give_up(self) -> None:
        """Drop the connection, and what was put and not acknowledged: it comes again with its window."""
        link, self._link = self._link, None
        self._waiting.clear()
        self._sent.clear()
        self._largest = 0
        if link is not None:
            link.close()

    def _lost(self, error: OSError) -> DeliveryFailed:
        large = f' (the largest message takes {self._largest:,} bytes; it may be more than the broker takes)'
        hint = large if self._largest > _LARGE else ''
        self._give_up()
        return self._failed(f'{error}{hint}')

    def _failed(self, what: str) -> DeliveryFailed:
        return DeliveryFailed(f'{self!r}: {what}; the window is not committed and will be tried again')


def _fields(topic: Any) -> list[str]:
    """The names of fields in a topic.

    >>> _fields('means/{sensor}/{unit}'), _fields('means')
    (['sensor', 'unit'], [])
    """
    try:
        parts = list(Formatter().parse(topic))
    except (ValueError, TypeError) as error:
        raise OptionError(f'topic is {topic!r}: {error}; give text, with names of fields in braces or without, or a '
                          'function') from error
    names = [name for _, name, _, _ in parts if name is not None]
    if any(not name.isidentifier() for name in names):
        raise OptionError(f'topic: {topic!r} has something in braces that is no name of a field')
    wrong = wrong_name(topic)
    if wrong:
        raise OptionError(f'topic: nothing can be published to {topic!r}: {wrong}')
    return names
