"""Nothing appended is lost or doubled: threads, forks, ends of processes and lost replies, on a real MongoDB."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minibatch.connection import connect, disconnect
from minibatch.errors import StoreUnavailable
from minibatch.store import Store
from minibatch.writer import Writer
from tests.support.mongod import Deployment
from tests.support.recorder import NEVER, Recorder, append, in_thread
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='nothing forks here')
def test_a_forked_child_does_not_send_what_its_parent_gathered() -> None:
    store = Recorder()
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
    def append(self, docs, patience=5.0):
        raise StoreUnavailable('MongoDB is away')

writer = Writer(Away(), 'clicks', batchsize=100, linger=3600)
for i in range(3):
    writer.append({'i': i})
""", '')
    assert "3 messages appended to stream 'clicks' are lost: MongoDB is away" in done.stderr
