"""Batches: when they go out, in which order, and what becomes of them when the store fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from minibatch.errors import InvalidMessage, MinibatchError, OptionError, StoreUnavailable
from minibatch.linger import lingering
from minibatch.writer import Writer
from tests.support.recorder import NEVER, Recorder, append, in_thread, rows
from tests.support.waiting import wait_until


@pytest.fixture
def store() -> Recorder:
    return Recorder()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """What a test leaves waiting must not go to the next one's store, nor be sent at the end of pytest."""
    yield
    with lingering._wake:
        lingering._due.clear()


# -- when batches go out


def test_each_append_goes_through_at_once(store: Recorder) -> None:
    append(Writer(store, 'clicks'), 3)
    assert store.sizes == [1, 1, 1]
    assert store.stored == [0, 1, 2]


def test_a_full_batch_goes_out_and_the_rest_waits_for_flush(store: Recorder) -> None:
    writer = Writer(store, 'clicks', batchsize=10, linger=NEVER)
    append(writer, 25)
    assert (store.sizes, writer.waiting) == ([10, 10], 5)
    writer.flush()
    writer.flush()
    assert (store.sizes, writer.waiting) == ([10, 10, 5], 0)
    assert store.stored == list(range(25))


def test_a_batch_of_many_bytes_goes_out_before_it_is_full(store: Recorder) -> None:
    writer = Writer(store, 'clicks', batchsize=1000, linger=NEVER)
    for i in range(5):
        writer.append({'i': i, 'blob': bytes(9_000_000)})
    assert store.sizes == [4]


def test_what_lingered_goes_out_by_itself(store: Recorder) -> None:
    writer = Writer(store, 'clicks', batchsize=1000, linger=0.02)
    for start in (0, 3):
        append(writer, 3, start)
        wait_until(lambda start=start: store.stored == list(range(start + 3)), what='the batch to be sent by age')
    assert writer.waiting == 0


def test_one_thread_serves_all_writers(store: Recorder) -> None:
    writers = [Writer(store, f's{i}', batchsize=1000, linger=0.02) for i in range(50)]
    for i, writer in enumerate(writers):
        writer.append({'i': i})
    wait_until(lambda: len(store.stored) == 50)
    assert sum(thread.name == 'minibatch-linger' for thread in threading.enumerate()) == 1


def test_a_writer_that_was_forgotten_still_sends(store: Recorder) -> None:
    append(Writer(store, 'clicks', batchsize=1000, linger=0.02), 3)
    wait_until(lambda: store.stored == [0, 1, 2])


def test_close_sends_and_takes_no_more(store: Recorder) -> None:
    with Writer(store, 'clicks', batchsize=10, linger=NEVER) as writer:
        append(writer, 3)
    assert store.stored == [0, 1, 2]
    writer.close()
    for call in (lambda: writer.append({'i': 3}), lambda: writer.extend(rows(3))):
        with pytest.raises(MinibatchError, match=r"'clicks' was stopped.*nothing was stored"):
            call()
    assert writer.closed
    assert store.stored == [0, 1, 2]


def test_what_is_refused_leaves_the_batch_as_it_was(store: Recorder) -> None:
    writer = Writer(store, 'clicks', batchsize=10, linger=NEVER)
    append(writer, 2)
    with pytest.raises(InvalidMessage):
        writer.append({'i': object()})
    append(writer, 1, 2)
    writer.close()
    assert store.stored == [0, 1, 2]


def test_appends_while_a_batch_is_on_its_way_keep_their_order(store: Recorder) -> None:
    writer = Writer(store, 'clicks', batchsize=5, linger=NEVER)
    store.open.clear()
    first, _ = in_thread(lambda: append(writer, 5))
    store.entered.wait()
    second, _ = in_thread(lambda: append(writer, 7, 5))
    wait_until(lambda: writer.waiting >= 10)
    store.open.set()
    first.join()
    second.join()
    writer.flush()
    assert store.stored == list(range(12))
    ids = [doc['_id'] for call in store.calls for doc in call]
    assert ids == sorted(ids)


# -- when the store fails


def test_a_failed_batch_is_kept_and_repeated_with_its_ids(store: Recorder) -> None:
    writer = Writer(store, 'clicks', batchsize=3, linger=NEVER)
    store.error = StoreUnavailable('MongoDB is away')
    append(writer, 2)
    with pytest.raises(StoreUnavailable, match=r'3 messages .* kept .* do not append them again .*MongoDB is away'):
        append(writer, 1, 2)
    with pytest.raises(StoreUnavailable, match=r'3 messages .* this message was not taken, append it again'):
        append(writer, 1, 3)
    assert writer.waiting == 3
    store.error = None
    append(writer, 1, 3)
    writer.flush()
    assert store.stored == [0, 1, 2, 3]
    assert store.tries[0] == store.tries[1] == store.tries[2], 'other ids would store the messages twice'


def test_a_batch_that_failed_in_the_background_is_tried_again(
    store: Recorder, caplog: pytest.LogCaptureFixture,
) -> None:
    writer = Writer(store, 'clicks', batchsize=10, linger=0.01)
    store.error = StoreUnavailable('MongoDB is away')
    with caplog.at_level(logging.WARNING):
        append(writer, 2)
        wait_until(lambda: len(store.tries) >= 2, what='the batch to be tried again')
    with pytest.raises(StoreUnavailable, match='not taken'):
        append(writer, 1, 2)
    with pytest.raises(StoreUnavailable, match='kept'):
        writer.flush()
    store.error = None
    wait_until(lambda: store.stored == [0, 1], what='the batch to be stored by itself')
    assert len({tuple(ids) for ids in store.tries}) == 1
    assert [record.levelname for record in caplog.records] == ['WARNING']
    append(writer, 1, 2)
    writer.flush()
    assert store.stored == [0, 1, 2]


