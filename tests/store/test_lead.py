"""Who cuts: one at a time, by the server's clock, and numbers that nobody else gets."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta

import pytest

from minibatch.alive import mark
from minibatch.errors import LeaseLost
from tests.store.bench import OWNER, STREAM, Bench


def test_one_leads_until_the_lease_is_over(marked: Bench) -> None:
    assert not marked.store.lead(STREAM, 'b', 60)
    assert marked.store.renew_lead(STREAM, OWNER, 60)
    marked.expire_lead()
    assert marked.store.lead(STREAM, 'b', 60)
    assert not marked.store.renew_lead(STREAM, OWNER, 60), 'who slept too long finds out'
    assert not marked.store.lead(STREAM, OWNER, 60)


def test_of_many_that_ask_at_once_one_leads(marked: Bench) -> None:
    marked.expire_lead()
    taken: list[str] = []
    begin = threading.Barrier(8)

    def ask(name: str) -> None:
        begin.wait()
        if marked.store.lead(STREAM, name, 60):
            taken.append(name)

    threads = [threading.Thread(target=ask, args=(f'c{n}',)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1
    assert marked.store.streams.find_one({'_id': STREAM})['lease']['owner'] == taken[0]


def test_nobody_leads_a_stream_that_is_not_there(marked: Bench) -> None:
    assert not marked.store.lead('nobody', OWNER, 60)


def test_who_resigns_is_followed_at_once(marked: Bench) -> None:
    marked.store.resign(STREAM, OWNER)
    assert marked.store.lead(STREAM, 'b', 60)
    marked.store.resign(STREAM, OWNER)
    assert not marked.store.lead(STREAM, 'c', 60), 'nobody resigns for somebody else'


def test_a_predecessors_open_transaction_ends(moved: Bench) -> None:
    """A consumer killed inside of its transaction holds locks; its session is known by the lease."""
    moved.append(1)
    moved.expire_lead()
    assert moved.session is not None
    assert moved.store.lead(STREAM, 'dead', 60, dict(moved.session.session_id))
    with moved.session.start_transaction():
        moved.store.buffer.delete_many({'stream': STREAM}, session=moved.session)
        moved.expire_lead()
        assert moved.store.lead(STREAM, 'b', 60)
        # would wait for the dead one's locks for a minute, were its session alive
        assert moved.store.buffer.update_many({'stream': STREAM}, {'$set': {'seen': True}}).modified_count == 1
        with pytest.raises(Exception, match=r'(?i)transaction|session'):
            moved.store.buffer.find_one({'stream': STREAM}, session=moved.session)
        moved.session.abort_transaction()


def test_numbers_are_given_out_once(marked: Bench) -> None:
    first = marked.store.allocate(STREAM, OWNER, 3, 60)
    assert marked.store.allocate(STREAM, OWNER, 1, 60) == first + 3
    marked.expire_lead()
    assert marked.store.lead(STREAM, 'b', 60)
    with pytest.raises(LeaseLost):
        marked.store.allocate(STREAM, OWNER, 1, 60)
    assert marked.store.allocate(STREAM, 'b', 1, 60) == first + 4


@pytest.mark.parametrize(('others', 'following'), [(0, 4), (1, 12)])
def test_unused_numbers_come_back_if_nobody_has_later_ones(marked: Bench, others: int, following: int) -> None:
    first = marked.store.allocate(STREAM, OWNER, 10, 60)
    if others:
        marked.store.allocate(STREAM, OWNER, others, 60)
    marked.store.resign(STREAM, OWNER, (first + 3, first + 9))
    marked.store.lead(STREAM, 'b', 60)
    assert marked.store.allocate(STREAM, 'b', 1, 60) == following


def test_the_time_read_up_to_goes_with_the_number_and_never_back(moved: Bench) -> None:
    now = moved.store.clock.now().replace(microsecond=0)
    session = moved.session
    assert session is not None
    for advance in (now, now - timedelta(seconds=5)):
        with session.start_transaction():
            moved.store.allocate(STREAM, OWNER, 1, 60, advance, session)
    assert moved.store.last_read(STREAM) == now


def test_allocating_renews_the_lease(marked: Bench) -> None:
    marked.expire_lead()
    marked.store.allocate(STREAM, OWNER, 1, 60)
    assert not marked.store.lead(STREAM, 'b', 60)


LEADER = """\
import sys, time
from minibatch.connection import connect
from minibatch.store import Store
store = Store(connect(sys.argv[1]))
with store.db.client.start_session() as session:
    print(store.lead(sys.argv[2], 'other', 60, dict(session.session_id) if sys.argv[3] else None), flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(mark() is None, reason='this system has no /proc')
@pytest.mark.parametrize('session', ['session', ''])
def test_the_lead_of_a_process_that_was_killed(moved: Bench, session: str) -> None:
    """It is free at once; but only if what the server still does for the dead process can be ended."""
    moved.expire_lead()
    with subprocess.Popen([sys.executable, '-c', LEADER, moved.store.connection.url, STREAM, session],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == 'True\n'
        assert not moved.store.lead(STREAM, 'b', 60)
        other.kill()
    assert moved.store.lead(STREAM, 'b', 60) == bool(session)
    assert not moved.store.lead(STREAM, 'c', 60)
