"""Consumers: how they are started, how long they run, and what is left when they end."""

from __future__ import annotations

import os
import queue
import threading
import time
from typing import Any

import psutil
import pytest

import minibatch as mb
from tests.support.consuming import passed
from tests.support.streams import numbers
from tests.support.waiting import wait_until


def ns(windows: list[list[Any]]) -> list[list[int]]:
    return [[each['n'] for each in window] for window in windows]


def pid(window: Any) -> int:
    return os.getpid()


def fill(stream: mb.Stream, n: int) -> None:
    stream.extend({'n': each} for each in range(n))


def test_a_blocking_consumer_ends_by_its_queue(stream: mb.Stream) -> None:
    stops: queue.Queue[Any] = queue.Queue()
    got: list[Any] = []
    thread = threading.Thread(target=lambda: stream.streaming(
        lambda window: got.append(window.data), size=2, executor='inline', queue=stops), daemon=True)
    thread.start()
    fill(stream, 2)
    wait_until(lambda: got)
    stops.put(None)
    stops.put(0)
    fill(stream, 2)
    wait_until(lambda: len(got) == 2)
    assert thread.is_alive(), 'only a true value stops it'
    stops.put(True)
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize('way', ['streaming', 'decorator', 'apply', 'make', 'make_emitter', 'stream.streaming'])
def test_ways_to_run_a_function(stream: mb.Stream, url: str, way: str) -> None:
    fill(stream, 2)
    got: list[Any] = []

    def work(window: Any) -> None:
        got.append(window.data)

    options = {'url': url, 'size': 2, 'executor': 'inline'}
    if way == 'streaming':
        assert mb.streaming('clicks', work, blocking=False, **options) is work
    elif way == 'decorator':
        assert mb.streaming('clicks', blocking=False, **options)(work) is work
    elif way == 'apply':
        assert mb.streaming('clicks', blocking=False, **options).apply(work) is work
    elif way == 'make':
        mb.streaming('clicks', **options).make(work).run(blocking=False)
    elif way == 'make_emitter':
        mb.make_emitter('clicks', work, **options).run(blocking=False)
    else:
        stream.streaming(work, size=2, executor='inline', blocking=False)
    assert ns(got) == [[0, 1]]


def test_an_emitter_is_run_again_and_again(stream: mb.Stream) -> None:
    got: list[Any] = []
    emitter = stream.streaming(size=1, executor='thread').make(lambda window: got.append(window.data))
    for n in range(3):
        stream.append({'n': n})
        emitter.run(blocking=False)
    assert ns(got) == [[0], [1], [2]]


def test_run_once_persist_and_stop(stream: mb.Stream) -> None:
    got: list[Any] = []
    emitter = stream.streaming(size=1, executor='inline').make(lambda window: got.append(window.data))
    assert emitter._stop is False
    assert emitter._run_once() is False
    fill(stream, 1)
    assert emitter._run_once()
    emitter.persist(True)
    stream.append({'n': 1})
    assert emitter._run_once()
    assert ns(got) == [[0], [1]]
    assert [each.data for each in stream.window(processed=True)] == [[{'n': 1}]]
    emitter.stop()
    assert emitter._stop is True
    assert emitter.should_stop()


def test_who_ran_once_and_stopped_does_not_keep_others_waiting(stream: mb.Stream, db: Any) -> None:
    fill(stream, 2)
    emitter = stream.streaming(size=1, executor='inline', lease=600).make(lambda window: None)
    emitter._run_once()
    emitter.stop()
    fill(stream, 2)
    wait_until(lambda: passed(stream, size=1) or not db.buffer.count_documents({}), 5, what='others to cut')


@pytest.mark.parametrize('executor', ['process', 'thread', 'inline'])
def test_nothing_is_left_after_a_stop(stream: mb.Stream, db: Any, executor: str) -> None:
    def ours() -> set[str]:
        return {each.name for each in threading.enumerate()
                if each.name.startswith('minibatch') and 'linger' not in each.name}

    me = psutil.Process()
    threads, children = ours(), set(me.children())
    emitter = stream.streaming(pid, size=2, executor=executor, background=True, workers=2)
    fill(stream, 5)
    wait_until(lambda: numbers(db) == [4])
    emitter.stop()
    wait_until(lambda: ours() <= threads, what='threads to end')
    assert {each for each in me.children() if each.is_running()} <= children
    assert db.consumer.count_documents({}) == 0
    assert 'lease' not in db.stream.find_one({})
    assert db.window.count_documents({'state': 'running'}) == 0


