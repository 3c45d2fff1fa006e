"""Events of Celery as a source, by ``pip install 'minibatch[celery]'``: what tasks and workers do, as messages.

>>> import minibatch as mb
>>> from minibatch.contrib.celery import CeleryEventSource
>>> mb.stream('tasks').attach(CeleryEventSource(app, events='task-*'))                                  # doctest: +SKIP

Workers send events if they are told to: ``celery worker --task-events``, or ``worker_send_task_events = True`` in the
configuration of the app.

**What events cannot promise.** Celery does not store them. The broker hands each to who listens at that moment and
forgets it: what happens while no source runs, or while it is connecting again, is never known; what the process has in
hand when it is killed is lost. Nothing is acknowledged, so there is no position to go on at. What is in the stream has
happened; what has happened need not be in the stream. Two sources of one stream bring each event twice. For what must
not be missed, let the task itself append to a stream.
"""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from minibatch.contrib.inlet import Inlet
from minibatch.contrib.reconnect import detached, persist
from minibatch.errors import AccessRefused, MissingExtra, OptionError, Undecodable

try:
    from kombu.exceptions import OperationalError
    from kombu.messaging import Consumer
except ImportError as error:
    raise MissingExtra('celery', 'celery') from error

__all__ = ['CeleryEventSource']

#: Seconds that one look for events takes; a cancel waits for it.
_LOOK = 0.2
#: What drivers of brokers call it when they are not let in.
_REFUSALS = {'AuthenticationError', 'AuthorizationError', 'NoPermissionError', 'AccessRefused'}


class CeleryEventSource:
    """Bring Celery's events into a stream, as they happen, while it runs; see above for what that leaves out.

    A message is the event as Celery makes it: ``type``, ``timestamp`` (seconds since 1970), ``hostname`` of the worker,
    ``uuid`` of the task, and more for each type: ``name``, ``args``, ``runtime``, ``result``, ``exception`` and so on.

    :param app: the ``celery.Celery`` app, whose configuration names the broker
    :param events: the types to take, or a list of them; ``*`` stands for anything. ``'task-*'`` are all of tasks,
        ``'*'`` also those of workers (``worker-online``, ``worker-heartbeat``, ``worker-offline``)
    :param schema: what an event has to fit (:mod:`minibatch.contrib.schemas`)
    :param size: most messages stored at once
    :param linger: seconds that an event waits for others at the most
    :raises OptionError: an option has a value that cannot be

    While the stream is full or MongoDB is away it takes no more from the broker, which keeps events for as long as it
    does: RabbitMQ for ``event_queue_ttl`` seconds (5 by default), Redis as many as fit into its buffer for the
    connection (``client-output-buffer-limit pubsub``).

    >>> CeleryEventSource(object())
    Traceback (most recent call last):
    minibatch.errors.OptionError: app is <object object at ...>; give a celery.Celery
    """

    def __init__(self, app: Any, events: str | Sequence[str] = 'task-*', *, schema: Any = None, size: int = 1000,
                 linger: float = 0.05) -> None:
        if not hasattr(app, 'events') or not hasattr(app, 'connection_for_read'):
            raise OptionError(f'app is {app!r}; give a celery.Celery')
        given = [events] if isinstance(events, str) else list(events)
        if not given or not all(isinstance(each, str) and each for each in given):
            raise OptionError(f"events is {events!r}; give types of events, such as 'task-succeeded', or 'task-*'")
        self.app, self.events = app, tuple(given)
        self._inlet = {'codec': _Events(), 'schema': schema, 'size': size, 'linger': linger}
        self._cancelled = threading.Event()

    def __repr__(self) -> str:
        return f'CeleryEventSource({self.app.main or "app"!r}, events={",".join(self.events)!r})'

    def stream(self, stream: Any) -> None:
        """Listen until :meth:`cancel`; called by ``stream.attach``.

        :param stream: the :class:`minibatch.Stream`
        :raises AccessRefused: the broker refuses the credentials
        """
        trusted = False

        def session(up: Any) -> None:
            nonlocal trusted
            one = _Session(self, inlet, self._cancelled)
            try:
                one.run(up)
            except passing as error:
                if one.connected or trusted or not any(type(each).__name__ in _REFUSALS for each in _causes(error)):
                    raise
                raise AccessRefused(
                    f'the broker of {self!r} refuses the connection: {error}; look at broker_url') from error
            finally:
                trusted = trusted or one.connected

        connection = self.app.connection_for_read()
        passing = (OSError, OperationalError, *connection.connection_errors, *connection.channel_errors)
        # Events that were read are nowhere else any more: a cancel stores them, even into a full stream.
        with Inlet(stream, None, cancelled=self._cancelled, replays=False, **self._inlet) as inlet:
            detached(lambda: persist(session, f'{self!r} of stream {stream.name!r}', cancelled=self._cancelled,
                                     on=passing), self._cancelled)

    def cancel(self) -> None:
        """End :meth:`stream` within a second; events that were received by then are stored."""
        self._cancelled.set()


class _Session:
    """Listens with one connection."""

    def __init__(self, source: CeleryEventSource, inlet: Inlet, cancelled: threading.Event) -> None:
        self._source, self._inlet, self._cancelled = source, inlet, cancelled
        self._found: list[Any] = []
        self.connected = False

    def run(self, up: Any) -> None:
        with self._source.app.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            self._receiver = self._source.app.events.Receiver(connection)
            channel = connection.default_channel
            (consumer,) = self._receiver.get_consumers(
                partial(Consumer, channel, on_decode_error=self._undecodable), channel)
            consumer.callbacks[:] = [self._receive]
            with consumer:
                self.connected = True
                up()
                while not self._cancelled.is_set():
                    self._look(connection)
            self._inlet.flush()

    def _look(self, connection: Any) -> None:
        try:
            if not self._inlet.full:
                connection.drain_events(timeout=_LOOK)
            else:
                self._inlet.durable(_LOOK)
        except TimeoutError:
            pass
        finally:
            found, self._found = self._found, []
            if found:
                self._inlet.extend(found, [None] * len(found))
            self._inlet.durable()
        if connection.supports_heartbeats:
            connection.heartbeat_check()

    def _receive(self, body: Any, message: Any) -> None:
        for each in body if isinstance(body, list) else [body]:
            try:
                kind, event = self._receiver.event_from_message(each)
                wanted = any(fnmatch.fnmatchcase(kind, pattern) for pattern in self._source.events)
            except Exception as error:  # it may be anything that somebody has sent there
                self._found.append(_Body(repr(each).encode(errors='backslashreplace'),
                                         f'it is no event of Celery ({type(error).__name__}: {error})'))
            else:
                if wanted:
                    self._found.append(event)

    def _undecodable(self, message: Any, error: Exception) -> None:
        body = message.body
        self._found.append(_Body(body.encode(errors='surrogatepass') if isinstance(body, str) else bytes(body),
                                 f'Celery cannot decode it ({type(error).__name__}: {error})'))


class _Body(bytes):
    """What came and is no event, and why."""

    reason: str

    def __new__(cls, raw: bytes, reason: str) -> _Body:
        body = super().__new__(cls, raw)
        body.reason = reason
        return body


class _Events:
    """Events are decoded by Celery; those that could not be are refused here, so that they become dead letters."""

    def decode(self, data: Any) -> Any:
        if isinstance(data, _Body):
            raise Undecodable(data.reason)
        return data

    def encode(self, message: Any) -> bytes:
        raise NotImplementedError('events are only read')


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
