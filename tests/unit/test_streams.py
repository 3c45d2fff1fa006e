"""A stream: options, messages, query sets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import minibatch as mb
from minibatch.errors import InvalidMessage, OptionError
from tests.support.streams import numbers, window
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


# -- get or create


def test_a_stream_is_made_once_and_found_again(open_stream: Callable[..., mb.Stream], db: Any) -> None:
    first = open_stream(interval=10, batchsize=3, max_age=60, max_backlog=9, on_full='raise', linger=0.5)
    again = open_stream()
    assert (again.name, again.created) == (first.name, first.created)
    assert (again.interval, again.batchsize, again.max_age, again.max_backlog, again.on_full, again.linger) == (
        10, 3, 60, 9, 'raise', 0.5)
    assert open_stream(batchsize=1).batchsize == 1
    assert db.stream.count_documents({}) == 1


def test_the_names_that_programs_for_the_original_use(url: str, stream_name: str, db: Any) -> None:
    stream = mb.Stream.get_or_create(stream_name, url=url, interval=5, batchsize=2, max_age=60)
    stream.append({'n': 1})
    stream.append({'n': 2})
    assert numbers(db) == [1, 2]
    stream.stop()


def test_twenty_threads_that_make_it_at_once_make_one(url: str, stream_name: str, db: Any) -> None:
    streams: list[mb.Stream] = []
    threads = [threading.Thread(target=lambda: streams.append(mb.stream(stream_name, url=url))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({stream.created for stream in streams}) == 1
    assert (len(streams), db.stream.count_documents({})) == (20, 1)


@pytest.mark.parametrize('name', ['', 'x' * 121, 'a\0b', None, 5, b'clicks'])
def test_what_cannot_be_a_name(url: str, name: Any) -> None:
    with pytest.raises(OptionError, match='a stream is named by'):
        mb.stream(name, url=url)


@pytest.mark.parametrize('name', ['x' * 120, 'ä', 'a.b', '$where', 'a b', 'a:1'])
def test_what_can_be_a_name(url: str, db: Any, name: str) -> None:
    stream = mb.stream(name, url=url)
    stream.append({'n': 1})
    assert [message.data for message in stream.buffer()] == [{'n': 1}]


@pytest.mark.parametrize(('option', 'near'), [
    ('batchsize_', 'batchsize'), ('batch_size', 'batchsize'), ('maxage', 'max_age'), ('max_backlogs', 'max_backlog')])
def test_an_unknown_option_is_refused_with_the_nearest_name(url: str, db: Any, option: str, near: str) -> None:
    with pytest.raises(OptionError, match=f'did you mean {near}'):
        mb.stream('clicks', url=url, **{option: 1})
    assert db.stream.count_documents({}) == 0


@pytest.mark.parametrize(('option', 'value'), [
    ('batchsize', 0), ('batchsize', '3'), ('batchsize', True), ('max_backlog', 0), ('max_backlog', 1.5),
    ('max_age', -1), ('max_age', 'day'), ('linger', float('inf')), ('on_full', 'drop'), ('on_unavailable', 'ignore')])
def test_a_value_that_cannot_be_is_refused(url: str, db: Any, option: str, value: Any) -> None:
    with pytest.raises(OptionError, match=option):
        mb.stream('clicks', url=url, **{option: value})
    assert db.stream.count_documents({}) == 0


# -- append, extend, flush, clear, stop


def test_what_is_appended_shows_the_documented_state(stream: mb.Stream, db: Any) -> None:
    before = stream.store.clock.now()
    stream.append({'n': 1})
    doc = db.buffer.find_one({})
    assert (doc['stream'], doc['data'], doc['processed']) == (stream.name, {'n': 1}, False)
    assert before - timedelta(milliseconds=1) <= doc['created'] <= stream.store.clock.now()


@pytest.mark.parametrize('rows', [
    lambda: [{'n': n} for n in range(5)], lambda: tuple({'n': n} for n in range(5)),
    lambda: ({'n': n} for n in range(5)), lambda: {n: {'n': n} for n in range(5)}.values(),
    lambda: iter([{'n': n} for n in range(5)])], ids=['list', 'tuple', 'generator', 'values', 'iterator'])
def test_any_iterable_extends(stream: mb.Stream, db: Any, rows: Callable[[], Any]) -> None:
    assert stream.extend(rows()) == 5
    assert numbers(db) == [0, 1, 2, 3, 4]
    assert stream.extend([]) == 0


@pytest.mark.parametrize('rows', [None, 5, 'abc', {'n': 1}])
def test_what_is_not_many_messages(stream: mb.Stream, db: Any, rows: Any) -> None:
    with pytest.raises(InvalidMessage):
        stream.extend(rows)
    assert db.buffer.count_documents({}) == 0


def test_one_bad_message_of_many_stores_nothing(stream: mb.Stream, db: Any) -> None:
    with pytest.raises(InvalidMessage):
        stream.extend([{'n': 1}, {'n': {2, 3}.__class__}, {'n': 4}])
    with pytest.raises(InvalidMessage):
        stream.append(None)
    assert db.buffer.count_documents({}) == 0


def test_a_stop_ends_the_writer_and_the_stream_may_be_used_on(stream: mb.Stream, db: Any) -> None:
    stream.append({'n': 1})
    stream.stop()
    stream.stop()
    stream.append({'n': 2})
    assert numbers(db) == [1, 2]


@pytest.mark.parametrize('way', ['full', 'flush', 'stop', 'extend', 'linger'])
def test_a_batch_goes_out(open_stream: Callable[..., mb.Stream], db: Any, way: str) -> None:
    stream = open_stream(batchsize=3, linger=0.05 if way == 'linger' else 1000)
    stream.append({'n': 0})
    stream.append({'n': 1})
    assert way == 'linger' or db.buffer.count_documents({}) == 0
    if way == 'full':
        stream.append({'n': 2})
    elif way == 'extend':
        stream.extend([{'n': 2}])
    elif way in ('flush', 'stop'):
        getattr(stream, way)()
    elif way == 'linger':
        wait_until(lambda: db.buffer.count_documents({}) == 2)
    assert numbers(db) == [0, 1, 2][:3 if way in ('full', 'extend') else 2]


def test_clear_removes_everything_but_the_stream(stream: mb.Stream, url: str, db: Any) -> None:
    mb.stream('other', url=url).append({'n': 9})
    stream.extend({'n': n} for n in range(4))
    window(stream, 2, keep=True, state='done')
    assert stream.clear() == 4
    assert db.window.count_documents({}) == 0
    assert numbers(db) == [9]
    stream.append({'n': 5})
    assert stream.buffer().count() == 1


# -- query sets


def test_buffer_and_window_are_query_sets(stream: mb.Stream, url: str) -> None:
    mb.stream('other', url=url).append({'n': 9})
    stream.extend({'n': n} for n in range(3))
    name = window(stream, 2)
    assert [each.data['n'] for each in stream.buffer().order_by('id')] == [0, 1, 2]
    assert [each.data['n'] for each in stream.buffer(processed=False)] == [2]
    assert [each.data['n'] for each in stream.buffer(window=name).order_by('-id')] == [1, 0]
    assert [(each.id, each.stream, each.state, each.processed, each.data) for each in stream.window()] == [
        (name, 'clicks', 'ready', False, [{'n': 0}, {'n': 1}])]
    assert stream.window(processed=True).count() == 0
