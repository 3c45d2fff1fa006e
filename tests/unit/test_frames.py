"""Windows as data frames, and frames as results: no type is a surprise, no value is lost, no window fails by it."""

from __future__ import annotations

import datetime as dt
import math
import re
import subprocess
import sys
import uuid
from decimal import Decimal
from typing import Any

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minibatch as mb
from minibatch import frames
from minibatch.contrib.mongodb import MongoSink
from minibatch.store.raw import Packed
from minibatch.window import Batch

pd = pytest.importorskip('pandas', reason="pip install 'minibatch[dataframe]'")
pl = pytest.importorskip('polars', reason="pip install 'minibatch[dataframe]'")
pa = pytest.importorskip('pyarrow', reason="pip install 'minibatch[dataframe]'")

NOON = dt.datetime(2026, 1, 31, 12, 0, 0, 250_000)
ID = bson.ObjectId('65b9f0f0f0f0f0f0f0f0f0f0')
UUID = uuid.UUID(int=7)
TEXT = pd.Series(['a']).dtype.name  # 'str', and 'object' before pandas 3


def window(*messages: Any) -> Batch:
    """A window as a function gets it: nobody has decoded its messages yet."""
    return Batch('clicks:1', 'clicks', unread=Packed([bson.encode(each, codec_options=bson.CodecOptions(
        uuid_representation=bson.binary.UuidRepresentation.STANDARD)) for each in messages]))


def column(*values: Any) -> Batch:
    return window(*({'x': value} for value in values))


@pytest.mark.parametrize(('values', 'pandas', 'arrow', 'polars', 'back'), [
    ([1, 2], 'int64', 'int64', pl.Int64, [1, 2]),
    ([1, 1 << 62], 'int64', 'int64', pl.Int64, [1, 1 << 62]),
    ([(1 << 62) + 1, None], 'Int64', 'int64', pl.Int64, [(1 << 62) + 1, None]),
    ([1.5, None], 'float64', 'double', pl.Float64, [1.5, None]),
    ([3, 3.75], 'float64', 'double', pl.Float64, [3.0, 3.75]),
    ([3.75, 3], 'float64', 'double', pl.Float64, [3.75, 3.0]),
    ([True, False], 'bool', 'bool', pl.Boolean, [True, False]),
    ([True, None], 'boolean', 'bool', pl.Boolean, [True, None]),
    (['a', 'é'], TEXT, 'string', pl.String, ['a', 'é']),
    (['a', None], TEXT, 'string', pl.String, ['a', None]),
    ([NOON, None], 'datetime64[us, UTC]', 'timestamp[us, tz=UTC]', pl.Datetime('us', 'UTC'), [NOON, None]),
    ([dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)], 'datetime64[us, UTC]', 'timestamp[us, tz=UTC]',
     pl.Datetime('us', 'UTC'), [dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)]),
    ([b'\0a', None], 'object', 'binary', pl.Binary, [b'\0a', None]),
    ([ID, None], TEXT, 'string', pl.String, [str(ID), None]),
    ([ID, UUID], TEXT, 'string', pl.String, [str(ID), str(UUID)]),
    ([bson.Decimal128('1.5'), bson.Decimal128('2.25')], 'object', 'decimal128(3, 2)', pl.Decimal(3, 2),
     [Decimal('1.5'), Decimal('2.25')]),
    ([{'a': 1}, {'b': ID}], 'object', 'struct<a: int64, b: string>', pl.Struct({'a': pl.Int64, 'b': pl.String}), None),
    ([{'t': NOON}, None], 'object', 'struct<t: timestamp[us, tz=UTC]>',
     pl.Struct({'t': pl.Datetime('us', 'UTC')}), None),
    ([[1], [2.5], []], 'object', 'list<item: double>', pl.List(pl.Float64), None),
    ([None, None], 'object', 'null', pl.Null, [None, None]),
])
def test_a_column_has_the_type_that_people_expect(values: list[Any], pandas: str, arrow: str, polars: Any,
                                                  back: list[Any] | None) -> None:
    frame, table, other = column(*values).to_pandas(), column(*values).to_arrow(), column(*values).to_polars()
    assert frame['x'].dtype.name == pandas
    assert re.sub(r'list<\w+:', 'list<item:', str(table.schema.field('x').type)) == arrow
    assert other['x'].dtype == polars
    if back is not None:
        for each in (frame, table, other):
            assert [row['x'] for row in frames.rows(each)] == back


