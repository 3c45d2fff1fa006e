"""Connections to Kafka that can be given up, and that say why they failed.

kafka-python tells of a broker that it cannot reach only that time is over. So here each of its clients is watched: what
its connections died of, whether there is any now, and it can be closed from outside while it still tries.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

from minibatch.errors import AccessRefused, MissingExtra, OptionError

try:
    from kafka import KafkaConsumer, KafkaProducer, errors
    from kafka.consumer.subscription_state import ConsumerRebalanceListener
    from kafka.net.compat import KafkaNetClient
    from kafka.net.manager import KafkaConnectionManager
    from kafka.net.selector import NetworkSelector
    from kafka.structs import OffsetAndMetadata, TopicPartition
except ImportError as error:
    raise MissingExtra('kafka', 'kafka-python') from error

__all__ = ['PASSING', 'ConsumerRebalanceListener', 'KafkaConsumer', 'KafkaProducer', 'Link', 'OffsetAndMetadata',
           'TopicPartition', 'connect', 'errors', 'has_joined', 'is_refusal', 'membership', 'refused']

#: What may be over when it is tried again.
PASSING: tuple[type[Exception], ...] = (errors.KafkaError, OSError)
#: What is not: somebody has to do something about it.
_REFUSED = (errors.SaslAuthenticationFailedError, errors.AuthorizationError, errors.UnsupportedSaslMechanismError,
            errors.IllegalSaslStateError)


class Link:
    """One client of kafka-python from outside: made by :meth:`client`, which is given as its ``kafka_client``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: Any = None
        self._closed = False
        self.failure: BaseException | None = None

    def client(self, **configs: Any) -> Any:
        """Make the client; called by kafka-python."""
        net = NetworkSelector(**configs)
        manager = _Watched(net, self._failed, **configs)
        # kafka-python 3.0 takes the option and does not hand it on to where it is looked for.
        manager.cluster.config['allow_auto_create_topics'] = configs.get('allow_auto_create_topics', True)
        made = KafkaNetClient(net=net, manager=manager, **configs)
        with self._lock:
            self._client, closed = made, self._closed
        if closed:
            made.close()
        return made

    def _failed(self, error: BaseException) -> None:
        # That time ran out in the middle of the last try says less than why the one before has failed.
        if self.failure is None or not isinstance(error, errors.KafkaTimeoutError):
            self.failure = error

    def close(self) -> None:
        """End all connections and the thread behind them; whoever waits for them gets an error."""
        with self._lock:
            client, self._closed = self._client, True
        if client is not None:
            with contextlib.suppress(Exception):  # it may be in any state
                client.close()

    @property
    def up(self) -> bool:
        """Whether there is a connection to any of the brokers."""
        client = self._client
        return client is not None and any(client.connected(broker.node_id) for broker in client.cluster.brokers())

    @property
    def topics(self) -> set[str]:
        """The topics that are known to exist."""
        return set(self._client.cluster.topics())

    def topic_id(self, topic: str) -> str | None:
        """Different if a topic was deleted and made anew; not told by brokers before 2.8."""
        found = self._client.cluster.topic_id(topic)
        return None if found is None else str(found)


class _Watched(KafkaConnectionManager):  # type: ignore[misc]
    def __init__(self, net: Any, failed: Callable[[BaseException], None], **configs: Any) -> None:
        self._failed = failed
        super().__init__(net, **configs)

    def get_connection(self, *args: Any, **kwargs: Any) -> Any:
        connection = super().get_connection(*args, **kwargs)
        connection.init_future.add_errback(self._failed)
        return connection


def connect(kind: Any, link: Link, urls: Sequence[str], config: dict[str, Any]) -> Any:
    """A ``KafkaConsumer`` or a ``KafkaProducer``, connected.

    :param kind: which of them
    :param link: to watch it by
    :raises AccessRefused: the broker does not take the credentials
    :raises OptionError: kafka-python does not take the options
    :raises kafka.errors.KafkaError: no broker can be reached
    """
    try:
        return kind(bootstrap_servers=list(urls), kafka_client=link.client, **config)
    except (errors.KafkaConfigurationError, ValueError, TypeError, AssertionError) as error:
        link.close()
        raise OptionError(f'kafka-python does not take these options: {error}') from error
    except errors.KafkaTimeoutError as error:
        link.close()
        failure = link.failure
        if is_refusal(failure, config):
            raise refused(urls, config, failure) from failure
        reason = f' ({type(failure).__name__}: {failure})' if failure is not None else ''
        raise errors.KafkaConnectionError(f'no broker answers at {", ".join(urls)}{reason}') from error
    except BaseException:
        link.close()
        raise


def membership(consumer: Any) -> tuple[str, int]:
    """Which member of its group a ``KafkaConsumer`` is, and in which round of sharing out the partitions."""
    group = consumer.group_metadata()
    return group.member_id, group.generation_id


def has_joined(consumer: Any) -> bool:
    """Whether a ``KafkaConsumer`` is a member of its group; the next poll goes on with joining if it is not.

    kafka-python 3.0 does not, by itself, if it joins again because there are other topics or partitions now, and a poll
    has ended between the two answers of the broker that it takes: then it is given nothing, and sends no heartbeats,
    until there are others once more. It is joined by polls only, so this is to be called between them.
    """
    coordinator = consumer._coordinator
    joined = bool(coordinator.stable())
    if not joined:
        coordinator.request_rejoin()
    return joined


def is_refusal(failure: BaseException | None, config: dict[str, Any]) -> bool:
    """Whether a connection, or a request, failed for want of the right credentials."""
    if isinstance(failure, _REFUSED):
        return True
    # Whatever else goes wrong in the exchange of credentials, kafka-python lets out as it is.
    return failure is not None and bool(config.get('sasl_mechanism')) and not isinstance(failure, PASSING)


def refused(urls: Sequence[str], config: dict[str, Any], failure: BaseException | None) -> AccessRefused:
    """The error of :func:`is_refusal`."""
    user = config.get('sasl_plain_username')
    return AccessRefused(
        f'Kafka at {", ".join(urls)} refuses {f"user {user!r}" if user else "the connection"}: '
        f'{type(failure).__name__}: {failure}; look at security_protocol, sasl_mechanism, the credentials, and what '
        'that user may do')
