"""Positions of sources: moved with the messages or not at all, by one reader at a time."""

from __future__ import annotations

import time
from typing import Any

import pytest
from bson import ObjectId

from minibatch.errors import PositionMoved, StoreUnavailable
from minibatch.ids import ids
from minibatch.store.sources import Letter, Move, dead_letter, messages, source_id
from tests.store.bench import STREAM, Bench
from tests.support.waiting import patience


class Reader:
    """Somebody who reads a source, by the verbs alone."""

    def __init__(self, bench: Bench, owner: str, part: str = '') -> None:
        self.store, self.owner = bench.store, owner
        self.session = self.store.session()
        self.doc = self.store.open_source(STREAM, 'queue', part, owner, dict(self.session.session_id))

    def append(self, count: int, position: Any, *, letters: int = 0, batch: str = 'b', **move: Any) -> Move:
        now = self.store.clock.now()
        given = ids.take(count + letters, now)
        docs = messages(STREAM, now, given[:count], [{'n': n} for n in range(count)])
        dead = [dead_letter(STREAM, now, id_, Letter(raw=b'x', reason='no', source='queue', part='', position=1))
                for id_ in given[count:]]
        self.step = Move(id=self.doc['_id'], version=self.doc['version'], position=position, ids=given, **move)
        self.store.append_from(self.session, docs, dead, [self.step], batch)
        return self.step

    def again(self, count: int, batch: str = 'b') -> None:
        """The same call once more, as after a lost reply."""
        docs = messages(STREAM, self.store.clock.now(), list(self.step.ids)[:count], [{'n': n} for n in range(count)])
        self.store.append_from(self.session, docs, [], [self.step], batch)


def position(bench: Bench) -> Any:
    return [each['position'] for each in bench.store.positions(STREAM)]


def test_messages_letters_and_position_are_one(marked: Bench) -> None:
    reader = Reader(marked, 'a')
    assert reader.doc['position'] is None
    reader.append(3, {'offset': 3}, letters=1)
    assert position(marked) == [{'offset': 3}]
    assert marked.buffered() == 3
    dead = marked.store.dead(STREAM)
    assert [doc['data'] for doc in dead] == [[
        {'raw': b'x', 'reason': 'no', 'source': 'queue', 'part': '', 'position': 1}]]
    assert Reader(marked, 'b').doc['position'] == {'offset': 3}


def test_a_repeated_call_is_no_second_one(marked: Bench) -> None:
    reader = Reader(marked, 'a')
    reader.append(3, 3)
    reader.again(3)
    assert marked.buffered() == 3
    assert position(marked) == [3]


def test_a_repeated_call_stores_nothing_that_was_consumed_meanwhile(marked: Bench) -> None:
    reader = Reader(marked, 'a')
    reader.append(3, 3)
    marked.store.buffer.delete_many({})
    reader.again(3)
    assert marked.buffered() == 0


def test_who_was_replaced_stores_nothing(marked: Bench) -> None:
    old = Reader(marked, 'a')
    new = Reader(marked, 'b')
    new.append(2, 2, batch='new')
    with pytest.raises(PositionMoved, match='another process has read on'):
        old.append(5, 5, batch='old')
    assert marked.buffered() == 2
    assert position(marked) == [2]


def test_parts_have_positions_of_their_own(marked: Bench) -> None:
    Reader(marked, 'a', 'topic/0').append(1, 10)
    Reader(marked, 'a', 'topic/1').append(1, 20)
    assert [(each['part'], each['position']) for each in marked.store.positions(STREAM, 'queue')] == [
        ('topic/0', 10), ('topic/1', 20)]
    assert marked.store.forget_source(STREAM, 'queue') == 2
    assert position(marked) == []
    assert Reader(marked, 'b', 'topic/0').doc['position'] is None


def test_names_with_slashes_do_not_meet() -> None:
    assert len({source_id('a/b', 'c', ''), source_id('a', 'b/c', ''), source_id('a', 'b', 'c/'),
                source_id('a%2Fb', 'c', '')}) == 4


def test_a_dead_readers_transaction_holds_nobody_up(moved: Bench) -> None:
    """It was killed between the move and the commit, and its locks stay for a minute."""
    dead = Reader(moved, 'a')
    dead.session.start_transaction()
    moved.store.sources.update_one({'_id': dead.doc['_id']}, {'$inc': {'version': 1}}, session=dead.session)
    began = time.monotonic()
    Reader(moved, 'b').append(1, 1)
    assert time.monotonic() - began < patience(5)
    assert position(moved) == [1]
    dead.session.end_session()


def test_a_slow_readers_transaction_is_not_committed_any_more(moved: Bench) -> None:
    slow = Reader(moved, 'a')
    now = moved.store.clock.now()
    slow.session.start_transaction()
    moved.store.sources.update_one({'_id': slow.doc['_id']}, {'$inc': {'version': 1}}, session=slow.session)
    moved.store.buffer.insert_many(messages(STREAM, now, ids.take(1, now), [{'n': 0}]), session=slow.session)
    Reader(moved, 'b').append(2, 2)
    with pytest.raises(Exception, match=r'aborted|NoSuchTransaction|does not match'):
        slow.session.commit_transaction()
    assert moved.buffered() == 2
    slow.session.end_session()


def test_keys_are_kept_in_pages(marked: Bench) -> None:
    reader = Reader(marked, 'a')
    reader.append(1, 1, recent=['k1', 'k2'])
    again = Reader(marked, 'b')
    assert again.doc['recent'] == ['k1', 'k2']
    again.append(1, 2, batch='c', recent=['k3'], page=['k1', 'k2', 'k3'])
    last = Reader(marked, 'c')
    assert last.doc['recent'] == []
    assert [keys for _, keys in last.doc['pages']] == [['k1', 'k2', 'k3']]
    assert len(marked.store.positions(STREAM)) == 1, 'a page is no position'
    last.store.drop_pages([page for page, _ in last.doc['pages']])
    assert Reader(marked, 'd').doc['pages'] == []


def test_on_a_standalone_server_ids_are_written_ahead(alone: Any, stores: Any) -> None:
    """Who reads on after a crash gives the same messages the same ids, and so stores none twice."""
    from tests.store.conftest import bench_on
    bench = bench_on(alone, stores, 'marked')
    reader = Reader(bench, 'a')
    given = ids.take(3, bench.store.clock.now())
    ahead = b''.join(each.binary for each in given)
    bench.store.sources.update_one({'_id': reader.doc['_id']}, {
        '$set': {'pending': ahead, 'batch': 'x:intent'}, '$inc': {'version': 1}})
    doc = Reader(bench, 'b').doc
    assert doc['pending'] == given
    assert all(type(each) is ObjectId for each in doc['pending'])
    assert doc['position'] is None
    with pytest.raises(PositionMoved):
        reader.append(1, 1, batch='late')


def test_while_mongodb_is_away_it_says_so(moved: Bench, server: Any) -> None:
    reader = Reader(moved, 'a')
    with server.fail_command(['update'], times=1, errorCode=11602, errorLabels=['TransientTransactionError']), \
            pytest.raises(StoreUnavailable):
        reader.append(2, 2)
    assert moved.buffered() == 0
    reader.append(2, 2)
    assert moved.buffered() == 2
