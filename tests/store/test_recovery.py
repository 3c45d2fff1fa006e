"""Failing a window in steps that a killed or late process may stop between, and what holds a rescuer up."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from minibatch import points
from minibatch.errors import StoreUnavailable
from minibatch.order import Order
from minibatch.store import Record
from tests.store.bench import STREAM, Bench, failed


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.fixture
def at_copied(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Do something, once, at the moment when a failed window's messages are copied, and its state is not changed."""
    def install(action: Callable[[], object]) -> None:
        def reached(name: str) -> None:
            if name == 'fail:copied':
                points.on_point = None
                action()
        monkeypatch.setattr(points, 'on_point', reached)
    return install


def killed() -> None:
    raise Killed


def expired(moved: Bench) -> Record:
    record = moved.running()
    moved.expire_lease(record)
    return record


Hook = Callable[[Callable[[], object]], None]


def test_a_rescuer_that_dies_halfway_holds_nobody_up(moved: Bench, at_copied: Hook) -> None:
    record = expired(moved)
    at_copied(killed)
    with pytest.raises(Killed):
        moved.store.recover(STREAM, 8)
    assert (moved.state(record), moved.buffered()) == ('running', 2)
    assert [each.id for each in moved.store.recover(STREAM, 8)] == [record.id]
    again, = moved.take()
    assert moved.data_of(again) == [{'n': 0}, {'n': 1}]
    assert moved.store.commit([again]) == 1
    assert (moved.buffered(), moved.window(record)) == (0, None)


def test_two_rescuers_at_once(moved: Bench, at_copied: Hook) -> None:
    record = expired(moved)
    other: list[Record] = []
    at_copied(lambda: other.extend(moved.store.recover(STREAM, 8)))
    assert moved.store.recover(STREAM, 8) == []
    assert [each.id for each in other] == [record.id]
    assert (moved.state(record), moved.buffered()) == ('ready', 2)
    assert len(moved.window(record)['errors']) == 1


def test_an_owner_that_commits_late_leaves_no_copies(moved: Bench, at_copied: Hook) -> None:
    record = expired(moved)
    at_copied(lambda: moved.store.commit([record]))
    assert moved.store.recover(STREAM, 8) == []
    assert (moved.buffered(), moved.window(record)) == (0, None)


def test_copies_of_a_committed_window_are_swept_away(moved: Bench, at_copied: Hook) -> None:
    """The owner committed late, and the rescuer was killed before it saw that."""
    record = expired(moved)

    def commit_and_die() -> None:
        moved.store.commit([record])
        raise Killed
    at_copied(commit_and_die)
    with pytest.raises(Killed):
        moved.store.recover(STREAM, 8)
    assert (moved.buffered(), moved.window(record)) == (2, None)
    moved.store.sweep_strays(STREAM)
    assert moved.buffered() == 0


@pytest.mark.parametrize('late', [True, False], ids=['then', 'later'])
def test_a_rescuer_that_had_no_time_leaves_no_copies(moved: Bench, at_copied: Hook, late: bool) -> None:
    """The owner commits late, and the rescuer sees that in its next round."""
    record = expired(moved)

    def no_answer() -> None:
        if not late:
            moved.store.commit([record])
        raise StoreUnavailable('MongoDB did not answer in time')
    at_copied(no_answer)
    assert moved.store.recover(STREAM, 8) == []
    assert moved.buffered() == 2
    if late:
        moved.store.renew([record], 60)
        assert moved.store.recover(STREAM, 8) == []
        assert moved.buffered() == 2
        moved.store.commit([record])
    assert moved.store.recover(STREAM, 8) == []
    assert (moved.buffered(), moved.window(record)) == (0, None)


def test_the_sweep_for_copies_leaves_everything_else_alone(moved: Bench) -> None:
    retried = moved.running()
    assert moved.store.retry(retried, failed(), 60)
    dead = moved.running()
    assert moved.store.bury(dead, failed())
    moved.store.buffer.update_many({'window': dead.id}, {'$unset': {'copied': 1}})
    moved.append(3)
    removed_by_hand = moved.running(3)  # somebody removed the window of messages that were to be kept
    moved.store.retry(removed_by_hand, failed(), 60)
    moved.store.buffer.update_many({'window': removed_by_hand.id}, {'$unset': {'copied': 1}})
    moved.store.windows.delete_one({'_id': removed_by_hand.id})
    before = list(moved.store.buffer.find({}))
    moved.store.sweep_strays(STREAM)
    assert list(moved.store.buffer.find({})) == before


def test_a_window_that_is_locked_does_not_hold_up_the_others(moved: Bench) -> None:
    """Somebody's transaction, which no rescuer knows of, holds one of two windows."""
    moved.append(4)
    locked, other = moved.cut(Order(size=2, most=2), moved.claim(2))
    for record in (locked, other):
        moved.expire_lease(record)
    assert moved.session is not None
    with moved.session.start_transaction():
        moved.store.windows.update_one({'_id': locked.id}, {'$set': {'key': 1}}, session=moved.session)
        recovered: list[str] = []
        began = time.monotonic()
        while not recovered and time.monotonic() < began + 30:  # the order is left to chance
            recovered += [each.id for each in moved.store.recover(STREAM, 8, within=0.3)]
        assert recovered == [other.id]
        moved.session.abort_transaction()
    # The server may go on with a write that was given up, so that the window is recovered without anybody knowing.
    moved.store.recover(STREAM, 8)
    assert {doc['_id']: doc['state'] for doc in moved.store.windows.find()} == {locked.id: 'ready', other.id: 'ready'}
