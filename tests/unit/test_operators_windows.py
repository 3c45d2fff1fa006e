"""Windows by key and by event time in pipelines, and joins, beside what a loop over all messages makes of the same."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

import minibatch as mb
from minibatch.errors import OptionError, WindowError
from minibatch.operators import Pipeline
from tests.support.pipelines import applied, begun
from tests.support.waiting import wait_until

Message = dict[str, Any]


def gathered(pipeline: Pipeline, count: int) -> list[Any]:
    """The results of a pipeline that is run until there are so many.

    First over what is there, so that all of it is in the last stream before event time goes on there.
    """
    got: list[Any] = []
    pipeline = pipeline.options(executor='inline', backoff=0).to(got.append)
    pipeline.run(blocking=False)
    with pipeline.start():
        wait_until(lambda: len(got) >= count, what=f'{count} results')
    return got


def test_each_key_has_windows_of_its_own(stream: mb.Stream) -> None:
    """group_by before window; after it, the messages of each window are grouped."""
    stream.extend({'user': user, 'n': n} for n, user in enumerate('abaabbab'))
    pipeline = stream.group_by('user').window(size=2).collect('n')
    assert "CountWindow(size=2, key='user')" in pipeline.explain()
    got = gathered(pipeline, 4)
    assert sorted((each['key'], each['collect']) for each in got) == [
        ('a', [0, 2]), ('a', [3, 6]), ('b', [1, 4]), ('b', [5, 7])]


def test_tumbling_windows_of_event_time_by_key(stream: mb.Stream) -> None:
    """What is mapped first is written to a stream first, since the windows look at what the map has made."""
    start = float(int(time.time()) - 100)
    rows = [{'user': 'ab'[n % 2], 'at': start + n / 10, 'n': n} for n in range(30)]
    random.Random(1).shuffle(rows)
    stream.extend(rows)
    pipeline = stream.map(lambda m: {**m, 'ts': m['at']}).group_by('user').window(
        interval=1, time='ts').sum('n')
    assert 'clicks/windowed' in pipeline.explain()
    wanted: dict[Any, int] = defaultdict(int)
    for row in rows:
        wanted[row['user'], int(row['at'])] += row['n']
    got = gathered(pipeline, len(wanted))
    assert {(each['key'], int((each['start'] - mb.clock.EPOCH).total_seconds())): each['sum'] for each in got} == wanted
    assert all((each['end'] - each['start']).total_seconds() == 1 for each in got)


def test_a_filter_stays_in_the_pass_of_windows_of_time() -> None:
    assert begun().filter(len).window(interval=1, time='ts').count().before == ()
    assert len(begun().filter(len).window(gap=1, time='ts').count().before) == 1, 'a session ends where none comes'
    assert len(begun().map(dict).window(interval=1, time='ts').count().before) == 1, 'it may change the time'
    assert begun().map(dict).window(interval=1).count().before == ()
    assert len(begun().flat_map(list).window(size=3).count().before) == 1
    assert begun().peek(print).group_by('user').map(dict).window(size=3).count().before == ()
    assert len(begun().map(dict).group_by('user').window(size=3).count().before) == 1
    with pytest.raises(OptionError, match='put it before group_by'):
        begun().group_by('user').filter(len).window(size=3)
    with pytest.raises(OptionError, match='give it once'):
        begun().group_by('user').window(size=3, key='user')


# -- joins


def paired(left: list[Message], right: list[Message], within: float, how: str) -> list[tuple[Any, Any]]:
    """What a join is, by looking at each pair."""
    pairs = [(one['n'], other['n']) for one in left for other in right
             if one['k'] == other['k'] and abs(one['ts'] - other['ts']) <= within]
    if how in ('left', 'outer'):
        pairs += [(one['n'], None) for one in left if one['n'] not in {n for n, _ in pairs}]
    if how in ('right', 'outer'):
        pairs += [(None, one['n']) for one in right if one['n'] not in {n for _, n in pairs}]
    return sorted(pairs, key=str)


def sides(n: int, seed: int = 0) -> tuple[list[Message], list[Message]]:
    chance = random.Random(seed)
    start = float(int(time.time()) - 1000)
    rows = [{'k': chance.randrange(4), 'ts': start + chance.randrange(16) / 16, 'n': n} for n in range(2 * n)]
    return rows[:n], rows[n:]


def both(left: Any, right: Any) -> tuple[Any, Any]:
    return (left and left['n'], right and right['n'])


@pytest.mark.parametrize('how', ['inner', 'left', 'right', 'outer'])
def test_joins(stream: mb.Stream, url: str, how: str) -> None:
    left, right = sides(30)
    other = mb.stream('others', url=url)
    stream.extend(left)
    other.extend(right)
    wanted = paired(left, right, 0.125, how)
    pipeline = stream.join(other, on='k', within=0.125, time='ts', lateness=0, how=how, merge=both)
    assert sorted(gathered(pipeline, len(wanted)), key=str) == wanted
    assert other.status()['dead'] == stream.status()['dead'] == 0


def test_a_join_whose_other_side_is_silent(stream: mb.Stream, url: str) -> None:
    """By the times of appends; a left message that nobody meets comes out alone, with no further message."""
    stream.append({'order': 1})
    pipeline = stream.join(mb.stream('others', url=url), on='order', within=0.2, how='left')
    assert gathered(pipeline, 1) == [{'key': 1, 'left': {'order': 1}, 'right': None}]


def test_rubbish_in_a_join_stops_nothing(stream: mb.Stream, url: str) -> None:
    other = mb.stream('others', url=url)
    stream.extend([{'id': 1, 'ts': 50}, {'id': 2, 'ts': 'soon'}, {'ts': 50}])
    other.append({'ref': 1, 'ts': 50})
    pipeline = stream.join(other, on='id', right_on='ref', time='ts', within=0.2, lateness=0, name='both')
    assert gathered(pipeline, 1) == [{'key': 1, 'left': {'id': 1, 'ts': 50}, 'right': {'ref': 1, 'ts': 50}}]
    said = [str(each) for each in mb.stream('both', url=url).dead.list()]
    assert sorted('soon' in each for each in said) == [False, True]
    assert any("it has no field 'id' (it has: ts)" in each for each in said)


def test_what_is_joined_goes_on(stream: mb.Stream, url: str) -> None:
    """Results of a join are messages: a count of them runs on, and is not one of each pair."""
    other = mb.stream('others', url=url)
    stream.extend({'k': k, 'ts': 50} for k in range(3))
    other.extend({'k': k, 'ts': 50} for k in (0, 1, 2, 0))
    pipeline = stream.join(other, on='k', time='ts', lateness=0, within=0.1).group_by('right.ts', table='pairs').count()
    pipeline.run(blocking=False, executor='inline')
    with pipeline.start(executor='inline'):
        wait_until(lambda: mb.table('pairs', url=url).get(50) == 4, what='four pairs')


def test_what_came_too_late_for_a_join() -> None:
    """Redriven, it is alone where that may be; an inner join has no place for it, and says so."""
    late = [{'right': False, 'key': 1, 'message': {'n': 1}}]
    inner, outer = (begun().join(begun('others'), on='k', within=1, how=how) for how in ('inner', 'outer'))
    assert applied(outer, late, late=True) == [{'key': 1, 'left': {'n': 1}, 'right': None}]
    with pytest.raises(WindowError, match='came too late for an inner join'):
        applied(inner, late, late=True)
    with pytest.raises(WindowError, match=r"message 0 of the window .* it has no field 'k'; drop this window"):
        applied(outer, [{'right': False, 'message': {}, 'wrong': "it has no field 'k'"}])


@pytest.mark.parametrize(('build', 'says'), [
    (lambda p, o: p.join(o, on=None, within=1), 'join takes on='),
    (lambda p, o: p.join(o, on='k', within=-1), 'within'),
    (lambda p, o: p.join(o, on='k', within=1, how='outher'), 'did you mean outer'),
    (lambda p, o: p.join(o, on='k', witin=1), 'did you mean within'),
    (lambda p, o: p.join(o, on='k', within=1, merge=5), 'merge must be a function'),
    (lambda p, o: p.join(o, on='k', within=1, lateness=5), 'lateness= goes with time='),
    (lambda p, o: p.join(o, on='k', within=1, time='ts'), 'join(time=) needs lateness='),
    (lambda p, o: p.join('others', on='k', within=1), 'a stream or a pipeline'),
    (lambda p, o: p.join(p.filter(len), on='k', within=1), 'stream.branch(one=True, other=True)'),
    (lambda p, o: p.to(print).join(o, on='k', within=1), 'ends a pipeline'),
])
def test_what_cannot_be_joined(build: Callable[[Pipeline, Pipeline], Any], says: str) -> None:
    with pytest.raises(OptionError) as refused:
        build(begun(), begun('others'))
    assert says in str(refused.value)
