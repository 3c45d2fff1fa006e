"""``run``: consumers of a file, in a process that is stopped, killed, restarted and reloaded."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import minibatch as mb
from tests.support.shell import Shell
from tests.support.waiting import wait_until

Filled = Callable[..., mb.Stream]

APP = """
import os

import minibatch as mb


@mb.streaming('orders', size=2, executor='inline', sink=print)
def bill(window):
    return [message['n'] for message in window]


@mb.streaming('visits', size=1, executor='thread', lease=1)
def count(window):
    with open('seen', 'a') as seen:
        seen.write(f"{os.getpid()} {window.data[0]['n']}\\n")


def consumer(url, size=3):
    @mb.streaming('orders', size=size, url=url, executor='inline', sink=print)
    def tax(window):
        return ['tax'] * len(window)


pipeline = mb.stream('orders').map(lambda message: {'twice': 2 * message['n']}).to(print).options(executor='inline')
number = 5
"""
AN_APP = """
import minibatch as mb

app = mb.App('shop')


@app.agent('orders', size=2, workers=1, sinks=[print])  # in a worker process
def pack(window):
    return ['packed']
"""


@pytest.fixture
def home(shell: Shell, tmp_path: Path) -> Iterator[Path]:
    before, shell.directory = shell.directory, tmp_path
    (tmp_path / 'app.py').write_text(APP)
    yield tmp_path
    shell.directory = before


@contextlib.contextmanager
def started(shell: Shell, *args: str) -> Iterator[subprocess.Popen[str]]:
    process = shell.start(*args)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def seen(home: Path) -> list[list[int]]:
    """Lines of process id and number, as the consumer wrote them."""
    path = home / 'seen'
    return [[*map(int, line.split())] for line in path.read_text().splitlines()] if path.exists() else []


def test_what_a_file_defines_is_run_once(shell: Shell, home: Path, filled: Filled) -> None:
    stream = filled()

    def out(*args: str) -> str:
        stream.clear()
        stream.extend({'n': n} for n in range(6))
        result = shell('run', '--once', *args)
        assert result.code == 0, result
        return result.out

    assert out('app.py:bill') == '[0, 1]\n[2, 3]\n[4, 5]\n'
    assert out('app:bill') == '[0, 1]\n[2, 3]\n[4, 5]\n', 'as a module, too'
    assert out('app.py:consumer') == "['tax', 'tax', 'tax']\n" * 2
    assert "{'twice': 10}" in out('app.py:pipeline')
    (home / 'shop').mkdir()
    (home / 'shop' / '__init__.py').touch()
    (home / 'shop' / 'prices.py').write_text('PRICE = 3\n')
    (home / 'shop' / 'work.py').write_text('from .prices import PRICE\n' + APP.replace("message['n']", 'PRICE'))
    assert out('shop/work.py:bill') == '[3, 3]\n' * 3


def test_what_cannot_be_run_is_said(shell: Shell, home: Path) -> None:
    (home / 'broken.py').write_text('import minibatch\n\n1 / 0\n')
    (home / 'ends.py').write_text('raise SystemExit(3)\n')
    (home / 'json.py').write_text('')
    (home / 'empty.py').write_text('def consumer(url): ...\n')
    for target, code, said in [
        ('app.py:bil', 2, "app.py has no consumer 'bil'; did you mean bill?"),
        ('app.py:number', 2, "app.py has no consumer 'number'"),
        ('nowhere.py', 2, 'there is no file nowhere.py'),
        ('nowhere:work', 2, "there is no module 'nowhere'"),
        ('empty.py', 2, 'empty.py defines no consumer where it is loaded'),
        ('empty.py:consumer', 2, 'empty.py:consumer is no consumer, and defines none'),
        ('json.py', 2, "json.py cannot be loaded as module 'json', since there is another one of that name"),
        ('broken.py', 1, 'broken.py cannot be loaded, and nothing was started:'),
        ('ends.py', 1, 'ends.py ended the process while it was loaded (exit code 3)'),
    ]:
        wrong = shell('run', target)
        assert wrong.code == code, wrong
        assert wrong.error.startswith(said), wrong
        assert 'minibatch/cli' not in wrong.err, 'frames of the user only'
    assert 'broken.py", line 3, in <module>\n    1 / 0' in shell('run', 'broken.py').error
    assert shell('run', '--once', '--restart', 'app.py').code == 2


def test_all_of_a_file_run_until_ctrl_c(shell: Shell, home: Path, filled: Filled, url: str) -> None:
    orders, visits = filled(), mb.stream('visits', url=url)
    (home / 'an_app.py').write_text(AN_APP.replace("'orders'", "'parcels'"))
    with started(shell, 'run', 'app.py', 'an_app.py', '--loglevel', 'warning') as process:
        orders.extend({'n': n} for n in range(2))
        visits.append({'n': 7})
        mb.stream('parcels', url=url).extend([{}, {}])
        assert process.stdout is not None
        assert sorted(process.stdout.readline() for _ in range(2)) == ["['packed']\n", '[0, 1]\n']
        wait_until(lambda: seen(home) == [[process.pid, 7]])
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == 'running bill, count, pack; Ctrl-C ends it\n'
    assert visits.status()['consumers'] == []


LOGGING = """
import logging

