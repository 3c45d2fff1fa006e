"""Producers: room for their messages, sources that feed a stream, many of them at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import minibatch as mb
from minibatch.connection import connect
from minibatch.errors import BacklogFull, MinibatchError
from tests.support.streams import numbers, window
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


# -- limits


def test_a_full_stream_raises_and_says_what_was_stored(open_stream: Callable[..., mb.Stream], db: Any) -> None:
    stream = open_stream(max_backlog=3, on_full='raise')
    stream.extend([{'n': 0}, {'n': 1}])
    with pytest.raises(BacklogFull, match='nothing of this call was stored'):
        stream.extend([{'n': 2}, {'n': 3}])
    stream.append({'n': 2})
    with pytest.raises(BacklogFull, match="'clicks' has no room"):
        stream.append({'n': 3})
    assert numbers(db) == [0, 1, 2]
    window(stream, 2)
    stream.extend([{'n': 3}, {'n': 4}])  # a consumer has made room
    assert numbers(db) == [0, 1, 2, 3, 4]


def test_a_full_stream_blocks_until_there_is_room(open_stream: Callable[..., mb.Stream], db: Any) -> None:
    stream = open_stream(max_backlog=2)
    done = threading.Event()

    def produce() -> None:
        stream.extend({'n': n} for n in range(6))
        done.set()

    threading.Thread(target=produce, daemon=True).start()
    for cut in (2, 4):
        wait_until(lambda cut=cut: db.buffer.count_documents({}) == cut)
        assert not done.is_set()
        window(stream, 2)
    assert done.wait(10)
    assert numbers(db) == [0, 1, 2, 3, 4, 5]


def test_who_waits_for_room_is_woken_by_a_stop(open_stream: Callable[..., mb.Stream]) -> None:
    stream = open_stream(max_backlog=1)
    stream.append({'n': 0})
    raised: list[BaseException] = []
    begun = threading.Event()

    def produce() -> None:
        begun.set()
        try:
            stream.append({'n': 1})
        except MinibatchError as error:
            raised.append(error)

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    assert begun.wait(10)
    stream.stop()
    thread.join(10)
    assert len(raised) == 1, 'a MinibatchError, since nothing was stored'


@pytest.mark.parametrize('asked', [False, True])
def test_housekeeping_never_removes_what_is_not_processed_unless_asked(
    open_stream: Callable[..., mb.Stream], db: Any, asked: bool,
) -> None:
    """A consumer of time windows runs, and keeps the house; everything in it is two days old."""
    stream = open_stream(max_age=0.4, expire_unprocessed=asked)
    stream.extend({'n': n} for n in range(4))
    kept, waiting = window(stream, 1, keep=True, state='done'), window(stream, 1)
    db.window.update_one({'_id': waiting}, {'$set': {'not_before': stream.store.clock.now() + timedelta(days=1)}})
    for collection in (db.buffer, db.window):
        collection.update_many({}, [{'$set': {'created': {'$subtract': ['$$NOW', 2 * 86_400_000]}}}])
    emitter = stream.streaming(print, size=100, lease=0.3, executor='inline', background=True)
    try:
        wait_until(lambda: not db.window.count_documents({'_id': kept}))
        if asked:
            wait_until(lambda: numbers(db) == [1])
        else:
            wait_until(lambda: numbers(db) == [1, 2, 3])
            rounds = db.consumer.find_one({})['beat']
            wait_until(lambda: (db.consumer.find_one({})['beat'] - rounds).total_seconds() > 0.5)
            assert numbers(db) == [1, 2, 3]
    finally:
        emitter.stop()


# -- sources


def test_an_iterable_is_a_source(stream: mb.Stream, db: Any) -> None:
    thread = stream.attach({'n': n} for n in range(3))
    assert thread is not None
    thread.join(10)
    assert stream.attach([{'n': 3}], background=False) is None
    assert numbers(db) == [0, 1, 2, 3]


def test_a_source_streams_in_the_background_until_the_stream_is_stopped(stream: mb.Stream, db: Any) -> None:
    class Source:
        cancelled = threading.Event()

        def stream(self, stream: mb.Stream) -> None:
            stream.append({'n': 1})
            self.cancelled.wait(30)

        def cancel(self) -> None:
            self.cancelled.set()

    thread = stream.attach(Source())
    wait_until(lambda: numbers(db) == [1])
    assert thread is not None
    assert thread.is_alive()
    stream.stop()
    assert not thread.is_alive()


def test_a_source_in_the_foreground_may_raise(stream: mb.Stream, db: Any) -> None:
    def source() -> Iterator[dict[str, int]]:
        yield {'n': 1}
        raise KeyError('broken')

    with pytest.raises(KeyError, match='broken'):
        stream.attach(source(), background=False)


# -- many producers

PRODUCER = """\
import sys
import minibatch as mb
stream = mb.stream('clicks', batchsize=int(sys.argv[2]), linger=0.01)
for n in range(200):
    stream.append({'by': sys.argv[1], 'n': n})
"""


def in_order(db: Any, producers: int, each: int) -> None:
    """Nothing is lost, nothing is there twice, and each producer's messages are in its order."""
    seen = defaultdict(list)
    for doc in db.buffer.find({}).sort('_id', 1):
        seen[doc['data']['by']].append(doc['data']['n'])
    assert len(seen) == producers
    assert all(ns == list(range(each)) for ns in seen.values()), {by: len(ns) for by, ns in seen.items()}


@pytest.mark.parametrize('batchsize', [1, 7])
def test_four_threads(open_stream: Callable[..., mb.Stream], db: Any, batchsize: int) -> None:
    stream = open_stream(batchsize=batchsize, linger=0.01)

    def produce(by: int) -> None:
        for n in range(150):
            stream.append({'by': by, 'n': n})

    threads = [threading.Thread(target=produce, args=(by,)) for by in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stream.stop()
    in_order(db, 4, 150)


@pytest.mark.parametrize('batchsize', [1, 7])
def test_two_processes(url: str, db: Any, batchsize: int) -> None:
    """They end without a word: what they gathered is sent at their end."""
    connect(url)
    env = os.environ | {'MINIBATCH_MONGO_URL': url, 'PYTHONPATH': str(ROOT)}
    processes = [subprocess.Popen([sys.executable, '-c', PRODUCER, str(by), str(batchsize)], env=env)
                 for by in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    in_order(db, 2, 200)


def test_no_thread_for_a_stream(url: str) -> None:
    """The original had one for each object; here batches linger in one thread of the process, for all of them."""
    streams = [mb.stream('warm', url=url, batchsize=10)]
    streams[0].append({'n': 1})
    before = threading.active_count()
    for n in range(20):
        streams.append(mb.stream(f's{n}', url=url, batchsize=10))
        streams[-1].append({'n': 1})
    assert threading.active_count() <= before
    for stream in streams:
        stream.stop()