def test_whoever_has_left_gives_no_further_sign_of_life(stream: mb.Stream, url: str) -> None:
    """A round of housekeeping that is under way when a consumer stops must not show it as alive once more."""
    upkeep = mb.make_emitter(stream.name, len, url=url, size=1, executor='inline').engine.upkeep  # type: ignore[attr-defined]
    upkeep.keep_up()
    assert len(stream.status()['consumers']) == 1
    upkeep.leave()
    upkeep.keep_up()
    assert stream.status()['consumers'] == []


def test_a_stop_waits_for_the_window_that_runs(stream: mb.Stream, db: Any) -> None:
    begun, go_on, results = threading.Event(), threading.Event(), []

    def work(window: Any) -> str:
        begun.set()
        assert go_on.wait(20)
        return 'done'

    emitter = stream.streaming(work, size=1, executor='thread', workers=1, sink=results.append, background=True)
    fill(stream, 3)
    assert begun.wait(20)
    threading.Thread(target=lambda: (time.sleep(0), go_on.set()), daemon=True).start()
    emitter.stop()
    done = len(results)
    assert done >= 1
    assert len(numbers(db)) + sum(each.n for each in stream.window(state='ready')) == 3 - done
    assert ns(passed(stream, size=1)) == [[n] for n in range(done, 3)], 'the others are given back'


def test_windows_that_were_given_back_run_before_newer_ones(stream: mb.Stream, db: Any) -> None:
    fill(stream, 2)
    first = stream.streaming(size=1, executor='inline').make(lambda window: None).engine  # type: ignore[attr-defined]
    first.cutter.step()
    first.stop()
    stream.extend([{'n': 2}, {'n': 3}])
    assert db.window.distinct('state') == ['ready']
    assert db.buffer.count_documents({}) > 0
    assert ns(passed(stream, size=1)) == [[0], [1], [2], [3]]


def test_a_source_feeds_the_stream_while_it_is_consumed(stream: mb.Stream, url: str) -> None:
    class Source:
        ended = threading.Event()

        def stream(self, stream: mb.Stream) -> None:
            stream.extend({'n': n} for n in range(4))
            self.ended.wait(30)

        def cancel(self) -> None:
            self.ended.set()

    stops: queue.Queue[Any] = queue.Queue()
    got: list[Any] = []

    def work(window: Any) -> None:
        got.append(window.data)
        if len(got) == 2:
            stops.put(True)

    mb.streaming('clicks', work, url=url, size=2, executor='inline', source=Source(), queue=stops)
    assert ns(got) == [[0, 1], [2, 3]]
    assert Source.ended.is_set(), 'the source ends with its consumer'


@pytest.mark.parametrize(('place', 'options'), [
    ('function', {'executor': 'inline'}), ('function', {'executor': 'thread'}),
    ('sink', {'executor': 'thread'}), ('sink', {'executor': 'thread', 'timeout': 60})],
    ids=str)
def test_a_function_may_stop_its_consumer(stream: mb.Stream, place: str, options: dict[str, Any]) -> None:
    """It must not wait there for itself."""
    emitters: list[Any] = []
    returned = threading.Event()

    def stop(_: Any) -> None:
        wait_until(lambda: emitters)
        emitters[0].stop()
        returned.set()

    def work(window: Any) -> int:
        if place == 'function':
            stop(window)
        return 1

    stream.append({'n': 0})
    emitter = stream.streaming(work, size=1, background=True, sink=stop if place == 'sink' else None, **options)
    thread = emitter._thread
    emitters.append(emitter)
    try:
        assert returned.wait(5)
        thread.join(10)
        assert not thread.is_alive()
    finally:
        emitter._thread = None  # or the end of this process would wait for it, too
    assert stream.buffer().count() == 0
