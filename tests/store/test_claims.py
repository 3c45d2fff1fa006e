"""Windows between cut and end: each transition is one write that counts only for who holds the claim."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from minibatch.errors import LeaseLost
from minibatch.order import Order
from minibatch.store import Record
from tests.store.bench import STREAM, Bench, failed


def test_windows_are_taken_once_first_ones_first(bench: Bench) -> None:
    bench.append(10)
    cut = bench.cut(Order(size=2, most=5))
    first = bench.take('b', 2)
    second = bench.take('c', 9)
    assert [each.id for each in first + second] == [each.id for each in cut]
    assert {each.attempt for each in first + second} == {1}
    assert bench.take('d') == []
    assert bench.store.ready(STREAM, 10) == 0


def test_many_that_take_at_once_share_the_windows(bench: Bench) -> None:
    bench.append(40)
    bench.cut(Order(size=1, most=40))
    begin = threading.Barrier(4)
    taken: list[str] = []

    def take(owner: str) -> None:
        begin.wait()
        while got := bench.take(owner, 5):
            taken.extend(each.id for each in got)

    threads = [threading.Thread(target=take, args=(f'c{n}',)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken += [each.id for each in bench.take('last', 40)]
    assert len(taken) == len(set(taken)) == 40


def test_a_window_that_is_not_due_waits(bench: Bench) -> None:
    record = bench.running()
    assert bench.store.retry(record, failed(), 60)
    assert bench.take() == []
    bench.store.windows.update_one({'_id': record.id}, [{'$set': {'not_before': '$$NOW'}}])
    again, = bench.take()
    assert (again.id, again.attempt) == (record.id, 2)


def test_ready_windows_are_counted_up_to_a_limit(bench: Bench) -> None:
    bench.append(4)
    bench.cut(Order(size=1, most=4))
    assert (bench.store.ready(STREAM, 9), bench.store.ready(STREAM, 3)) == (4, 3)


def test_a_commit_leaves_nothing_behind(bench: Bench) -> None:
    bench.append(4)
    records = bench.cut(Order(size=2, most=2), bench.claim(2))
    assert bench.store.commit(records) == 2
    assert (bench.buffered(), bench.store.windows.count_documents({})) == (0, 0)


def test_what_is_kept_shows_the_documented_states(marked: Bench) -> None:
    record = marked.running(keep=True)
    assert marked.window(record)['processed'] is False
    assert marked.store.commit([record]) == 1
    window = marked.window(record)
    assert (window['state'], window['processed'], window['data']) == ('done', True, [{'n': 0}, {'n': 1}])
    messages = list(marked.store.buffer.find({}))
    assert [(each['processed'], each['window']) for each in messages] == [(True, record.id)] * 2
    marked.store.sweep(STREAM)
    assert marked.buffered() == 2


def test_a_failed_window_shows_the_documented_states(bench: Bench) -> None:
    """Also a moved one: people look for its messages in the buffer."""
    record = bench.running()
    before = [{key: bench.window(record)[key] for key in ('members', 'times', 'start', 'end', 'n')}]
    assert bench.store.retry(record, failed(), 0)
    assert [(each['processed'], each['window'], each['data']['n']) for each in bench.store.buffer.find({})] == [
        (True, record.id, 0), (True, record.id, 1)]
    window = bench.window(record)
    assert (window['state'], window['attempt'], window['moved']) == ('ready', 1, False)
    assert window['errors'] == [failed()]
    assert [{key: window[key] for key in before[0]}] == before, 'a window never changes'
    again, = bench.take()
    assert bench.data_of(again) == [{'n': 0}, {'n': 1}]
    assert bench.store.commit([again]) == 1
    assert (bench.buffered(), bench.store.windows.count_documents({})) == (0, 0)


def test_a_window_remembers_its_last_failures_only(bench: Bench) -> None:
    record = bench.running()
    for n in range(12):
        assert bench.store.retry(record, failed(f'no {n}'), 0)
        record, = bench.take()
    assert [each['error'] for each in bench.window(record)['errors']] == [f'no {n}' for n in range(2, 12)]


def test_what_was_taken_and_not_run_counts_no_attempt(bench: Bench) -> None:
    record = bench.running()
    assert bench.store.release([record]) == 1
    window = bench.window(record)
    assert (window['state'], window['attempt']) == ('ready', 0)
    assert not {'owner', 'token', 'until'} & set(window)
    again, = bench.take()
    assert again.attempt == 1
    assert bench.store.release([]) == 0


def test_a_renewed_lease_is_not_recovered(bench: Bench) -> None:
    record = bench.running()
    bench.expire_lease(record)
    assert bench.store.renew([record], 60) == 1
    assert bench.store.recover(STREAM, 8) == []
    assert bench.state(record) == 'running'


def test_a_dead_consumers_window_goes_to_the_others_and_its_attempt_counts(bench: Bench) -> None:
    record = bench.running()
    bench.expire_lease(record)
    assert [each.id for each in bench.store.recover(STREAM, 8)] == [record.id]
    window = bench.window(record)
    assert (window['state'], window['attempt']) == ('ready', 1)
    assert 'the consumer a died or hung' in window['errors'][0]['error']
    assert bench.store.recover(STREAM, 8) == []
    again, = bench.take()
    assert bench.data_of(again) == [{'n': 0}, {'n': 1}]


def test_a_window_that_kills_its_consumers_ends_among_the_dead(bench: Bench) -> None:
    record = bench.running()
    record = bench.stolen(record)
    bench.expire_lease(record)
    bench.store.recover(STREAM, max_attempts=2)
    assert bench.state(record) == 'dead'
    assert bench.take() == []


# -- who comes late

LATE: dict[str, Any] = {
    'commit': lambda bench, record: bench.store.commit([record]),
    'retry': lambda bench, record: bench.store.retry(record, failed('late'), 0),
    'bury': lambda bench, record: bench.store.bury(record, failed('late')),
    'release': lambda bench, record: bench.store.release([record]),
    'renew': lambda bench, record: bench.store.renew([record], 999),
}


@pytest.mark.parametrize('verb', LATE)
@pytest.mark.parametrize('thief', ['runs', 'waits', 'is done'])
def test_who_comes_late_changes_nothing(bench: Bench, verb: str, thief: str) -> None:
    """The lease ran out, and the window is somebody else's, or ready for anybody, or done."""
    late = bench.running()
    bench.expire_lease(late)
    bench.store.recover(STREAM, 8)
    taken = bench.take() if thief != 'waits' else []
    if thief == 'is done':
        bench.store.commit(taken)
    before = bench.window(late), list(bench.store.buffer.find({}))
    assert not LATE[verb](bench, late)
    assert (bench.window(late), list(bench.store.buffer.find({}))) == before


