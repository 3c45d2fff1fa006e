"""Each operator beside a few lines of plain Python that do the same, on any messages; without a database."""

from __future__ import annotations

import asyncio
import functools
import math
import statistics
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from bson import Decimal128
from hypothesis import given
from hypothesis import strategies as st

from minibatch.errors import OptionError, WindowError
from minibatch.operators import Pipeline, agg
from minibatch.operators.aggregators import Aggregator
from tests.support.pipelines import END, START, applied, begun, values

Messages = list[dict[str, Any]]
messages = st.lists(st.fixed_dictionaries({
    'user': st.sampled_from(['ann', 'bob', 'cy', None]), 'n': st.integers(-1000, 1000),
    'x': st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(math.nan))}), max_size=30)
batch = begun().window(size=10)


def even(message: dict[str, Any]) -> bool:
    return bool(message['n'] % 2 == 0)


@given(messages)
def test_filter_map_flat_map(data: Messages) -> None:
    pipeline = begun().filter([even, lambda m: m['n'] > 0]).map([dict, lambda m: m['n']]).flat_map(lambda n: [n] * 2)
    wanted = [m['n'] for m in data if m['n'] % 2 == 0 and m['n'] > 0 for _ in range(2)]
    assert applied(pipeline, data) == wanted


@given(messages)
def test_branches(data: Messages) -> None:
    one, *_ = begun().branch(even=even, large=lambda m: m['n'] > 500, rest=None, all=True)
    (split,) = one.before
    parts = applied(Pipeline(one.root, (), split), data)
    rest = [m for m in data if not even(m) and m['n'] <= 500]
    wanted = [[m for m in data if even(m)], [m for m in data if m['n'] > 500], rest, data]
    assert [*parts.values()] == wanted if data else parts == []
    assert [*parts] == ['clicks/even', 'clicks/large', 'clicks/rest', 'clicks/all'] if data else True


@given(messages)
def test_groups_in_a_window(data: Messages) -> None:
    groups: dict[Any, list[int]] = defaultdict(list)
    for message in data:
        groups[message['user']].append(message['n'])
    results = applied(batch.group_by('user').aggregate(n='count', total=('sum', 'n'), all=('collect', 'n')), data)
    assert [result['key'] for result in results] == [*groups]
    assert values(results, 'all') == groups
    assert values(results, 'n') == {key: len(each) for key, each in groups.items()}
    assert values(results, 'total') == {key: sum(each) for key, each in groups.items()}
    assert all((each['start'], each['end'], each['window']) == (START, END, 'clicks:1') for each in results)


def there(data: Messages) -> list[float]:
    return [m['x'] for m in data if m['x'] is not None and not math.isnan(m['x'])]


def ranked(data: Messages, n: int, sign: int) -> Messages:
    known = [m for m in data if m['x'] is not None and not math.isnan(m['x'])]
    return sorted(known, key=lambda m: sign * m['x'])[:n]


#: An aggregate, what plain Python, numpy or statistics make of the same, and whether rounding may differ.
AGGREGATES: list[tuple[str, Aggregator, Callable[[Messages], Any]]] = [
    ('count', agg.count(), len),
    ('sum', agg.sum('x'), lambda data: math.fsum(there(data))),
    ('sum of integers', agg.sum('n'), lambda data: sum(m['n'] for m in data)),
    ('min', agg.min('x'), lambda data: min(there(data), default=None)),
    ('max', agg.max(lambda m: m['x']), lambda data: max(there(data), default=None)),
    ('mean', agg.mean('x'), lambda data: statistics.fmean(there(data)) if there(data) else None),
    ('std', agg.std('x'), lambda data: float(np.std(there(data), ddof=1)) if len(there(data)) > 1 else None),
    ('std of a population', agg.std('x', ddof=0),
     lambda data: float(np.std(there(data))) if there(data) else None),
    ('quantile', agg.quantile(0.3, 'x'), lambda data: float(np.quantile(there(data), 0.3)) if there(data) else None),
    ('median', agg.quantile(0.5, 'n'), lambda data: statistics.median(m['n'] for m in data) if data else None),
    ('first', agg.first('n'), lambda data: data[0]['n'] if data else None),
    ('last', agg.last(), lambda data: data[-1] if data else None),
    ('top', agg.top(3, 'x'), lambda data: ranked(data, 3, -1)),
    ('the least', agg.top(3, 'x', least=True), lambda data: ranked(data, 3, 1)),
    ('collect', agg.collect('user'), lambda data: [m['user'] for m in data]),
    ('reduce', agg.reduce(lambda so_far, m: [*so_far, m['n']], []), lambda data: [m['n'] for m in data]),
    ('reduce without a start', agg.reduce(lambda a, b: a * 3 + b, field='n'),
     lambda data: functools.reduce(lambda a, b: a * 3 + b, [m['n'] for m in data]) if data else None),
]


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-6)
    return bool(one == other)


