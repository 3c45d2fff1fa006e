"""What is refused at the door, what is converted, and that all the rest comes back as it was."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import bson
import numpy as np
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minibatch.connection import connect, disconnect
from minibatch.convert import CODEC, MAX_BYTES, MAX_DEPTH, Converter
from minibatch.errors import InvalidMessage, MessageTooLarge
from minibatch.messages import convert, documents
from minibatch.store import Store
from minibatch.writer import Writer
from tests.support.mongod import Deployment

NOW = dt.datetime(2026, 1, 31, 12)


@pytest.fixture
def writer(url: str) -> Writer:
    return Writer(Store(connect(url)), 'clicks')


@pytest.fixture(scope='module')
def door(server: Deployment) -> Iterator[Writer]:
    """A writer through which nothing comes."""
    url = server.url('test_messages_door')
    store = Store(connect(url))
    yield Writer(store, 'clicks')
    assert server.client['test_messages_door']['buffer'].count_documents({}) == 0
    disconnect(url)
    server.client.drop_database('test_messages_door')


@pytest.fixture(scope='module')
def raw(server: Deployment) -> Iterator[Any]:
    """A collection to write documents to and read them from, with no minibatch in between."""
    collection = server.client.get_database('test_messages', codec_options=CODEC)['raw']
    yield collection
    server.client.drop_database('test_messages')


# -- what is refused


class Colour(enum.Enum):
    RED = 'red'


class Level(enum.IntEnum):
    HIGH = 3


class Name(str):
    __slots__ = ()


@dataclasses.dataclass
class Point:
    x: float
    y: Any


class Person(pydantic.BaseModel):
    name: str
    secret: str = pydantic.Field(default='', exclude=True)


@attrs.define
class Car:
    wheels: int
    owner: Any = None


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError('no repr either')


@dataclasses.dataclass
class Broken:
    value: int = dataclasses.field(init=False)


Named = collections.namedtuple('Named', 'a b')


def itself() -> dict[str, Any]:
    row: dict[str, Any] = {'user': {'tags': []}}
    row['user']['tags'].append(row['user'])
    return row


def deep(levels: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for _ in range(levels - 1):
        row = {'a': row}
    return row


def selfish() -> Point:
    point = Point(1, None)
    point.y = [point]
    return point


async def coroutine() -> None: ...


NOT_MESSAGES: dict[str, tuple[Any, str]] = {
    'None': (None, 'append a dict'),
    'int': (5, "{'value': ...}"),
    'float': (1.5, "{'value': ...}"),
    'str': ('{"a": 1}', 'json.loads()'),
    'bytes': (b'a', 'json.loads()'),
    'list': ([{'a': 1}], 'extend()'),
    'tuple': (({'a': 1},), 'extend()'),
    'named tuple': (Named(1, 2), '_asdict()'),
    'generator': ((x for x in ({},)), 'extend()'),
    'class': (Point, 'append a dict'),
    'object': (object(), 'append a dict'),
    'numpy array': (np.zeros(2), 'append a dict'),
    'date': (dt.date(2026, 1, 1), 'append a dict'),
}

NOT_VALUES: dict[str, tuple[Callable[[], Any], str, str]] = {
    'int of 64 bits and one': (lambda: 1 << 63, '64 bits', 'str or float'),
    'int below': (lambda: -(1 << 63) - 1, '64 bits', 'str or float'),
    'int of more digits than Python prints': (lambda: 1 << 100_000, '64 bits', 'str or float'),
    'numpy uint64': (lambda: np.uint64(1 << 63), '64 bits', 'str or float'),
    'lone surrogate': (lambda: 'a\ud800', 'surrogate', "errors='replace'"),
    'complex': (lambda: 1j, 'type complex', 'value.real'),
    'numpy complex': (lambda: np.complex64(1j), 'complex64', 'value.real'),
    'generator': (lambda: (x for x in 'ab'), 'type generator', 'list(value)'),
    'range': (lambda: range(3), 'type range', 'list(value)'),
    'dict view': (lambda: {}.keys(), 'type dict_keys', 'list(value)'),
    'iterator': (lambda: iter([]), 'iterator', 'list(value)'),
    'object': (object, 'type object', 'make it a dict'),
    'object without a repr': (Odd, 'Odd', 'make it a dict'),
    'class': (lambda: Point, 'type type', 'make it a dict'),
    'function': (lambda: deep, 'type function', 'make it a dict'),
    'module': (lambda: sys, 'type module', 'make it a dict'),
    'too exact a Decimal': (lambda: decimal.Decimal('1.' + 40 * '1'), 'Inexact', 'as str'),
    'Decimal too great': (lambda: decimal.Decimal('1e7000'), 'Overflow', 'as str'),
    'pattern with NUL': (lambda: re.compile('a\0'), 'BSON cannot encode', 'a str'),
    'year 0 in UTC': (lambda: dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=2))), 'range', 'as str'),
    'fields that cannot be read': (Broken, 'cannot be read', 'a dict'),
    'codec options': (lambda: CODEC, 'BSON cannot encode', 'its parts'),
}


@pytest.mark.parametrize(('row', 'fix'), NOT_MESSAGES.values(), ids=list(NOT_MESSAGES))
def test_what_is_no_message(door: Writer, row: Any, fix: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        door.append(row)
    assert caught.value.path == 'data'
    for words in ("'clicks'", 'a message is a mapping', 'nothing was stored', fix):
        assert words in str(caught.value)
    assert door._store.count_free('clicks', 1) == 0


@pytest.mark.parametrize(('make', 'what', 'fix'), NOT_VALUES.values(), ids=list(NOT_VALUES))
@pytest.mark.parametrize('rows', [1, 20], ids=['alone', 'among others'])
def test_what_is_no_value(door: Writer, make: Callable[[], Any], what: str, fix: str, rows: int) -> None:
    good: list[Any] = [{'i': i} for i in range(rows - 1)]
    with pytest.raises(InvalidMessage) as caught:
        door.extend([*good, {'user': {'tags': ['a', 'b', 'c', make()]}}])
    assert caught.value.path == 'data.user.tags[3]'
    which = 'a message' if rows == 1 else 'message 19 '
    for words in (f"stream 'clicks' cannot take {which}", 'data.user.tags[3] ', 'nothing was stored', what, fix):
        assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert door._store.count_free('clicks', 1) == 0


def test_an_awaitable_is_to_be_awaited() -> None:
    waiting = coroutine()
    with pytest.raises(InvalidMessage, match=r'data\.a .*await it first'):
        documents('clicks', [{'a': waiting}], NOW)
    waiting.close()


@pytest.mark.parametrize('key', [5, None, ('a', 'b'), 1.5, True, b'a', Level.HIGH], ids=repr)
def test_a_key_that_is_no_str(key: Any) -> None:
    for rows in ([{'user': {key: 1}}], [{'user': {key: 1}}] * 20):
        with pytest.raises(InvalidMessage) as caught:
            documents('clicks', rows, NOW)
        assert caught.value.path == 'data.user'
        assert 'keys are str' in str(caught.value)


@pytest.mark.parametrize(('key', 'words'), [('a\0b', 'NUL'), ('\ud800', 'surrogate')], ids=['NUL', 'surrogate'])
def test_a_key_that_cannot_be_stored(key: str, words: str) -> None:
    for rows in ([{'user': {key: 1}}], [{'user': {key: 1}}] * 20):
        with pytest.raises(InvalidMessage, match=rf'data\.user has .*{words}'):
            documents('clicks', rows, NOW)


@pytest.mark.parametrize(('row', 'path'), [
    (itself(), 'data.user'), (Point(1, selfish()), 'data.y'), (selfish(), 'data')], ids=['dict', 'field', 'object'])
def test_what_contains_itself(row: Any, path: str) -> None:
    with pytest.raises(InvalidMessage, match='contains itself') as caught:
        documents('clicks', [row], NOW)
    assert caught.value.path.startswith(path)


def test_depth_is_limited(raw: Any) -> None:
    for rows in (1, 20):
        [first, *_] = docs = documents('clicks', [deep(MAX_DEPTH)] * rows, NOW)
        raw.insert_many(docs)
        assert raw.find_one({'_id': first['_id']})['data'] == deep(MAX_DEPTH)
        with pytest.raises(InvalidMessage, match='more than 100 levels'):
            documents('clicks', [deep(MAX_DEPTH + 1)] * rows, NOW)


def test_the_greatest_message_can_be_stored_and_one_byte_more_is_refused(writer: Writer, db: Any) -> None:
    greatest = {'text': 'x' * (MAX_BYTES - len(bson.encode({'text': ''})))}
    assert len(bson.encode(greatest)) == MAX_BYTES
    writer.append(greatest)
    assert db['buffer'].find_one()['data'] == greatest
    for row in ({'text': greatest['text'] + 'x'}, {'a': {'b': [bytes(MAX_BYTES)]}}, {'text': 'é' * (MAX_BYTES // 2)}):
        for rows in (1, 5):
            with pytest.raises(MessageTooLarge, match=r'bytes.*nothing was stored.*split it'):
                writer.extend([row] * rows)
            with pytest.raises(MessageTooLarge):
                documents('clicks', [row] * rows, NOW)
    assert db['buffer'].count_documents({}) == 1


def test_what_is_small_in_memory_and_huge_when_written_out() -> None:
    bomb: list[Any] = ['x' * 1000]
    for _ in range(60):
        bomb = [bomb, bomb]
    with pytest.raises(MessageTooLarge):
        documents('clicks', [{'bomb': bomb}] * 5, NOW)


# -- what is converted


CONVERTED: dict[str, tuple[Any, Any]] = {
    'numpy int': (np.int64(5), 5),
    'numpy uint8': (np.uint8(5), 5),
    'numpy float32': (np.float32(1.5), 1.5),
    'numpy float64': (np.float64(1.5), 1.5),
    'numpy longdouble': (np.longdouble(1.5), 1.5),
    'numpy bool': (np.True_, True),
    'numpy str': (np.str_('a'), 'a'),
    'numpy datetime of ns': (np.datetime64('2026-01-31T12:00:00.5', 'ns'), dt.datetime(2026, 1, 31, 12, 0, 0, 500_000)),
    'numpy datetime of days': (np.datetime64('2026-01-31'), dt.datetime(2026, 1, 31)),
    'numpy NaT': (np.datetime64('NaT'), None),
    'numpy timedelta': (np.timedelta64(1500, 'ms'), 1.5),
    'numpy array': (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
    'numpy array of float32': (np.array([1.5, 2.5], dtype='float32'), [1.5, 2.5]),
    'numpy array of times': (np.array(['2026-01-31'], dtype='datetime64[ns]'), [dt.datetime(2026, 1, 31)]),
    'numpy array of objects': (np.array([Point(1, 2), 'a'], dtype=object), [{'x': 1, 'y': 2}, 'a']),
    'numpy array of one': (np.array(7), 7),
    'Decimal': (decimal.Decimal('1.10'), bson.Decimal128('1.10')),
    'dataclass': (Point(1.5, [Point(2, 3)]), {'x': 1.5, 'y': [{'x': 2, 'y': 3}]}),
    'pydantic': (Person(name='ann', secret='x'), {'name': 'ann'}),
    'attrs': (Car(4, Person(name='ann')), {'wheels': 4, 'owner': {'name': 'ann'}}),
    'enum': (Colour.RED, 'red'),
    'int enum': (Level.HIGH, 3),
    'date': (dt.date(2026, 1, 31), dt.datetime(2026, 1, 31)),
    'time': (dt.time(12, 30), '12:30:00'),
    'timedelta': (dt.timedelta(minutes=1, milliseconds=500), 60.5),
    'aware datetime': (dt.datetime(2026, 1, 31, 14, tzinfo=dt.timezone(dt.timedelta(hours=2))), NOW),
    'set': ({3, 1, 2}, [1, 2, 3]),
    'frozenset': (frozenset('cab'), ['a', 'b', 'c']),
    'set that has no order': ({1 + 0j, 'a'} - {1 + 0j}, ['a']),
    'deque': (collections.deque([1, 2]), [1, 2]),
    'array': (array.array('d', [1.5]), [1.5]),
    'tuple': ((1, (2, 3)), [1, [2, 3]]),
    'named tuple': (Named(1, 2), [1, 2]),
    'bytearray': (bytearray(b'ab'), b'ab'),
    'memoryview': (memoryview(b'ab'), b'ab'),
    'Path': (pathlib.PurePosixPath('/a/b'), '/a/b'),
    'UUID': (uuid.UUID(int=7), uuid.UUID(int=7)),
    'str of a class of its own': (Name('ann'), 'ann'),
    'mapping': (collections.ChainMap({'a': 1}, {'b': 2}), {'a': 1, 'b': 2}),
    'defaultdict': (collections.defaultdict(int, a=(1,)), {'a': [1]}),
    'SON': (bson.SON([('b', np.int8(1)), ('a', 2)]), {'b': 1, 'a': 2}),
    'ObjectId': (bson.ObjectId('0' * 24), bson.ObjectId('0' * 24)),
    'Int64': (bson.Int64(5), 5),
    'Regex': (bson.Regex('^a'), bson.Regex('^a')),
    'pattern': (re.compile('^a'), bson.Regex('^a', re.UNICODE)),
    'greatest int': ((1 << 63) - 1, (1 << 63) - 1),
    'keys that MongoDB has a meaning for': ({'$set': {'a.b': 1}, '': 2, '.': 3}, {'$set': {'a.b': 1}, '': 2, '.': 3}),
    'infinity': (float('inf'), float('inf')),
}


@pytest.mark.parametrize(('given', 'stored'), CONVERTED.values(), ids=list(CONVERTED))
def test_what_is_converted(raw: Any, given: Any, stored: Any) -> None:
    for rows in (1, 20):
        [doc, *_] = docs = documents('clicks', [{'value': given, 'inner': [{'value': given}]}] * rows, NOW)
        raw.insert_many(docs)
        found = raw.find_one({'_id': doc['_id']})['data']
        assert found == {'value': stored, 'inner': [{'value': stored}]}
        assert isinstance(found['value'], type(stored))


@pytest.mark.parametrize('row', [Point(1, 'a'), Car(4), Person(name='ann'), collections.OrderedDict(a=1)],
                         ids=['dataclass', 'attrs', 'pydantic', 'mapping'])
def test_an_object_with_fields_is_a_message(writer: Writer, db: Any, row: Any) -> None:
    writer.append(row)
    expected = {'Point': {'x': 1, 'y': 'a'}, 'Car': {'wheels': 4, 'owner': None}, 'Person': {'name': 'ann'}}
    assert db['buffer'].find_one()['data'] == expected.get(type(row).__name__, {'a': 1})


def test_pandas_values_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        pass

    class Module:
        NA = Missing()

    class NaT(dt.datetime):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return False

        def __ne__(self, other: object) -> bool:
            return True

    monkeypatch.setitem(sys.modules, 'pandas', Module)  # type: ignore[arg-type]
    [doc] = documents('clicks', [{'na': Module.NA, 'nat': NaT(1, 1, 1)}], NOW)
    assert doc['data'] == {'na': None, 'nat': None}


# -- what stays as it is

scalars = (
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=['Cs'])) | st.binary()
    | st.datetimes(dt.datetime(1, 1, 1)).map(lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000))
    | st.uuids() | st.binary(min_size=12, max_size=12).map(bson.ObjectId)
)
keys = st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\0'))
flat = st.dictionaries(keys, scalars, max_size=4)
nested = st.dictionaries(keys, st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6),
    max_size=3)
quick = settings(max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@quick
@given(rows=st.lists(flat | nested, min_size=1, max_size=6))
def test_plain_messages_come_back_as_they_were(raw: Any, rows: list[dict[str, Any]]) -> None:
    docs = documents('clicks', rows, NOW)
    raw.insert_many(docs)
    assert [doc['data'] for doc in raw.find({'_id': {'$gte': docs[0]['_id']}}).sort('_id')] == rows


@quick
@given(rows=st.lists(nested, min_size=4, max_size=6))
def test_many_at_once_is_the_same_as_one_by_one(rows: list[dict[str, Any]]) -> None:
    together, bound = convert('clicks', rows)
    converter = Converter()
    for row, message in zip(rows, together, strict=True):
        assert converter.message(row) == message == row
        assert converter.bytes >= len(bson.encode(row, codec_options=CODEC))
    assert bound >= sum(len(bson.encode(row, codec_options=CODEC)) for row in rows)


@pytest.mark.parametrize('rows', [1, 20])
def test_what_was_appended_may_be_used_again(rows: int) -> None:
    row: dict[str, Any] = {'a': 1, 'tags': ['x', {'b': [1]}], 'when': dt.date(2026, 1, 1)}
    before = {'a': 1, 'tags': ['x', {'b': [1]}], 'when': dt.date(2026, 1, 1)}
    plain = {key: row[key] for key in ('a', 'tags')}
    for each in (row, plain):
        docs = documents('clicks', [each] * rows, NOW)
        assert row == before
        docs[0]['data']['tags'][1]['b'].append(2)
        assert row == before, 'the stored message shares its parts with what the user gave'


def test_a_document_of_the_buffer() -> None:
    [doc] = documents('clicks', [{'a': 1}], NOW)
    assert doc.pop('_id').generation_time.replace(tzinfo=None) >= NOW
    assert doc == {'stream': 'clicks', 'created': NOW, 'data': {'a': 1}, 'processed': False, 'window': None}
