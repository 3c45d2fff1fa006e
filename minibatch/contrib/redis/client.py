"""Connections to Redis: made the same way at both ends, and their errors told apart."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from minibatch.errors import AccessRefused, MissingExtra, OptionError

try:
    from redis import ConnectionPool, Redis
    from redis import exceptions as errors
    from redis.backoff import NoBackoff
    from redis.connection import parse_url
    from redis.retry import Retry
except ImportError as error:
    raise MissingExtra('redis', 'redis') from error

__all__ = ['PASSING', 'Server', 'check_key', 'check_seconds', 'errors']

_parsed: Callable[[str], dict[str, Any]] = parse_url

#: What may be over when it is tried again.
PASSING: tuple[type[Exception], ...] = (
    errors.ConnectionError, errors.TimeoutError, errors.ReadOnlyError, errors.TryAgainError, errors.ClusterDownError,
    errors.OutOfMemoryError, OSError)
#: What is not: somebody has to do something about it. Of redis-py, the first is a ``ConnectionError``.
_REFUSED = (errors.AuthenticationError, errors.AuthorizationError, errors.NoPermissionError,
            errors.AuthenticationWrongNumberOfArgsError)


class Server:
    """A Redis server, as its URL names it.

    :param url: ``redis://user:password@host:6379/0``, ``rediss://`` for TLS, ``unix://``; with redis-py's options as a
        query (``?ssl_ca_certs=/path``)
    :param timeout: seconds that an answer may take, and a connection
    :raises OptionError: the URL cannot be
    """

    def __init__(self, url: str, timeout: float) -> None:
        if not isinstance(url, str) or not url:
            raise OptionError(f"url is {url!r}; give one such as 'redis://localhost:6379/0'")
        _check_escaped(url)
        try:
            self._options = {
                'socket_connect_timeout': min(timeout, 5.0), 'socket_timeout': timeout, **_parsed(url),
                # Tries are ours to make; and replies shall look the same, whatever the version of redis-py.
                'retry': Retry(NoBackoff(), 0), 'retry_on_error': [], 'protocol': 2, 'decode_responses': False}
            ConnectionPool(**self._options).make_connection()  # which does not connect, but knows its options
        except (ValueError, TypeError) as error:
            raise OptionError(f'url: redis-py does not take it: {error}') from error
        given = {'host': 'localhost', 'port': 6379, 'db': 0, **self._options}
        self.address = '{}/{}'.format(given.get('path') or '{host}:{port}'.format(**given), given['db'])

    def __repr__(self) -> str:
        return self.address

    def connect(self) -> Any:
        """A client of redis-py; it connects when it is used."""
        return Redis.from_pool(ConnectionPool(max_connections=1, **self._options))

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Turn a refusal into ours.

        :raises AccessRefused: Redis does not take the credentials, or does not allow the command
        """
        try:
            yield
        except _REFUSED as error:
            user = self._options.get('username') or ('the password' if self._options.get('password') else None)
            raise AccessRefused(f'Redis at {self.address} refuses {user or "a connection without a password"}: '
                                f'{error}; look at the credentials in url, and at what that user may do') from error


def _check_escaped(url: str) -> None:
    """Refuse a password that was cut in two, before pieces of it are taken for a port and a host, and shown as such.

    >>> _check_escaped('redis://ann:p@ssw0rd@cache:6379/0?socket_timeout=1')
    >>> _check_escaped('redis://ann:p/ssw0rd@cache')
    Traceback (most recent call last):
    minibatch.errors.OptionError: url: the user and the password in a URL must be percent-encoded; write ...
    """
    scheme, _, rest = url.partition('://')
    authority, _, tail = rest.partition('/')
    cut = any(mark in authority for mark in '?#') or re.fullmatch(r'\d*([?].*=.*)?', tail) is None
    if scheme in ('redis', 'rediss') and '@' in rest and cut and '@' in re.split('[/?#]', rest, maxsplit=1)[-1]:
        raise OptionError('url: the user and the password in a URL must be percent-encoded; write '
                          'urllib.parse.quote(password, safe="") for it')


def check_key(key: object) -> str:
    """The key of a stream, a list or a channel.

    :raises OptionError: it cannot be one
    """
    if not isinstance(key, str) or not key:
        raise OptionError(f'key is {key!r}; give the name of one')
    return key


def check_seconds(name: str, value: object) -> float:
    """A time that has to be more than none.

    :raises OptionError: it is not
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float('inf'):
        raise OptionError(f'{name} must be a number of seconds, more than 0, not {value!r}')
    return value