def test_waiting_for_mongodb(store: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    for writer in (Writer(store, 'a', on_unavailable='wait'),
                   Writer(store, 'b', batchsize=2, linger=NEVER, on_unavailable='wait', max_backlog=100)):
        store.error = StoreUnavailable('MongoDB is away')
        store.calls, store.tries = [], []
        thread, result = in_thread(lambda writer=writer: append(writer, 2))
        wait_until(lambda: len(store.tries) + store.counts >= 2)
        assert thread.is_alive()
        store.error = None
        thread.join(10)
        assert result == [None]
        assert store.stored == [0, 1]


def test_close_ends_the_waiting_for_mongodb(store: Recorder) -> None:
    store.error = StoreUnavailable('MongoDB is away')
    writer = Writer(store, 'clicks', on_unavailable='wait')
    thread, result = in_thread(lambda: append(writer, 1))
    wait_until(lambda: store.tries)
    writer.close()
    thread.join(10)
    assert isinstance(result[0], StoreUnavailable)


def test_close_that_fails_may_be_called_again(store: Recorder) -> None:
    writer = Writer(store, 'clicks', batchsize=10, linger=NEVER)
    append(writer, 3)
    store.error = StoreUnavailable('MongoDB is away')
    with pytest.raises(StoreUnavailable, match='3 messages'):
        writer.close()
    store.error = None
    writer.close()
    assert store.stored == [0, 1, 2]


# -- many at once


def test_extend_sends_what_was_appended_first_and_counts(store: Recorder) -> None:
    writer = Writer(store, 'clicks', batchsize=10, linger=NEVER)
    append(writer, 3)
    assert writer.extend(row for row in rows(5, 3)) == 5
    assert writer.extend([]) == 0
    assert writer.extend(tuple(rows(2, 8))) == 2
    assert store.stored == list(range(10))


@pytest.mark.parametrize('kind', [list, iter], ids=['list', 'iterator'])
def test_extend_goes_in_chunks(store: Recorder, kind: Callable[[Any], Any]) -> None:
    assert Writer(store, 'clicks').extend(kind(rows(25_000))) == 25_000
    assert store.stored == list(range(25_000))
    assert max(store.sizes) == 10_000


def test_extend_holds_few_bytes_at_a_time(store: Recorder) -> None:
    taken = most = 0

    def source() -> Iterator[dict[str, Any]]:
        nonlocal taken, most
        for i in range(100):
            taken += 1
            most = max(most, taken - len(store.stored))
            yield {'i': i, 'blob': bytes(4_000_000)}

    assert Writer(store, 'clicks').extend(source()) == 100
    assert most <= 12


def test_a_bad_message_in_a_list_stores_nothing(store: Recorder) -> None:
    with pytest.raises(InvalidMessage, match=r'message 24999 .*data\.i .*nothing was stored'):
        Writer(store, 'clicks').extend([*rows(24_999), {'i': object()}])
    assert store.stored == []


def test_a_bad_message_in_an_iterator_says_what_was_stored(store: Recorder) -> None:
    with pytest.raises(InvalidMessage, match=r'message 15000 .*data\.i ') as caught:
        Writer(store, 'clicks').extend(iter([*rows(15_000), {'i': object()}]))
    assert store.stored
    assert store.stored == list(range(len(store.stored)))
    assert f'the first {len(store.stored):,} messages were stored' in str(caught.value)


def test_extend_says_what_was_stored_when_mongodb_goes(store: Recorder) -> None:
    def source() -> Iterator[dict[str, Any]]:
        yield from rows(10_000)
        while not store.calls:
            yield {'i': -1}
        store.error = StoreUnavailable('MongoDB is away')
        yield {'i': -1}

    with pytest.raises(StoreUnavailable) as caught:
        Writer(store, 'clicks').extend(source())
    assert f'the first {len(store.stored):,} messages are stored' in str(caught.value)


@pytest.mark.parametrize(('given', 'fix'), [
    ({'a': 1}, 'append'), ('abc', 'list of dicts'), (b'abc', 'list of dicts'), (5, 'list of dicts'), (None, 'list')],
    ids=['dict', 'str', 'bytes', 'int', 'None'])
def test_what_is_not_many_messages(store: Recorder, given: Any, fix: str) -> None:
    with pytest.raises(InvalidMessage, match=rf"'clicks'.*nothing was stored; .*{fix}"):
        Writer(store, 'clicks').extend(given)
    assert store.stored == []


def test_close_ends_an_endless_extend(store: Recorder) -> None:
    writer = Writer(store, 'clicks')
    thread, result = in_thread(lambda: writer.extend({'i': 0} for _ in iter(int, 1)))
    wait_until(lambda: store.calls)
    writer.close()
    thread.join(20)
    assert f'the first {len(store.stored):,} messages of this call were stored' in str(result[0])


# -- options


@pytest.mark.parametrize(('option', 'value'), [
    ('batchsize', 0), ('batchsize', -1), ('batchsize', 1.5), ('batchsize', '10'), ('batchsize', True),
    ('linger', -1), ('linger', float('nan')), ('linger', '1'), ('linger', None), ('max_backlog', 0),
    ('max_backlog', 1.5), ('block_timeout', -1), ('on_full', 'wait'), ('on_unavailable', 'block')])
def test_an_option_that_cannot_be(store: Recorder, option: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f'^{option} is .*, not '):
        Writer(store, 'clicks', **{option: value})
