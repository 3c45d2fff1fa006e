"""Pipelines on a real stream: lazy, immutable, in passes between durable streams."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest

import minibatch as mb
from minibatch.errors import OptionError
from tests.support.pipelines import ran
from tests.support.waiting import wait_until


def numbered(stream: mb.Stream, n: int) -> None:
    stream.extend({'n': each, 'user': 'ann' if each % 3 else 'bob'} for each in range(n))


def small(message: dict[str, Any]) -> bool:
    return bool(message['n'] < 5)


def doubled(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, 'n': 2 * message['n']}


def data(stream: mb.Stream) -> list[Any]:
    return [each.data for each in stream.buffer().order_by('id')]


def test_a_pass_filters_maps_and_spreads(stream: mb.Stream) -> None:
    numbered(stream, 10)
    seen: list[int] = []
    pipeline = stream.filter(small).map(doubled).peek(lambda each: seen.append(each['n'])).flat_map(
        lambda each: [each['n'], each['n'] + 1])
    assert ran(pipeline) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert seen == [0, 2, 4, 6, 8]
    assert stream.buffer().count() == 0


def test_in_worker_processes(stream: mb.Stream) -> None:
    """Lambdas and closures travel."""
    numbered(stream, 20)
    factor = 10
    found = ran(stream.map(lambda each: each['n'] * factor), executor='process', workers=1)
    assert found == [10 * n for n in range(20)]


def test_nothing_runs_before_it_is_told_to(stream: mb.Stream, db: Any) -> None:
    numbered(stream, 3)
    stream.map(doubled).through('later').window(size=1).count().to('even later').explain()
    assert stream.buffer().count() == 3
    assert [doc['_id'] for doc in db.stream.find()] == [stream.name]


def test_each_operator_answers_another_pipeline(stream: mb.Stream) -> None:
    numbered(stream, 4)
    base = stream.map(doubled)
    one, other = base.filter(lambda each: each['n'] > 2), base.map(lambda each: each['n'])
    assert 'filter' not in base.explain()
    assert 'filter' not in other.explain()
    assert ran(other) == [0, 2, 4, 6]
    numbered(stream, 4)
    assert [each['n'] for each in ran(one)] == [4, 6]


def test_windows_and_groups_in_them(stream: mb.Stream) -> None:
    numbered(stream, 7)
    results = ran(stream.window(size=3).group_by('user').aggregate(n='count', total=('sum', 'n')))
    assert [(each['window'], each['key'], each['n'], each['total']) for each in results] == [
        ('clicks:1', 'bob', 1, 0), ('clicks:1', 'ann', 2, 3), ('clicks:2', 'bob', 1, 3), ('clicks:2', 'ann', 2, 9)]
    assert all(each['start'] <= each['end'] for each in results)
    assert stream.buffer().count() == 1, 'the seventh waits for two more'


def test_a_filter_before_a_window_of_so_many_is_a_pass_of_its_own(stream: mb.Stream) -> None:
    """Windows of three messages that pass, not what passes of three messages."""
    numbered(stream, 12)
    pipeline = stream.filter(lambda each: each['user'] == 'bob').window(size=2).collect('n')
    assert 'clicks/windowed' in pipeline.explain()
    assert [each['collect'] for each in ran(pipeline)] == [[0, 3], [6, 9]]


def test_what_makes_no_difference_stays_in_one_pass(stream: mb.Stream) -> None:
    numbered(stream, 4)
    pipeline = stream.map(doubled).window(size=2).sum('n')
    assert pipeline.explain().count('pass') == 1
    assert [each['sum'] for each in ran(pipeline)] == [2, 10]


def test_through_a_durable_stream(stream: mb.Stream, db: Any) -> None:
    numbered(stream, 10)
    pipeline = stream.map(doubled).through('doubled').filter(small)
    assert [each['n'] for each in ran(pipeline)] == [0, 2, 4]
    assert db.buffer.count_documents({}) == 0


def test_what_is_at_the_end_stays_for_others(stream: mb.Stream, url: str) -> None:
    numbered(stream, 4)
    pipeline = stream.map(doubled).through('doubled')
    pipeline.run(blocking=False, executor='inline')
    other = mb.stream('doubled', url=url)
    assert [each['n'] for each in data(other)] == [0, 2, 4, 6]
    assert pipeline.explain().endswith('doubled\n  kept   until somebody consumes it')
    assert [each['n'] for each in ran(other.filter(small))] == [0, 2, 4]


def test_to_streams_and_sinks_at_once(stream: mb.Stream, url: str) -> None:
    numbered(stream, 4)
    one, two = mb.stream('one', url=url), mb.stream('two', url=url)
    got: list[Any] = []
    stream.map(doubled).to(one, 'two', got.append).run(blocking=False, executor='inline')
    assert data(one) == data(two) == got
    assert [each['n'] for each in got] == [0, 2, 4, 6]


def test_a_sink_of_lists_gets_lists(stream: mb.Stream) -> None:
    class Lists:
        expand = True

        def __init__(self) -> None:
            self.got: list[Any] = []

        def put(self, messages: Any) -> None:
            self.got.append(messages)

    numbered(stream, 4)
    sink = Lists()
    stream.map(lambda each: each['n']).options(size=2).to(sink).run(blocking=False, executor='inline')
    assert sink.got == [[0, 1], [2, 3]]


def test_coroutines_and_processors(stream: mb.Stream) -> None:
    async def slowly(message: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        return doubled(message)

    async def even(message: dict[str, Any]) -> bool:
        return bool(message['n'] % 4 == 0)

    async def twice(message: dict[str, Any]) -> Any:
        yield message['n']
        yield message['n']

    numbered(stream, 5)
    pipeline = stream.map([slowly, doubled, lambda each: slowly(each)]).filter([even, bool]).flat_map(twice)
    assert ran(pipeline) == [0, 0, 8, 8, 16, 16, 24, 24, 32, 32]


def test_started_and_stopped(stream: mb.Stream, url: str) -> None:
    got: list[Any] = []
    pipeline = stream.filter(small).through('between').map(doubled).to(got.append)
    with pipeline.start(executor='inline') as running:
        numbered(stream, 6)
        wait_until(lambda: len(got) == 5, what='the results')
        assert running.alive
        assert running.wait(0) is False
    assert not running.alive
    assert [each['n'] for each in got] == [0, 2, 4, 6, 8]
    assert [each.name for each in threading.enumerate() if each.name.startswith('minibatch-between')] == []


def test_a_queue_ends_it(stream: mb.Stream) -> None:
    numbered(stream, 3)
    ends: queue.Queue[bool] = queue.Queue()
    got: list[Any] = []

    def put(message: Any) -> None:
        got.append(message)
        if len(got) == 3:
            ends.put(True)

    stream.map(doubled).through('between').map(doubled).to(put).run(executor='inline', queue=ends)
    assert [each['n'] for each in got] == [0, 4, 8]


def picky(message: dict[str, Any]) -> dict[str, Any]:
    if message['n'] == 3:
        raise ValueError('three is not to my liking')
    return message


@pytest.mark.parametrize('executor', ['inline', 'process'])
def test_a_dead_window_says_where_it_failed(stream: mb.Stream, executor: str) -> None:
    """The stage, the message, and the traceback of the user's own function; the other windows are not held up."""
    numbered(stream, 6)
    seen = ran(stream.map(doubled).filter(bool).map([lambda m: {**m, 'n': m['n'] // 2}, picky]).options(size=2),
               max_attempts=1, executor=executor, workers=1)
    assert [each['n'] for each in seen] == [0, 1, 4, 5]
    (dead,) = stream.dead.list()
    assert 'stage 3, map([lambda at test_operators.py:' in str(dead.error)
    assert 'failed at message 1 of the window (counted from 0): ValueError: three is not to my' in str(dead.error)
    assert ', in picky' in str(dead.traceback)
    assert [each['n'] for each in dead.data] == [2, 3]


def test_kept_messages(stream: mb.Stream) -> None:
    """With keep=True they are marked and stay, in all streams of the pipeline."""
    numbered(stream, 4)
    pipeline = stream.map(doubled).through('between').map(lambda m: m['n'])
    assert ran(pipeline, keep=True) == [0, 2, 4, 6]
    assert stream.buffer(processed=True).count() == 4
    assert ran(pipeline, keep=True) == []


def test_two_pipelines_of_one_program_do_not_compete(stream: mb.Stream) -> None:
    """The same one twice is more of it; another one would take messages away from the first."""
    def counted() -> Any:
        return stream.map(doubled).to(print)

    with counted().start(executor='inline'), counted().start(executor='inline'):
        with pytest.raises(OptionError, match=r"stream 'clicks', .* Give each a branch"):
            stream.filter(small).to(print).start()
        with pytest.raises(OptionError, match='Give each a branch'):
            stream.map(doubled).filter(small).run(blocking=False)
    stream.filter(small).run(blocking=False, executor='inline')


class Breaks(mb.CountWindow):
    """A strategy of somebody's own that does not work."""

    def should_stop(self) -> bool:
        raise RuntimeError('this strategy is broken')


def test_a_pass_that_breaks_ends_all(stream: mb.Stream) -> None:
    """An error of the engine itself, or of a strategy, is not for anybody to miss."""
    pipeline = stream.map(doubled).through('between').window(emitter=Breaks, size=2).count()
    running = pipeline.start(executor='inline')
    with pytest.raises(RuntimeError, match='this strategy is broken'):
        running.wait(10)
    assert not running.alive
    with pytest.raises(RuntimeError, match='this strategy is broken'):
        pipeline.run(executor='inline')


def test_a_source_is_attached(stream: mb.Stream) -> None:
    assert ran(stream.map(lambda each: each['value']), source=[1, 2, 3]) == [1, 2, 3]


@pytest.mark.parametrize(('build', 'says'), [
    (lambda s: s.filter('n'), 'filter takes a function'),
    (lambda s: s.map([]), 'map takes a function'),
    (lambda s: s.group_by(None), 'group_by takes the name of a field'),
    (lambda s: s.group_by('a..b'), 'group_by takes the name of a field'),
    (lambda s: s.group_by('user').to(print), 'nothing that uses the groups'),
    (lambda s: s.group_by('user').through('x'), 'nothing that uses the groups'),
    (lambda s: s.map(dict).window(), 'size=, interval='),
    (lambda s: s.map(dict).window(sise=3), 'did you mean size'),
    (lambda s: s.window(size=3, workers=2), 'give it to run()'),
    (lambda s: s.window(size=3, sink=print), 'end the pipeline with .to(sink)'),
    (lambda s: s.map(dict).start(wokers=2), 'did you mean workers'),
    (lambda s: s.map(dict).options(workers=0), 'workers must be a whole number'),
    (lambda s: s.map(dict).run(background=True), 'call start()'),
    (lambda s: s.window(size=3).quantile(95, 'ms'), 'q from 0 to 1'),
    (lambda s: s.window(size=3).top('ms'), 'number of messages first'),
    (lambda s: s.window(size=3).aggregate(), 'at least one value'),
    (lambda s: s.window(size=3).aggregate(total='smu'), 'did you mean sum'),
    (lambda s: s.window(size=3).aggregate(p=('quantile',)), "missing 1 required positional argument: 'q'"),
    (lambda s: s.window(size=3).aggregate(total=5), 'not 5'),
    (lambda s: s.window(size=3).count(name='key'), "field 'key' already"),
    (lambda s: s.window(size=3).count(nmae='total'), 'did you mean name'),
    (lambda s: s.window(size=3).reduce(5), 'reduce takes a function'),
    (lambda s: s.quantile(0.5, 'n'), 'needs all messages of a window'),
    (lambda s: s.to(5), 'a sink is a stream'),
    (lambda s: s.map(dict).to(), 'to() takes where the results go'),
    (lambda s: s.to(print).map(dict), 'ends a pipeline'),
    (lambda s: s.to(print).through('x'), 'ends a pipeline'),
    (lambda s: s.through(''), 'a stream is named by'),
    (lambda s: s.map(dict).through('clicks'), 'feed itself'),
    (lambda s: s.map(dict).through('x').to('clicks'), 'feed itself'),
    (lambda s: s.map(dict).to(s), 'feed itself'),
    (lambda s: s.filter(dict)._pipeline().of(s).run(blocking=False), 'does nothing'),
])
def test_what_cannot_be_is_refused_at_once(build: Callable[[mb.Stream], Any], says: str) -> None:
    """Before any database is asked."""
    with pytest.raises(OptionError) as refused:
        build(mb.Stream(name='clicks'))
    assert says in str(refused.value)


def test_windows_as_documents_are_still_asked_for(stream: mb.Stream) -> None:
    """``stream.window(**filters)`` was there before ``stream.window(size=)``."""
    numbered(stream, 4)
    stream.streaming(len, size=2, executor='inline', blocking=False, keep=True)
    assert stream.window().count() == 2
    assert stream.window(state='done', n=2).count() == 2
