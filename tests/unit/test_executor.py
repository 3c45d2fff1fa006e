"""A function may do anything, wherever it runs: each batch gets the outcome that is true of it, and no other."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor as StandardExecutor
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from minibatch.errors import MissingExtra, OptionError
from minibatch.executor import Executor, make_executor
from minibatch.outcome import LONGEST_ERROR, LONGEST_TRACEBACK, Outcome
from tests.support.waiting import wait_until

PATIENCE = 30


class OnlyCallables:
    """A pool as somebody may have written it: ``submit(fn)``, and a future that knows ``result()`` only."""

    class Pending:
        def __init__(self, fn: Callable[[], Any]) -> None:
            self.thread = threading.Thread(target=self.run)
            self.fn = fn
            self.thread.start()

        def run(self) -> None:
            self.value = self.fn()

        def result(self) -> Any:
            self.thread.join()
            return self.value

    def submit(self, fn: Callable[[], Any]) -> Pending:
        return self.Pending(fn)


class SpawnedPool(ProcessPoolExecutor):
    def __init__(self, max_workers: int) -> None:
        super().__init__(max_workers, mp_context=multiprocessing.get_context('spawn'))


KINDS: dict[str, Any] = {
    'process': 'process', 'thread': 'thread', 'inline': 'inline', 'class of processes': SpawnedPool,
    'class of threads': ThreadPoolExecutor, 'only callables': OnlyCallables()}


@pytest.fixture(params=KINDS)
def anywhere(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with make_executor(KINDS[request.param], 2) as executor:
        yield executor


@pytest.fixture
def processes() -> Iterator[Executor]:
    with make_executor('process', 2) as executor:
        yield executor


@pytest.fixture
def lane() -> Iterator[Executor]:
    """One worker process."""
    with make_executor('process', 1) as executor:
        yield executor


def results(future: Future[list[Outcome]]) -> list[Outcome]:
    return future.result(PATIENCE)


def kinds(future: Future[list[Outcome]]) -> list[str]:
    return [outcome.kind for outcome in results(future)]


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pids: Iterable[int]) -> None:
    wait_until(lambda: not any(alive(pid) for pid in pids), 3, what=f'the end of {pids}')


def obey(order: str) -> Any:
    """A function that does what its batch says."""
    if order == 'raise':
        raise ValueError('as told')
    if order == 'leave':
        raise SystemExit('as told')
    if order == 'interrupt':
        raise KeyboardInterrupt
    if order == 'exit':
        os._exit(3)
    if order == 'segfault':
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.string_at(0)
    if order == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
    if order == 'hang':
        time.sleep(3600)
    if order == 'generator':
        return (each for each in order)
    return order.upper()


# -- wherever it runs


def test_each_batch_has_its_outcome_in_order(anywhere: Executor) -> None:
    outcomes = results(anywhere.run(obey, ['a', 'raise', 'b', 'leave', 'c']))
    assert [outcome.value for outcome in outcomes] == ['A', None, 'B', None, 'C']
    assert [outcome.kind for outcome in outcomes] == ['ok', 'raised', 'ok', 'raised', 'ok']
    assert [outcome.error for outcome in outcomes] == [None, 'ValueError: as told', None, 'SystemExit: as told', None]


def test_no_batches_have_no_outcomes(anywhere: Executor) -> None:
    assert results(anywhere.run(obey, [])) == []


def test_the_traceback_shows_the_users_frames_only(anywhere: Executor) -> None:
    async def coroutine(batch: str) -> None:
        obey(batch)

    for fn, named in (obey, 'in obey'), (coroutine, 'in coroutine'):
        text = results(anywhere.run(fn, ['raise']))[0].traceback
        assert text is not None
        assert named in text
        assert text.endswith('ValueError: as told\n')
        assert 'invoke' not in text
        assert 'asyncio' not in text


def test_coroutine_functions_are_awaited_on_a_loop_that_lasts(anywhere: Executor) -> None:
    class Asked:
        def __init__(self) -> None:
            self.loops: list[int] = []

        async def __call__(self, batch: int) -> int:
            import asyncio
            await asyncio.sleep(0)
            self.loops.append(id(asyncio.get_running_loop()))
            return len(set(self.loops))

    assert [outcome.value for outcome in results(anywhere.run(Asked(), [1, 2, 3]))] == [1, 1, 1]


def test_a_closure_may_run(anywhere: Executor) -> None:
    factor = 3
    assert results(anywhere.run(lambda batch: batch * factor, [2]))[0].value == 6


def test_seconds_are_those_of_the_function(anywhere: Executor) -> None:
    def work(batch: float) -> None:
        end = time.monotonic() + batch
        while time.monotonic() < end:
            pass
    short, long = results(anywhere.run(work, [0.0, 0.1]))
    assert short.seconds < 0.1 <= long.seconds < 5


def test_callbacks_are_called(anywhere: Executor) -> None:
    called: list[Future[list[Outcome]]] = []
    future = anywhere.run(obey, ['a'])
    future.add_done_callback(called.append)
    results(future)
    wait_until(lambda: called == [future], what='the callback')


def test_after_a_shutdown_nothing_runs(anywhere: Executor) -> None:
    future = anywhere.run(obey, ['a'])
    anywhere.shutdown()
    anywhere.close()
    assert kinds(future) == ['ok']
    with pytest.raises(RuntimeError, match='shut down'):
        anywhere.run(obey, ['a'])


def test_what_is_no_function_is_refused(anywhere: Executor) -> None:
    with pytest.raises(OptionError, match='function'):
        anywhere.check('work')  # type: ignore[arg-type]


def test_long_texts_are_cut() -> None:
    def fail(batch: int) -> None:
        try:
            raise ValueError('x' * batch)
        except ValueError as e:
            raise RuntimeError('y' * batch) from e

    outcome = results(make_executor('inline').run(fail, [100_000]))[0]
    assert outcome.error is not None
    assert outcome.traceback is not None
    assert len(outcome.error) <= LONGEST_ERROR
    assert len(outcome.traceback) <= LONGEST_TRACEBACK


# -- in processes that die


@pytest.mark.parametrize(('order', 'said'), [
    ('exit', 'exited with code 3'), ('segfault', 'killed by SIGSEGV'), ('kill', 'killed by SIGKILL')])
def test_a_death_is_the_outcome_of_its_batch_alone(lane: Executor, tmp_path: Path, order: str, said: str) -> None:
    def work(batch: str) -> Any:
        with (tmp_path / 'runs').open('a') as runs:
            runs.write(f'{batch}\n')
        return obey(batch)

    batches = ['a', 'b', order, 'c', order, 'd']
    outcomes = results(lane.run(work, batches))
    assert [outcome.kind for outcome in outcomes] == ['ok', 'ok', 'died', 'ok', 'died', 'ok']
    assert [outcome.value for outcome in outcomes] == ['A', 'B', None, 'C', None, 'D']
    assert said in str(outcomes[2].error)
    assert outcomes[2].ran
    assert (tmp_path / 'runs').read_text().split() == batches, 'each ran once'


def test_a_worker_killed_while_it_works(lane: Executor, tmp_path: Path) -> None:
    def work(batch: int) -> None:
        (tmp_path / 'begun').touch()
        time.sleep(3600)

    future = lane.run(work, [1])
    wait_until((tmp_path / 'begun').exists, PATIENCE)
    os.kill(lane.pids()[0], signal.SIGKILL)
    assert 'SIGKILL' in str(results(future)[0].error)
    assert kinds(lane.run(obey, ['a'])) == ['ok']


def test_a_worker_killed_while_idle_is_replaced_and_no_batch_is_to_blame(lane: Executor) -> None:
    for _ in range(3):
        assert kinds(lane.run(obey, ['a'])) == ['ok']
        pid, = lane.pids()
        os.kill(pid, signal.SIGKILL)
        wait_until_gone([pid])


def test_one_death_does_not_disturb_the_others(processes: Executor, tmp_path: Path) -> None:
    def work(batch: str) -> Any:
        (tmp_path / f'{batch}-begun').touch()
        while batch == 'waits' and not (tmp_path / 'go').exists():
            time.sleep(0.01)
        return obey(batch)

    other = processes.run(work, ['waits'])
    wait_until((tmp_path / 'waits-begun').exists, PATIENCE)
    assert kinds(processes.run(work, ['exit', 'hang', 'kill'], 1.0)) == ['died', 'timeout', 'died']
    assert not other.done()
    (tmp_path / 'go').touch()
    assert results(other)[0].value == 'WAITS'


def test_a_death_is_seen_though_a_child_of_the_function_lives_on(lane: Executor, tmp_path: Path) -> None:
    def work(batch: int) -> None:
        if os.fork() == 0:
            os.setsid()
            (tmp_path / 'child').write_text(str(os.getpid()))
            while not (tmp_path / 'end').exists():
                time.sleep(0.01)
            os._exit(0)
        while not (tmp_path / 'child').exists():
            time.sleep(0.01)
        os._exit(4)

    try:
        assert 'code 4' in str(results(lane.run(work, [1]))[0].error)
    finally:
        (tmp_path / 'end').touch()


def test_memory_that_cannot_be_had_fails_the_batch(lane: Executor) -> None:
    def work(batch: str) -> int:
        if batch == 'all':
            before = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (2 << 30, before[1]))
            try:
                return len(bytearray(1 << 33))
            finally:
                resource.setrlimit(resource.RLIMIT_AS, before)
        return len(batch)

    outcomes = results(lane.run(work, ['a', 'all', 'b']))
    assert [outcome.kind for outcome in outcomes] == ['ok', 'raised', 'ok']
    assert str(outcomes[1].error).startswith('MemoryError')


def test_a_process_that_cannot_start_uses_up_no_attempt(lane: Executor) -> None:
    executable = multiprocessing.spawn.get_executable()
    multiprocessing.set_executable('/bin/false')
    try:
        outcome, = results(lane.run(obey, ['a']))
    finally:
        multiprocessing.set_executable(executable)
    assert (outcome.kind, outcome.ran) == ('died', False)
    assert 'no worker process could be started: it exited with code 1' in str(outcome.error)
    assert kinds(lane.run(obey, ['a'])) == ['ok']


# -- or hang


def test_the_time_is_that_of_each_batch(lane: Executor) -> None:
    def work(batch: float) -> float:
        time.sleep(batch)
        return batch

    results(lane.run(work, [0.0]))
    outcomes = results(lane.run(work, [0.5, 0.5, 0.5, 3600, 0.5], 1.0))
    assert [outcome.kind for outcome in outcomes] == ['ok', 'ok', 'ok', 'timeout', 'ok']
    assert outcomes[3].error == 'the function ran longer than timeout=1 s; its worker process was killed'


def test_what_a_late_function_has_started_is_killed_with_it(lane: Executor, tmp_path: Path) -> None:
    def work(batch: int) -> None:
        with subprocess.Popen(['sleep', '3600']) as child:
            (tmp_path / 'pid').write_text(str(child.pid))

    results(lane.run(obey, ['a']))
    assert kinds(lane.run(work, [1], 1.0)) == ['timeout']
    pid = int((tmp_path / 'pid').read_text())
    wait_until_gone([pid])


def test_loading_a_function_is_not_its_time(lane: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'slow_module.py').write_text('import time\ntime.sleep(0.5)\ndef work(batch): return batch\n')
    monkeypatch.syspath_prepend(tmp_path)
    import slow_module  # type: ignore[import-not-found]
    assert kinds(lane.run(slow_module.work, [1], 0.3)) == ['ok']


# -- what goes over and comes back


def test_a_result_that_cannot_be_sent_says_so_and_the_worker_lives_on(lane: Executor) -> None:
    outcomes = results(lane.run(obey, ['a', 'generator', 'b']))
    pid, = lane.pids()
    assert [outcome.kind for outcome in outcomes] == ['ok', 'pickle', 'ok']
    assert 'the function returned something (generator) that cannot be sent back' in str(outcomes[1].error)
    assert kinds(lane.run(obey, ['a'])) == ['ok']
    assert lane.pids() == [pid]


class Mine:
    """Cannot be rebuilt in the parent."""

    def __reduce__(self) -> Any:
        return only_in, (os.getpid(),)


def only_in(pid: int) -> str:
    if pid != os.getpid():
        raise LookupError('this is somebody else')
    return 'mine'


def test_a_result_that_cannot_be_read_says_so(lane: Executor) -> None:
    outcome, = results(lane.run(lambda batch: Mine(), [1]))
    assert outcome.kind == 'pickle'
    assert 'LookupError: this is somebody else' in str(outcome.error)


def test_a_batch_that_cannot_be_sent_or_read_harms_no_other(lane: Executor) -> None:
    unsent, unread = threading.Lock(), Mine()
    outcomes = results(lane.run(str.upper, ['a', unsent, 'b', unread, 'c']))
    assert [outcome.kind for outcome in outcomes] == ['ok', 'pickle', 'ok', 'pickle', 'ok']
    assert [outcome.ran for outcome in outcomes] == [True, False, True, False, True]
    assert 'cannot be sent to a worker process' in str(outcomes[1].error)


def test_a_function_that_cannot_be_sent_is_refused_before_anything_runs(lane: Executor) -> None:
    lock = threading.Lock()
    with pytest.raises(OptionError, match=r"work cannot be sent.* because of lock: .*executor='thread'"):
        lane.check(make_work(lock))
    assert kinds(lane.run(make_work(lock), [1, 2])) == ['pickle', 'pickle']


def make_work(lock: Any) -> Callable[[Any], None]:
    def work(batch: Any) -> None:
        with lock:
            pass
    work.__qualname__ = 'work'
    return work


@pytest.mark.parametrize(('body', 'kind', 'said'), [
    ("raise LookupError('no such thing')", 'pickle', 'LookupError: no such thing'),
    ('import os; os._exit(5)', 'died', 'code 5')])
def test_a_function_whose_module_cannot_be_imported(lane: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                    body: str, kind: str, said: str) -> None:
    (tmp_path / 'fragile.py').write_text(
        f'import os\nif os.getpid() != {os.getpid()}:\n    {body}\ndef work(batch): pass\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'fragile', raising=False)
    import fragile  # type: ignore[import-not-found]
    outcomes = results(lane.run(fragile.work, [1, 2]))
    assert [(outcome.kind, outcome.ran) for outcome in outcomes] == [(kind, False)] * 2
    assert said in str(outcomes[0].error)
    assert kinds(lane.run(obey, ['a'])) == ['ok']


def test_a_function_travels_once(lane: Executor) -> None:
    class Counted:
        pickled = 0

        def __reduce__(self) -> Any:
            Counted.pickled += 1
            return obey.__class__, (obey.__code__, obey.__globals__)

    class Work:
        def __init__(self) -> None:
            self.sent = 0

        def __getstate__(self) -> dict[str, int]:
            self.sent += 1
            return {}

        def __call__(self, batch: int) -> int:
            return batch

    work = Work()
    for i in range(20):
        assert results(lane.run(work, [i]))[0].value == i
    assert work.sent == 1


def test_more_functions_than_a_worker_keeps(lane: Executor) -> None:
    def made(i: int) -> Callable[[int], int]:
        return lambda batch: batch + i

    functions = [made(i) for i in range(12)]
    for _ in range(3):
        assert [results(lane.run(fn, [100]))[0].value for fn in functions] == list(range(100, 112))


def test_a_function_is_found_while_its_module_is_being_imported(lane: Executor, tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'decorating.py').write_text("""
import threading
def decorator(fn):
    if threading.current_thread().name == 'the test':
        found.append(executor.run(fn, [20]).result(30)[0])
    return None
