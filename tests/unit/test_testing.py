"""``minibatch.testing``: what users' own tests run on."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

import minibatch as mb
from minibatch.connection import connect, disconnect
from minibatch.ids import ids
from minibatch.testing import START, Later, MemorySink, consume, database, discard, scratch, wait_until
from tests.support.mongod import Deployment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _here(server: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session's server, which is there anyhow; the plugin's own test uses an embedded one."""
    monkeypatch.setenv('MINIBATCH_TEST_URL', server.url('any'))


def numbers(window: Any) -> list[int]:
    return [message['n'] for message in window]


def n(*values: int) -> list[dict[str, int]]:
    return [{'n': value} for value in values]


@pytest.mark.parametrize(('messages', 'options', 'windows', 'waiting'), [
    (n(1, 2, 3), {'size': 2}, [[1, 2]], 1),
    ([*n(1), Later(4), *n(2), Later(2), *n(3)], {'size': 9, 'within': 5}, [[1, 2]], 1),
    ([*n(1), Later(30), *n(2), Later(31), *n(3)], {'interval': 60}, [[1, 2]], 1),
    ([*n(1), Later(30), *n(2), Later(60), *n(3)], {'interval': 60, 'relaxed': False}, [[1, 2]], 1),
    ([*n(1), Later(9), *n(2), Later(12), *n(3)], {'gap': 10}, [[1, 2]], 1),
    ([{'n': 1, 'ts': 1}, {'n': 2, 'ts': 9}, {'n': 3, 'ts': 11}], {'interval': 10, 'time': 'ts'}, [[1, 2]], 1),
    ([{'n': 1, 'ts': 1}, Later(10), {'n': 3, 'ts': 11}], {'interval': 10, 'time': 'ts', 'idle': 0.2}, [[1]], 1),
], ids=['size', 'within', 'relaxed', 'fixed', 'session', 'event time', 'idle'])
def test_windows_are_cut_by_the_manual_clock(messages: list[Any], options: dict[str, Any], windows: list[list[int]],
                                             waiting: int) -> None:
    consumed = consume(numbers, messages, **options)
    assert consumed.results == windows
    assert [[message['n'] for message in window] for window in consumed.windows] == windows
    assert (consumed.waiting, consumed.dead) == (waiting, [])


def test_times_in_a_window_are_those_of_the_clock() -> None:
    window, = consume(numbers, [Later(1.5), *n(1), Later(2), *n(2)], size=2).windows
    assert (window.start, window.end) == (datetime(2100, 1, 1, 0, 0, 1, 500000), datetime(2100, 1, 1, 0, 0, 3, 500000))


def test_what_the_function_raises_fails_the_test() -> None:
    def divide(window: Any) -> Any:
        return 1 / window.data[0]['n']

    async def divide_later(window: Any) -> Any:
        return divide(window)

    for fn in (divide, divide_later):
        with pytest.raises(ZeroDivisionError) as raised:
            consume(fn, n(1, 0), size=1)
        assert raised.traceback[-1].name == 'divide'


def test_a_dead_window_that_is_expected_is_shown() -> None:
    consumed = consume(lambda window: 1 / window.data[0]['n'], n(1, 0), size=1, max_attempts=3, expect_dead=True)
    assert consumed.results == [1.0]
    assert [(dead.data, dead.attempts, dead.error) for dead in consumed.dead] == [
        (n(0), 3, 'ZeroDivisionError: division by zero')]
    assert (len(consumed.windows), consumed.calls) == (1, 4)


def test_a_message_that_can_be_in_no_window_fails_the_test() -> None:
    with pytest.raises(AssertionError, match='expect_dead'):
        consume(numbers, [{'n': 1}], interval=10, time='ts')


def test_a_window_that_fails_once_is_run_again_at_once() -> None:
    attempts = []

    def second_time(window: Any) -> Any:
        attempts.append(window.attempt)
        if window.attempt == 1:
            raise ConnectionError('not yet')
        return numbers(window)

    consumed = consume(second_time, n(1, 2), size=2, backoff=60, lease=600)
    assert (attempts, consumed.results, [window.attempt for window in consumed.windows]) == ([1, 2], [[1, 2]], [2])


def test_a_sink_that_fails_makes_the_function_run_again() -> None:
    sink = MemorySink(fails=2)
    consumed = consume(numbers, n(1), size=1, sink=sink)
    assert (consumed.calls, consumed.results, sink.results) == (3, [[1]], [[1]])


def test_a_sink_without_end_is_an_error_of_the_test() -> None:
    with pytest.raises(AssertionError, match='told to fail'):
        consume(numbers, n(1), size=1, max_attempts=2, sink=MemorySink(fails=2))


def test_options_of_production_may_stay() -> None:
    options = {'executor': 'process', 'workers': 4, 'timeout': 5, 'backoff': 3, 'max_attempts': 2}
    here = os.getpid()
    assert consume(lambda window: os.getpid(), n(1), size=1, **options).results == [here]
    for wrong in ({'size_': 2}, {'url': 'mongodb://localhost'}, {'source': n(1)}, {'workers': 0}):
        with pytest.raises(mb.OptionError):
            consume(numbers, n(1), **wrong)


@pytest.mark.parametrize('seconds', [0, -1, True, 'soon'])
def test_later_takes_seconds(seconds: Any) -> None:
    with pytest.raises(mb.OptionError, match='seconds'):
        Later(seconds)


