"""Codecs for whole Python objects: MessagePack and pickle."""

from __future__ import annotations

import datetime as dt
import pickle
from typing import Any

from minibatch.contrib.codecs.plain import as_bytes, in_utc, plainer, why
from minibatch.errors import MissingExtra, OptionError, Undecodable, Unencodable


class Msgpack:
    """MessagePack.

    Timestamps are read as datetimes in UTC and datetimes are written as timestamps; other extension types are
    refused. What MessagePack does not know is written as :mod:`minibatch.contrib.codecs.json` writes it, except that
    bytes and NaN stay what they are.

    :raises minibatch.errors.MissingExtra: msgpack is not installed

    >>> codec = Msgpack()
    >>> codec.decode(codec.encode({'n': 1, 'raw': b'abc'}))
    {'n': 1, 'raw': b'abc'}
    """

    makes_messages = True

    def __init__(self) -> None:
        _msgpack()

    def __repr__(self) -> str:
        return 'msgpack'

    def decode(self, data: bytes) -> Any:
        """The value.

        :raises Undecodable: it is not MessagePack, or not all of it is
        """
        data = as_bytes(data, 'msgpack')
        try:
            return _msgpack().unpackb(data, timestamp=3, strict_map_key=False, ext_hook=_no_extension)
        except Exception as error:  # it has many of its own, and lets Python's through
            raise Undecodable(f'not msgpack: {why(error)}') from error

    def encode(self, message: Any) -> bytes:
        """MessagePack.

        :raises Unencodable: it holds something that cannot be written
        """
        try:
            packed: bytes = _msgpack().packb(message, default=_foreign, datetime=True)
        except Exception as error:
            raise Unencodable(f'msgpack cannot write this: {why(error)}') from error
        return packed


class Pickle:
    """pickle: any Python object, from and to Python programs.

    Whoever may write where a source reads pickles can run any program as the user of that source. So this codec has no
    name that a configuration file could choose; it has to be made, with consent:

    :param allow_pickle: true, to say that everybody who can write there may do that
    :raises minibatch.errors.OptionError: it is not

    >>> Pickle(allow_pickle=True).decode(pickle.dumps({1, 2}))
    {1, 2}
    """

    makes_messages = True

    def __init__(self, *, allow_pickle: bool = False) -> None:
        if allow_pickle is not True:
            raise OptionError('reading a pickle runs whatever its writer put into it; if everybody who can write there '
                              'may run programs as you, give codec=Pickle(allow_pickle=True) '
                              '(from minibatch.contrib.codecs), else use json or msgpack')

    def __repr__(self) -> str:
        return 'Pickle(allow_pickle=True)'

    def decode(self, data: bytes) -> Any:
        """The object.

        :raises Undecodable: it is no pickle, or its objects cannot be made here
        """
        data = as_bytes(data, 'pickle')
        try:
            return pickle.loads(data)
        except Exception as error:  # unpickling can raise anything
            raise Undecodable(f'not a pickle that can be read here: {type(error).__name__}: {why(error)}') from error

    def encode(self, message: Any) -> bytes:
        """A pickle.

        :raises Unencodable: an object in it cannot be pickled
        """
        try:
            return pickle.dumps(message, protocol=4)  # what every Python from 3.8 on can read
        except Exception as error:
            raise Unencodable(f'this cannot be pickled: {why(error)}') from error


def _msgpack() -> Any:
    try:
        import msgpack
    except ImportError as error:
        raise MissingExtra('msgpack', 'msgpack') from error
    return msgpack


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f'extension type {code} is not known')


def _foreign(value: Any) -> Any:
    if type(value) is dt.datetime:
        return in_utc(value)
    if isinstance(value, (dt.date, dt.time)):
        return in_utc(value) if isinstance(value, dt.datetime) else value.isoformat()
    if isinstance(value, int):
        raise Unencodable('an integer of more than 64 bits')
    if type(value).__name__ in ('Decimal', 'UUID', 'Decimal128'):
        return str(value)
    return plainer(value)