@given(messages)
def test_aggregates(data: Messages) -> None:
    """All at once, as windows do, and one value after another, as running aggregates do."""
    (result,) = applied(batch.aggregate(**{name: aggregator for name, aggregator, _ in AGGREGATES}), data)
    for name, aggregator, wanted in AGGREGATES:
        assert alike(result[name], wanted(data)), name
        if aggregator.runs:
            state = aggregator.start()
            for value in aggregator.read(data):
                state = aggregator.add(state, value)
            assert alike(aggregator.result(state), wanted(data)), name


@given(messages)
def test_distinct_in_a_window(data: Messages) -> None:
    seen: dict[Any, dict[str, Any]] = {}
    for message in data:
        seen.setdefault(message['user'], message)
    assert applied(batch.distinct('user'), data) == [*seen.values()]


def test_operators_of_one_name_each() -> None:
    """The shorthands are the aggregators of the same names."""
    data = [{'n': n} for n in (4, 1, 3)]
    by_name = {
        'count': batch.count(), 'sum': batch.sum('n'), 'min': batch.min('n'), 'max': batch.max('n'),
        'mean': batch.mean('n'), 'std': batch.std('n', ddof=0), 'quantile': batch.quantile(0.5, 'n'),
        'first': batch.first('n'), 'last': batch.last('n'), 'top': batch.top(1, 'n'), 'collect': batch.collect('n'),
        'reduce': batch.reduce(max, field='n')}
    found = {name: applied(pipeline, data)[0][name] for name, pipeline in by_name.items()}
    assert found.pop('std') == pytest.approx(np.std([4, 1, 3]))
    assert found.pop('mean') == pytest.approx(8 / 3)
    assert found == {'count': 3, 'sum': 8, 'min': 1, 'max': 4, 'quantile': 3, 'first': 4, 'last': 3, 'top': [{'n': 4}],
                     'collect': [4, 1, 3], 'reduce': 4}
    assert applied(batch.sum('n', name='total'), data)[0]['total'] == 8


def test_the_key_of_the_window_is_that_of_its_result() -> None:
    assert applied(batch.count(), [{}], key='ann')[0]['key'] == 'ann'


def test_aggregates_of_results() -> None:
    """The two users with most messages in a window."""
    data = [{'user': user} for user in 'aabbbcdd']
    (result,) = applied(batch.group_by('user').count().top(2, 'count'), data)
    assert [(each['key'], each['count']) for each in result['top']] == [('b', 3), ('a', 2)]


def test_keys_are_equal_as_they_are_in_mongodb() -> None:
    data = [{'k': key} for key in (1, 1.0, True, '1', [1, {'a': 2}], [1, {'a': 2}], math.nan, math.nan, None)]
    results = applied(batch.group_by('k').count(), data)
    assert [result['count'] for result in results] == [2, 1, 1, 2, 2, 1]


def test_several_fields_and_embedded_ones_are_a_key() -> None:
    data = [{'user': {'name': 'ann'}, 'day': day} for day in (1, 2, 1)]
    assert [(each['key'], each['count']) for each in applied(batch.group_by(['user.name', 'day']).count(), data)] == [
        (['ann', 1], 2), (['ann', 2], 1)]


def test_a_coroutine_function_is_a_key_and_a_reducer() -> None:
    async def user(message: dict[str, Any]) -> Any:
        await asyncio.sleep(0)
        return message['user']

    async def add(so_far: int, message: dict[str, Any]) -> int:
        return so_far + int(message['n'])

    data = [{'user': 'ann', 'n': 1}, {'user': 'bob', 'n': 2}, {'user': 'ann', 'n': 3}]
    assert values(applied(batch.group_by(user).reduce(add, 10), data), 'reduce') == {'ann': 14, 'bob': 12}


def test_decimals_and_times() -> None:
    data = [{'price': Decimal128('1.10'), 'at': datetime(2026, 1, 2)}, {'price': Decimal128('2.25'), 'at': None},
            {'price': Decimal128('0.1'), 'at': datetime(2026, 1, 1)}]
    (result,) = applied(batch.aggregate(total=('sum', 'price'), mid=('quantile', 0.5, 'price'), first=agg.min('at')),
                        data)
    assert result['total'] == Decimal('3.45')
    assert result['mid'] == Decimal('1.10')
    assert result['first'] == datetime(2026, 1, 1)