from __main__ import found, executor
OFFSET = 1
@decorator
def work(batch):
    return batch + OFFSET
""")
    main = sys.modules['__main__']
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(main, 'found', [], raising=False)
    monkeypatch.setattr(main, 'executor', lane, raising=False)
    monkeypatch.setattr(threading.current_thread(), 'name', 'the test')
    import decorating  # type: ignore[import-not-found] # noqa: F401
    assert main.found[0].value == 21


def test_outcomes_can_always_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Outcome([1]))).value == [1]
    assert pickle.loads(pickle.dumps(Outcome(threading.Lock()))).kind == 'pickle'


# -- the end


@pytest.mark.parametrize('name', ['process', 'thread'])
def test_a_shutdown_waits_for_what_was_accepted(name: str) -> None:
    executor = make_executor(name, 1)
    futures = [executor.run(obey, [str(i)]) for i in range(20)]
    executor.shutdown()
    assert all(future.done() for future in futures)
    assert [results(future)[0].value for future in futures] == [str(i) for i in range(20)]
    assert executor.pids() == []


@pytest.mark.parametrize('name', ['process', 'thread'])
def test_a_shutdown_that_kills_gives_every_batch_its_outcome(name: str, tmp_path: Path) -> None:
    executor = make_executor(name, 1)
    fn = begun_and_stuck(tmp_path)
    running, queued = executor.run(fn, [1, 2]), executor.run(fn, [3])
    wait_until((tmp_path / 'begun').exists, PATIENCE)
    waiting = threading.Thread(target=executor.shutdown)
    waiting.start()
    executor.shutdown(kill=True)
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    outcomes = results(running) + results(queued)
    (tmp_path / 'end').touch()
    assert [outcome.kind for outcome in outcomes] == ['died'] * 3
    assert [outcome.ran for outcome in outcomes] == [True, False, False]
    assert executor.pids() == []


def begun_and_stuck(path: Path) -> Callable[[int], None]:
    def work(batch: int) -> None:
        (path / 'begun').touch()
        while not (path / 'end').exists():
            time.sleep(0.01)
    return work


def test_a_callback_may_shut_down(lane: Executor) -> None:
    future = lane.run(obey, ['a'])
    ended = threading.Event()

    def end(_: object) -> None:
        lane.shutdown()
        ended.set()

    future.add_done_callback(end)
    assert ended.wait(PATIENCE)


def test_nothing_is_left(tmp_path: Path) -> None:
    def count() -> tuple[int, int, int]:
        me = psutil.Process()
        return len(os.listdir('/proc/self/fd')), threading.active_count(), len(me.children(recursive=True))

    before = count()
    with make_executor('process', 2) as executor:
        futures = [executor.run(obey, ['a', 'exit', 'b']) for _ in range(2)]
        assert [kinds(future) for future in futures] == [['ok', 'died', 'ok']] * 2
    with make_executor('thread', 2) as executor:
        results(executor.run(obey, ['a'], 5.0))
    # Less is no fault of theirs: something that an earlier test has left may have ended by itself.
    wait_until(lambda: all(now <= then for now, then in zip(count(), before, strict=True)),
               what=f'{count()} to be {before}')


def test_a_forked_process_is_told_to_make_its_own(lane: Executor) -> None:
    results(lane.run(obey, ['a']))
    pid = os.fork()
    if pid == 0:
        try:
            lane.run(obey, ['a'])
        except RuntimeError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# -- scripts of users

SCRIPT = """
import os, signal, subprocess, sys, time
from pathlib import Path
print('main', flush=True)
path = Path(sys.argv[1])
class Thing:
    def __init__(self, n): self.n = n
