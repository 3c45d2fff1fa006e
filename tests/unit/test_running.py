"""Consumers: which windows they run, and where."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

import minibatch as mb
from minibatch.connection import disconnect
from tests.support.consuming import passed, running
from tests.support.mongod import Deployment
from tests.support.streams import numbers
from tests.support.waiting import wait_until


def ns(windows: list[list[Any]]) -> list[list[int]]:
    return [[each['n'] for each in window] for window in windows]


def pid(window: Any) -> int:
    return os.getpid()


def fill(stream: mb.Stream, n: int) -> None:
    stream.extend({'n': each} for each in range(n))


# -- which windows


@pytest.mark.parametrize('keep', [False, True])
def test_by_count(stream: mb.Stream, db: Any, keep: bool) -> None:
    fill(stream, 5)
    assert ns(passed(stream, size=2, keep=keep)) == [[0, 1], [2, 3]]
    assert passed(stream, size=2, keep=keep) == []
    assert numbers(db) == ([0, 1, 2, 3, 4] if keep else [4])
    assert [each.processed for each in stream.window()] == ([True, True] if keep else [])


def test_without_a_strategy_message_by_message(stream: mb.Stream) -> None:
    fill(stream, 3)
    assert ns(passed(stream)) == [[0], [1], [2]]


def test_by_count_or_after_some_seconds(stream: mb.Stream, db: Any) -> None:
    got: list[Any] = []
    with running(stream, lambda window: got.append(window.data), size=3, within=0.3):
        fill(stream, 4)
        wait_until(lambda: len(got) == 2)
    assert ns(got) == [[0, 1, 2], [3]]
    fill(stream, 1)
    db.buffer.update_many({}, [{'$set': {'created': {'$subtract': ['$$NOW', 60_000]}}}])
    assert ns(passed(stream, size=3, within=30)) == [[0]], 'the deadline is stored with the message'


@pytest.mark.parametrize('emit_empty', [None, True])
def test_every_so_many_seconds(stream: mb.Stream, emit_empty: bool | None) -> None:
    got: list[Any] = []
    with running(stream, got.append, interval=0.15, emit_empty=emit_empty):
        fill(stream, 3)
        wait_until(lambda: sum(map(len, got)) == 3)
        fill(stream, 2)
        wait_until(lambda: sum(map(len, got)) == 5)
        if emit_empty:
            wait_until(lambda: any(not len(window) for window in got))
    assert emit_empty or all(len(window) for window in got)


def test_fixed_intervals(stream: mb.Stream) -> None:
    got: list[Any] = []
    with running(stream, got.append, interval=0.2, relaxed=False):
        fill(stream, 3)
        wait_until(lambda: sum(map(len, got)) == 3)
        wait_until(lambda: len(got) > 4)
    starts = sorted({window.start for window in got})
    assert all(window.end - window.start == timedelta(seconds=0.2) for window in got)
    assert all((b - a) == timedelta(seconds=0.2) for a, b in pairwise(starts))


def test_intervals_that_nobody_cut_come_once_each_and_in_order(stream: mb.Stream, db: Any) -> None:
    """Five intervals of downtime, an hour ago, are made up for in one pass."""
    fill(stream, 5)
    begin = stream.store.clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    for doc in db.buffer.find({}):
        db.buffer.update_one({'_id': doc['_id']}, {
            '$set': {'created': begin + timedelta(minutes=doc['data']['n'], seconds=1)}})
    stream.touch(begin)
    windows: list[Any] = []
    passed(stream, windows.append, interval=60, relaxed=False)
    assert [window.start for window in windows] == [begin + timedelta(minutes=n) for n in range(len(windows))]
    assert ns([window.data for window in windows])[:6] == [[0], [1], [2], [3], [4], []]
    assert passed(stream, interval=60, relaxed=False) == []


def test_a_window_knows_where_it_is_from(stream: mb.Stream) -> None:
    fill(stream, 2)
    times = [message.created for message in stream.buffer().order_by('id')]
    got: list[Any] = []
    passed(stream, got.append, size=2, keep=True)
    window, = got
    stored, = stream.window()
    assert (window.id, window.created) == (stored.id, stored.created)
    assert (window.stream, window.start, window.end, window.attempt, window.key) == ('clicks', *times, 1, None)


@pytest.mark.parametrize('options', [
    {'size': 2}, {'size': 2, 'keep': True}, {'interval': 0.2}, {'interval': 0.2, 'relaxed': False},
    {'interval': 1 / 3, 'relaxed': False}], ids=str)
def test_a_window_is_the_same_on_each_attempt(stream: mb.Stream, options: dict[str, Any]) -> None:
    seen: list[Any] = []

    def work(window: Any) -> None:
        if window.data:
            seen.append((window.id, window.data, window.start, window.end, window.created))
            assert window.attempt == 3

    fill(stream, 2)
    with running(stream, work, **options):
        wait_until(lambda: len(seen) == 3)
    assert seen[1:] == seen[:1] * 2


@pytest.mark.parametrize('interval', [0.1, 1 / 3, 0.0505])
def test_fixed_intervals_of_any_length_go_on(stream: mb.Stream, interval: float) -> None:
    """MongoDB keeps milliseconds; an end that is rounded must not be taken for the interval before it."""
    starts: list[Any] = []
    with running(stream, lambda window: starts.append(window.start), interval=interval, relaxed=False):
        wait_until(lambda: len(starts) > 5)
    assert starts == sorted(set(starts)), 'each comes once, in order'


@pytest.mark.parametrize('keep', [False, True])
def test_a_window_above_16_mb(stream: mb.Stream, db: Any, keep: bool) -> None:
    stream.extend({'n': n, 'blob': b'x' * 9_000_000} for n in range(2))
    assert ns(passed(stream, size=2, keep=keep)) == [[0, 1]]
    assert db.buffer.count_documents({}) == (2 if keep else 0)


# -- where


@pytest.mark.parametrize('executor', ['process', 'thread', 'inline', None, concurrent.futures.ThreadPoolExecutor])
def test_executors(stream: mb.Stream, executor: Any) -> None:
    fill(stream, 4)
    pids: list[int] = []
    stream.streaming(pid, size=2, executor=executor, workers=1, sink=pids.append, blocking=False)
    assert len(pids) == 2
    assert (os.getpid() in pids) == (executor not in ('process', None))


def test_anything_with_submit_is_an_executor(stream: mb.Stream) -> None:
    class Mine:
        called = 0

        def submit(self, fn: Any) -> Any:
            self.called += 1
            future: concurrent.futures.Future[Any] = concurrent.futures.Future()
            future.set_result(fn())
            return future

    fill(stream, 2)
    mine = Mine()
    assert ns(passed(stream, size=1, executor=mine)) == [[0], [1]]
    assert mine.called >= 1


def test_a_coroutine_function(stream: mb.Stream) -> None:
    async def work(window: Any) -> int:
        await asyncio.sleep(0)
        return len(window)

    fill(stream, 4)
    results: list[Any] = []
    stream.streaming(work, size=2, executor='thread', sink=results.append, blocking=False)
    stream.extend([{'n': 1}, {'n': 2}])
    done: list[Any] = []

    async def quiet(window: Any) -> None:
        await asyncio.sleep(0)
        done.append(len(window))

    stream.streaming(quiet, size=2, executor='inline', blocking=False)
    assert (results, done) == ([2, 2], [2])


@pytest.mark.parametrize('name', ['workers', 'max_workers'])
def test_workers_run_at_the_same_time_and_no_more(stream: mb.Stream, name: str) -> None:
    together = threading.Barrier(3)
    lock, now, most = threading.Lock(), [0], [0]

    def work(window: Any) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        together.wait(20)  # breaks unless there are three
        with lock:
            now[0] -= 1

    fill(stream, 9)
    stream.streaming(work, size=1, executor='thread', blocking=False, max_attempts=1, **{name: 3})
    assert (most, len(stream.dead), stream.buffer().count()) == ([3], 0, 0)


# -- two databases


@pytest.fixture
def elsewhere(server: Deployment, dbname: str) -> Iterator[str]:
    url = server.url(f'{dbname}_2')
    yield url
    disconnect(url)
    server.client.drop_database(f'{dbname}_2')


def test_two_databases_in_one_process(stream: mb.Stream, elsewhere: str) -> None:
    other = mb.stream('clicks', url=elsewhere)
    fill(stream, 2)
    other.extend({'n': n} for n in (10, 11))
    assert [message.data['n'] for message in other.buffer()] == [10, 11]
    assert ns(passed(other, size=2, keep=True)) == [[10, 11]]
    assert ns(passed(stream, size=2)) == [[0, 1]]
    assert (stream.buffer().count(), other.buffer().count(), other.window().count()) == (0, 2, 1)
