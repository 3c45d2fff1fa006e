"""From a name, a chain of names or an object to a codec."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from minibatch.contrib.codecs.avro import Avro
from minibatch.contrib.codecs.binary import Base64, Gzip, Raw, Text
from minibatch.contrib.codecs.json import Json
from minibatch.contrib.codecs.objects import Msgpack, Pickle
from minibatch.contrib.codecs.plain import why
from minibatch.errors import CodecError, OptionError, Undecodable, Unencodable, did_you_mean


@runtime_checkable
class Codec(Protocol):
    """What a codec has to have. It keeps nothing from one message to the next, and any thread may call it."""

    def encode(self, message: Any) -> bytes:
        """The bytes of *message*; any exception means that there are none."""

    def decode(self, data: bytes) -> Any:
        """The message in *data*; any exception means that there is none."""


class _Chain:
    """Codecs one after another; whatever they raise is one of ours."""

    def __init__(self, codecs: Sequence[Codec]) -> None:
        self._codecs = tuple(codecs)

    def __repr__(self) -> str:
        return '|'.join(map(repr, self._codecs))

    def decode(self, data: bytes) -> Any:
        value: Any = data
        for each in self._codecs:
            try:
                value = each.decode(value)
            except CodecError:
                raise
            except Exception as error:
                raise Undecodable(f'{each!r}: {type(error).__name__}: {why(error)}') from error
        return value

    def encode(self, message: Any) -> bytes:
        value = message
        for each in reversed(self._codecs):
            try:
                value = each.encode(value)
            except CodecError:
                raise
            except Exception as error:
                raise Unencodable(f'{each!r}: {type(error).__name__}: {why(error)}') from error
        if not isinstance(value, bytes):
            raise Unencodable(f'{self._codecs[0]!r} made a value of type {type(value).__name__}, not bytes')
        return value


def _avro() -> Codec:
    raise OptionError("'avro' needs a schema: give codec=Avro(schema) (from minibatch.contrib.codecs)")


_OURS = (Avro, Base64, Gzip, Json, Msgpack, Pickle, Raw, Text)
_BUILT_IN: dict[str, Callable[[], Codec]] = {
    'avro': _avro, 'base64': Base64, 'gzip': Gzip, 'json': Json, 'msgpack': Msgpack, 'pickle': Pickle, 'raw': Raw,
    'text': Text}
_registered: dict[str, Codec] = {}


def codec(given: str | Codec | Sequence[str | Codec]) -> Codec:
    """The codec that *given* means.

    :param given: a name; names joined by ``|``; an object with ``encode`` and ``decode``; or a list of all these,
        which is a chain too
    :raises minibatch.errors.OptionError: there is no codec of that name, it needs more than its name, or the order of a
        chain cannot be
    :raises minibatch.errors.MissingExtra: its package is not installed

    >>> codec('gzip|text').decode(codec('gzip|text').encode('abc'))
    'abc'
    >>> codec('jsn')
    Traceback (most recent call last):
    minibatch.errors.OptionError: codec 'jsn' is not known; did you mean json?
    >>> codec('json|base64')
    Traceback (most recent call last):
    minibatch.errors.OptionError: in codec json|base64, json makes the message, so it has to be the last: base64|json
    """
    parts = given if isinstance(given, (list, tuple)) else [given]
    codecs: list[Codec] = []
    for part in parts:
        if isinstance(part, str):
            codecs += [_named(name.strip()) for name in part.split('|')]
        elif isinstance(part, Codec) and not isinstance(part, type):
            codecs.append(part)
        else:
            raise OptionError(f'codec is {part!r}; give a name such as "json", or an object with encode and decode')
    if not codecs:
        raise OptionError('codec is an empty list; give the name of one, such as "json"')
    for each in codecs[:-1]:
        if getattr(each, 'makes_messages', False):
            right = [*(one for one in codecs if one is not each), each]
            raise OptionError(f'in codec {_Chain(codecs)!r}, {each!r} makes the message, so it has to be the last: '
                              f'{_Chain(right)!r}')
    return codecs[0] if len(codecs) == 1 and isinstance(codecs[0], (*_OURS, _Chain)) else _Chain(codecs)


def register(name: str, codec: Codec) -> None:
    """Give a codec of one's own a name, for this process; a later one of the same name replaces it.

    :param name: small letters, digits, ``-`` and ``_``, and none of the built-in ones
    :param codec: an object with ``encode`` and ``decode``, of which any thread may call any
    :raises minibatch.errors.OptionError: the name cannot be, or the object has not got both

    >>> class Reversed:
    ...     def encode(self, message): return message[::-1]
    ...     def decode(self, data): return data[::-1]
    >>> register('reversed', Reversed())
    >>> codec('reversed|json').decode(b'}1 :"n"{')
    {'n': 1}
    """
    if not isinstance(name, str) or not re.fullmatch(r'[a-z][a-z0-9_-]*', name):
        raise OptionError(f'a codec is named by small letters, digits, - and _, not {name!r}')
    if name in _BUILT_IN:
        raise OptionError(f'codec {name!r} is built in; choose another name')
    if not isinstance(codec, Codec) or isinstance(codec, type):
        raise OptionError(f'codec {name!r} is {codec!r}; give an object with encode and decode')
    _registered[name] = codec


def registered() -> list[str]:
    """All names that :func:`codec` knows.

    >>> 'json' in registered()
    True
    """
    return sorted({*_BUILT_IN, *_registered})


def _named(name: str) -> Codec:
    if name in _registered:
        return _registered[name]
    if name not in _BUILT_IN:
        suggestion = did_you_mean(name, registered()) or f'; known are {", ".join(registered())}'
        raise OptionError(f'codec {name!r} is not known{suggestion}')
    return _BUILT_IN[name]()
