"""Redis Streams as a source."""

from __future__ import annotations

import threading
from typing import Any

from minibatch.contrib.base import group_of
from minibatch.contrib.inlet import Inlet
from minibatch.contrib.reconnect import detached, persist
from minibatch.contrib.redis.client import PASSING, Server, check_key, check_seconds, errors
from minibatch.contrib.redis.fields import Fields
from minibatch.contrib.redis.session import Reading, Session
from minibatch.errors import AccessRefused, OptionError, PositionMoved, check_choice

POLICIES = ('fail', 'resume', 'rescan')
#: Seconds for an answer of the server.
_TIMEOUT = 5.0


class RedisSource:
    """Bring the entries of a Redis Stream into a stream, each of them exactly once.

    It reads with a consumer group. An entry is acknowledged (``XACK``) when it is in the stream for sure; its id is
    stored with it, so that one which was stored and could not be acknowledged any more is not stored again. Any number
    of sources may read the same key into the same stream, on any machines; Redis gives each entry to one of them.

    What a consumer leaves behind when it dies is not moved to another one: who takes it over reads it *as* the dead
    one, and so finds the ids that were stored in its name. That makes it exact whoever takes it over, and when; if the
    dead one was only slow, the first of the two to store wins, and the other one stores nothing.

    :param key: of the Redis Stream. It need not exist yet
    :param url: of the server: ``redis://user:password@host:6379/0``, ``rediss://`` for TLS; with redis-py's options as
        a query (``?ssl_ca_certs=/path``)
    :param group: the consumer group. By default one of the stream's own, so that each stream gets all entries. One that
        exists already goes on where it is, with what is pending in it.
    :param field: the field of an entry that is the message; ``None``: the message has all fields of the entry
    :param codec: how to read the field, or each of them (:mod:`minibatch.contrib.codecs`). By default ``'json'``; with
        ``field=None``, text.
    :param schema: what a message has to fit (:mod:`minibatch.contrib.schemas`)
    :param envelope: ``True`` makes messages of ``key``, ``id`` and ``value``, which is what was decoded. Without it,
        what was decoded is the message; ``{'value': it}`` if it is no mapping.
    :param name: names what is stored about it; needed if two sources of one stream read keys of the same name from
        different servers
    :param size: most messages stored at once, and most entries asked for at once; fewer for very large ones
    :param linger: seconds that a message waits for others at the most
    :param start: where a new group begins: ``'earliest'``, with all that is there, or ``'latest'``
    :param on_history_lost: what to do when entries are gone before they were read, because the stream was trimmed or
        deleted, or the server is empty. ``'fail'``: the source ends with :class:`~minibatch.errors.HistoryLost`.
        ``'resume'``: go on with what is there and was not read. ``'rescan'``: if the group is gone, read all there is.
    :param claim_after: seconds without a sign of life after which a consumer is taken for dead. One of this class is
        found out earlier, as soon as its connection is gone, if the user may ask for ``CLIENT LIST``.
    :raises OptionError: an option has a value that cannot be

    Errors that :meth:`stream` ends with: :class:`~minibatch.errors.HistoryLost`,
    :class:`~minibatch.errors.AccessRefused` if the credentials were never accepted, and
    :class:`~minibatch.errors.OptionError` if there is something else than a stream at the key. All others are waited
    out.

    >>> RedisSource('clicks', 'redis://ann:secret@redis:6379/0')
    RedisSource('clicks', 'redis:6379/0')
    >>> RedisSource('clicks', start='erliest')
    Traceback (most recent call last):
    minibatch.errors.OptionError: start='erliest' is none of 'earliest', 'latest'; did you mean earliest?
    """

    def __init__(self, key: str, url: str = 'redis://localhost:6379/0', group: str | None = None, *,
                 field: str | None = 'data', codec: Any = None, schema: Any = None, envelope: bool = False,
                 name: str | None = None, size: int = 1000, linger: float = 0.05, start: str = 'earliest',
                 on_history_lost: str = 'fail', claim_after: float = 10.0) -> None:
        check_choice('start', start, ('earliest', 'latest'))
        check_choice('on_history_lost', on_history_lost, POLICIES)
        if group is not None and (not isinstance(group, str) or not group):
            raise OptionError(f"group is {group!r}; give a name, or nothing for a group of the stream's own")
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise OptionError(f'size must be a whole number, 1 or more, not {size!r}')
        self.key, self.group = check_key(key), group
        self.name = name or (f'redis:{key}:{group}' if group else f'redis:{key}')
        fields = Fields(field, codec)
        self._reading = Reading(
            server=Server(url, _TIMEOUT), key=key, size=size, fields=fields, start=start,
            on_history_lost=on_history_lost, claim_after=check_seconds('claim_after', claim_after))
        self._inlet = {'codec': fields, 'schema': schema, 'shape': self._envelope if envelope else None,
                       'size': size, 'linger': linger,
                       # What is stored of one consumer and not acknowledged: what the inlet takes before it is full,
                       # what one more read brings, and what is just being stored.
                       'recents': max(4 * size, 1000)}
        self._cancelled = threading.Event()

    def __repr__(self) -> str:
        return f'RedisSource({self.key!r}, {self._reading.server.address!r})'

    def stream(self, stream: Any) -> None:
        """Read until :meth:`cancel`; called by ``stream.attach``.

        :param stream: the :class:`minibatch.Stream`
        :raises HistoryLost: entries are gone before they were read, and ``on_history_lost='fail'``
        :raises AccessRefused: Redis refuses the credentials
        :raises OptionError: what is at the key is no stream
        """
        who, group = f'{self!r} of stream {stream.name!r}', self.group or group_of(stream)
        trusted, consumer, moved = False, '', False

        def session(up: Any) -> None:
            nonlocal trusted, consumer, moved
            one, was_moved, moved = Session(self._reading, group, inlet, self._cancelled, who), moved, False
            try:
                one.run(up, consumer, was_moved)
            except AccessRefused as error:
                if not trusted and not one.connected:
                    raise
                raise errors.ConnectionError(str(error)) from error  # it was good before, and may be again
            except PositionMoved:
                moved = True
                raise
            finally:
                trusted, consumer = trusted or one.connected, one.consumer or consumer

        with Inlet(stream, self.name, cancelled=self._cancelled, **self._inlet) as inlet:
            detached(lambda: persist(session, who, cancelled=self._cancelled, on=PASSING), self._cancelled)

    def cancel(self) -> None:
        """End :meth:`stream` within a second; what it has in hand is stored, or comes again."""
        self._cancelled.set()

    def _envelope(self, value: Any, entry: str) -> dict[str, Any]:
        return {'key': self.key, 'id': entry, 'value': value}
