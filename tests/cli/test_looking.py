"""``streams``, ``status``, ``peek``, ``tail``, ``windows``."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import minibatch as mb
from tests.support.shell import Shell, terminal
from tests.support.waiting import wait_until

Filled = Callable[..., mb.Stream]


def test_streams_and_status_show_what_the_store_has(shell: Shell, filled: Filled) -> None:
    assert shell('streams').out == 'there are no streams yet\n'
    assert shell('streams', '--json').json == []
    stream = filled(waiting=3, done=2, dead=1)
    [shown] = shell('streams', '--json').json
    stable = {name: value for name, value in stream.status().items() if name != 'lag'}
    assert {name: shown[name] for name in stable} == stable
    assert (shown['backlog'], shown['done'], shown['dead']) == (3, 2, 1)

    head, row = shell('streams').out.splitlines()
    assert head.split()[:3] == ['STREAM', 'BACKLOG', 'LAG']
    assert row.split()[:2] == ['orders', '3']

    one = shell('status', 'orders', '--json').json
    assert one | {'lag': 0} == shown | {'lag': 0}
    assert shell('status', '--json').json[0]['stream'] == 'orders'
    text = shell('status', 'orders').out
    assert '3 messages, 3 of them in no window yet' in text
    assert 'no consumer runs' in text


def test_status_shows_consumers_and_is_watched(shell: Shell, filled: Filled) -> None:
    stream = filled(waiting=0)
    emitter = stream.streaming(len, size=2, executor='inline', background=True)
    watch = shell.start('status', 'orders', '--watch', '--every', '0.1', '--json')
    try:
        [consumer] = wait_until(lambda: stream.status()['consumers'])
        assert f' {consumer["pid"]} ' in shell('status', 'orders').out
        stream.extend({'n': n} for n in range(4))
        assert watch.stdout is not None
        looks = iter(watch.stdout.readline, '')
        assert next(json.loads(line)['committed'] for line in looks if json.loads(line)['committed'] == 4)
        watch.send_signal(signal.SIGINT)
        assert watch.wait(20) == 0, 'Ctrl-C is how a watch ends'
    finally:
        watch.kill()
        watch.communicate()
        emitter.stop()


def test_a_terminal_is_drawn_anew_until_ctrl_c(shell: Shell, filled: Filled) -> None:
    stream = filled(waiting=3)
    with terminal() as (name, seen):
        watch = shell.start('status', 'orders', '--watch', '--every', '0.1', terminal=name, TERM='xterm')
        try:
            wait_until(lambda: '3 messages, 3 of them' in seen())
            stream.append({'n': 1})
            wait_until(lambda: '4 messages, 4 of them' in seen())
            assert 'Ctrl-C ends it' in seen()
            watch.send_signal(signal.SIGINT)
            assert watch.wait(20) == 0
        finally:
            watch.kill()
            watch.communicate()


def test_peek_takes_nothing(shell: Shell, filled: Filled) -> None:
    stream = filled(waiting=3, done=1)
    for _ in range(2):
        shown = shell('peek', 'orders', '-n', '2', '--json').json
        assert [each['data'] for each in shown] == [{'waiting': 0}, {'waiting': 1}]
        assert set(shown[0]) == {'id', 'created', 'window', 'data'}
    assert stream.status()['waiting'] == 3
    assert '{"waiting":2}' in shell('peek', 'orders').out
    stream.clear()
    assert shell('peek', 'orders').out == "no message waits in stream 'orders'\n"


def test_a_message_cannot_forge_what_a_terminal_shows(shell: Shell, filled: Filled) -> None:
    stream = filled('evil\x1b[2J')
    stream.append({'text': '\x1b[31m[bold]red[/bold]\x9b', 'when': mb.connectdb(stream.store.connection.url).name})
    for command in (['peek', stream.name], ['tail', stream.name], ['streams'], ['status', stream.name]):
        out = shell(*command).out
        assert '\x1b' not in out
        assert '\x9b' not in out
    assert '[bold]red[/bold]' in shell('peek', stream.name).out


def test_tail_shows_the_newest_and_follows(shell: Shell, filled: Filled) -> None:
    stream = filled(waiting=3, done=1)
    assert [json.loads(line)['data'] for line in shell('tail', 'orders', '-n', '2', '--json').out.splitlines()] == [
        {'waiting': 1}, {'waiting': 2}]
    assert [line.rpartition('  ')[2] for line in shell('tail', 'orders').out.splitlines()][:2] == ['[orders:1]'] * 2

    follow = shell.start('tail', 'orders', '--follow', '-n', '1', '--json')
    try:
        assert follow.stdout is not None
        assert json.loads(follow.stdout.readline())['data'] == {'waiting': 2}
        # consumed at once, and seen all the same
        emitter = stream.streaming(len, size=1, executor='inline', background=True)
        stream.extend({'new': n} for n in range(50))
        lines = [json.loads(follow.stdout.readline()) for _ in range(50)]
        assert [each['data'] for each in lines] == [{'new': n} for n in range(50)]
        wait_until(lambda: stream.status()['backlog'] == 0)
        emitter.stop()
        follow.send_signal(signal.SIGINT)
        assert follow.wait(20) == 0
        assert follow.stdout.read() == ''
    finally:
        follow.kill()
        follow.communicate()


def test_windows_are_listed_and_one_is_shown(shell: Shell, filled: Filled) -> None:
    filled(done=2, dead=1)
    found = shell('windows', 'orders', '--json').json
    assert [(each['id'], each['state']) for each in found] == [
        ('orders:3', 'done'), ('orders:2', 'done'), ('orders:1', 'dead')]
    assert [each['id'] for each in shell('windows', 'orders', '--state', 'dead', '--json').json] == ['orders:1']
    assert 'ValueError: a bad order' in shell('windows', 'orders').out
    one = shell('windows', 'orders', 'orders:2', '--json').json
    assert one['data'] == [{'n': 0}, {'n': 1}]
    assert one['start'].endswith('Z')
    assert '{"n":0}\n{"n":1}\n' in shell('windows', 'orders', 'orders:2').out
    assert shell('windows', 'orders', '--state', 'running').out == "stream 'orders' has no running windows now\n"

    gone = shell('windows', 'orders', 'orders:9')
    assert gone.code == 3
    assert gone.error == "stream 'orders' has no window 'orders:9': it is not cut yet, or done and not kept"


def test_what_is_not_there_is_not_made(shell: Shell, filled: Filled) -> None:
    stream = filled()
    for command in (['status', 'order'], ['peek', 'order'], ['tail', 'order'], ['windows', 'order'], ['clear', 'order'],
                    ['dead', 'list', 'order'], ['append', 'order', '{}'], ['replay', 'order', '--from', '1h']):
        result = shell(*command)
        assert result.code == 3, command
        assert result.error.startswith("there is no stream 'order'; did you mean orders?")
    assert stream.store.names() == ['orders']


def test_a_mongodb_that_is_not_there_has_a_code_of_its_own(shell: Shell) -> None:
    nobody = shell('streams', '--url', 'mongodb://ann:s3cret@127.0.0.1:1/x?serverSelectionTimeoutMS=200')
    assert nobody.code == 4
    assert nobody.error.startswith('cannot use the MongoDB at mongodb://ann:***@127.0.0.1:1/x')
    assert 's3cret' not in nobody.err + nobody.out


def test_wrong_use_has_code_2_and_shows_no_password(shell: Shell) -> None:
    for command in (['streams', 'mongodb://ann:s3cret@db/x'], ['statuss', 'mongodb://ann:s3cret@db/x'],
                    ['mongodb://ann:s3cret@db/x'], ['streams', '--uri=mongodb://ann:s3cret@db/x'],
                    ['streams', '--url', 'mongo://ann:s3cret@db/x'], ['peek', 'x', '-n', 'mongodb://ann:s3cret@db/x']):
        wrong = shell(*command)
        assert wrong.code == 2, command
        assert 's3cret' not in wrong.err + wrong.out, command


def test_who_reads_the_output_may_stop_reading(shell: Shell, filled: Filled) -> None:
    filled().extend({'n': n, 'text': 'x' * 100} for n in range(2000))
    reader = shell.start('tail', 'orders', '-n', '2000', '--json')
    assert reader.stdout is not None
    assert reader.stderr is not None
    reader.stdout.readline()
    reader.stdout.close()
    assert reader.wait(20) == 0
    assert reader.stderr.read() == ''
    reader.stderr.close()