OFFSET = 1
def work(thing):
    (path / f'begun-{os.getpid()}').touch()
    ACTION
    return Thing(thing.n + OFFSET)
from minibatch.executor import make_executor
executor = make_executor('process', 2)
executor.check(work)
"""


def script(tmp_path: Path, action: str, rest: str) -> subprocess.Popen[str]:
    path = tmp_path / 'script.py'
    path.write_text(SCRIPT.replace('ACTION', action) + rest)
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen([sys.executable, path, tmp_path], start_new_session=True, text=True,
                            env={**os.environ, 'PYTHONPATH': str(root)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def begun(tmp_path: Path, n: int) -> list[int]:
    """Wait for *n* workers to run the function; their ids."""
    def pids() -> list[int]:
        found = [int(path.name[6:]) for path in tmp_path.glob('begun-*')]
        return found if len(found) == n else []
    found: list[int] = wait_until(pids, PATIENCE, what=f'{n} workers to begin')
    return found


def test_a_script_without_a_main_guard(tmp_path: Path) -> None:
    ran = script(tmp_path, 'print("work")', """
outcomes = executor.run(work, [Thing(1), Thing(2)]).result()
assert [type(outcome.value) for outcome in outcomes] == [Thing, Thing], outcomes
print(*[outcome.value.n for outcome in outcomes])
executor.shutdown()
""")
    said, errors = ran.communicate(timeout=PATIENCE)
    assert (ran.returncode, errors) == (0, '')
    assert sorted(said.split('\n')) == ['', '2 3', 'main', 'work', 'work']


def test_a_script_that_ends_without_a_shutdown_ends(tmp_path: Path) -> None:
    ran = script(tmp_path, 'time.sleep(3600)', """
