"""Batches: when they go out, in which order, and what becomes of them when something fails.

The logic is tested on a store that only records (the writer's own protocol); that nothing is lost or doubled, on a
real one.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minibatch.clock import ManualClock
from minibatch.connection import connect, disconnect
from minibatch.errors import BacklogFull, InvalidMessage, MinibatchError, OptionError, StoreUnavailable
from minibatch.linger import lingering
from minibatch.store import Store
from minibatch.writer import Writer
from tests.support.mongod import Deployment
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
NEVER = 3600.0


class Recorder:
    """A store that keeps what it gets, fails when told to and can be held up."""

    def __init__(self) -> None:
        self.clock = ManualClock(dt.datetime(2026, 1, 31))
        self.calls: list[list[dict[str, Any]]] = []
        self.tries: list[list[Any]] = []
        self.counts = 0
        self.consumed = 0
        self.error: Exception | None = None
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()

    def append(self, docs: list[dict[str, Any]]) -> None:
        self.tries.append([doc['_id'] for doc in docs])
        self.entered.set()
        self.open.wait()
        if self.error is not None:
            raise self.error
        self.calls.append(list(docs))

    def count_free(self, stream: str, limit: int = 0) -> int:
        self.counts += 1
        if self.error is not None:
            raise self.error
        n = len(self.stored) - self.consumed
        return min(n, limit) if limit else n

    @property
    def stored(self) -> list[Any]:
        return [doc['data']['i'] for call in list(self.calls) for doc in call]

    @property
    def sizes(self) -> list[int]:
        return [len(call) for call in self.calls]


@pytest.fixture
def store() -> Recorder:
    return Recorder()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """What a test leaves waiting must not go to the next one's store, nor be sent at the end of pytest."""
    yield
    with lingering._wake:
        lingering._due.clear()


def rows(n: int, start: int = 0) -> list[dict[str, Any]]:
    return [{'i': i} for i in range(start, start + n)]


def append(writer: Writer, n: int, start: int = 0) -> None:
    for row in rows(n, start):
        writer.append(row)


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Start *call* in a thread; what it returns or raises comes into the list."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(call())
        except Exception as exc:
            result.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, result


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


def test_a_live_source_is_stored_while_it_is_silent(store: Recorder) -> None:
    source: queue.Queue[Any] = queue.Queue()
    writer = Writer(store, 'clicks', linger=0.02)
    thread, result = in_thread(lambda: writer.feed(iter(source.get, None)))
    for row in rows(3):
        source.put(row)
    wait_until(lambda: store.stored == [0, 1, 2], what='what came so far to be stored')
    writer.close()
    source.put({'i': 3})
    thread.join(10)
    assert result == [3]
    assert store.stored == [0, 1, 2]


# -- back-pressure


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


# -- options


@pytest.mark.parametrize(('option', 'value'), [
    ('batchsize', 0), ('batchsize', -1), ('batchsize', 1.5), ('batchsize', '10'), ('batchsize', True),
    ('linger', -1), ('linger', float('nan')), ('linger', '1'), ('linger', None), ('max_backlog', 0),
    ('max_backlog', 1.5), ('block_timeout', -1), ('on_full', 'wait'), ('on_unavailable', 'block')])
def test_an_option_that_cannot_be(store: Recorder, option: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f'^{option} is .*, not '):
        Writer(store, 'clicks', **{option: value})


