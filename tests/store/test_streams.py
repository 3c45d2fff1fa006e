"""Streams and the messages in no window: open, append, count, clear, expire, signs of life."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from minibatch.errors import StoreUnavailable
from minibatch.order import Order
from tests.store.bench import STREAM, Bench


def message(**more: Any) -> dict[str, Any]:
    return {'_id': ObjectId(), 'stream': STREAM, 'created': None, 'data': {}, 'processed': False, 'window': None} | more


def test_a_stream_is_opened_once_and_options_replace_the_stored_ones(marked: Bench) -> None:
    first = marked.store.open_stream('other', {'batchsize': 5, 'max_age': 60})
    again = marked.store.open_stream('other', {'batchsize': 7})
    assert (first['status'], first['seq']) == ('open', 0)
    assert (again['created'], again['batchsize'], again['max_age']) == (first['created'], 7, 60)
    assert marked.store.open_stream('other', {}) == again


@pytest.mark.parametrize('repeated', [1, 3])
def test_an_append_that_is_repeated_stores_nothing_twice(marked: Bench, repeated: int) -> None:
    """After a lost reply the same documents come again, some or all of them there already."""
    docs = [message(data={'n': n}) for n in range(3)]
    marked.store.append(docs[:repeated])
    marked.store.append(docs)
    marked.store.append(docs)
    assert [data['n'] for data in marked.free()] == [0, 1, 2]


def test_a_single_append_that_is_repeated_is_no_error(marked: Bench) -> None:
    doc = message()
    marked.store.append([doc])
    marked.store.append([doc])
    assert marked.buffered() == 1


def test_an_append_that_is_repeated_leaves_a_message_in_its_window(marked: Bench) -> None:
    """The reply came so late that the message has been cut meanwhile: it must not become free again."""
    docs = [message(created=marked.store.clock.now(), data={'n': n}) for n in range(2)]
    marked.store.append(docs)
    record, = marked.cut(Order(size=2))
    marked.store.append(docs)
    assert marked.free() == []
    assert len(marked.store.load(record)) == 2


def test_what_the_server_refuses_is_said(marked: Bench) -> None:
    marked.store.db.command({'collMod': 'buffer', 'validator': {'data.n': {'$lt': 2}}})
    try:
        with pytest.raises(StoreUnavailable, match='Document failed validation'):
            marked.store.append([message(data={'n': n}) for n in (1, 2)])
    finally:
        marked.store.db.command({'collMod': 'buffer', 'validator': {}})


def test_messages_of_one_stream_are_counted(marked: Bench) -> None:
    marked.append(5)
    marked.store.append([message(stream='other')])
    assert marked.store.count_free(STREAM) == 5
    assert marked.store.count_free(STREAM, 3) == 3
    marked.cut(Order(size=4))
    assert marked.store.count_free(STREAM) == 1


def test_the_oldest_message_in_no_window(marked: Bench) -> None:
    now = marked.store.clock.now().replace(microsecond=0)
    assert marked.store.oldest_free(STREAM) is None
    marked.append(1, created=now - timedelta(seconds=9))
    marked.append(1, created=now)
    assert marked.store.oldest_free(STREAM) == now - timedelta(seconds=9)
    assert marked.store.oldest_free(STREAM, before=now - timedelta(seconds=10)) is None
    marked.cut(Order(size=1))
    assert marked.store.oldest_free(STREAM) == now


def test_last_read_never_goes_back(marked: Bench) -> None:
    now = marked.store.clock.now().replace(microsecond=0)
    assert marked.store.last_read(STREAM) is None
    marked.store.note_read(STREAM, now)
    marked.store.note_read(STREAM, now - timedelta(seconds=1))
    assert marked.store.last_read(STREAM) == now
    assert marked.store.last_read('nobody') is None


def test_clear_removes_messages_and_windows_of_this_stream_only(bench: Bench) -> None:
    bench.running()
    bench.append(3)
    bench.store.append([message(stream='other')])
    bench.store.clear(STREAM)
    assert bench.buffered() == bench.store.windows.count_documents({}) == 0
    assert bench.store.buffer.count_documents({'stream': 'other'}) == 1
    assert bench.store.streams.find_one({'_id': STREAM}), 'the stream stays'


def test_kept_windows_expire_with_their_messages(marked: Bench) -> None:
    old, young = marked.running(3, keep=True), marked.running(2, keep=True)
    marked.store.commit([old, young])
    marked.age(old, 100)
    marked.age(young, 10)
    assert marked.store.expire(STREAM, 50) == 3
    assert (marked.window(old), marked.state(young), marked.buffered()) == (None, 'done', 2)


@pytest.mark.parametrize('asked', [False, True])
def test_what_is_not_processed_expires_only_if_asked_for(marked: Bench, asked: bool) -> None:
    now = marked.store.clock.now()
    marked.append([{'n': 'old'}], created=now - timedelta(days=9))
    marked.append([{'n': 'young'}])
    marked.store.expire(STREAM, 60, asked)
    assert [data['n'] for data in marked.free()] == (['young'] if asked else ['old', 'young'])


@pytest.mark.parametrize('state', ['ready', 'running', 'dead'])
def test_what_is_in_an_open_or_dead_window_never_expires(bench: Bench, state: str) -> None:
    now = bench.store.clock.now()
    bench.append(2, created=now - timedelta(days=9))
    record, = bench.cut(Order(size=2), bench.claim(0 if state == 'ready' else 1))
    if state == 'dead':
        assert bench.store.bury(record, {'error': 'no'})
    bench.age(record, 9 * 86400)
    assert bench.store.expire(STREAM, 60, True) == 0
    assert bench.state(record) == state
    if state == 'running':
        bench.stolen(record)
    elif state == 'dead':
        bench.store.redrive(STREAM)
    data = [bench.data_of(each) for each in bench.take('c')] if state != 'running' else [bench.data_of(record)]
    assert data == [[{'n': 0}, {'n': 1}]]


def test_consumers_that_gave_no_sign_of_life_are_not_counted(marked: Bench) -> None:
    for name in ('quick', 'dead', 'gone'):
        marked.store.beat({'_id': name, 'stream': STREAM, 'host': '$HOME', 'pid': 1})
    marked.store.beat({'_id': 'elsewhere', 'stream': 'other'})
    marked.store.consumers.update_one({'_id': 'dead'}, [{'$set': {'beat': {'$subtract': ['$$NOW', 60_000]}}}])
    marked.store.leave('gone')
    alive = marked.store.consumers_of(STREAM, alive_within=30)
    assert [(each['_id'], each['host']) for each in alive] == [('quick', '$HOME')]
    marked.store.beat({'_id': 'dead', 'stream': STREAM})
    assert len(marked.store.consumers_of(STREAM, alive_within=30)) == 2
