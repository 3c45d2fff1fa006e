"""Operators that keep something: running aggregates, distinct, lookups, and what is between two streams."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import minibatch as mb
from minibatch.errors import OptionError
from tests.support.mongod import Deployment
from tests.support.pipelines import ran, values
from tests.support.waiting import wait_until


def data(stream: mb.Stream) -> list[Any]:
    return [each.data for each in stream.buffer().order_by('id')]


# -- aggregates that go on for ever


def test_a_running_count_says_what_it_is_now(stream: mb.Stream, url: str) -> None:
    counts = stream.group_by('user', table='counts').count()
    stream.extend({'user': user} for user in 'aab')
    assert values(ran(counts), 'count') == {'a': 2, 'b': 1}
    stream.extend({'user': user} for user in 'ac')
    assert values(ran(counts), 'count') == {'a': 3, 'c': 1}, 'those that have changed'
    assert dict(mb.table('counts', url=url)) == {'a': 3, 'b': 1, 'c': 1}


def test_running_aggregates_of_all_kinds(stream: mb.Stream) -> None:
    pipeline = stream.group_by(['user', 'day']).aggregate(
        n='count', total=('sum', 'ms'), low=('min', 'ms'), high=('max', 'ms'), mean=('mean', 'ms'), std=('std', 'ms'),
        first=('first', 'ms'), last=('last', 'ms'), top=('top', 1, 'ms'))
    assert "table 'clicks/n+total+low+high+mean+std+first+last+top'" in pipeline.explain()
    for numbers in ([5, 1], [9], [3, 2]):
        stream.extend({'user': 'ann', 'day': 1, 'ms': ms} for ms in numbers)
        (result,) = ran(pipeline)
    assert result['key'] == ['ann', 1]
    assert {name: result[name] for name in ('n', 'total', 'low', 'high', 'mean', 'first', 'last')} == {
        'n': 5, 'total': 20, 'low': 1, 'high': 9, 'mean': 4, 'first': 5, 'last': 2}
    assert result['std'] == pytest.approx(10 ** 0.5)
    assert [each['ms'] for each in result['top']] == [9]


def test_state_travels_to_worker_processes_and_back(stream: mb.Stream, url: str) -> None:
    stream.extend({'user': user} for user in 'aabca')
    pipeline = stream.distinct('user', within=60).group_by('user', table='counts').count()
    assert values(ran(pipeline, executor='process', size=2), 'count') == {'a': 1, 'b': 1, 'c': 1}
    assert dict(mb.table('counts', url=url)) == {'a': 1, 'b': 1, 'c': 1}


def test_a_running_total_without_groups(stream: mb.Stream) -> None:
    for n in (1, 2, 3):
        stream.append({'n': n})
        results = ran(stream.reduce(lambda so_far, message: so_far * message['n'], 1, name='product'))
    assert [(each['key'], each['product']) for each in results] == [(None, 6)]


def test_a_window_that_fails_leaves_no_trace_in_the_state(stream: mb.Stream, url: str) -> None:
    """What the stage before the failure did to its table is as little committed as the messages."""
    failing = [True]

    def fails_once(message: Any) -> Any:
        if failing:
            failing.pop()
            raise RuntimeError('the first time')
        return message

    stream.extend([{'user': 'ann'}] * 3)
    results = ran(stream.group_by('user', table='counts').count().map(fails_once))
    assert values(results, 'count') == {'ann': 3}
    assert mb.table('counts', url=url)['ann'] == 3


def test_a_running_count_of_several_consumers(stream: mb.Stream, url: str) -> None:
    """Each consumer may have windows with the same keys at the same time."""
    users = [f'u{n % 7}' for n in range(600)]
    stream.extend({'user': user} for user in users)
    pipeline = stream.group_by('user', table='counts').count().options(size=20, executor='thread', workers=2)
    with pipeline.start(), pipeline.start():
        wait_until(lambda: sum(mb.table('counts', url=url).values()) >= 600, what='all to be counted')
    assert dict(mb.table('counts', url=url)) == Counter(users)


def test_what_depends_on_the_order_is_done_in_order(stream: mb.Stream, url: str) -> None:
    """By several consumers at once, with a window that fails in between."""
    failing = [True]

    def fails_once(message: Any) -> Any:
        if message['n'] == 50 and failing:
            failing.pop()
            raise RuntimeError('the first time')
        return message

    stream.extend({'n': n} for n in range(200))
    pipeline = stream.map(fails_once).group_by(lambda m: 'all', table='order').reduce(
        lambda so_far, message: [*so_far, message['n']], []).options(size=5, executor='thread', backoff=0.05)
    order = mb.table('order', url=url)
    with pipeline.start(), pipeline.start():
        wait_until(lambda: len(order.get('all', ())) >= 200, what='all to be taken')
    assert order['all'] == list(range(200))


def test_distinct_over_windows_and_runs(stream: mb.Stream) -> None:
    pipeline = stream.distinct('id', within=3600).options(size=2).map(lambda message: message['n'])
    stream.extend({'id': id_, 'n': n} for n, id_ in enumerate('abacbd'))
    assert ran(pipeline) == [0, 1, 3, 5]
    stream.extend({'id': id_, 'n': n} for n, id_ in enumerate('dea', 10))
    assert ran(pipeline) == [11]


def test_distinct_forgets_what_is_older(stream: mb.Stream, db: Any) -> None:
    pipeline = stream.distinct('id', within=0.3).map(lambda message: message['n'])
    got: list[int] = []
    numbers = iter(range(10_000))

    def again() -> bool:
        stream.append({'id': 'a', 'n': next(numbers)})
        got.extend(ran(pipeline))
        return len(got) >= 2

    wait_until(again, what='the key to be forgotten')
    assert got[0] == 0


# -- what is looked up


@pytest.fixture
def people(db: Any) -> None:
    db.people.insert_many([{'_id': 1, 'name': 'Ann', 'code': 'a'}, {'_id': 2, 'name': 'Bob', 'code': 'b'}])


@pytest.mark.usefixtures('people')
def test_lookup_in_a_collection(stream: mb.Stream) -> None:
    stream.extend({'who': who} for who in (1, 3, 2.0, None))
    left = stream.lookup('people', on='who', name='person').map(lambda m: (m['person'] or {'name': 'nobody'})['name'])
    assert ran(left) == ['Ann', 'nobody', 'Bob', 'nobody']
    stream.extend({'who': {'code': code}} for code in 'bxa')
    inner = stream.lookup('people', on='who.code', key='code', how='inner').map(lambda m: m['people']['name'])
    assert ran(inner, executor='process', workers=1) == ['Bob', 'Ann']


def test_lookup_in_a_table(stream: mb.Stream, url: str) -> None:
    ages = mb.table('ages', url=url)
    ages.update({'ann': 36, ('bob', 1): 40})
    stream.extend([{'who': 'ann'}, {'who': ['bob', 1]}, {'who': 'cy'}])
    assert ran(stream.lookup(ages, on='who', name='age').map(lambda m: m['age'] or 0)) == [36, 40, 0]


@pytest.mark.usefixtures('people')
def test_one_query_for_each_window(stream: mb.Stream, server: Deployment, dbname: str) -> None:
    stream.extend({'who': n % 2 + 1} for n in range(100))
    with profiled(server, dbname) as queries:
        assert len(ran(stream.lookup('people', on='who').options(size=50))) == 100
    assert len(queries('people')) == 2


@contextlib.contextmanager
def profiled(server: Deployment, dbname: str) -> Iterator[Any]:
    """What queries the server got for a collection."""
    db = server.client[dbname]
    db.command('profile', 2)
    try:
        yield lambda name: list(db.system.profile.find({'ns': f'{dbname}.{name}', 'op': 'query'}))
    finally:
        db.command('profile', 0)


# -- branches and merges


def test_branches_are_streams(stream: mb.Stream, url: str) -> None:
    stream.extend({'n': n} for n in range(6))
    even, large, rest = stream.branch(even=lambda m: m['n'] % 2 == 0, large=lambda m: m['n'] > 3, rest=None)
    assert [m['n'] for m in ran(even)] == [0, 2, 4]
    assert [m['n'] for m in ran(large.filter(lambda m: m['n'] > 4))] == [5]
    assert [m['n'] for m in data(mb.stream('clicks/rest', url=url))] == [1, 3]
    assert [m['n'] for m in ran(rest)] == [1, 3]


def test_branches_come_together_again(stream: mb.Stream, db: Any) -> None:
    stream.extend({'n': n} for n in range(6))
    small, large = stream.branch(lambda m: m['n'] < 3, None)
    together = small.map(lambda m: {**m, 'size': 's'}).merge(large.map(lambda m: {**m, 'size': 'l'}), name='sized')
    assert together.explain().count('\nclicks') + 1 == 3, 'the split is there once'
    assert sorted((m['n'], m['size']) for m in ran(together)) == [(n, 's' if n < 3 else 'l') for n in range(6)]
    assert db.buffer.count_documents({}) == 0


def test_streams_are_merged(stream: mb.Stream, url: str) -> None:
    other = mb.stream('others', url=url)
    stream.extend({'n': n} for n in range(3))
    other.extend({'n': n} for n in range(10, 13))
    results = ran(stream.merge(other.filter(lambda m: m['n'] > 10)).window(size=5).sum('n'))
    assert [each['sum'] for each in results] == [0 + 1 + 2 + 11 + 12]


def test_two_pipelines_of_one_stream_are_told_what_to_do(stream: mb.Stream) -> None:
    one, other = stream.branch(one=True, other=True)
    stream.append({'n': 1})
    assert (ran(one), ran(other)) == ([{'n': 1}], [{'n': 1}])


# -- between two streams


def test_the_next_stream_is_full(stream: mb.Stream, url: str) -> None:
    """Results wait for room there, in the stream that they come from; nothing fails, nothing is lost."""
    full = mb.stream('full', url=url, max_backlog=10)
    stream.extend({'n': n} for n in range(50))
    with stream.map(dict).options(size=5, executor='inline').to(full).start() as running:
        wait_until(lambda: full.buffer().count() == 10, what='it to be full')
        got: list[int] = []
        while len(got) < 50:
            assert full.buffer().count() <= 10
            got += ran(full.map(lambda m: m['n']))
        assert running.alive
    assert sorted(got) == list(range(50))
    assert stream.status()['dead'] == 0


def test_one_run_over_what_is_there_minds_no_limit(stream: mb.Stream, url: str) -> None:
    """It would wait for itself."""
    mb.stream('full', url=url, max_backlog=3)
    stream.extend({'n': n} for n in range(10))
    assert ran(stream.through('full').map(lambda m: m['n'])) == list(range(10))


def test_what_a_stream_cannot_take_fails_its_window_only(stream: mb.Stream, url: str) -> None:
    stream.extend({'n': n} for n in range(4))
    pipeline = stream.map(lambda m: {'n': object()} if m['n'] == 2 else m).options(size=1, max_attempts=1)
    pipeline.to('other').run(blocking=False, executor='inline')
    assert [m['n'] for m in data(mb.stream('other', url=url))] == [0, 1, 3]
    (dead,) = stream.dead.list()
    assert 'data.n is a value of type object' in str(dead)


def test_a_standalone_server(alone: Deployment, dbname: str) -> None:
    """No transactions: messages are appended before the commit, and again under the same ids if that is lost."""
    url = alone.url(dbname)
    try:
        stream = mb.stream('clicks', url=url)
        stream.extend({'n': n} for n in range(4))
        tries: list[int] = []

        def fails_once(message: Any) -> None:
            tries.append(message['n'])
            if len(tries) == 4:
                raise RuntimeError('after the append to the other stream')

        pipeline = stream.map(dict).options(size=2)
        assert "'other', at least once" in pipeline.to('other').explain()

        class Late:
            """A sink that comes after the stream."""

            def put(self, message: Any) -> None:
                fails_once(message)

        for _ in range(3):
            pipeline.to('other', Late()).run(blocking=False, executor='inline', backoff=0)
        assert sorted(m['n'] for m in data(mb.stream('other', url=url))) == [0, 1, 2, 3]
    finally:
        mb.connection.disconnect(url)
        alone.client.drop_database(dbname)


def test_other_databases_cannot_be_merged(stream: mb.Stream, server: Deployment, dbname: str) -> None:
    url = server.url(f'{dbname}_2')
    try:
        other = mb.stream('others', url=url)
        with pytest.raises(OptionError, match='another MongoDB'):
            stream.merge(other)
        stream.append({'n': 1})
        pipeline = stream.map(dict).to(other)
        assert "'others', at least once" in pipeline.explain()
        pipeline.run(blocking=False, executor='inline')
        assert data(other) == [{'n': 1}]
    finally:
        mb.connection.disconnect(url)
        server.client.drop_database(f'{dbname}_2')
