"""Codecs: what they read and write, what they refuse and how they say it, and how they are named and chained."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import enum
import gzip
import json
import pickle
import subprocess
import sys
import uuid
from decimal import Decimal
from typing import Any

import bson
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minibatch.contrib.codecs import Avro, Base64, Gzip, Json, Msgpack, Pickle, Text, codec, register, registered
from minibatch.errors import CodecError, MinibatchError, OptionError, Undecodable, Unencodable

FAST, PLAIN = Json(), Json(fast=False)
BOTH = pytest.mark.parametrize('each', [FAST, PLAIN], ids=['orjson', 'stdlib'])
READING = {'type': 'record', 'name': 'Reading', 'fields': [
    {'name': 'room', 'type': 'string'},
    {'name': 'n', 'type': 'long'},
    {'name': 'at', 'type': ['null', {'type': 'long', 'logicalType': 'timestamp-millis'}], 'default': None}]}


class Color(enum.Enum):
    RED = 'red'


@dataclasses.dataclass
class Point:
    x: int
    _hidden: int = 2


# -- JSON


def test_both_json_libraries_are_tested() -> None:
    assert FAST._fast, 'install orjson, or half of these tests compare the standard library with itself'
    assert not PLAIN._fast


VALUES: list[tuple[Any, Any]] = [
    ({'a': [1, 2.5, True, None, 'é😀']}, {'a': [1, 2.5, True, None, 'é😀']}),
    ([float('nan'), float('inf'), -float('inf'), np.float64('nan')], [None, None, None, None]),
    (dt.datetime(2026, 1, 31, 12, 30, 1, 250000), '2026-01-31T12:30:01.250000Z'),
    (dt.datetime(2026, 1, 31, 12, tzinfo=dt.timezone(dt.timedelta(hours=2))), '2026-01-31T10:00:00Z'),
    (dt.date(2026, 1, 31), '2026-01-31'),
    (dt.time(12, 30), '12:30:00'),
    (dt.timedelta(minutes=1.5), 90.0),
    (b'\x00\xff', 'AP8='),
    (bytearray(b'\x00\xff'), 'AP8='),
    (bson.ObjectId('65a1b2c3d4e5f60718293a4b'), '65a1b2c3d4e5f60718293a4b'),
    (uuid.UUID(int=1), '00000000-0000-0000-0000-000000000001'),
    (Decimal('1.50'), '1.50'),
    (bson.Decimal128('1.50'), '1.50'),
    (bson.Int64(3), 3),
    (Color.RED, 'red'),
    ((1, (2, 3)), [1, [2, 3]]),
    ({3, 1, 2}, [1, 2, 3]),
    (np.arange(3), [0, 1, 2]),
    (np.float32(0.5), 0.5),
    (np.int64(5), 5),
    (Point(1), {'x': 1, '_hidden': 2}),
    ({'deep': [Point(1)]}, {'deep': [{'x': 1, '_hidden': 2}]}),
    (2 ** 70, 2 ** 70),
    (bson.Timestamp(0, 1), '1970-01-01T00:00:00Z'),
]


@BOTH
@pytest.mark.parametrize(('value', 'read'), VALUES, ids=[type(value).__name__ + str(n) for n, (value, _) in
                                                         enumerate(VALUES)])
def test_what_json_makes_of_python(each: Json, value: Any, read: Any) -> None:
    assert json.loads(each.encode(value)) == read
    assert each.decode(each.encode({'value': value})) == {'value': read}


@BOTH
@pytest.mark.parametrize(('value', 'said'), [
    ({'at': {'x': object()}}, 'data.at.x: it is a value of type object'),
    ([1, {2: 3}], 'data[1]: it has the key 2, which is no str'),
    ({'a': bson.MinKey()}, 'data.a: it is a value of type MinKey, which only MongoDB knows'),
    ('\ud800', 'a lone surrogate'),
    (1j, 'of type complex'),
])
def test_what_json_cannot_write(each: Json, value: Any, said: str) -> None:
    with pytest.raises(Unencodable) as caught:
        each.encode(value)
    assert said in str(caught.value)


@BOTH
def test_json_that_contains_itself(each: Json) -> None:
    knot: list[Any] = []
    knot.append(knot)
    with pytest.raises(Unencodable, match='contains itself'):
        each.encode(knot)


@BOTH
@pytest.mark.parametrize(('data', 'value'), [
    (b'{"a": 1, "a": 2}', {'a': 2}),
    (b'\xef\xbb\xbf{}', {}),
    (b' [1e3, -0.0] \n', [1000.0, 0.0]),
    (b'[18446744073709551616, -9223372036854775809]', [2 ** 64, -2 ** 63 - 1]),
    (b'["1234567890123456789012"]', ['1234567890123456789012']),
    (b'"\\ud83d\\ude00"', '\U0001f600'),
    (b'null', None),
])
def test_what_json_reads(each: Json, data: bytes, value: Any) -> None:
    assert each.decode(data) == value
    assert repr(each.decode(data)) == repr(each.decode(bytearray(data)))


@BOTH
@pytest.mark.parametrize(('data', 'said'), [
    (b'', 'not JSON: it is empty'),
    (b' \n', 'not JSON: it is empty'),
    (b'{"n": 1', "not JSON: Expecting ',' delimiter at byte 7 of 7"),
    (b'{"\xc3\xa9": x}', 'not JSON: Expecting value at byte 7 of 9'),
    (b'{"a": "\xff"}', 'not JSON: no UTF-8 at byte 7 of 10'),
    (b'NaN', 'not JSON: NaN is no number of JSON'),
    (b'[-Infinity]', 'not JSON: -Infinity is no number of JSON'),
    (b'1e999', 'not JSON: a number is too large for a float'),
    (b'"\\ud800"', 'not JSON: it holds half a surrogate pair'),
    (b'[' * 2000, 'not JSON that can be read: it is nested too deeply'),
    (b'{} {}', 'not JSON: Extra data at byte 3 of 5'),
    (b'9' * 5000, 'not JSON: Exceeds the limit'),
    (b'\xff\xfe{\0}\0', 'not JSON: no UTF-8 at byte 0 of 6'),
])
def test_what_json_does_not_read(each: Json, data: bytes, said: str) -> None:
    with pytest.raises(Undecodable) as caught:
        each.decode(data)
    assert caught.value.reason.startswith(said)


@settings(max_examples=300, deadline=None)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=('Cs',))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.text(st.characters(exclude_categories=('Cs',)), max_size=5), inner, max_size=4), max_leaves=20))
def test_both_json_libraries_read_and_write_the_same(value: Any) -> None:
    for writer in (FAST, PLAIN):
        for reader in (FAST, PLAIN):
            assert reader.decode(writer.encode(value)) == value


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=12) | st.text('{}[]":,0123456789.eE-+ \\ud8trufalsn', max_size=30).map(str.encode))
def test_both_json_libraries_refuse_the_same(data: bytes) -> None:
    def outcome(each: Json) -> Any:
        try:
            return repr(each.decode(data))
        except Undecodable as error:
            return error.reason
    assert outcome(FAST) == outcome(PLAIN)


def test_json_without_orjson() -> None:
    """In an interpreter of its own, where orjson cannot be imported."""
    code = """