@pytest.mark.parametrize(('values', 'texts'), [
    ([1, 'a'], ['1', 'a']),
    ([True, 1], ['true', '1']),
    (['a', {'b': ID}], ['a', '{"b": {"$oid": "65b9f0f0f0f0f0f0f0f0f0f0"}}']),
    ([{'a': 1}, {'a': 'x'}], ['{"a": 1}', '{"a": "x"}']),
    ([[1, 'a'], None], ['[1, "a"]', None]),
    ([['a', b'\xbc']], ['["a", {"$binary": {"base64": "vA==", "subType": "00"}}]']),
    ([bson.Regex('a+'), bson.MaxKey()], ['{"$regularExpression": {"pattern": "a+", "options": ""}}', '{"$maxKey": 1}']),
    ([bson.Decimal128('NaN'), bson.Decimal128('1E+6000')], ['NaN', '1E+6000']),
    ([bson.Decimal128('1E+50')], ['1E+50']),
])
def test_what_has_no_type_is_an_object_in_pandas_and_text_elsewhere(values: list[Any],
                                                                    texts: list[str | None]) -> None:
    given = column(*values)
    assert given.to_pandas()['x'].dtype == object
    plain = [each.to_decimal() if isinstance(each, bson.Decimal128) else each for each in values]
    assert repr(given.to_pandas()['x'].tolist()) == repr(plain)
    assert given.to_arrow()['x'].to_pylist() == given.to_polars()['x'].to_list() == texts


def test_fields_are_columns_in_the_order_in_which_they_are_first_seen() -> None:
    given = window({'user': 'ann', 'ms': 12}, {'ms': 30, 'via': 'web'})
    for frame in (given.to_pandas(), given.to_polars()):
        assert list(frame.columns) == ['user', 'ms', 'via']
        assert frames.rows(frame) == [{'user': 'ann', 'ms': 12, 'via': None}, {'user': None, 'ms': 30, 'via': 'web'}]
    assert given.to_pandas()['ms'].dtype == 'int64'


def test_an_empty_window_is_an_empty_frame() -> None:
    assert window().to_pandas().shape == window().to_polars().shape == window().to_arrow().shape == (0, 0)
    assert window({}, {}).to_pandas().shape == (2, 0)


def test_messages_of_custom_strategies_need_not_be_dicts() -> None:
    given = Batch('clicks:1', 'clicks', [1, {'n': 2}])
    assert frames.rows(given.to_pandas()) == [{'value': 1, 'n': None}, {'value': None, 'n': 2}]
    assert Batch('clicks:1', 'clicks', [1, 2]).to_polars()['value'].to_list() == [1, 2]
    assert Batch('clicks:1', 'clicks', [object(), 1 << 80]).to_arrow().num_rows == 2
    assert Batch('clicks:1', 'clicks', [{'n': 1 << 80}]).to_pandas()['n'].tolist() == [1 << 80]


SIMPLE: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats(), st.text(), st.binary(),
    st.datetimes().map(lambda each: each.replace(microsecond=0)), st.uuids(), st.just(ID),
    st.decimals(-10 ** 9, 10 ** 9, places=6).map(bson.Decimal128),
    st.sampled_from(['NaN', '-Infinity', '1E+6000', '0E-6176', '1E-40', '1E+50']).map(bson.Decimal128),
    st.just(bson.Timestamp(1, 1)), st.just(bson.Regex('a')))
