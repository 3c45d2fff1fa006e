"""Cutting: which messages become members of which window, on both ways, whatever comes in between."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import bson
import pytest
from bson import ObjectId
from pymongo import MongoClient

from minibatch.clock import EPOCH
from minibatch.errors import LeaseLost, StoreUnavailable
from minibatch.order import Order
from minibatch.store import Record, raw, schema
from tests.store.bench import OWNER, STREAM, Bench


def ns(bench: Bench, records: list[Record]) -> list[list[int]]:
    return [[each['n'] for each in bench.data_of(record)] for record in records]


@pytest.mark.parametrize(('order', 'windows', 'left'), [
    (Order(size=2), [[0, 1]], [2, 3, 4]),
    (Order(size=2, most=9), [[0, 1], [2, 3]], [4]),
    (Order(size=2, most=9, partial=True), [[0, 1], [2, 3], [4]], []),
    (Order(size=9), [], [0, 1, 2, 3, 4]),
    (Order(size=9, partial=True), [[0, 1, 2, 3, 4]], []),
    (Order(size=None), [[0, 1, 2, 3, 4]], []),
])
def test_messages_are_cut_in_order(bench: Bench, order: Order, windows: list[list[int]], left: list[int]) -> None:
    bench.append(5)
    records = bench.cut(order)
    assert ns(bench, records) == windows
    assert [each['n'] for each in bench.free()] == left
    assert [each['state'] for each in map(bench.window, records)] == ['ready'] * len(windows)


@pytest.mark.parametrize('empty', [False, True])
def test_a_window_without_messages_is_cut_if_it_is_ordered(bench: Bench, empty: bool) -> None:
    end = EPOCH + timedelta(seconds=10)
    records = bench.cut(Order(size=None, empty=empty, start=EPOCH, end=end, advance=end))
    assert [(each.n, each.start, each.end) for each in records] == ([(0, EPOCH, end)] if empty else [])
    assert bench.store.last_read(STREAM) == (end if empty else None)


def test_intervals_are_half_open(bench: Bench) -> None:
    at = [EPOCH + timedelta(seconds=s) for s in (9, 10, 19, 20)]
    for n, created in enumerate(at):
        bench.append([{'n': n}], created=created)
    record, = bench.cut(Order(size=None, since=at[1], until=at[3], start=at[1], end=at[3], advance=at[3]))
    assert ns(bench, [record]) == [[1, 2]]
    assert (record.start, record.end, bench.store.last_read(STREAM)) == (at[1], at[3], at[3])
    assert [each['n'] for each in bench.free()] == [0, 3]


def test_a_window_starts_and_ends_with_its_messages_unless_it_is_told_otherwise(bench: Bench) -> None:
    bench.append([{'n': 0}], created=EPOCH)
    bench.append([{'n': 1}], created=EPOCH + timedelta(seconds=3))
    record, = bench.cut(Order(size=2))
    assert (record.start, record.end) == (EPOCH, EPOCH + timedelta(seconds=3))


def test_the_first_windows_run_already_and_the_others_wait(bench: Bench) -> None:
    bench.append(6)
    claim = bench.claim(2)
    records = bench.cut(Order(size=2, most=3), claim)
    docs = [bench.window(record) for record in records]
    assert [doc['state'] for doc in docs] == ['running', 'running', 'ready']
    assert [(doc.get('token'), doc.get('owner'), doc['attempt']) for doc in docs] == [
        (claim.token, OWNER, 1), (claim.token, OWNER, 1), (None, None, 0)]
    assert [record.token for record in records] == [claim.token, claim.token, None]
    assert docs[0]['until'] > bench.store.clock.now() + timedelta(seconds=50)
    assert [each.id for each in bench.take()] == [records[2].id]


def test_the_record_and_what_is_stored_are_the_same(bench: Bench) -> None:
    """Who gets the window at once and who takes it after a crash must see the same one."""
    bench.append([{'n': 1, 'when': EPOCH}, {'n': 2, 'deep': {'a': [1, {'b': None}]}}])
    record, = bench.cut(Order(size=2), bench.claim(1))
    again = bench.stolen(record)
    assert bench.data_of(again) == bench.data_of(record) == [
        {'n': 1, 'when': EPOCH}, {'n': 2, 'deep': {'a': [1, {'b': None}]}}]
    for name in ('start', 'end', 'n', 'members', 'times', 'seq', 'key', 'query'):
        assert getattr(again, name) == getattr(record, name), name


def test_other_streams_messages_stay_where_they_are(bench: Bench) -> None:
    ids = bench.append(4)
    bench.store.buffer.update_one({'_id': ids[1]}, {'$set': {'stream': 'other'}})
    assert ns(bench, bench.cut(Order(size=3))) == [[0, 2, 3]]
    assert bench.store.count_free('other') == 1


def test_window_ids_are_never_used_again(bench: Bench) -> None:
    bench.append(4)
    first, second = bench.cut(Order(size=2, most=2), bench.claim(2))
    bench.store.commit([first, second])
    bench.append(2)
    third, = bench.cut(Order(size=2))
    assert len({first.id, second.id, third.id}) == 3
    assert third.seq > second.seq > first.seq


def test_messages_too_many_for_one_group_wait_for_the_next(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, 'MAX_GROUP', 100)
    bench.append(103)
    assert len(bench.cut(Order(size=5, most=300))) == 20
    assert [record.n for record in bench.cut(Order(size=5, most=300, partial=True))] == [3]


def test_large_messages_are_divided_among_groups(bench: Bench) -> None:
    bench.append([{'n': n, 'blob': b'x' * 4_000_000} for n in range(5)])
    cut = ns(bench, bench.cut(Order(size=2, most=9)))
    cut += ns(bench, bench.cut(Order(size=2, most=9)))
    assert cut == [[0, 1], [2, 3]]


def test_a_window_too_large_for_a_document_is_marked(moved: Bench) -> None:
    moved.append([{'n': n, 'blob': b'x' * 6_000_000} for n in range(3)])
    assert moved.store.move(moved.session, STREAM, Order(size=3), moved.claim(), moved.numbers) is None
    doc, = moved.store.mark(STREAM, Order(size=3), moved.claim(1), moved.numbers, keep=False)
    record = Record.from_document(doc)
    assert 'data' not in moved.window(record)
    assert [each['n'] for each in moved.store.load(record)] == [0, 1, 2]
    assert moved.store.commit([record]) == 1
    assert (moved.buffered(), moved.window(record)) == (0, None)


def test_messages_that_others_wrote_into_the_buffer(bench: Bench) -> None:
    """The fields in another order, ids of another kind: whatever is a message by the documented states is cut."""
    bench.store.buffer.insert_many([
        {'data': {'n': 0}, 'processed': False, '_id': 17, 'created': EPOCH, 'stream': STREAM, 'by': 'hand'},
        {'processed': False, '_id': 18, 'created': EPOCH, 'stream': STREAM, 'data': {'n': 1}, 'window': None}])
    record, = bench.cut(Order(size=2), bench.claim(1))
    assert ns(bench, [record]) == [[0, 1]]
    assert ns(bench, [bench.stolen(record)]) == [[0, 1]]


def test_ids_of_two_kinds_in_one_window(bench: Bench) -> None:
    """A range of ids never spans two BSON types, so a query by range alone would find less than was read."""
    bench.store.buffer.insert_one(
        {'_id': 'by hand', 'stream': STREAM, 'created': EPOCH, 'data': {'n': 0}, 'processed': False, 'window': None})
    bench.append([{'n': 1}])
    assert ns(bench, bench.cut(Order(size=2))) == [[0, 1]]


# -- what may come in between


def test_who_does_not_lead_cuts_nothing(bench: Bench) -> None:
    bench.append(2)
    bench.expire_lead()
    assert bench.store.lead(STREAM, 'b', 60)
    with pytest.raises(LeaseLost):
        bench.cut(Order(size=2))
    assert len(bench.free()) == 2
    assert bench.store.windows.count_documents({}) == 0


def test_a_message_that_another_cutter_marks_meanwhile_is_moved_by_nobody_else(moved: Bench, server: Any) -> None:
    ids = moved.append(2)
    with MongoClient[Any](server.url()) as other:
        def late(n: int) -> int:
            other[moved.store.db.name]['buffer'].update_one(
                {'_id': ids[0]}, {'$set': {'processed': True, 'window': 'clicks:99'}})
            return moved.numbers(n)
        with pytest.raises((StoreUnavailable, LeaseLost)):
            moved.store.move(moved.session, STREAM, Order(size=2), moved.claim(), late)
    assert [each['n'] for each in moved.free()] == [1]
    assert moved.store.windows.count_documents({}) == 0


def test_a_message_with_a_smaller_id_that_becomes_visible_late_is_cut_later(bench: Bench) -> None:
    early = ObjectId()
    bench.append(2)
    bench.cut(Order(size=2))
    bench.store.append([{'_id': early, 'stream': STREAM, 'created': EPOCH, 'data': {'n': 7}, 'processed': False,
                         'window': None}])
    assert ns(bench, bench.cut(Order(size=1))) == [[7]]


def intent(bench: Bench, ids: list[Any], seq: int = 50) -> Record:
    """What a leader leaves that dies between writing a window down and marking its messages."""
    doc = {'_id': f'{STREAM}:{seq}', 'stream': STREAM, 'seq': seq, 'state': 'cutting', 'n': len(ids), 'attempt': 0,
           'processed': False, 'created': bench.store.clock.now(), 'start': EPOCH, 'end': EPOCH, 'times': b'',
           'members': b''.join(each.binary for each in ids), 'advance': EPOCH + timedelta(seconds=1)}
    bench.store.windows.insert_one(doc)
    return Record.from_document(doc)


@pytest.mark.parametrize('marked_before', [0, 1, 3])
def test_a_cut_that_its_leader_left_is_finished(marked: Bench, marked_before: int) -> None:
    ids = marked.append(4)
    record = intent(marked, ids[:3])
    marked.store.buffer.update_many({'_id': {'$in': ids[:marked_before]}},
                                    {'$set': {'processed': True, 'window': record.id}})
    assert marked.store.roll_forward(STREAM) == 1
    assert marked.store.roll_forward(STREAM) == 0
    taken, = marked.take()
    assert ns(marked, [taken]) == [[0, 1, 2]]
    assert [each['n'] for each in marked.free()] == [3]
    assert marked.store.last_read(STREAM) == EPOCH + timedelta(seconds=1)


def test_a_cut_whose_messages_went_elsewhere_is_void_and_frees_the_others(marked: Bench) -> None:
    ids = marked.append(3)
    marked.cut(Order(size=1))
    record = intent(marked, ids)
    marked.store.roll_forward(STREAM)
    assert marked.state(record) == 'void'
    assert [each['n'] for each in marked.free()] == [1, 2]
    assert marked.store.last_read(STREAM) is None
    # the dead one was only late, and marks some for its void window after all
    marked.store.buffer.update_one({'_id': ids[1]}, {'$set': {'processed': True, 'window': record.id}})
    marked.store.roll_forward(STREAM)
    assert [each['n'] for each in marked.free()] == [1, 2]
    marked.age(record, 7200)
    marked.store.roll_forward(STREAM)
    assert marked.window(record) is None


def test_messages_flagged_by_hand_but_in_no_window_are_free_again(marked: Bench) -> None:
    ids = marked.append(2)
    marked.store.buffer.update_one({'_id': ids[0]}, {'$set': {'processed': True}})
    marked.store.roll_forward(STREAM)
    assert len(marked.free()) == 2


def test_a_window_of_a_custom_emitter_has_what_it_says(marked: Bench) -> None:
    ids = marked.append(3)
    part = [{'_id': each, 'created': EPOCH, 'data': {'n': n}} for n, each in enumerate(ids)][::-1][:2]
    doc, = marked.store.select(STREAM, part, marked.claim(1), marked.numbers, keep=True, data=[{'sum': 3}],
                               key='ann', query=[7], start=EPOCH, end=EPOCH, advance=None)
    record = Record.from_document(doc)
    stored = marked.window(record)
    assert (stored['data'], stored['key'], stored['query'], stored['keep']) == ([{'sum': 3}], 'ann', [7], True)
    assert record.ids() == ids[:0:-1], 'in the order of the emitter'
    assert marked.store.buffer.count_documents({'processed': True, 'window': record.id}) == 2
    assert [each['n'] for each in marked.free()] == [0]


def test_a_selection_that_somebody_else_has_is_no_window(marked: Bench) -> None:
    ids = marked.append(2)
    part = [{'_id': each, 'created': EPOCH, 'data': {}} for each in ids]
    marked.cut(Order(size=1))
    assert marked.store.select(STREAM, part, marked.claim(1), marked.numbers, keep=False, data=[1, 2]) == []
    assert [each['n'] for each in marked.free()] == [1]
    assert len(marked.take()) == 1, "the void one is nobody's to take"


# -- reading


@pytest.mark.parametrize('messages', [150, 200], ids=['one reply', 'more than one'])
def test_what_does_not_fit_into_one_document_is_cut_in_several_goes(bench: Bench, messages: int) -> None:
    """A document is to hold 12 MB, a reply of the server holds 16."""
    bench.append({'n': n, 'text': 'x' * 100_000} for n in range(messages))
    cut: list[Record] = []
    while records := bench.cut(Order(size=10, most=20)):
        cut += records
    assert ns(bench, cut) == [list(range(at, at + 10)) for at in range(0, messages, 10)]


def test_a_reply_in_another_order_is_read_too() -> None:
    page = {'id': 7, 'ns': 'db.buffer', 'nextBatch': [{'n': n} for n in range(12)]}
    docs, cursor = raw.page(bson.encode(page))
    assert ([bson.decode(each) for each in docs], cursor) == (page['nextBatch'], 7)
    docs, cursor = raw.page(bson.encode({name: page[name] for name in ('nextBatch', 'id', 'ns')}))
    assert ([bson.decode(each) for each in docs], cursor) == (page['nextBatch'], 7)