future = executor.run(work, [Thing(1)])
while not list(path.glob('begun-*')):
    time.sleep(0.01)
""")
    ran.communicate(timeout=PATIENCE)
    assert ran.returncode == 0
    for pid in begun(tmp_path, 1):
        wait_until_gone([pid])


def test_what_the_script_defines_later_is_found_in_the_next_attempt(tmp_path: Path) -> None:
    ran = script(tmp_path, 'return later(thing.n)', """
first = executor.run(work, [Thing(1)]).result()[0]
def later(n): return n + 10
second = executor.run(work, [Thing(1)]).result()[0]
print(first.error, second.value)
executor.shutdown()
""")
    said, _ = ran.communicate(timeout=PATIENCE)
    assert "NameError: name 'later' is not defined" in said
    assert said.endswith(' 11\n')


@pytest.mark.parametrize('action', [
    'time.sleep(3600)',
    'import re; re.match("(a+)+$", "a" * 60 + "b")',  # holds the GIL until doomsday
    'subprocess.run(["sleep", "3600"])',
])
def test_when_the_parent_is_killed_no_worker_is_left(tmp_path: Path, action: str) -> None:
    ran = script(tmp_path, action, 'executor.run(work, [Thing(1)]); executor.run(work, [Thing(2)]).result()')
    workers = begun(tmp_path, 2)
    families = {p.pid for pid in workers for p in psutil.Process(pid).children()} | set(workers)
    ran.kill()
    ran.communicate(timeout=PATIENCE)  # which ends when nobody can write any more
    wait_until_gone(families)


@pytest.mark.parametrize(('number', 'to_workers'), [
    (signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, True)])
def test_signals_leave_the_workers_to_the_parent(tmp_path: Path, number: signal.Signals, to_workers: bool) -> None:
    """As a terminal's Ctrl-C, ``kill`` of the process group, or systemd, which signals each process of a service."""
    ran = script(tmp_path, """
    program = subprocess.Popen(["sleep", "3600"])
    while not (path / "go").exists(): time.sleep(0.01)
    assert program.poll() is None, "the signal has reached a program that the function started"
    program.terminate()
    assert program.wait(10) == -signal.SIGTERM
""", """
signal.signal(signal.SIGINT, lambda *_: (path / 'signalled').touch())
signal.signal(signal.SIGTERM, lambda *_: (path / 'signalled').touch())
futures = [executor.run(work, [Thing(1)]), executor.run(work, [Thing(2)])]
outcomes = [outcome for future in futures for outcome in future.result()]
print([outcome.error or outcome.value.n for outcome in outcomes])
executor.shutdown()
""")
    workers = begun(tmp_path, 2)
    os.killpg(ran.pid, number)
    if to_workers:
        for pid in workers:
            os.kill(pid, number)
    wait_until((tmp_path / 'signalled').exists)
    (tmp_path / 'go').touch()
    said, errors = ran.communicate(timeout=PATIENCE)
    assert (said, errors) == ('main\n[2, 3]\n', '')
    assert not any(alive(pid) for pid in workers)