NAMES = st.sampled_from(['a', 'b', 'c', 'a.b', '', 'value', 'a[]', '$c'])
VALUES = st.recursive(SIMPLE, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=4), max_size=6))
def test_no_message_that_can_be_stored_fails_a_window(messages: list[dict[str, Any]]) -> None:
    given = window(*messages)
    frame = given.to_pandas()
    assert len(frame) == len(messages)
    for name in frame.columns:
        there = [message.get(name) is not None and not _nan(message[name]) for message in messages]
        assert [not _missing(value) for value in frame[name]] == there
    if any(messages):
        for other in (given.to_arrow(), given.to_polars()):
            assert other.shape == frame.shape
            assert [[row[name] is not None for name in frame.columns] for row in frames.rows(other)] == [
                [message.get(name) is not None for name in frame.columns] for message in messages]


def _nan(value: Any) -> bool:
    return (isinstance(value, float) and math.isnan(value)) or (
        isinstance(value, bson.Decimal128) and value.to_decimal().is_nan())


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or _nan(value) or (
        isinstance(value, Decimal) and value.is_nan())


# -- frames as results

@pytest.mark.parametrize(('frame', 'rows'), [
    (pd.DataFrame({'n': [1, 2]}), [{'n': 1}, {'n': 2}]),
    (pd.DataFrame({'n': [1.5, None], 's': ['a', None]}), [{'n': 1.5, 's': 'a'}, {'n': None, 's': None}]),
    (pd.DataFrame({'n': pd.array([1, None], dtype='Int64')}), [{'n': 1}, {'n': None}]),
    (pd.DataFrame({'t': pd.to_datetime(['2026-01-31T12:00+02:00', None])}),
     [{'t': dt.datetime(2026, 1, 31, 10)}, {'t': None}]),
    (pd.DataFrame({'n': [1, 2, 3], 'user': ['a', 'a', 'b']}).groupby('user').sum(),
     [{'user': 'a', 'n': 3}, {'user': 'b', 'n': 3}]),
    (pd.DataFrame({'n': [1, 2, 3], 'user': ['a', 'a', 'b']}).groupby('user').agg({'n': ['min', 'max']}),
     [{'user': 'a', 'n_min': 1, 'n_max': 2}, {'user': 'b', 'n_min': 3, 'n_max': 3}]),
    (pd.DataFrame({'n': [1, 2, 3]})[lambda frame: frame['n'] > 2], [{'n': 3}]),
    (pd.DataFrame({1: [{'a': 1}]}), [{'1': {'a': 1}}]),
    (pd.DataFrame({'user': ['a', 'a', 'b']}).groupby('user').size(),
     [{'user': 'a', 'value': 2}, {'user': 'b', 'value': 1}]),
    (pd.DataFrame({'a': [1, 2], 'b': [3, 4]}).mean(), [{'a': 1.5, 'b': 3.5}]),
    (pd.Series([1, 2], name='n'), [{'n': 1}, {'n': 2}]),
    (pd.DataFrame(index=[0, 1]), [{}, {}]),
    (pd.DataFrame(), []),
    (pl.DataFrame({'n': [1, None]}), [{'n': 1}, {'n': None}]),
    (pl.LazyFrame({'n': [1]}), [{'n': 1}]),
    (pa.table({'t': pa.array([NOON], pa.timestamp('us', tz='UTC'))}), [{'t': NOON}]),
])
def test_rows_of_a_frame(frame: Any, rows: list[dict[str, Any]]) -> None:
    given = frames.rows(frame)
    assert given == rows
    assert [list(map(type, row.values())) for row in given] == [list(map(type, row.values())) for row in rows]


def test_a_frame_with_a_name_twice_is_refused() -> None:
    frame = pd.DataFrame([[1, 2]], columns=['n', 'n'])
    with pytest.raises(mb.OptionError, match=r"\['n'\] more than once"):
        frames.rows(frame)


