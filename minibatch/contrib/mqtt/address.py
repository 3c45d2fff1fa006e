"""What both ends of MQTT are given: where the broker is, which topics, numbers."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from minibatch.errors import OptionError, did_you_mean

_PORTS = {'mqtt': 1883, 'mqtts': 8883}


@dataclass(frozen=True)
class Address:
    """Where a broker is, and how to get in.

    :ivar tls: ``None`` for a connection in the clear
    """

    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __str__(self) -> str:
        host = f'[{self.host}]' if ':' in self.host else self.host
        return f'{"mqtt" if self.tls is None else "mqtts"}://{host}:{self.port}'


def address(url: str, ca: str | None = None, tls: ssl.SSLContext | None = None) -> Address:
    """Read the URL of a broker.

    :param url: ``mqtt://[user:password@]host[:1883]`` or ``mqtts://[user:password@]host[:8883]``
    :param ca: path of a file with the certificates to trust, instead of those that the system trusts
    :param tls: everything about TLS, instead of *ca*
    :raises OptionError: it is none, or goes not together

    >>> address('mqtt://ann:s%40cret@broker')
    Address(host='broker', port=1883, user='ann')
    >>> str(address('mqtts://broker'))
    'mqtts://broker:8883'
    >>> address('mqt://ann:secret@broker')
    Traceback (most recent call last):
    minibatch.errors.OptionError: url: 'mqt://ann:***@broker' is no URL of an MQTT broker: the scheme is 'mqt'; did you
    mean mqtt?
    """
    if not isinstance(url, str):
        raise OptionError(f'url is {type(url).__name__}; give text such as mqtt://user:password@host:1883')
    wrong = ''
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise OptionError(f'url: {_masked(url)!r} is no URL of an MQTT broker: {error}') from None
    if parts.scheme not in _PORTS:
        wrong = f'the scheme is {parts.scheme!r}{did_you_mean(parts.scheme, _PORTS) or ", not mqtt or mqtts"}'
    elif not parts.hostname:
        wrong = 'there is no host in it'
    elif parts.path not in ('', '/') or parts.query or parts.fragment:
        wrong = 'something follows the address; topics and options are arguments of their own'
    elif port == 0:
        wrong = 'there is no port 0'
    elif parts.scheme == 'mqtt' and (ca is not None or tls is not None):
        wrong = 'ca= and tls= go with mqtts://'
    elif ca is not None and tls is not None:
        wrong = 'ca= and tls= do not go together; load the certificates into the context'
    if wrong:
        raise OptionError(f'url: {_masked(url)!r} is no URL of an MQTT broker: {wrong}')
    if parts.scheme == 'mqtts' and tls is None:
        try:
            tls = ssl.create_default_context(cafile=ca)
        except (OSError, TypeError) as error:
            raise OptionError(f'ca: {ca!r} cannot be read as a file of certificates: {error}') from error
    return Address(parts.hostname or '', port or _PORTS[parts.scheme],
                   None if parts.username is None else unquote(parts.username),
                   None if parts.password is None else unquote(parts.password), tls)


def _masked(url: str) -> str:
    head, at, host = url.rpartition('@')
    scheme, slashes, rest = head.partition('://')
    user, colon, _ = rest.partition(':')
    return f'{scheme}{slashes}{user}:***@{host}' if at and colon else url


def filters(topic: str | Sequence[str]) -> list[str]:
    """Check what is to be subscribed to: topics, with the wildcards ``+`` and ``#`` or without.

    >>> filters(['sensors/+/climate', 'alarms/#'])
    ['sensors/+/climate', 'alarms/#']
    >>> filters('alarms#')
    Traceback (most recent call last):
    minibatch.errors.OptionError: topic: 'alarms#' cannot be subscribed to: # and + stand for whole levels (a/+/b, a/#)
    """
    given: list[Any] = [topic] if isinstance(topic, str) else list(topic)
    if not given:
        raise OptionError('topic is an empty list; give a topic, or several')
    for each in given:
        wrong = _wrong(each)
        levels = each.split('/') if not wrong else []
        if any(('#' in level or '+' in level) and len(level) > 1 for level in levels):
            wrong = '# and + stand for whole levels (a/+/b, a/#)'
        elif '#' in levels[:-1]:
            wrong = '# comes last'
        if wrong:
            raise OptionError(f'topic: {each!r} cannot be subscribed to: {wrong}')
    return list(dict.fromkeys(given))


def wrong_name(topic: Any) -> str:
    """Why nothing can be published to a topic; empty if it can.

    >>> wrong_name('means/climate'), wrong_name('means/#')
    ('', 'it has wildcards')
    """
    return _wrong(topic) or ('it has wildcards' if '#' in topic or '+' in topic else '')


def _wrong(topic: Any) -> str:
    if not isinstance(topic, str):
        return f'it is of type {type(topic).__name__}'
    try:
        size = len(topic.encode())
    except UnicodeEncodeError:
        return 'it has half a character in it'
    return ('it is empty' if not topic else 'it has a NUL in it' if '\0' in topic
            else 'it is longer than 65,535 bytes' if size > 65535 else '')


def check_number(name: str, value: Any, least: float, most: float, *, whole: bool = True) -> None:
    """Refuse what is no number, or none that can be.

    >>> check_number('keepalive', 0, 1, 65535)
    Traceback (most recent call last):
    minibatch.errors.OptionError: keepalive must be a whole number from 1 to 65535, not 0
    """
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not least <= value <= most:
        raise OptionError(f'{name} must be a {"whole " if whole else ""}number from {least:g} to {most:.12g}, '
                          f'not {value!r}')


def check_protocol(protocol: Any) -> None:
    """Refuse what is no version of MQTT that is spoken here."""
    if protocol not in (None, '5', '3.1.1'):
        raise OptionError(f"protocol is {protocol!r}; give '5', '3.1.1', or nothing to find out")