import minibatch as mb


@mb.streaming('orders', size=1, executor='inline', max_attempts=1)
def bill(window):
    logging.getLogger('shop').info('billed')
    if 'bad' in window.data[0]:
        raise ValueError('nobody at redis://:geheim@cache/0')
"""


def test_what_it_logs_is_for_people_or_for_programs(shell: Shell, home: Path, filled: Filled) -> None:
    stream = filled()
    (home / 'app.py').write_text(LOGGING)

    def said(*args: str, log: str = '', start: str = '') -> str:
        (home / 'app.py').write_text(start + LOGGING)
        stream.extend([{'n': 1}, {'bad': 1}])
        result = shell('run', '--once', 'app.py', *args, MINIBATCH_LOG=log)
        assert (result.code, result.out) == (0, '')
        assert stream.dead.drop() == 1
        assert 'geheim' not in result.err
        return result.err

    dead, = said().splitlines()
    assert ' ERROR orders: window orders:' in dead
    assert 'nobody at redis://:***@cache/0' in dead
    assert 'billed' in said('--loglevel', 'info'), 'whoever asks for a level hears all that is said at it'
    for args, log in (['--json'], ''), ([], 'json'), (['--json'], 'text:warning'):
        line, = said(*args, log=log).splitlines()
        assert json.loads(line).items() >= {'level': 'error', 'stream': 'orders', 'attempt': 1}.items()
    assert said(start='import logging\nlogging.basicConfig(format="mine %(levelname)s")\n') == 'mine ERROR\n'
    wrong = shell('run', 'app.py', MINIBATCH_LOG='jsn')
    assert wrong.code == 2
    assert 'did you mean json?' in wrong.error


def test_a_service_that_logs_json_says_all_in_json(shell: Shell, home: Path, filled: Filled) -> None:
    filled()
    with started(shell, 'run', 'app.py:bill', '--restart', '--json') as keeper:
        assert keeper.stderr is not None
        first = json.loads(keeper.stderr.readline())
        assert (first['level'], first['consumers']) == ('info', ['bill'])
        os.kill(child_of(keeper), signal.SIGKILL)
        died = json.loads(keeper.stderr.readline())
        assert (died['level'], died['process']) == ('error', keeper.pid)
        assert 'killed by SIGKILL' in died['message']
        assert json.loads(keeper.stderr.readline())['consumers'] == ['bill']
        keeper.send_signal(signal.SIGINT)
        assert keeper.wait(30) == 0
        for line in keeper.stderr:
            assert json.loads(line)['level'] == 'info', line


def test_an_error_shows_the_code_and_no_password(shell: Shell, home: Path) -> None:
    (home / 'app.py').write_text('def connected(url):\n    raise OSError(url)\n\n\n'
                                 '@connected\ndef work(window): ...\n')
    wrong = shell('run', 'app.py')
    assert '    @connected\n' in wrong.error
    (home / 'app.py').write_text('web = "http://shop/"; db = open("redis://:geheim@cache/0")  # @shop\n')
    wrong = shell('run', 'app.py')
    assert 'web = "http://shop/"; db = open("redis://:***@cache/0")  # @shop\n' in wrong.error
    assert 'geheim' not in wrong.err


def test_a_service_that_cannot_begin_says_so_in_json(shell: Shell, home: Path) -> None:
    (home / 'broken.py').write_text('1 / 0\n')
    away = 'mongodb://127.0.0.1:1/shop?serverSelectionTimeoutMS=100'
    for args, code, said in [
        (['app.py:bil'], 2, "app.py has no consumer 'bil'; did you mean bill?"),
        (['broken.py'], 1, 'broken.py cannot be loaded, and nothing was started:'),
        (['app.py:bill', '--url', away], 4, '127.0.0.1:1'),
    ]:
        wrong = shell('run', *args, '--json')
        line = json.loads(wrong.err)
        assert (wrong.code, line['code'], line['level']) == (code, code, 'error')
        assert said in line['message']
        assert 'MINIBATCH_MONGO_URL' not in line['message'], 'that is not where the URL is from'


def test_workers_are_as_many_as_the_command_says(shell: Shell, home: Path, filled: Filled) -> None:
    stream = filled()
    (home / 'app.py').write_text(APP.replace("size=2, executor='inline', sink=print", "size=2, executor='thread'"))
    with started(shell, 'run', 'app.py:bill', '--workers', '7') as process:
        wait_until(lambda: [each for each in stream.status()['consumers'] if each['pid'] == process.pid
                            and each['workers'] == 7])


def child_of(process: subprocess.Popen[str]) -> int:
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
    return int(wait_until(lambda: children.read_text().split())[0])


def gone(pid: int) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'Z'
    except FileNotFoundError:
        return True


def test_a_kept_consumer_is_restarted_reloaded_and_never_left_behind(
        shell: Shell, home: Path, filled: Filled, url: str) -> None:
    visits = mb.stream('visits', url=url)
    with started(shell, 'run', 'app.py:count', '--restart', '--reload') as keeper:
        visits.append({'n': 1})
        [(first, _)] = wait_until(lambda: seen(home))
        assert first != keeper.pid
        os.kill(first, signal.SIGKILL)
        visits.append({'n': 2})
        second = wait_until(lambda: next((pid for pid, n in seen(home) if n == 2), None))
        assert second != first

        changed = APP.replace("window.data[0]['n']", "10 * window.data[0]['n']")
        (home / 'app.py').write_text(changed)
        wait_until(lambda: gone(second))
        visits.append({'n': 3})
        third = wait_until(lambda: next((pid for pid, n in seen(home) if n == 30), None))

        (home / 'app.py').write_text('a mistake\n')
        wait_until(lambda: gone(third))
        (home / 'app.py').write_text(changed)
        visits.append({'n': 4})
        fourth = wait_until(lambda: next((pid for pid, n in seen(home) if n == 40), None))
        keeper.kill()
        wait_until(lambda: gone(fourth), what='the consumer to end with its keeper')


def test_a_keeper_ends_in_order(shell: Shell, home: Path, filled: Filled) -> None:
    stream = filled()
    with started(shell, 'run', 'app.py:bill', '--restart') as keeper:
        stream.extend([{'n': 0}, {'n': 1}])
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == '[0, 1]\n'
        child = child_of(keeper)
        keeper.send_signal(signal.SIGTERM)
        assert keeper.wait(30) == 0
        assert gone(child)
    assert stream.status()['consumers'] == []
    wrong = shell('run', 'app.py:bil', '--restart')
    assert wrong.code == 2, 'what would end the same way again is not started again'


def test_an_error_in_a_consumer_ends_all(shell: Shell, home: Path, filled: Filled) -> None:
    stream: Any = filled()
    stream.streaming(lambda window: None, interval=60, time='at', executor='inline', blocking=False)
    (home / 'bad.py').write_text('import minibatch as mb\n\n\n@mb.streaming("orders", bytes="many")\n'
                                 'def work(window): ...\n')
    wrong = shell('run', 'bad.py')
    assert wrong.code == 2
    assert 'bytes' in wrong.error