def test_a_stream_of_a_real_database_is_left_alone(url: str) -> None:
    stream = mb.stream('clicks', url=url)
    stream.append({'n': 1})
    with pytest.raises(mb.OptionError, match='no database for tests'):
        consume(numbers, n(2), stream=stream, size=1)
    assert [message.data for message in stream.buffer()] == n(1)


def test_tables_streams_and_pipelines_go_by_the_same_clock_and_are_gone_afterwards() -> None:
    counts, recent = mb.table('counts', default=int), mb.table('recent', ttl=60)
    for _ in range(2):
        with database() as place:
            stream = mb.stream('clicks')
            consume(lambda window: counts.__setitem__('n', counts['n'] + len(window)), n(1, 2), stream=stream, size=1)
            recent['n'] = 1
            place.clock.advance(61)
            assert (dict(counts), dict(recent), place.clock.now()) == ({'n': 2}, {}, datetime(2100, 1, 1, 0, 1, 1))
            sink = MemorySink()
            stream.extend(n(3, 4))
            stream.filter(lambda message: message['n'] > 3).to(sink).run(blocking=False)
            assert sink.messages == n(4)
            place.db['results'].insert_one({'n': 1})


def test_a_database_is_the_default_while_it_lasts(url: str) -> None:
    mb.connectdb(url)
    mb.stream('clicks').append({'n': 1})
    before = ids.mark()
    try:
        with pytest.raises(RuntimeError, match='in the middle'), database(datetime(2030, 5, 1)) as place:  # noqa: PT012
            assert mb.stream('clicks').buffer().count() == 0
            assert connect().url == place.url != url
            with database() as inner:
                assert inner is place
            mb.stream('clicks').append({'n': 2})
            assert mb.stream('clicks').buffer().first().created == datetime(2030, 5, 1)
            raise RuntimeError('in the middle')
        assert connect().url == url
        assert [message.data for message in mb.stream('clicks').buffer()] == n(1)
        assert mb.models.Buffer.objects.count() == 1
        assert ids.mark() == before
    finally:
        disconnect(url)
    with pytest.raises(mb.OptionError, match='without a zone'), database('soon'):  # type: ignore[arg-type]
        pass


def test_what_a_killed_process_left_is_removed(server: Deployment) -> None:
    discard()
    child = subprocess.Popen([sys.executable, '-c', ''])
    child.wait()
    gone, alive = f'{scratch._PREFIX}{child.pid}', f'{scratch._PREFIX}{os.getppid()}'
    for name in (gone, alive):
        server.client[name]['stream'].insert_one({})
    try:
        with database():
            mb.stream('clicks')
            assert gone not in server.client.list_database_names()
            assert alive in server.client.list_database_names()
        own = f'{scratch._PREFIX}{os.getpid()}'
        assert own in server.client.list_database_names()
        discard()
        assert own not in server.client.list_database_names()
    finally:
        server.client.drop_database(alive)


def test_a_wrong_url_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MINIBATCH_TEST_URL', 'localhost')
    with pytest.raises(mb.OptionError, match='MINIBATCH_TEST_URL'), database():
        pass


def test_wait_until_says_what_it_has_seen() -> None:
    answers = iter([0, 0, 3])
    assert wait_until(lambda: next(answers)) == 3
    with pytest.raises(AssertionError, match=r'in vain for the end; the condition returned 0'):
        wait_until(lambda: 0, 0.02, what='the end')


USERS_TESTS = """\
import minibatch as mb
from minibatch.testing import START, consume


def test_first(minibatch_stream, minibatch_clock):
    assert minibatch_clock.now() == START
    minibatch_clock.advance(60)
    mb.stream('others').append({'n': 1})
    consumed = consume(len, [{'n': 1}, {'n': 2}], stream=minibatch_stream, size=2)
    assert consumed.results == [2]


def test_second(minibatch_clock, minibatch_stream):
    assert minibatch_clock.now() == START
    assert minibatch_stream.buffer().count() == mb.stream('others').buffer().count() == 0
    minibatch_stream.append({'n': 1})
    assert mb.stream('test').buffer().first().created == START


def test_without():
    pass
"""


def test_the_plugin_on_the_embedded_server(tmp_path: Path) -> None:
    """As somebody has it who has installed minibatch: nothing imported, nothing set."""
    (tmp_path / 'test_users.py').write_text(USERS_TESTS, encoding='utf-8')
    installed = any(each.value == 'minibatch_pytest' for each in entry_points(group='pytest11'))
    env = {name: value for name, value in os.environ.items() if not name.startswith(('MINIBATCH_TEST', 'PYTEST'))}
    plugin = [] if installed else ['-p', 'minibatch_pytest']
    said = subprocess.run([sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', *plugin], cwd=tmp_path,
                          env=env | {'PYTHONPATH': str(ROOT), 'HOME': str(tmp_path), 'MINIBATCH_LINGER': '0'},
                          capture_output=True, text=True, timeout=60, check=False)
    assert '3 passed' in said.stdout, said.stdout + said.stderr


def test_the_plugin_does_not_import_minibatch_by_itself() -> None:
    code = 'import sys, minibatch_pytest; sys.exit("minibatch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=False).returncode == 0


def test_the_start_is_a_whole_hour_and_day() -> None:
    assert (START - datetime(1970, 1, 1)).total_seconds() % 86400 == 0