# -- threads


def test_an_abandoned_thread_is_replaced() -> None:
    release = threading.Event()

    def work(batch: str) -> str:
        if batch == 'late':
            release.wait(PATIENCE)
        return batch

    with make_executor('thread', 2) as executor:
        futures = [executor.run(work, ['late', 'a'], 0.2) for _ in range(4)]
        for future in futures:
            assert [(o.kind, o.value) for o in results(future)] == [('timeout', None), ('ok', 'a')]
            assert 'left to itself' in str(results(future)[0].error)
        barrier = threading.Barrier(2, timeout=PATIENCE)
        both = [executor.run(lambda batch: barrier.wait(), [1]) for _ in range(2)]
        assert [kinds(future) for future in both] == [['ok'], ['ok']], 'there are still two of them'
    release.set()


# -- somebody's pool


def test_a_pool_made_of_a_class_is_made_anew_when_it_breaks() -> None:
    with make_executor(SpawnedPool, 1) as executor:
        assert kinds(executor.run(obey, ['exit', 'a'])) == ['died', 'died']
        assert kinds(executor.run(obey, ['a', 'generator'])) == ['ok', 'pickle']


def test_a_pool_that_was_given_is_its_owners() -> None:
    with ThreadPoolExecutor(3) as pool:
        executor = make_executor(pool)
        assert executor.workers == 3
        results(executor.run(obey, ['a']))
        executor.shutdown()
        assert pool.submit(len, 'abc').result() == 3
    again = make_executor(pool)
    assert kinds(again.run(obey, ['a'])) == ['died']


