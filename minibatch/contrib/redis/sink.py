"""Redis as a sink: entries of a stream, items of a list, messages on a channel, or keys."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from minibatch.contrib.base import spread
from minibatch.contrib.redis.client import PASSING, Server, check_key, check_seconds, errors
from minibatch.contrib.redis.fields import Fields
from minibatch.errors import DeliveryFailed, InvalidMessage, OptionError, Unencodable, check_choice

KINDS = ('stream', 'list', 'channel', 'keys')
#: Fields of an entry beside those of the result: the window that it comes from, and which of its results it is.
WINDOW, INDEX = 'minibatch-window', 'minibatch-index'
#: Commands in one transaction.
_MOST = 1000


class RedisSink:
    """Send results of windows to Redis; a window is committed when Redis has executed all that it results in.

    Delivery is at least once: a window that is tried again, because something failed or its consumer died, is sent
    again. Entries of a stream have two more fields to know that by: ``minibatch-window`` is the window's id, which is
    the same for each attempt, and ``minibatch-index`` tells which of the window's results it is (0, 1, 2 ...). A key
    that is set again has the value that it had.

    :param key: of the stream or the list; the name of the channel; or, for ``kind='keys'``, what makes the key of a
        result: a pattern such as ``'clicks-of:{user}'``, which is filled with its fields, or a function
    :param url: of the server: ``redis://user:password@host:6379/0``, ``rediss://`` for TLS; with redis-py's options as
        a query
    :param kind: ``'stream'`` (``XADD``), ``'list'`` (``RPUSH``), ``'channel'`` (``PUBLISH``), or ``'keys'`` (``SET``)
    :param expand: what a list is: ``True``: one message for each of its items; ``False``: one message
    :param codec: how to write a value: a name such as ``'json'``, which is the default, or an object
        (:mod:`minibatch.contrib.codecs`)
    :param field: of a stream's entry, the field that holds the result; ``None``: each field of the result is one, text
        as it is and the rest as JSON, or all by *codec*
    :param maxlen: entries that the stream keeps, about; older ones are trimmed as new ones come
    :param ttl: seconds that keys live
    :param timeout: seconds that an answer may take; then the window has failed
    :raises OptionError: an option has a value that cannot be, or does not go with *kind*

    >>> RedisSink('results', 'redis://redis:6379/0')
    RedisSink('results', 'redis:6379/0', kind='stream')
    >>> RedisSink('results', kind='chanel')
    Traceback (most recent call last):
    minibatch.errors.OptionError: kind='chanel' is none of 'stream', 'list', 'channel', 'keys'; did you mean channel?
    >>> RedisSink('results', kind='list', ttl=60)
    Traceback (most recent call last):
    minibatch.errors.OptionError: ttl= goes with kind='keys', not with kind='list'
    """

    def __init__(self, key: str | Callable[[Any], str], url: str = 'redis://localhost:6379/0', *, kind: str = 'stream',
                 expand: bool = True, codec: Any = None, field: str | None = 'data', maxlen: int | None = None,
                 ttl: float | None = None, timeout: float = 10.0) -> None:
        check_choice('kind', kind, KINDS)
        for option, given, its in (('field', field != 'data', 'stream'), ('maxlen', maxlen is not None, 'stream'),
                                   ('ttl', ttl is not None, 'keys'), ('key= as a function', callable(key), 'keys')):
            if given and kind != its:
                raise OptionError(f'{option}{"" if "=" in option else "="} goes with kind={its!r}, not with '
                                  f'kind={kind!r}')
        if maxlen is not None and (isinstance(maxlen, bool) or not isinstance(maxlen, int) or maxlen < 1):
            raise OptionError(f'maxlen must be a whole number, 1 or more, not {maxlen!r}')
        if kind == 'keys' and isinstance(key, str) and '{' not in key:
            raise OptionError(f"key={key!r} would be the same for all results; name a field, such as '{key}:{{user}}', "
                              'or give a function')
        self.key: Any = key if callable(key) else check_key(key)
        self.kind, self.expand, self.maxlen = kind, bool(expand), maxlen
        self._ttl = None if ttl is None else max(int(check_seconds('ttl', ttl) * 1000), 1)
        self._fields = Fields(field if kind == 'stream' else 'data', codec)
        self._server = Server(url, check_seconds('timeout', timeout))
        self._window: str | None = None
        self._redis: Any = None
        self._ready: list[tuple[str, tuple[Any, ...]]] = []

    def __repr__(self) -> str:
        return f'RedisSink({self.key!r}, {self._server.address!r}, kind={self.kind!r})'

    def begin(self, batch: Any) -> None:
        """Note which window comes next; called by the engine."""
        self._window = str(batch.id)

    def put(self, message: Any) -> None:
        """Take a result; :meth:`flush` sends it.

        :param message: what the window function returned
        :raises Unencodable: it cannot be written; nothing of it will be sent
        :raises InvalidMessage: it has not got what its key is made of; nothing of it will be sent
        """
        self._ready += [self._command(index, each) for index, each in enumerate(spread(message, self.expand))]

    def flush(self) -> None:
        """Send all that was put, up to 1,000 results in one transaction, and wait until it is done.

        :raises DeliveryFailed: Redis cannot be reached, or has refused to do it
        :raises AccessRefused: it refuses the credentials, or does not allow the command
        """
        ready, self._ready = self._ready, []
        if not ready:
            return
        if self._redis is None:
            self._redis = self._server.connect()
        try:
            with self._server.asking():
                for at in range(0, len(ready), _MOST):
                    pipeline = self._redis.pipeline(transaction=True)
                    for verb, arguments in ready[at:at + _MOST]:
                        pipeline.execute_command(verb, *arguments)
                    pipeline.execute()
        except (errors.RedisError, OSError) as error:
            raise DeliveryFailed(f'{self!r}: {type(error).__name__}: {error}; the window is not committed and will be '
                                 'tried again') from error

    def close(self) -> None:
        """End the connection; a later ``flush`` opens another one."""
        redis, self._redis = self._redis, None
        self._ready.clear()
        if redis is not None:
            with contextlib.suppress(*PASSING):
                redis.close()

    def _command(self, index: int, result: Any) -> tuple[str, tuple[Any, ...]]:
        value = self._fields.encode(result)
        if self.kind == 'stream':
            if self._window is not None:
                value = {**value, WINDOW: self._window, INDEX: str(index)}
            trim = () if self.maxlen is None else ('MAXLEN', '~', self.maxlen)
            return 'XADD', (self.key, *trim, '*', *(each for pair in value.items() for each in pair))
        (raw,) = value.values()
        if self.kind == 'keys':
            return 'SET', (self._key_of(result), raw, *(() if self._ttl is None else ('PX', self._ttl)))
        return ('RPUSH' if self.kind == 'list' else 'PUBLISH'), (self.key, raw)

    def _key_of(self, result: Any) -> str:
        if callable(self.key):
            key = self.key(result)
            if not isinstance(key, str) or not key:
                raise InvalidMessage(f'{self!r}: the function has made {key!r} of a result, which is no key')
            return key
        if not isinstance(result, Mapping):
            raise Unencodable(f'its key is {self.key!r}, and a {type(result).__name__} has no fields to fill that with')
        try:
            return str(self.key.format_map(result))
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise InvalidMessage(f'{self!r}: the key of a result cannot be made: {type(error).__name__}: {error}; '
                                 'return its fields from the window function') from error