import sys
sys.modules['orjson'] = None
from minibatch.contrib.codecs import codec
json = codec('json')
print(json._fast, json.decode(json.encode({'n': [1, None]})))
"""
    said = subprocess.run([sys.executable, '-c', code], check=True, timeout=30, capture_output=True, text=True).stdout
    assert said == "False {'n': [1, None]}\n"


# -- the others


@pytest.mark.parametrize(('each', 'message', 'data'), [
    (codec('raw'), b'\x00\xff', b'\x00\xff'),
    (codec('text'), 'é', b'\xc3\xa9'),
    (Text('utf-16-le'), 'a', b'a\0'),
    (codec('base64'), b'\x00\xff', b'AP8='),
    (codec('base64|text'), 'é', b'w6k='),
    (codec('base64|json'), {'n': 1}, base64.b64encode(b'{"n":1}')),
    (codec(' base64 | gzip | json '), {'n': 1}, base64.b64encode(gzip.compress(b'{"n":1}', mtime=0))),
    (codec(['base64', Avro(READING)]), {'room': 'a', 'n': 1, 'at': None}, base64.b64encode(b'\x02a\x02\x00')),
    (codec(['gzip|base64', 'json']), 1, gzip.compress(b'MQ==', mtime=0)),
])
def test_what_codecs_read_and_write(each: Any, message: Any, data: bytes) -> None:
    assert each.encode(message) == data
    assert each.decode(data) == message
    assert each.decode(memoryview(data)) == message


@pytest.mark.parametrize('message', [
    {'n': 1, 'raw': b'\x00\xff', 'ratio': 1.5, 'tags': ['a', None, True]}, [1, 2], 'text', -1, 2 ** 64 - 1])
@pytest.mark.parametrize('each', [Msgpack(), Pickle(allow_pickle=True)])
def test_objects_come_back_as_they_were(each: Any, message: Any) -> None:
    assert each.decode(each.encode(message)) == message


def test_msgpack_keeps_times_and_takes_what_append_takes() -> None:
    each = codec('msgpack')
    at = dt.datetime(2026, 1, 31, 12, 30, 1, 250000)
    assert each.decode(each.encode({'at': at})) == {'at': at.replace(tzinfo=dt.timezone.utc)}
    assert each.decode(each.encode([bson.ObjectId('65a1b2c3d4e5f60718293a4b'), Point(1), np.arange(2), Color.RED,
                                    Decimal('1.5'), uuid.UUID(int=1), dt.date(2026, 1, 1), {1}])) == [
        '65a1b2c3d4e5f60718293a4b', {'x': 1, '_hidden': 2}, [0, 1], 'red', '1.5', str(uuid.UUID(int=1)), '2026-01-01',
        [1]]


def test_avro_takes_times_without_a_zone_as_utc() -> None:
    each = Avro(json.dumps(READING))
    at = dt.datetime(2026, 1, 31, 12, 30, 1, 250000)
    read = each.decode(each.encode({'room': 'a', 'n': 1, 'at': at}))
    assert read == {'room': 'a', 'n': 1, 'at': at.replace(tzinfo=dt.timezone.utc)}
    assert each.decode(each.encode({'room': 'a', 'n': np.int64(1)}))['at'] is None


@pytest.mark.parametrize(('given', 'data', 'said'), [
    ('text', b'a\xff', 'not text: no utf-8 at byte 1 of 2'),
    ('raw', 'a', 'raw reads bytes, and got a value of type str'),
    ('json', 'a', 'json reads bytes, and got a value of type str'),
    ('base64', b'YWJ', 'not base64: Incorrect padding'),
    ('base64', b'Y*==', 'not base64:'),
    ('base64|json', b'eyJu', 'not JSON: '),
    ('gzip', b'abc', 'not gzip: '),
    ('gzip', gzip.compress(b'a' * 100, mtime=0)[:-3], 'not gzip: it is cut off'),
    ('gzip', gzip.compress(b'a', mtime=0) + b'b', 'not gzip: '),
    ('msgpack', b'\xc1', 'not msgpack: '),
    ('msgpack', b'\x01\x02', 'not msgpack: '),
    ('msgpack', b'\xa1\xff', 'not msgpack: '),
    ('msgpack', b'\xd4\x05a', 'not msgpack: extension type 5 is not known'),
    ('msgpack', b'', 'not msgpack: '),
    (Pickle(allow_pickle=True), b'abc', 'not a pickle that can be read here: '),
    (Pickle(allow_pickle=True), b'cno_such_module\nX\n.', 'not a pickle that can be read here: ModuleNotFoundError'),
    (Avro(READING), b'', 'not Avro of this schema: EOFError'),
    (Avro(READING), b'\x02a\x02\x00\x00', 'not Avro of this schema: it ends at byte 4 of 5'),
    (Avro(READING), b'\x02\xff\x02\x00', 'not Avro of this schema: UnicodeDecodeError'),
])
def test_what_codecs_do_not_read(given: Any, data: Any, said: str) -> None:
    with pytest.raises(Undecodable) as caught:
        codec(given).decode(data)
    assert caught.value.reason.startswith(said)


@pytest.mark.parametrize(('given', 'message', 'said'), [
    ('text', b'a', 'text writes a str, and got a value of type bytes'),
    (Text('ascii'), 'é', 'text cannot write this in ascii'),
    ('raw', 'a', 'raw writes bytes, and got a value of type str'),
    ('base64', {'n': 1}, 'base64 writes bytes, and got a value of type dict'),
    ('gzip', None, 'gzip writes bytes, and got a value of type NoneType'),
    ('msgpack', {'a': object()}, 'msgpack cannot write this: a value of type object'),
    ('msgpack', 2 ** 64, 'msgpack cannot write this: an integer of more than 64 bits'),
    (Pickle(allow_pickle=True), lambda: 0, 'this cannot be pickled'),
    (Avro(READING), {'room': 'a', 'n': 1.5}, 'this does not fit the Avro schema: Reading.n is <1.5>'),
    (Avro(READING), {'room': 'a'}, 'this does not fit the Avro schema: '),
    (Avro(READING), {'room': 'a', 'n': 1, 'm': 2}, 'this does not fit the Avro schema: '),
    (Avro(READING), [1], 'this does not fit the Avro schema: '),
    (Avro('"long"'), 2 ** 64, 'this does not fit the Avro schema: '),
])
def test_what_codecs_do_not_write(given: Any, message: Any, said: str) -> None:
    with pytest.raises(Unencodable) as caught:
        codec(given).encode(message)
    assert caught.value.reason.startswith(said)


@pytest.mark.parametrize('given', ['json', 'text', 'base64|json', 'gzip', 'msgpack', Pickle(allow_pickle=True),
                                   Avro(READING)])
def test_a_reason_is_short_and_does_not_repeat_the_payload(given: Any) -> None:
    secret = b'topsecret' * 1000 + b'\xff'
    with pytest.raises(Undecodable) as caught:
        codec(given).decode(secret)
    assert len(str(caught.value)) < 300
    assert 'topsecret' not in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b'0' * 1_000_000)
    with pytest.raises(Undecodable, match='more than 1,000 bytes'):
        Gzip(limit=1000).decode(bomb)
    assert len(Gzip(limit=1_000_000).decode(bomb)) == 1_000_000
    with pytest.raises(Undecodable, match='more than 1,000,000 bytes'):
        Gzip(limit=1_000_000).decode(bomb + bomb)
    with pytest.raises(OptionError, match='limit must be'):
        Gzip(limit=0)


def test_gzip_of_several_members_and_padding() -> None:
    assert Gzip().decode(gzip.compress(b'a') + gzip.compress(b'b') + b'\0\0') == b'ab'


def test_base64_of_either_alphabet_over_lines() -> None:
    data = bytes(range(256))
    assert Base64().decode(base64.urlsafe_b64encode(data)) == data
    assert Base64().decode(base64.encodebytes(data)) == data


# -- names, chains, one's own


@pytest.mark.parametrize(('given', 'said'), [
    ('jason', "'jason' is not known; did you mean json?"),
    ('zzzzz', "'zzzzz' is not known; known are avro, base64"),
    ('', "'' is not known"),
    ('base64|', "'' is not known"),
    ('json|base64', 'json makes the message, so it has to be the last: base64|json'),
    (['text', 'json'], 'text makes the message'),
    ('pickle', r'codec=Pickle\(allow_pickle=True\)'),
    ('base64|pickle', r'codec=Pickle\(allow_pickle=True\)'),
    ('avro', r'codec=Avro\(schema\)'),
    (3, 'codec is 3; give a name'),
    (Json, 'codec is <class'),
    ([], 'codec is an empty list'),
    (None, 'codec is None'),
])
def test_a_codec_that_cannot_be(given: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        codec(given)


@pytest.mark.parametrize('consent', [False, None, 1, 'yes'])
def test_a_pickle_is_not_read_without_consent(consent: Any) -> None:
    with pytest.raises(OptionError, match='runs whatever its writer put into it'):
        Pickle(allow_pickle=consent)


@pytest.mark.parametrize('schema', ['nonsense', '{', {'type': 'record'}, {'type': 'nosuch'}, 3, None])
def test_what_is_no_avro_schema(schema: Any) -> None:
    with pytest.raises(OptionError, match='not an Avro schema'):
        Avro(schema)


def test_an_unknown_encoding() -> None:
    with pytest.raises(OptionError, match='none that Python knows'):
        Text('utf-99')


class Framed:
    """A codec of somebody's own, which knows nothing of our errors."""

    def encode(self, message: bytes) -> bytes:
        return b'#' + message

    def decode(self, data: bytes) -> bytes:
        if data[0] != ord('#'):
            raise KeyError('no frame')
        return data[1:]


