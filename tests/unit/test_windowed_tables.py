"""Tables with a value for each key and window of time: what is changed, what is read, and when it is over."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minibatch as mb
from minibatch.clock import micros
from minibatch.table import Table
from minibatch.tables.moments import Spans
from minibatch.tables.windowed import WindowedTable
from tests.support.consuming import passed, running
from tests.support.waiting import wait_until

NOON = dt.datetime(2026, 1, 31, 12)


def noon(seconds: float) -> dt.datetime:
    return NOON + dt.timedelta(seconds=seconds)


@pytest.fixture
def counts(url: str) -> Table:
    return mb.table('counts', default=int, url=url)


def append(stream: mb.Stream, *seconds: float, key: str = 'a') -> None:
    stream.extend({'ts': noon(each), 'key': key} for each in seconds)


def by_key(table: WindowedTable) -> Callable[[Any], None]:
    def count(window: Any) -> None:
        for message in window:
            table[message['key']] += 1

    return count


def rows(table: WindowedTable) -> dict[tuple[float, Any], Any]:
    return {((start - NOON).total_seconds(), key): value for start, key, value in table.windows()}


class TestSpans:
    @given(st.integers(-10**12, 10**12), st.integers(1, 50), st.integers(1, 10))
    def test_each_time_is_in_the_windows_that_contain_it(self, time: int, step: int, times: int) -> None:
        spans = Spans(step * times, step)
        starts = spans.around(time)
        assert len(starts) == times
        assert all(start % step == 0 and start <= time < start + spans.size for start in starts)
        assert starts[0] == spans.latest(time) == max(starts)

    @pytest.mark.parametrize('options', [
        {'size': 0}, {'size': 'x'}, {'size': True}, {'size': 60, 'step': 61}, {'size': 60, 'step': 0},
        {'size': 1e6, 'step': 1}, {'size': 60, 'expires': -1}, {'size': 60, 'on_window_close': 3}])
    def test_what_cannot_be(self, counts: Table, options: dict[str, Any]) -> None:
        make = counts.hopping if 'step' in options else counts.tumbling
        with pytest.raises(mb.OptionError):
            make(**options)

    def test_a_field_that_is_no_path(self, counts: Table) -> None:
        with pytest.raises(mb.OptionError):
            counts.tumbling(60).relative_to_field('a..b')


class TestChanges:
    def test_tumbling(self, stream: mb.Stream, counts: Table) -> None:
        table = counts.tumbling(60).relative_to_field('ts')
        append(stream, 0, 59.999, 60, 61, 185)
        append(stream, 10, key='b')
        passed(stream, by_key(table), size=3)
        assert rows(table) == {(0, 'a'): 2, (0, 'b'): 1, (60, 'a'): 2, (180, 'a'): 1}

    def test_hopping(self, stream: mb.Stream, counts: Table) -> None:
        table = counts.hopping(30, 10).relative_to_field('ts')
        append(stream, 5, 25)
        passed(stream, by_key(table), size=2)
        assert rows(table) == {(-20, 'a'): 1, (-10, 'a'): 1, (0, 'a'): 2, (10, 'a'): 1, (20, 'a'): 1}

    def test_in_a_worker_process(self, stream: mb.Stream, counts: Table) -> None:
        table = counts.tumbling(60).relative_to_field('ts')
        append(stream, 0, 1, 61)
        stream.streaming(by_key(table), size=3, executor='process', workers=1, blocking=False)
        assert rows(table) == {(0, 'a'): 2, (60, 'a'): 1}

    def test_the_other_operators(self, stream: mb.Stream, counts: Table) -> None:
        table = counts.tumbling(60).relative_to_field('ts')

        def work(window: Any) -> None:
            for message in window:
                table['add'].add(2)
                table.add('add', 3)
                table['minus'] -= 4
                table['set'] = 5
                table['times'] = 3
                table['times'] *= 2
                table.change('most', lambda most, n=message['ts'].minute: max(most, n))

        append(stream, 61, 62)
        passed(stream, work, size=2)
        assert dict(table.items()) == {'add': 10, 'minus': -8, 'most': 1, 'set': 5, 'times': 6}

    def test_append_time_is_the_messages_time(self, stream: mb.Stream, counts: Table, db: Any) -> None:
        append(stream, 0, 0, 0)
        for message, seconds in zip(db['buffer'].find(), (0, 61, 62), strict=True):
            db['buffer'].update_one({'_id': message['_id']}, {'$set': {'created': noon(seconds)}})
        table, not_iterating = counts.tumbling(60), counts.tumbling(30)

        def work(window: Any) -> None:
            by_key(table)(window)
            not_iterating['n'] += len(window.data)

        passed(stream, work, size=3)
        assert rows(table) == {(0, 'a'): 1, (60, 'a'): 2}
        assert rows(not_iterating) == {(60, 'n'): 3}, 'the end of the window'

    def test_a_message_without_the_field(self, stream: mb.Stream, counts: Table) -> None:
        table = counts.tumbling(60).relative_to_field('ts')
        stream.extend([{'key': 'a', 'ts': 'rubbish'}, {'key': 'a'}])
        passed(stream, by_key(table), max_attempts=1)
        passed(stream, lambda window: table.add(window.data[0]['key']), max_attempts=1)
        errors = [each['errors'][0]['error'] for each in stream.store.dead(stream.name)]
        assert "has no time in field 'ts': 'rubbish' is no time" in errors[0]
        assert "it has no field 'ts'" in errors[1]
        append(stream, 1)
        passed(stream, lambda window: table.add('a'), max_attempts=1)
        assert 'iterate over the window' in stream.store.dead(stream.name)[-1]['errors'][0]['error']
        assert rows(table) == {}

    def test_outside_of_a_window_function_it_is_now(self, counts: Table) -> None:
        table = counts.tumbling(86400)
        table['a'] += 1
        table['a'] += 1
        assert table['a'].now() == table['a'].value() == 2
        with pytest.raises(mb.TableError, match='current'):
            table['a'].current()
        table.clear()
        assert list(table.windows()) == []


class TestReading:
    def test_what_each_of_them_reads(self, stream: mb.Stream, counts: Table) -> None:
        base = counts.tumbling(60)
        table = base.relative_to_field('ts')
        seen: list[Any] = []

        def work(window: Any) -> None:
            for message in window:
                table['a'] += 1
                at = table['a']
                seen.append((at.current(), at.value(), at.delta(60), at.now(),
                             base.relative_to_now()['a'].value(), base.relative_to_now()['a'].current()))
                del message

        append(stream, 0, 1, 60)
        passed(stream, work, size=3)
        # by the clock it is another minute, and appended they were a moment ago
        assert seen == [(1, 1, 0, 0, 0, 0), (2, 2, 0, 0, 0, 0), (1, 1, 2, 0, 0, 0)]
        # elsewhere the stream's time is the latest that was seen
        assert (base['a'].value(), base['a'].delta(60), base['a'].delta(120)) == (1, 2, 0)
        assert (base['b'].value(), base.relative_to_now()['a'].value(), base['a'].now()) == (0, 0, 0)
        assert list(base) == list(base.keys()) == ['a']
        assert (list(base.values()), list(base.items(ago=60)), 'a' in base) == ([1], [('a', 2)], True)

    def test_hopping_reads_the_latest_window(self, stream: mb.Stream, counts: Table) -> None:
        table = counts.hopping(30, 10).relative_to_field('ts')
        append(stream, 5, 25)
        passed(stream, by_key(table), size=2)
        latest = counts.hopping(30, 10)['a']
        assert (latest.value(), latest.delta(10), latest.delta(20), latest.delta(40)) == (1, 1, 2, 1)

    def test_it_travels(self, counts: Table) -> None:
        table = counts.tumbling(60, expires=5, on_window_close=print).relative_to_field('ts')
        again = cloudpickle.loads(cloudpickle.dumps(table))
        assert (again.name, again.spans, again.expires, again._relative) == (
            'counts@60', table.spans, 5_000_000, 'field')


class TestTheEnd:
    def test_called_once_for_each_key_and_window(self, stream: mb.Stream, counts: Table) -> None:
        closed: list[Any] = []
        table = counts.tumbling(60, expires=30, on_window_close=lambda *given: closed.append(given))
        append(stream, 0, 1, 61)
        append(stream, 2, key='b')
        passed(stream, by_key(table.relative_to_field('ts')), size=4)
        assert closed == [], 'the first window is kept for 30 s'
        append(stream, 90)
        passed(stream, by_key(table.relative_to_field('ts')))
        assert closed == [('a', 2, noon(0), noon(60)), ('b', 1, noon(0), noon(60))]
        assert rows(table) == {(60, 'a'): 2}
        append(stream, 91, 3)
        passed(stream, by_key(table.relative_to_field('ts')))
        assert len(closed) == 2
        assert rows(table) == {(60, 'a'): 3}
        assert table.late == 1, 'a change of a window that is over is counted, and does not bring it back'

    def test_windows_end_when_no_message_comes(self, stream: mb.Stream, counts: Table) -> None:
        closed: list[Any] = []
        table = counts.tumbling(0.3, on_window_close=lambda key, value, start, end: closed.append(value))
        with running(stream, by_key(table), size=2):
            append(stream, 0, 0)
            wait_until(lambda: sum(closed) == 2)
        assert rows(table) == {}

    def test_a_backlog_closes_nothing_that_it_belongs_to(
            self, stream: mb.Stream, counts: Table, db: Any) -> None:
        table = counts.tumbling(60, expires=0)
        append(stream, 0, 0, 0)
        for message in db['buffer'].find():
            db['buffer'].update_one({'_id': message['_id']}, {'$set': {'created': NOON}})
        passed(stream, by_key(table), size=2)
        assert rows(table) == {(0, 'a'): 2}, 'the third one waits, and is of the same minute'
        append(stream, 0)
        passed(stream, by_key(table), size=2)
        assert NOON not in [start for start, _, _ in table.windows()], 'when all is read, time passes'
        assert table.late == 0

    def test_who_is_ahead_closes_nothing_that_others_still_work_on(self, stream: mb.Stream, counts: Table) -> None:
        table = counts.tumbling(60, expires=0)
        append(stream, 0)
        passed(stream, by_key(table.relative_to_field('ts')))
        append(stream, 1)
        store, name = stream.store, stream.name
        later = micros(store.clock.now()) + 1000
        for ts, at in ((500, later + 5), (70, later), (400, later + 1), (20, later + 2), (500, later + 9)):
            store.table_seen({table.name: (micros(noon(ts)), at)}, name)
        assert table.close_expired() == 0, 'a message that was appended before waits'
        assert [mark['c'] - later for mark in store.table_time(table.name)['marks'][1:]] == [0, 1, 5]
        passed(stream, by_key(table.relative_to_field('ts')))
        assert table.close_expired() + table.late == 0
        assert rows(table) == {}

    def test_it_may_change_tables_in_the_same_transaction(self, stream: mb.Stream, counts: Table) -> None:
        totals = mb.table('totals', default=int, url=stream.store.connection.url)
        fails = [True]

        def close(key: Any, value: Any, start: Any, end: Any) -> None:
            totals[key] += value
            if fails:
                fails.pop()
                raise ValueError('not yet')

        table = counts.tumbling(60, on_window_close=close)
        append(stream, 0, 1, 200)
        passed(stream, by_key(table.relative_to_field('ts')), size=3)
        assert dict(totals) == {}
        assert (0, 'a') in rows(table), 'it is called again'
        assert table.close_expired() == 1
        assert dict(totals) == {'a': 2}
        assert rows(table) == {(180, 'a'): 1}
        assert table.close_expired() == 0

    def test_a_change_that_comes_while_its_window_is_closed_is_late(self, stream: mb.Stream, counts: Table) -> None:
        closed: list[Any] = []
        table = counts.tumbling(60, on_window_close=lambda key, value, start, end: closed.append(value))
        field = table.relative_to_field('ts')
        append(stream, 0, 100)
        store = stream.store
        passed(stream, by_key(field), size=2)
        assert closed == [1]
        append(stream, 120, 130)
        runs: list[int] = []

        def slow(window: Any) -> None:
            by_key(field)(window)
            runs.append(1)
            if len(runs) == 1:  # as another consumer would, which has seen later times
                import threading
                far = micros(noon(500))
                store.table_seen({table.name: (far, far)}, None)
                other = threading.Thread(target=table.close_expired)
                other.start()
                other.join()

        passed(stream, slow, size=2)
        assert len(runs) == 2
        assert (closed, table.late, rows(table)) == ([1, 1], 2, {})

    def test_only_one_closes_at_a_time(self, stream: mb.Stream, counts: Table) -> None:
        table = counts.tumbling(60, expires=0)
        append(stream, 0, 100)
        assert stream.store.claim_closing(table.name, 'another', 60, None)
        passed(stream, by_key(table.relative_to_field('ts')), size=2)
        assert (0, 'a') in rows(table)
        stream.store.release_closing(table.name, 'another')
        assert table.close_expired() == 1

    def test_without_transactions(self, alone: Any, dbname: str) -> None:
        closed: list[Any] = []
        table = mb.table('counts', default=int, url=alone.url(dbname)).tumbling(
            0.001, on_window_close=lambda key, value, start, end: closed.append(value))
        table['a'] += 1
        wait_until(lambda: table.close_expired() == 1)
        assert closed == [1]
        alone.client.drop_database(dbname)