def test_of_a_group_what_is_still_mine_is_committed(bench: Bench) -> None:
    bench.append(4)
    mine, stolen = bench.cut(Order(size=2, most=2), bench.claim(2))
    thief = bench.stolen(stolen)
    assert bench.store.commit([mine, stolen]) == 1
    assert (bench.window(mine), bench.state(stolen)) == (None, 'running')
    assert bench.data_of(thief) == [{'n': 2}, {'n': 3}]
    assert bench.store.commit([thief]) == 1


def test_the_data_of_a_window_that_is_gone_cannot_be_loaded(marked: Bench) -> None:
    late = marked.running()
    thief = marked.stolen(late)
    marked.store.commit([thief])
    with pytest.raises(LeaseLost):
        marked.store.load(late)


# -- effects and commit in one transaction


@pytest.mark.parametrize('keep', [False, True])
def test_effects_are_there_if_and_only_if_the_window_is_committed(moved: Bench, keep: bool) -> None:
    moved.way = 'marked' if keep else 'moved'
    if 'effects' not in moved.store.db.list_collection_names():
        moved.store.db.create_collection('effects')
    session = moved.session

    def write(n: int) -> Any:
        return lambda s: moved.store.db['effects'].insert_one({'n': n}, session=s)

    late = moved.running(keep=keep)
    thief = moved.stolen(late)
    with pytest.raises(LeaseLost):
        moved.store.commit([late], write(1), session)
    assert moved.store.commit([thief], write(2), session) == 1
    with pytest.raises(LeaseLost):  # a repeat after a lost reply must not write again
        moved.store.commit([thief], write(3), session)
    assert [each['n'] for each in moved.store.db['effects'].find()] == [2]


def test_effects_that_raise_leave_the_window_as_it_was(moved: Bench) -> None:
    record = moved.running()

    def raising(session: Any) -> None:
        raise ValueError('no')

    with pytest.raises(ValueError, match='no'):
        moved.store.commit([record], raising, moved.session)
    assert moved.state(record) == 'running'
    assert moved.store.commit([record]) == 1


def test_a_repeated_commit_after_a_lost_reply_counts(marked: Bench) -> None:
    record = marked.running(keep=True)
    assert marked.store.commit([record]) == 1
    assert marked.store.commit([record]) == 1


# -- after the commit


@pytest.mark.parametrize('left', ['messages and window', 'window'])
def test_what_a_crash_leaves_after_the_commit_is_swept(marked: Bench, left: str) -> None:
    record = marked.running()
    marked.store.windows.update_one({'_id': record.id}, {'$set': {'state': 'done', 'processed': True}})
    if left == 'window':
        marked.store.buffer.delete_many({})
    marked.store.sweep(STREAM)
    assert (marked.buffered(), marked.window(record)) == (0, None)


@pytest.mark.parametrize('state', ['ready', 'running', 'dead', 'cutting'])
def test_nobody_sweeps_what_is_not_done(marked: Bench, state: str) -> None:
    record = marked.running()
    marked.store.windows.update_one({'_id': record.id}, {'$set': {'state': state}})
    marked.store.sweep(STREAM)
    marked.store.clean([Record(id=record.id, stream=STREAM, seq=0, n=2, state='done')], kept=True)
    assert (marked.buffered(), marked.state(record)) == (2, state)


def test_kept_windows_are_cleaned_when_asked_for(marked: Bench) -> None:
    record = marked.running(keep=True)
    marked.store.commit([record])
    marked.store.clean([record])
    assert marked.buffered() == 2
    marked.store.clean([record], kept=True)
    assert (marked.buffered(), marked.window(record)) == (0, None)