def counted(frame: Any, window: Batch) -> Any:
    return frame.groupby('user', as_index=False).agg(ms=('ms', 'sum')).assign(window=window.id)


def test_a_function_of_frames_and_its_rows_in_sinks(url: str, db: Any) -> None:
    """In a worker process, with several sinks: each gets rows, but one that asks for frames."""
    class Frames:
        frames = True

        def __init__(self) -> None:
            self.seen: list[Any] = []

        def put(self, result: Any) -> None:
            self.seen.append(result)

    seen: list[Any] = []
    whole = Frames()
    mb.stream('clicks', url=url).extend({'user': user, 'ms': ms} for user, ms in [('ann', 1), ('bob', 2), ('ann', 4)])
    mb.streaming('clicks', counted, size=3, as_='pandas', url=url, sink=[MongoSink('sums'), seen.append, whole],
                 blocking=False, workers=1)
    rows = [{'user': 'ann', 'ms': 5, 'window': 'clicks:1'}, {'user': 'bob', 'ms': 2, 'window': 'clicks:1'}]
    assert seen == [rows]
    assert list(db.sums.find({}, {'_id': 0})) == rows
    assert frames.rows(whole.seen[0]) == rows
    assert isinstance(whole.seen[0], pd.DataFrame)


def test_a_frame_without_rows_is_nothing_to_several_sinks(url: str) -> None:
    seen: list[Any] = []
    mb.stream('clicks', url=url).extend({'ms': ms} for ms in range(4))
    mb.streaming('clicks', lambda frame: frame[frame['ms'] > 2], size=2, as_='pandas', url=url,
                 sink=[seen.append, seen.append], blocking=False, executor='inline')
    assert seen == [[{'ms': 3}], [{'ms': 3}]]


def test_exactly_once_takes_frames_and_an_empty_one_is_nothing(url: str, db: Any) -> None:
    mb.stream('clicks', url=url).extend({'ms': ms} for ms in range(4))
    mb.streaming('clicks', lambda frame: frame.filter(pl.col('ms') > 1), size=2, as_='polars', url=url,
                 sink=MongoSink('slow', exactly_once=True), blocking=False, executor='inline')
    assert list(db.slow.find({}, {'_id': 0})) == [{'ms': 2}, {'ms': 3}]


def test_coroutines_get_frames(url: str) -> None:
    async def total(frame: Any, unit: str = 'ms') -> int:
        return int(frame[unit].sum())

    seen: list[int] = []
    mb.stream('clicks', url=url).extend({'ms': ms} for ms in range(4))
    mb.streaming('clicks', total, size=4, as_='pandas', url=url, sink=seen.append, blocking=False, executor='inline')
    assert seen == [6]


def test_a_kind_of_frame_that_there_is_not(url: str) -> None:
    with pytest.raises(mb.OptionError, match="'panda'; did you mean pandas"):
        mb.make_emitter('clicks', len, size=1, as_='panda', url=url)


def test_without_the_packages() -> None:
    """In an interpreter of its own, where none of them can be imported; the rest of a program does not need them."""
    said = subprocess.run([sys.executable, '-c', """if True:
        import sys
        sys.modules.update(pandas=None, polars=None, pyarrow=None)
        from minibatch import MissingExtra, frames
        from minibatch.window import Batch
        window = Batch('clicks:1', 'clicks', [{'n': 1}])
        assert frames.rows(window.data) == [{'n': 1}]
        for call in (window.to_pandas, window.to_polars, window.to_arrow, lambda: frames.framed(len, 'arrow')):
            try:
                call()
            except MissingExtra as error:
                print(error)
        """], capture_output=True, text=True, check=True).stdout
    assert said == ''.join(f"{name} is not installed; install it with: pip install 'minibatch[dataframe]'\n"
                           for name in ('pandas', 'polars', 'pyarrow', 'pyarrow'))