def test_a_pool_is_killed() -> None:
    executor = make_executor(SpawnedPool, 1)
    future = executor.run(obey, ['hang'])
    executor.shutdown(kill=True)
    assert kinds(future) == ['died']


@pytest.mark.parametrize('name', ['dask', 'ray'])
def test_clusters(name: str) -> None:
    pytest.importorskip({'dask': 'distributed', 'ray': 'ray'}[name])
    with make_executor(name, 1) as executor:
        assert kinds(executor.run(obey, ['a', 'raise', 'generator'])) == ['ok', 'raised', 'pickle']


@pytest.mark.parametrize(('name', 'package'), [('dask', 'distributed'), ('ray', 'ray')])
def test_a_missing_package_is_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'minibatch\[{name}\]'"):
        make_executor(name, 1)


# -- options


def test_the_default_is_processes() -> None:
    with make_executor() as executor:
        assert type(executor).__name__ == 'ProcessExecutor'
        assert executor.workers == len(os.sched_getaffinity(0))
        assert make_executor(executor) is executor
        assert make_executor(type(executor), 3).workers == 3


@pytest.mark.parametrize('spec', ['process', 'thread', 'inline', ThreadPoolExecutor])
@pytest.mark.parametrize('workers', [0, -1, True, 1.5, '2'])
def test_workers_are_counted(spec: Any, workers: Any) -> None:
    with pytest.raises(OptionError, match='workers must be a whole number'):
        make_executor(spec, workers)


@pytest.mark.parametrize(('spec', 'said'), [
    ('proces', 'did you mean process'), ('grid', 'there are process, thread, inline, dask, ray'),
    (7, r'a method submit\(fn\)'), (object, 'give an instance instead'),
    (StandardExecutor, 'give an instance instead')])
def test_what_is_no_executor_is_refused(spec: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        make_executor(spec, 1)


@pytest.mark.parametrize('kind', ['inline', 'class of threads', 'only callables'])
def test_a_time_limit_that_cannot_be_kept_is_refused(kind: str) -> None:
    with make_executor(KINDS[kind], 1) as executor, pytest.raises(OptionError, match='timeout'):
        executor.check(obey, 1.0)


def test_a_ctrl_c_goes_through_in_place() -> None:
    with pytest.raises(KeyboardInterrupt):
        make_executor('inline').run(obey, ['interrupt'])
    with make_executor('process', 1) as executor:
        assert results(executor.run(obey, ['interrupt']))[0].error == 'KeyboardInterrupt'
