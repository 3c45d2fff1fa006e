"""``append``: from arguments, a file and standard input; refused, interrupted, killed and repeated."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import minibatch as mb
from tests.support.shell import Shell, terminal
from tests.support.waiting import wait_until

Filled = Callable[..., mb.Stream]


def data(stream: mb.Stream) -> list[Any]:
    """What is in the stream, as far as it is numbered in that order.

    Two commands that end in the same second are two producers, between whose messages there is no order.
    """
    return sorted((each.data for each in stream.buffer()), key=lambda message: message['n'])


def test_messages_come_from_arguments_a_file_or_standard_input(shell: Shell, url: str) -> None:
    first = shell('append', 'orders', '{"n": 1}', '{"n": 2}', '--create')
    assert first.out == "appended 2 messages to stream 'orders'\n"
    lines = ''.join(f'{{"n": {n}}}\n\n' for n in (3, 4))
    assert shell('append', 'orders', '--json', stdin=lines).json == {'stream': 'orders', 'appended': 2, 'already': 0}
    (shell.directory / 'more.json').write_text('\ufeff[{"n": 5},\n {"n": 6, "text": "grüße"}]', encoding='utf-8')
    assert shell('append', 'orders', '--file', 'more.json').out == "appended 2 messages to stream 'orders'\n"
    assert data(mb.stream('orders', url=url)) == [{'n': n} for n in range(1, 6)] + [{'n': 6, 'text': 'grüße'}]
    assert shell('append', 'orders', '-f', '-', '--json', stdin='').json['appended'] == 0


def test_bulk_is_appended_in_order(shell: Shell, filled: Filled) -> None:
    stream = filled()
    rows = [{'n': n} for n in range(2500)]
    assert shell('append', 'orders', '--json', stdin='\n'.join(map(json.dumps, rows))).json['appended'] == 2500
    assert [each.data for each in stream.buffer().order_by('id')] == rows


def test_what_cannot_be_stored_is_named(shell: Shell, filled: Filled) -> None:
    stream = filled()
    for args, stdin, said in [
        (['{"n": 1}', '{"n": '], '', 'message 2 is not JSON'),
        (['[1]'], '', 'message 1 is not a JSON object'),
        ([], '[{"n": 1}, 2]', 'item 2 of the array is not a JSON object'),
        ([], '[{"n": 1},', 'it begins with [, but is no JSON array'),
        ([], '{"n": ' + '[' * 100_000, 'line 1 is nested too deeply'),
        ([], b'\n{"n": "\xff"}', 'line 2'),
        (['{"n": 99999999999999999999}'], '', 'message 1'),
    ]:
        wrong = shell('append', 'orders', *args, stdin=stdin)
        assert wrong.code == 1, (args, stdin, wrong)
        assert wrong.error.startswith(said), wrong
        assert 'Traceback' not in wrong.err
        assert data(stream) == [], said

    wrong = shell('append', 'orders', stdin='{"n": 1}\n{"n": 2}\n{"n": \n{"n": 4}\n')
    assert 'line 3 is not JSON' in wrong.error
    assert wrong.error.endswith('the 2 messages before are in the stream, and no more')
    assert data(stream) == [{'n': 1}, {'n': 2}]
    assert shell('append', 'orders', '--file', 'nowhere.json').code == 2
    both = shell('append', 'orders', '{}', '--file', '-')
    assert (both.code, both.error) == (2, 'give messages or --file, not both; nothing was appended')


def test_a_full_stream_that_raises_says_so(shell: Shell, url: str) -> None:
    stream = mb.stream('orders', url=url, max_backlog=2, on_full='raise')
    stream.extend([{'n': 1}, {'n': 2}])
    full = shell('append', 'orders', '{"n": 3}')
    assert full.code == 1
    assert 'max_backlog' in full.error or 'full' in full.error
    assert len(data(stream)) == 2


def test_a_command_that_was_interrupted_is_repeated_by_its_key(shell: Shell, filled: Filled) -> None:
    stream = filled()
    rows = [{'n': n} for n in range(2500)]
    lines = [json.dumps(row) + '\n' for row in rows]
    slow, path = shell.directory / 'slow', shell.directory / 'rows.jsonl'
    path.write_text(''.join(lines))
    os.mkfifo(slow)
    process = shell.start('append', 'orders', '--once', 'import-7', '--file', str(slow))
    try:
        with slow.open('w') as pipe:
            pipe.writelines(lines[:1500])
            pipe.flush()
            wait_until(lambda: stream.buffer().count())
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        assert process.stderr is not None
        said = process.stderr.read()
        assert 'interrupted: at least ' in said
        assert 'the same command with the same key goes on' in said
    finally:
        process.kill()
        process.communicate()
        slow.unlink()
    again = shell('append', 'orders', '--once', 'import-7', '--file', str(path), '--json').json
    assert again == {'stream': 'orders', 'appended': 1500, 'already': 1000}
    assert data(stream) == rows
    third = shell('append', 'orders', '--once', 'import-7', '--file', str(path))
    assert third.out == "appended 0 messages to stream 'orders' (2,500 were there already)\n"
    other = shell('append', 'orders', '--once', 'import-7', '{"n": 0}')
    assert other.code == 2
    assert 'the key was used for other messages' in other.error
    assert len(data(stream)) == 2500


@pytest.mark.parametrize(('how', 'percent'), [('lines', True), ('array', True), ('pipe', False)])
def test_a_terminal_sees_a_bar(shell: Shell, filled: Filled, tmp_path: Path, how: str, percent: bool) -> None:
    """How far it is can be told of what has an end."""
    stream, path = filled(), tmp_path / 'rows'
    text = json.dumps([{'n': 1}] * 2500) if how == 'array' else '{"n": 1}\n' * 2500
    writer = threading.Thread(target=path.write_text, args=[text])
    if how == 'pipe':
        os.mkfifo(path)
    writer.start()
    if how != 'pipe':
        writer.join()
    with terminal() as (name, seen):
        assert shell('append', 'orders', '--file', str(path), terminal=name, TERM='xterm').code == 0
        bar = wait_until(seen)
    writer.join()
    assert 'appended 2,500' in bar
    assert ('100%' in bar) == ('%' in bar) == percent
    assert stream.status()['waiting'] == 2500
