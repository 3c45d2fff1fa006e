"""A topic of Kafka as a sink."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minibatch.contrib import codecs
from minibatch.contrib.kafka.client import PASSING, KafkaProducer, Link, connect, errors, is_refusal, refused
from minibatch.contrib.kafka.options import addresses, check_options, check_topic
from minibatch.errors import DeliveryFailed, InvalidMessage, MessageTooLarge, OptionError

log = logging.getLogger(__name__)

#: Headers of each message: the window that it comes from, and which of its messages it is.
WINDOW, INDEX = 'minibatch-window', 'minibatch-index'

_OURS = {
    'bootstrap_servers': 'give urls=',
    'key_serializer': 'give key=, a function if need be',
    'value_serializer': 'give codec=',
    'max_block_ms': 'give timeout=',
    'delivery_timeout_ms': 'give timeout=',
    'transactional_id': 'a window that is tried again would be another transaction; readers can go by the headers',
    'transaction_timeout_ms': 'there are no transactions',
    'kafka_client': 'it is used here',
}


class KafkaSink:
    """Send results of windows to a topic; a window is committed when Kafka has acknowledged all of its result.

    Delivery is at least once: a window that is tried again, because something failed or its consumer died, is sent
    again. Each message has two headers to know it by: ``minibatch-window`` is the window's id, which is the same for
    each attempt, and ``minibatch-index`` tells which of the window's messages it is (0, 1, 2 ...).

    :param topic: name of the topic
    :param urls: ``'host:port'`` of one or more brokers, or a list of them
    :param key: the field of a result that becomes the message's key, or a function that makes the key of a result:
        text, bytes or ``None``; anything else becomes JSON. Messages of one key keep their order, in one partition.
    :param expand: what a list is: ``True``: one message for each of its items; ``False``: one message
    :param codec: how to write values: a name such as ``'json'`` (:mod:`minibatch.contrib.codecs`), or an object
    :param timeout: seconds that Kafka may take to acknowledge a window; then it has failed
    :param options: anything else that kafka-python's ``KafkaProducer`` takes. Unless given, ``acks='all'``,
        ``linger_ms=5`` and ``batch_size=65536``.
    :raises OptionError: an option is unknown, or has a value that cannot be

    A result that cannot be encoded, or has no field called *key*, or is larger than ``max_request_size``, fails its
    window.

    >>> KafkaSink('counts', urls='kafka:9092', key='user')
    KafkaSink('counts', urls='kafka:9092')
    >>> KafkaSink('counts', acks=1, comperssion_type='gzip')
    Traceback (most recent call last):
    minibatch.errors.OptionError: KafkaSink has no option 'comperssion_type'; did you mean compression_type?
    """

    def __init__(self, topic: str, urls: str | Sequence[str] = 'localhost:9092',
                 key: str | Callable[[Any], Any] | None = None, expand: bool = True, *, codec: Any = 'json',
                 timeout: float = 30.0, **options: Any) -> None:
        check_options('KafkaSink', options, {*KafkaProducer.DEFAULT_CONFIG} - {*_OURS}, _OURS)
        if key is not None and not callable(key) and (not isinstance(key, str) or not key):
            raise OptionError(f'key is {key!r}; give the name of a field, or a function')
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < float('inf'):
            raise OptionError(f'timeout must be a number of seconds, more than 0, not {timeout!r}')
        if options.get('acks', 'all') in (0, '0'):
            raise OptionError('acks=0 means that nothing is acknowledged, and then nothing can be committed')
        self.topic, self.key, self.expand, self.timeout = check_topic(topic), key, bool(expand), timeout
        self._urls = addresses(urls)
        self._codec, self._json = codecs.codec(codec), codecs.codec('json')
        ms = int(timeout * 1000)
        # One request may take a third of the time, so that another broker can be tried within it.
        self._config = {'acks': 'all', 'linger_ms': 5, 'batch_size': 1 << 16, 'reconnect_backoff_max_ms': 2_000,
                        'request_timeout_ms': max(ms // 3, 1), 'bootstrap_timeout_ms': ms, 'max_block_ms': ms,
                        'delivery_timeout_ms': ms, **options}
        self._window: str | None = None
        self._producer: Any = None
        self._link = Link()
        self._sent: list[Any] = []

    def __repr__(self) -> str:
        return f'KafkaSink({self.topic!r}, urls={",".join(self._urls)!r})'

    def begin(self, batch: Any) -> None:
        """Note which window comes next; called by the engine."""
        self._window = str(batch.id)

    def put(self, message: Any) -> None:
        """Hand a result over to be sent; :meth:`flush` waits until it has arrived.

        :param message: what the window function returned
        :raises InvalidMessage: it has no field that is the key; nothing was sent
        :raises Unencodable: the codec cannot write it; nothing was sent
        :raises MessageTooLarge: it is above ``max_request_size``
        :raises DeliveryFailed: Kafka cannot be reached, or has no such topic
        :raises AccessRefused: Kafka refuses the credentials
        """
        results = list(message) if self.expand and isinstance(message, (list, tuple)) else [message]
        ready = [(self._codec.encode(each), self._key_of(each)) for each in results]
        producer = self._connected()
        try:
            for index, (value, key) in enumerate(ready):
                self._sent.append(producer.send(self.topic, value, key=key, headers=self._headers(index)))
        except errors.MessageSizeTooLargeError as error:
            raise MessageTooLarge(f'{self!r}: the result takes {len(value):,} bytes: {error}') from error
        except PASSING as error:
            self._give_up()
            raise self._failed(f'it could not be sent: {type(error).__name__}: {error}', error) from error

    def flush(self) -> None:
        """Wait until Kafka has acknowledged all that was put.

        :raises DeliveryFailed: it has not, within *timeout*
        :raises AccessRefused: it refuses to
        """
        sent, self._sent = self._sent, []
        if not sent:
            return
        if self._producer is not None:  # else it was given up, and what it was given is not acknowledged
            with contextlib.suppress(errors.KafkaTimeoutError):
                self._producer.flush(self.timeout)
        bad = [each for each in sent if not each.succeeded()]
        if bad:
            error = next((each.exception for each in bad if each.exception is not None), None)
            # What comes next shall not wait behind what has failed, nor be taken for a gap in the order.
            self._give_up()
            if is_refusal(error, self._config):
                raise refused(self._urls, self._config, error)
            why = f'{type(error).__name__}: {error}' if error is not None else f'no answer within {self.timeout:g} s'
            raise self._failed(f'{len(bad)} of {len(sent)} messages were not acknowledged: {why}', error)

    def close(self) -> None:
        """End the connection; a later ``put`` opens another one."""
        self._sent.clear()
        self._give_up(0.5)

    def _headers(self, index: int) -> list[tuple[str, bytes]]:
        if self._window is None:
            return []
        return [(WINDOW, self._window.encode()), (INDEX, str(index).encode())]

    def _key_of(self, message: Any) -> bytes | None:
        if self.key is None:
            return None
        if callable(self.key):
            key = self.key(message)
        elif isinstance(message, Mapping) and self.key in message:
            key = message[self.key]
        else:
            raise InvalidMessage(f'the result has no field {self.key!r}, which is the key of its message; return it '
                                 'from the window function', path=f'data.{self.key}')
        if key is None or isinstance(key, bytes):
            return key
        return key.encode() if isinstance(key, str) else bytes(self._json.encode(key))

    def _connected(self) -> Any:
        if self._producer is None:
            self._link = Link()
            try:
                self._producer = connect(KafkaProducer, self._link, self._urls, self._config)
            except PASSING as error:
                raise self._failed(str(error), error) from error
        return self._producer

    def _give_up(self, timeout: float = 0) -> None:
        """Drop the producer, and what it still holds."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(*PASSING):
                producer.close(timeout)  # its own thread ends its connections, and must not be helped

    def _failed(self, what: str, error: BaseException | None) -> DeliveryFailed:
        hint = ''
        if isinstance(error, (errors.UnknownTopicOrPartitionError, errors.KafkaTimeoutError)) and (
                self._link.up and self.topic not in self._link.topics):
            hint = f' (there is no topic {self.topic!r})'
        return DeliveryFailed(f'{self!r}: {what}{hint}; the window is not committed and will be tried again')