def test_a_codec_of_ones_own() -> None:
    assert codec([Framed(), 'json']).decode(b'#{"n":1}') == {'n': 1}
    register('framed', Framed())
    assert 'framed' in registered()
    assert codec('framed|json').encode({'n': 1}) == b'#{"n":1}'
    assert codec('framed').decode(b'#x') == b'x'
    with pytest.raises(Undecodable, match="KeyError: 'no frame'"):
        codec('framed|json').decode(b'{}')
    with pytest.raises(Undecodable, match='IndexError'):
        codec(Framed()).decode(b'')
    with pytest.raises(Unencodable, match='TypeError'):
        codec('framed').encode('text')


def test_a_codec_that_makes_no_bytes() -> None:
    class Wrong:
        def encode(self, message: Any) -> Any:
            return message

        def decode(self, data: bytes) -> Any:
            return data
    with pytest.raises(Unencodable, match='made a value of type int, not bytes'):
        codec(Wrong()).encode(1)


@pytest.mark.parametrize(('name', 'given', 'said'), [
    ('json', Framed(), 'built in'), ('a|b', Framed(), 'small letters'), ('', Framed(), 'small letters'),
    (3, Framed(), 'small letters'), ('mine', object(), 'encode and decode'), ('mine', Framed, 'encode and decode'),
])
def test_what_cannot_be_registered(name: Any, given: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        register(name, given)
    assert 'mine' not in registered()


def test_the_errors_are_of_the_tree_and_travel() -> None:
    for kind in (Undecodable, Unencodable):
        assert issubclass(kind, CodecError)
        assert issubclass(kind, MinibatchError)
        assert issubclass(kind, ValueError)
        again = pickle.loads(pickle.dumps(kind('why')))
        assert (type(again), again.reason) == (kind, 'why')


@pytest.mark.parametrize('given', ['json', 'base64|json', 'msgpack', Avro(READING), Pickle(allow_pickle=True),
                                   Gzip(5), Text('latin-1')])
def test_a_codec_can_be_sent_to_a_process_and_says_what_it_is(given: Any) -> None:
    one = codec(given)
    assert repr(pickle.loads(pickle.dumps(one))) == repr(one)


@pytest.mark.parametrize(('make', 'package', 'extra'), [
    ("codec('msgpack')", 'msgpack', 'msgpack'), ("Avro('long')", 'fastavro', 'avro')])
def test_a_missing_package_is_named_with_its_extra(make: str, package: str, extra: str) -> None:
    """In an interpreter of its own, where that package cannot be imported."""
    code = f"""
import sys
sys.modules[{package!r}] = None
from minibatch.contrib.codecs import Avro, codec
try:
    {make}
except ImportError as error:
    print(type(error).__name__, error)
"""
    said = subprocess.run([sys.executable, '-c', code], check=True, timeout=30, capture_output=True, text=True).stdout
    assert said == f"MissingExtra {package} is not installed; install it with: pip install 'minibatch[{extra}]'\n"
