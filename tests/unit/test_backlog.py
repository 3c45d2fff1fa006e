"""Back-pressure on producers: what a stream with max_backlog takes, and what it does with the rest."""

from __future__ import annotations

import time

import pytest

from minibatch.errors import BacklogFull, StoreUnavailable
from minibatch.writer import Writer
from tests.support.recorder import NEVER, Recorder, append, in_thread, rows
from tests.support.waiting import wait_until


@pytest.fixture
def store() -> Recorder:
    return Recorder()


def test_a_full_stream_raises(store: Recorder) -> None:
    writer = Writer(store, 'clicks', max_backlog=10, on_full='raise')
    append(writer, 10)
    with pytest.raises(BacklogFull, match=r"'clicks'.*max_backlog of 10 .*nothing of this call was stored"):
        append(writer, 1, 10)
    store.consumed = 1
    append(writer, 1, 10)
    with pytest.raises(BacklogFull):
        append(writer, 1, 11)
    assert store.stored == list(range(11))


def test_messages_that_wait_for_their_batch_are_in_the_backlog(store: Recorder) -> None:
    writer = Writer(store, 'clicks', batchsize=7, linger=NEVER, max_backlog=10, on_full='raise')
    append(writer, 10)
    with pytest.raises(BacklogFull):
        append(writer, 1, 10)
    writer.close()
    assert store.stored == list(range(10))


def test_not_every_append_counts(store: Recorder) -> None:
    began = time.monotonic()
    append(Writer(store, 'clicks', max_backlog=10_000), 500)
    assert store.counts <= 1 + (time.monotonic() - began)


def test_what_other_producers_append_is_seen_within_a_second(store: Recorder) -> None:
    writer = Writer(store, 'clicks', max_backlog=100, on_full='raise')
    append(writer, 1)
    store.append([{'_id': i, 'data': {'i': i}} for i in range(1, 100)])

    def full() -> bool:
        try:
            append(writer, 1)
        except BacklogFull:
            return True
        store.consumed += 1
        return False
    wait_until(full, 5, what='the full stream to be noticed')


@pytest.mark.parametrize('batchsize', [1, 4])
def test_a_full_stream_holds_the_producer_up(store: Recorder, batchsize: int) -> None:
    writer = Writer(store, 'clicks', batchsize=batchsize, linger=NEVER, max_backlog=10)
    thread, result = in_thread(lambda: append(writer, 15))
    wait_until(lambda: len(store.stored) == 10 and store.counts >= 3)
    assert thread.is_alive()
    store.consumed = 5
    thread.join(10)
    writer.flush()
    assert result == [None]
    assert store.stored == list(range(15))


def test_waiting_for_room_ends_in_time(store: Recorder) -> None:
    writer = Writer(store, 'clicks', max_backlog=1, block_timeout=0.05)
    append(writer, 1)
    with pytest.raises(BacklogFull, match=r'no room within 0\.05 seconds'):
        append(writer, 1, 1)
    assert store.stored == [0]


def test_close_ends_the_waiting_for_room(store: Recorder) -> None:
    writer = Writer(store, 'clicks', max_backlog=1)
    thread, result = in_thread(lambda: append(writer, 2))
    wait_until(lambda: store.counts >= 2)
    writer.close()
    thread.join(10)
    assert 'was stopped' in str(result[0])
    assert store.stored == [0]


def test_extend_by_more_than_the_backlog_goes_in_parts(store: Recorder) -> None:
    writer = Writer(store, 'clicks', max_backlog=10)
    thread, result = in_thread(lambda: writer.extend(rows(45)))
    most = 0
    while thread.is_alive():
        wait_until(lambda: not thread.is_alive() or len(store.stored) - store.consumed == min(
            10, 45 - store.consumed))
        most = max(most, len(store.stored) - store.consumed)
        store.consumed = len(store.stored)
    assert result == [45]
    assert store.stored == list(range(45))
    assert most == 10


@pytest.mark.parametrize('n', [11, 20_000])
def test_extend_that_does_not_fit_stores_nothing(store: Recorder, n: int) -> None:
    writer = Writer(store, 'clicks', max_backlog=n - 1, on_full='raise')
    with pytest.raises(BacklogFull, match='nothing of this call was stored'):
        writer.extend(rows(n))
    assert store.stored == []
    assert writer.extend(rows(n - 1)) == n - 1
    with pytest.raises(BacklogFull):
        append(writer, 1)


def test_an_iterator_that_does_not_fit_says_what_was_stored(store: Recorder) -> None:
    writer = Writer(store, 'clicks', max_backlog=12_000, on_full='raise')
    with pytest.raises(BacklogFull) as caught:
        writer.extend(iter(rows(30_000)))
    assert f'the first {len(store.stored):,} of this call were stored' in str(caught.value)
    assert 0 < len(store.stored) <= 12_000


@pytest.mark.parametrize('n', [10, 15_000])
def test_room_for_what_failed_is_given_back(store: Recorder, n: int) -> None:
    writer = Writer(store, 'clicks', max_backlog=n, on_full='raise')
    assert writer.extend([]) == 0
    append(writer, 1)
    assert store.counts == 1

    def count_free(stream: str, limit: int = 0) -> int:  # MongoDB goes between the count and the append
        store.error = StoreUnavailable('MongoDB is away')
        return len(store.stored)
    store.count_free = count_free  # type: ignore[method-assign]
    for _ in range(3):
        store.error = None
        writer._backlog._counted = float('-inf')
        with pytest.raises(StoreUnavailable, match='the first 0 messages'):
            writer.extend(rows(n - 1))
    del store.count_free
    store.error = None
    assert writer.extend(rows(n - 1, 1)) == n - 1