# -- forks


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='nothing forks here')
def test_a_forked_child_does_not_send_what_its_parent_gathered(store: Recorder) -> None:
    writer = Writer(store, 'clicks', batchsize=100, linger=0.02)
    store.open.clear()
    append(writer, 3)
    store.entered.wait()  # the parent is in the middle of sending: its locks are held
    append(writer, 2, 3)
    out, into = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            signal.alarm(20)  # a lock that the parent held would be held for ever
            waiting = writer.waiting
            store.open.set()
            append(writer, 1, 100)
            writer.flush()
            os.write(into, f'{waiting} {store.stored}'.encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(into)
    with os.fdopen(out) as answer:
        assert answer.read() == '0 [100]'
    store.open.set()
    wait_until(lambda: store.stored == [0, 1, 2, 3, 4])


# -- on a real MongoDB


@pytest.fixture
def real(url: str) -> Store:
    return Store(connect(url))


def found(db: Any) -> list[Any]:
    return [doc['data']['i'] for doc in db['buffer'].find().sort('_id')]


def test_threads_that_share_a_writer_lose_and_double_nothing(real: Store, db: Any) -> None:
    with Writer(real, 'clicks', batchsize=100, linger=0.01) as writer:
        threads = [in_thread(lambda k=k: append(writer, 2500, k * 2500)) for k in range(4)]
        for thread, result in threads:
            thread.join(60)
            assert result == [None]
    stored = found(db)
    assert sorted(stored) == list(range(10_000))
    for k in range(4):
        mine = [i for i in stored if i // 2500 == k]
        assert mine == sorted(mine), 'the order of one producer changed'


def test_a_batch_whose_reply_was_lost_is_stored_once(
    solo: Deployment, dbname: str, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr('minibatch.store.streams.APPEND_PATIENCE', 0.0)
    url = solo.url(dbname)
    writer = Writer(Store(connect(url)), 'clicks', batchsize=100, linger=NEVER)
    append(writer, 10)
    lost = {'code': 91, 'errmsg': 'shutdown in progress'}
    with solo.fail_command(['insert'], writeConcernError=lost), pytest.raises(StoreUnavailable, match='10 messages'):
        writer.flush()
    assert solo.client[dbname]['buffer'].count_documents({}) == 10, 'stored, but the writer could not know'
    append(writer, 10, 10)
    writer.close()
    assert found(solo.client[dbname]) == list(range(20))
    disconnect(url)


def test_a_producer_that_waits_outlives_a_restart_of_mongodb(solo: Deployment, dbname: str) -> None:
    url = solo.url(dbname)
    writer = Writer(Store(connect(url)), 'clicks', batchsize=10, linger=0.05, on_unavailable='wait')
    append(writer, 15)
    solo.nodes[0].kill()
    thread, result = in_thread(lambda: append(writer, 100, 15))
    wait_until(lambda: writer.waiting >= 10, what='a batch to wait')
    solo.repair()
    thread.join(60)
    assert result == [None]
    writer.close()
    assert found(solo.client[dbname]) == list(range(115))
    disconnect(url)


PRODUCER = """
import multiprocessing, os, signal, sys
from minibatch import points
from minibatch.connection import connect
from minibatch.store import Store
from minibatch.writer import Writer

def produce(start, linger):
    global writer
    writer = Writer(Store(connect(sys.argv[1])), 'clicks', batchsize=100, linger=linger)
    for i in range(start, start + 3):
        writer.append({'i': i})
"""


def run(script: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, '-c', PRODUCER + script, url], cwd=ROOT, capture_output=True, text=True,
                          timeout=60, check=False)


@pytest.mark.parametrize(('end', 'code'), [('', 0), ('sys.exit(3)', 3), ('1 / 0', 1)], ids=['end', 'exit', 'error'])
def test_what_waits_is_stored_when_the_process_ends(url: str, db: Any, end: str, code: int) -> None:
    done = run(f'produce(0, 3600)\n{end}', url)
    assert done.returncode == code, done.stderr
    assert found(db) == [0, 1, 2]


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_what_waits_is_stored_when_a_child_process_ends(url: str, tmp_path: Path, db: Any, method: str) -> None:
    program = tmp_path / 'program.py'
    program.write_text(PRODUCER + f"""
if __name__ == '__main__':
    produce(0, 3600)
    child = multiprocessing.get_context({method!r}).Process(target=produce, args=(3, 3600))
    child.start()
    child.join()
    print(child.exitcode, writer.waiting)
""")
    done = subprocess.run([sys.executable, str(program), url], cwd=ROOT, capture_output=True, text=True, timeout=60,
                          env={**os.environ, 'PYTHONPATH': str(ROOT)}, check=False)
    assert done.stdout.split() == ['0', '3'], done.stderr
    assert sorted(found(db)) == [0, 1, 2, 3, 4, 5]


def test_a_producer_killed_in_the_middle_of_a_batch_loses_nothing_that_was_flushed(url: str, db: Any) -> None:
    done = run("""
produce(0, 3600)
writer.flush()
print('flushed', flush=True)
points.on_point = lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == 'append:before' else None
produce(3, 3600)
writer.flush()
print('not reached', flush=True)
""", url)
    assert (done.returncode, done.stdout) == (-9, 'flushed\n'), done.stderr
    assert found(db) == [0, 1, 2]


def test_what_is_lost_at_the_end_of_the_process_is_said() -> None:
    done = run("""
from minibatch.errors import StoreUnavailable
from minibatch.clock import SystemClock

class Away:
    clock = SystemClock()
    def append(self, docs):
        raise StoreUnavailable('MongoDB is away')

writer = Writer(Away(), 'clicks', batchsize=100, linger=3600)
for i in range(3):
    writer.append({'i': i})
""", '')
    assert "3 messages appended to stream 'clicks' are lost: MongoDB is away" in done.stderr
