"""Keys of tables: Python values, and what MongoDB finds and orders them by.

A key is stored as the BSON value it is, so that people can read it and the index keeps keys in order. Two things have
to be said otherwise: a tuple is an array, and a datetime has its microseconds beside it, of which BSON keeps none.
The integer 1 and the float 1.0 are the same key, as in a dict; ``True`` is another one.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
from typing import Any

import bson
from bson import Int64, MaxKey, MinKey

from minibatch import coerce
from minibatch.errors import TableError
from minibatch.refused import of_type, short
from minibatch.scope import Id
from minibatch.store.schema import CODEC, Document

#: Bytes of a key, so that the largest value still fits beside it.
LONGEST = 8 * 1024
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_MILLISECOND = 1000


def encoded(key: Any) -> Any:
    """What a key is stored as.

    >>> encoded(('ann', 2.0, None))
    ['ann', 2, None]

    :raises TableError: it cannot be a key
    """
    if key is None or type(key) is bool:
        return key
    if type(key) is str:
        return _text(key)
    if isinstance(key, int) and type(key) in (int, Int64):
        return _integer(key)
    if type(key) is float:
        if key != key:
            raise TableError('a key cannot be NaN, which no other NaN is equal to; nothing was written; use None')
        return _integer(int(key)) if math.isfinite(key) and key == int(key) and abs(key) < _MOST else key
    if isinstance(key, (tuple, list)):
        return [encoded(each) for each in key]
    if type(key) is dt.datetime:
        key = coerce.in_utc(key) if key.tzinfo is not None else key
        rest = key.microsecond % _MILLISECOND
        return {'at': key.replace(microsecond=key.microsecond - rest), 'us': rest}
    plain = coerce.plain(key) if not isinstance(key, (dict, set, frozenset)) else coerce.UNKNOWN
    if type(plain) in (str, int, float, bool, list, dt.datetime, type(None)) and type(plain) is not type(key):
        return encoded(plain)
    raise TableError(f'{short(key)}, {of_type(key)}, cannot be a key of a table; nothing was written; use a str, an '
                     'int, a float, a bool, None, a datetime or a tuple of these')


def _text(key: str) -> str:
    try:
        key.encode()
    except UnicodeEncodeError:
        raise TableError(f'{short(key)} cannot be a key: it holds a lone surrogate, which UTF-8 cannot encode; nothing '
                         "was written; use key.encode(errors='backslashreplace').decode()") from None
    return key


def _integer(key: int) -> int:
    if not _LEAST <= key <= _MOST:
        raise TableError(f'{short(key)} cannot be a key: it has more than 64 bits; nothing was written; use a str')
    return int(key)


def decoded(stored: Any) -> Any:
    """The key that is stored so.

    >>> decoded(encoded(('ann', 2.0, None)))
    ('ann', 2, None)
    >>> decoded(encoded(dt.datetime(2026, 1, 31, 12, 0, 0, 123456)))
    datetime.datetime(2026, 1, 31, 12, 0, 0, 123456)
    """
    if type(stored) is list:
        return tuple([decoded(each) for each in stored])
    if type(stored) is dict:
        at: dt.datetime = stored['at']
        return at + dt.timedelta(microseconds=stored['us'])
    return int(stored) if type(stored) is Int64 else stored


def identity(table: str, key: Any) -> Id:
    """The ``_id`` of a key's document, as BSON.

    :raises TableError: it cannot be a key
    """
    if type(key) is str or type(key) is int:
        return _usual(table, key)
    return _identity(table, key)


def _identity(table: str, key: Any) -> Id:
    found = bson.encode({'t': table, 'k': encoded(key)}, codec_options=CODEC)
    if len(found) > LONGEST:
        raise TableError(f'{short(key)} cannot be a key: it takes {len(found):,} bytes, of which a key may have '
                         f'{LONGEST:,}; nothing was written; use a hash of it')
    return found


#: Not for tuples: one of 1 and one of True would be the same to it.
_usual = functools.lru_cache(maxsize=4096, typed=True)(_identity)


def key_of(each: Id) -> Any:
    """The key of an ``_id``.

    >>> key_of(identity('counts', 'ann'))
    'ann'
    """
    return decoded(bson.decode(each, CODEC)['k'])


def belongs(each: Id, table: str, prefix: Any = None) -> bool:
    """Whether an ``_id`` is one of a table, and its key begins with *prefix* if one is given."""
    doc = bson.decode(each, CODEC)
    if doc['t'] != table or prefix is None:
        return bool(doc['t'] == table)
    key, prefix = doc['k'], encoded(prefix)
    return type(key) is type(prefix) and bool(
        key.startswith(prefix) if isinstance(key, str) else key[:len(prefix)] == prefix)


def span(table: str, prefix: Any = None) -> Document:
    """The query for a table's documents, or for those whose key begins with *prefix*.

    :param prefix: a string, or a tuple of which a key must have all members first
    :raises TableError: it is neither
    """
    if prefix is None:
        return {'_id': {'$gte': {'t': table, 'k': MinKey()}, '$lte': {'t': table, 'k': MaxKey()}}}
    if not isinstance(prefix, (str, tuple, list)):
        raise TableError(f'a prefix of keys is a str or a tuple, not {short(prefix)}')
    low = encoded(prefix)
    if isinstance(low, list):
        return {'_id': {'$gte': {'t': table, 'k': low}, '$lte': {'t': table, 'k': [*low, MaxKey()]}}}
    high = _after(low)
    below: Any = {'t': table, 'k': high} if high else {'t': table, 'k': {}}  # the first thing after all strings
    return {'_id': {'$gte': {'t': table, 'k': low}, '$lt': below}}


def _after(text: str) -> str:
    """The first string, in order of UTF-8, after all that begin with *text*; empty if there is none.

    >>> _after('ab')
    'ac'
    """
    while text:
        point = ord(text[-1]) + 1
        if point <= 0x10FFFF:
            return text[:-1] + chr(0xE000 if 0xD800 <= point <= 0xDFFF else point)
        text = text[:-1]
    return ''


def rank(each: Id) -> Any:
    """What puts identities of one table in the order in which MongoDB has them."""
    return _rank(bson.decode(each, CODEC)['k'])


def _rank(value: Any) -> Any:
    if value is None:
        return (0,)
    if isinstance(value, bool):
        return 5, value
    if isinstance(value, (int, float)):
        return 1, value
    if isinstance(value, str):
        return 2, value.encode()
    if isinstance(value, dict):
        return 3, value['at'], value['us']
    return 4, [_rank(each) for each in value]
