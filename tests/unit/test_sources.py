"""Anything that can be iterated over is a source."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import minibatch as mb
from minibatch.errors import OptionError
from tests.support.consuming import running
from tests.support.waiting import patience, wait_until

Open = Callable[..., mb.Stream]


def values(db: Any) -> list[Any]:
    return [doc['data']['value'] for doc in db.buffer.find({}).sort('_id', 1)]


def test_what_is_no_message_becomes_one(stream: mb.Stream, db: Any) -> None:
    stream.attach(range(5), background=False)
    stream.attach(iter(['a', None, [1]]), background=False)
    assert values(db) == [0, 1, 2, 3, 4, 'a', None, [1]]


def test_mappings_are_messages(stream: mb.Stream, db: Any) -> None:
    stream.attach(({'n': n} for n in range(3)), background=False)
    assert [doc['data'] for doc in db.buffer.find({}).sort('_id', 1)] == [{'n': 0}, {'n': 1}, {'n': 2}]


def test_what_cannot_be_stored_is_a_dead_letter(stream: mb.Stream, db: Any) -> None:
    stream.attach([1, {'o': object()}, 2], background=False)
    assert values(db) == [1, 2]
    letter = stream.dead.list()[0].data[0]
    assert 'data.o is a value of type object' in letter['reason']
    assert letter['raw'].startswith(b"{'o': <object")


@pytest.mark.parametrize('given', [5, None, {'n': 1}, 'text', b'bytes'], ids=repr)
def test_what_is_no_source(stream: mb.Stream, given: Any) -> None:
    with pytest.raises(OptionError, match='a source is an object with stream'):
        stream.attach(given)
    with pytest.raises(OptionError, match='a source is an object with stream'):
        mb.source(given)


def test_a_source_that_cannot_be_cancelled_is_one_too(stream: mb.Stream, db: Any) -> None:
    """The document's own has no ``cancel()``."""
    class Half:
        def stream(self, stream: mb.Stream) -> None:
            stream.append({'n': 1})

    thread = stream.attach(Half())
    assert thread is not None
    thread.join()
    stream.stop()
    assert [doc['data'] for doc in db.buffer.find({})] == [{'n': 1}]


def test_a_live_source_is_stored_while_it_is_silent(stream: mb.Stream, db: Any) -> None:
    source: queue.Queue[Any] = queue.Queue()
    thread = stream.attach(iter(source.get, None))
    for n in range(3):
        source.put(n)
    wait_until(lambda: values(db) == [0, 1, 2])
    began = time.monotonic()
    stream.stop()  # it waits for its next item, and for nothing else
    assert time.monotonic() - began < patience(1.0)
    assert thread is not None
    assert not thread.is_alive()


def test_what_was_taken_is_stored_when_it_is_stopped(open_stream: Open, db: Any) -> None:
    """Even into a full stream: nobody brings it again."""
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for n in range(10_000):
            taken.append(n)
            yield n

    stream = open_stream(max_backlog=10)
    stream.attach(numbers())
    wait_until(lambda: len(taken) > 1000 and values(db))
    stream.stop()
    assert len(taken) < 10_000
    assert values(db) == list(range(len(values(db))))
    assert len(values(db)) >= len(taken) - 1


def test_a_full_stream_holds_it_up(open_stream: Open, db: Any) -> None:
    stream = open_stream(max_backlog=10)
    stream.attach(range(100))
    wait_until(lambda: len(values(db)) == 10)
    got: list[int] = []
    with running(open_stream(), lambda window: got.extend(each['value'] for each in window), size=10):
        wait_until(lambda: len(got) == 100)
    assert got == list(range(100))


def test_with_a_name_it_goes_on_where_it_was(stream: mb.Stream, db: Any) -> None:
    made: list[int] = []

    def numbers(upto: int) -> Iterator[int]:
        made.append(upto)
        yield from range(upto)

    stream.attach(mb.source(lambda: numbers(5), name='numbers'), background=False)
    stream.attach(mb.source(lambda: numbers(8), name='numbers'), background=False)
    assert values(db) == list(range(8))
    assert made == [5, 8]
    stream.attach(mb.source(range(2), name='another'), background=False)
    assert values(db) == [*range(8), 0, 1]


def test_an_iterator_cannot_be_begun_twice(stream: mb.Stream) -> None:
    source = mb.source(iter([1, 2]), name='numbers')
    stream.attach(source, background=False)
    with pytest.raises(OptionError, match='begun already'):
        stream.attach(source, background=False)


def test_a_source_that_fails_in_the_background_says_so(stream: mb.Stream, db: Any,
                                                       caplog: pytest.LogCaptureFixture) -> None:
    def source() -> Iterator[int]:
        yield 1
        raise KeyError('broken')

    thread = stream.attach(source())
    assert thread is not None
    thread.join(10)
    assert values(db) == [1]
    said = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert 'its source source(generator) has ended with an error' in said[0].getMessage()
    assert 'broken' in caplog.text


def test_no_thread_is_left(stream: mb.Stream) -> None:
    before = {thread.ident for thread in threading.enumerate()}
    stream.attach(range(3), background=False)
    wait_until(lambda: {thread.ident for thread in threading.enumerate()
                        if 'minibatch' in thread.name} <= before)
