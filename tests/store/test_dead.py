"""Dead windows: listed, redriven, dropped; and the figures of a stream."""

from __future__ import annotations

from datetime import timedelta

import pytest

from minibatch.dead import DeadWindows
from minibatch.errors import OptionError
from minibatch.order import Order
from minibatch.status import figures
from minibatch.store import Record
from tests.store.bench import STREAM, Bench, failed


def two_dead(bench: Bench) -> list[Record]:
    records = [bench.running(), bench.running()]
    for record in records:
        assert bench.store.bury(record, failed())
    return records


def test_dead_windows_keep_their_messages_and_why(bench: Bench) -> None:
    records = two_dead(bench)
    dead = DeadWindows(bench.store, STREAM)
    assert [each.id for each in dead.list()] == [each.id for each in dead()] == [each.id for each in records]
    assert len(dead) == 2
    assert len(dead.list(limit=1)) == 1
    one = dead.show(records[0].id)
    assert (one.data, one.attempts, one.error) == ([{'n': 0}, {'n': 1}], 1, 'ValueError: no')
    assert one.traceback is not None
    assert one.traceback.startswith('Traceback')
    with pytest.raises(OptionError, match='no dead window'):
        dead.show('clicks:999')


@pytest.mark.parametrize('which', ['all', 'one', 'some'])
def test_redriven_windows_are_as_new(bench: Bench, which: str) -> None:
    first, second = two_dead(bench)
    dead = DeadWindows(bench.store, STREAM)
    asked = {'all': None, 'one': first.id, 'some': (first.id, 'clicks:999')}[which]
    assert dead.redrive(asked) == (2 if which == 'all' else 1)
    taken = bench.take()
    assert [(each.id, each.attempt) for each in taken] == [
        (each.id, 1) for each in ((first, second) if which == 'all' else (first,))]
    assert bench.data_of(taken[0]) == [{'n': 0}, {'n': 1}]
    assert bench.store.commit(taken) == len(taken)
    assert len(dead) == 2 - len(taken)


def test_dropped_windows_are_gone_with_their_messages(bench: Bench) -> None:
    first, second = two_dead(bench)
    dead = DeadWindows(bench.store, STREAM)
    assert dead.drop(first.id) == 1
    assert (bench.window(first), bench.state(second), bench.buffered()) == (None, 'dead', 2)
    assert dead.drop() == 1
    assert dead.drop() == 0
    assert bench.buffered() == 0


def test_what_is_kept_is_dropped_all_the_same(marked: Bench) -> None:
    record = marked.running(keep=True)
    marked.store.bury(record, failed())
    assert DeadWindows(marked.store, STREAM).drop() == 1
    assert (marked.buffered(), marked.window(record)) == (0, None)


@pytest.mark.parametrize('state', ['ready', 'running'])
def test_nobody_redrives_or_drops_what_is_not_dead(bench: Bench, state: str) -> None:
    record = bench.running()
    if state == 'ready':
        bench.store.release([record])
    dead = DeadWindows(bench.store, STREAM)
    assert (dead.redrive(record.id), dead.drop(record.id), dead.redrive(), dead.drop()) == (0, 0, 0, 0)
    assert bench.state(record) == state


def test_figures_count_every_state(bench: Bench) -> None:
    now = bench.store.clock.now()
    bench.append(1, created=now - timedelta(seconds=100))
    bench.cut(Order(size=1))  # ready
    bench.store.bury(bench.running(3), failed())
    bench.running(2)
    bench.append(4)
    bench.store.count(STREAM, {'windows': 5, 'messages': 50, 'failed': 1})
    bench.store.beat({'_id': 'b', 'stream': STREAM, 'host': 'here', 'pid': 7, 'workers': 2, 'rate': 2.5, 'every': 5.0})
    shown = figures(bench.store, STREAM)
    assert (shown['backlog'], shown['waiting']) == (7, 4)
    assert (shown['ready'], shown['running'], shown['dead']) == (1, 1, 1)
    assert (shown['done'], shown['committed'], shown['failed'], shown['rate']) == (5, 50, 1, 2.5)
    assert 99 < shown['lag'] < 130
    assert shown['last_progress'].endswith('Z')
    assert [(each['id'], each['pid']) for each in shown['consumers']] == [('b', 7)]


def test_figures_of_a_stream_that_has_nothing(marked: Bench) -> None:
    shown = figures(marked.store, 'nobody')
    assert (shown['backlog'], shown['lag'], shown['last_progress'], shown['consumers']) == (0, 0.0, None, [])