def test_a_start_that_is_changed_in_place_starts_anew_for_each_group() -> None:
    def collect(so_far: list[int], message: dict[str, Any]) -> list[int]:
        so_far.append(message['n'])
        return so_far

    data = [{'user': 'ann', 'n': 1}, {'user': 'bob', 'n': 2}]
    assert values(applied(batch.group_by('user').reduce(collect, []), data), 'reduce') == {'ann': [1], 'bob': [2]}


def broken(message: Any) -> Any:
    if message['n'] == 2:
        raise ValueError('two is not to my liking')
    return message


DATA = [{'n': n, 'user': 'ann'} for n in (1, 3, 2)]


@pytest.mark.parametrize(('pipeline', 'says'), [
    (begun().map(dict).map(broken), 'stage 2, map(broken), failed at message 2 of the window'),
    (begun().filter(lambda m: m['n'] > 1).map(broken), 'stage 2, map(broken), failed at message 2 of the window'),
    (begun().filter([lambda m: m['n'] > 1, broken]), 'failed at message 2 of the window'),
    (begun().flat_map(lambda m: (broken(each) for each in [m])), 'failed at message 2 of the window'),
    (begun().peek(broken), 'stage 1, peek(broken), failed at message 2'),
    (batch.group_by(broken).count(), 'stage 1, group_by(broken), failed at message 2'),
    (batch.group_by('user').reduce(lambda a, b: broken(b)), 'failed at message 2'),
    (batch.aggregate(x=lambda every: [broken(m) for m in every]), 'failed at the window: ValueError: two is not'),
    (batch.group_by('user').count().map(lambda r: r['n']), 'stage 3, map(lambda at test_operators_results.py:'),
    (batch.group_by('user').count().map(lambda r: r['n']), 'failed at result 0 of count() (counted from 0): KeyError'),
])
def test_an_error_says_where(pipeline: Pipeline, says: str) -> None:
    with pytest.raises(WindowError) as failed:
        applied(pipeline, DATA)
    assert says in str(failed.value)
    cause = failed.value.__cause__
    assert isinstance(cause, (ValueError, KeyError)), "with the user's own traceback"


@pytest.mark.parametrize(('pipeline', 'data', 'says'), [
    (batch.group_by('usr').count(), DATA, "group_by('usr'), failed at message 0 of the window (counted from 0): it "
     "has no field 'usr' (it has: n, user); did you mean user?; put filter(...) before group_by"),
    (batch.sum('n.m'), DATA, "no field 'n.m'"),
    (batch.sum('user'), DATA, "sum('user') wants numbers, and this is a value of type str"),
    (batch.group_by(lambda m: {1, 2}).count(), DATA, 'a value of type set, which cannot be one'),
    (begun().map(lambda m: None), DATA, 'returned None; return the message'),
    (begun().flat_map(lambda m: m), DATA, 'returned a value of type dict; return a list'),
    (begun().flat_map(lambda m: m['user']), DATA, 'returned a value of type str'),
    (batch.reduce(lambda a, b: None), DATA, 'returned None'),
    (batch.max('v'), [{'v': 1}, {'v': 'a'}], 'failed at the window: TypeError'),
    (begun().map(lambda m: m['n']).filter(bool).lookup('users', on='n'), DATA,
     "wants field 'n', and this is a value of type int"),
])
def test_rubbish_is_named(pipeline: Pipeline, data: Messages, says: str) -> None:
    with pytest.raises(WindowError) as failed:
        applied(pipeline, data)
    assert says in str(failed.value)


@pytest.mark.parametrize(('build', 'says'), [
    (lambda p: p.distinct('id'), 'takes within='),
    (lambda p: p.distinct(within=60), 'which field of a message is its key'),
    (lambda p: p.distinct('id', within=-1), 'number of seconds'),
    (lambda p: p.distinct('id', witin=60), 'did you mean within'),
    (lambda p: p.lookup(5, on='id'), 'lookup takes a table, or the name of a collection'),
    (lambda p: p.lookup('users', on=None), 'lookup takes on='),
    (lambda p: p.lookup('users', on='id', how='iner'), 'did you mean inner'),
    (lambda p: p.branch(even), 'two or more'),
    (lambda p: p.branch(even, 5), 'branch takes a function'),
    (lambda p: p.merge(), 'merge() takes the streams'),
    (lambda p: p.merge('other'), 'merge() takes a stream or a pipeline'),
    (lambda p: p.filter(even).merge(p.map(dict)), 'stream.branch(one=True, other=True)'),
    (lambda p: p.collect(), 'needs all messages of a window'),
    (lambda p: p.window(size=2).group_by('user', table='counts').count(),
     'table= goes with an aggregate that goes on for ever'),
])
def test_what_cannot_be_is_refused(build: Callable[[Pipeline], Any], says: str) -> None:
    with pytest.raises(OptionError) as refused:
        build(begun())
    assert says in str(refused.value)
