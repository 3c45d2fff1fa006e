"""``dead``, ``replay``, ``clear``: what changes streams, and what asks before it does."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import minibatch as mb
from tests.support.consuming import passed
from tests.support.shell import Shell

Filled = Callable[..., mb.Stream]


def test_dead_windows_are_listed_and_shown(shell: Shell, filled: Filled) -> None:
    assert shell('dead', 'list').out == 'no window is dead\n'
    filled(dead=2)
    filled('other', dead=1)
    assert [each['id'] for each in shell('dead', 'list', '--json').json] == ['orders:1', 'orders:2', 'other:1']
    listed = shell('dead', 'list', 'orders').out.splitlines()
    assert len(listed) == 3
    assert 'ValueError: a bad order' in listed[1]

    one = shell('dead', 'show', 'orders', 'orders:2', '--json').json
    assert one['data'] == [{'bad': 2}, {'bad': 3}]
    assert one['errors'][0]['error'] == 'ValueError: a bad order'
    text = shell('dead', 'show', 'orders', 'orders:2').out
    assert 'Traceback' in text
    assert '{"bad":2}' in text
    wrong = shell('dead', 'show', 'orders', 'orders:7')
    assert (wrong.code, wrong.error.partition(';')[0]) == (3, "stream 'orders' has no dead window 'orders:7'")


def test_redrive_runs_them_again(shell: Shell, filled: Filled) -> None:
    stream = filled(dead=3)
    wrong = shell('dead', 'redrive', 'orders', 'orders:1', 'orders:9')
    assert (wrong.code, len(stream.dead)) == (3, 3), 'nothing was done'
    assert shell('dead', 'redrive', 'orders', 'orders:1', '--json').json == {'stream': 'orders', 'redriven': 1}
    assert shell('dead', 'redrive', 'orders').out == "2 dead windows of stream 'orders' will be run again\n"
    assert passed(stream, size=2) == [[{'bad': 0}, {'bad': 1}], [{'bad': 2}, {'bad': 3}], [{'bad': 4}, {'bad': 5}]]


def test_drop_asks(shell: Shell, filled: Filled) -> None:
    stream = filled(dead=3)
    question = "Remove 3 dead windows of stream 'orders' and 6 messages for good? [y/N]: "
    refused = shell('dead', 'drop', 'orders', stdin='n\n')
    assert (refused.code, refused.err) == (1, f'{question}Error: nothing was removed\n')
    nobody = shell('dead', 'drop', 'orders')
    assert (nobody.code, nobody.error) == (1, 'nobody answered, so nothing was removed; --yes does it without asking')
    assert len(stream.dead) == 3
    assert shell('dead', 'drop', 'orders', 'orders:2', '--yes', '--json').json == {'stream': 'orders', 'dropped': 1}
    assert [each.id for each in stream.dead.list()] == ['orders:1', 'orders:3']
    assert shell('dead', 'drop', 'orders', stdin='y\n').out == "2 dead windows of stream 'orders' dropped\n"
    assert (len(stream.dead), stream.buffer().count()) == (0, 0)
    assert shell('dead', 'drop', 'orders').out == "0 dead windows of stream 'orders' dropped\n", 'nothing to ask for'


def test_clear_asks(shell: Shell, filled: Filled) -> None:
    stream = filled(waiting=3, done=1, dead=1)
    refused = shell('clear', 'orders', stdin='n\n')
    assert refused.code == 1
    assert "stream 'orders' for good: 3 messages waiting, 2 windows (1 dead)?" in refused.err
    assert stream.buffer().count() == 7
    assert shell('clear', 'orders', '--yes', '--json').json == {'stream': 'orders', 'messages': 7, 'windows': 2}
    assert stream.buffer().count() == 0
    assert stream.window().count() == 0
    assert shell('clear', 'orders', '-y').out == "stream 'orders' is empty: 0 messages and 0 windows removed\n"


def test_replay_runs_kept_windows_of_a_time_again(shell: Shell, filled: Filled) -> None:
    stream = filled(waiting=1, done=3, dead=1)
    first, second, third = stream.window(state='done').order_by('seq')
    for n, window in enumerate((first, second, third)):  # an hour between them
        stream.store.windows.update_one({'_id': window.id}, {'$set': {'start': hour(n)}})
    span = ['--from', '2026-01-01T01:00:00+01:00', '--to', '2026-01-01T02:00:00Z']
    assert shell('replay', 'orders', *span, '--dry-run', '--json').json == {'stream': 'orders', 'would_replay': 2}
    assert stream.status()['ready'] == 0
    assert shell('replay', 'orders', *span).out == "2 kept windows of stream 'orders' will be run again\n"

    seen: list[Any] = []
    stream.streaming(lambda window: seen.append((window.id, window.attempt, window.data)), size=2, executor='inline',
                     blocking=False)
    assert seen == [('orders:2', 1, [{'n': 0}, {'n': 1}]), ('orders:3', 1, [{'n': 2}, {'n': 3}])]
    assert stream.window(state='done').count() == 3, 'and they are kept once more'
    assert stream.buffer(window='orders:2').count() == 2
    assert len(stream.dead) == 1

    assert shell('replay', 'orders', '--from', '1h', '--json').json == {'stream': 'orders', 'replayed': 0}
    backwards = shell('replay', 'orders', '--from', '1h', '--to', '2h')
    assert backwards.code == 2
    assert 'is not before' in backwards.error
    wrong = shell('replay', 'orders', '--from', 'yesterday')
    assert wrong.code == 2
    assert "'yesterday' is no time" in wrong.err


def hour(n: int) -> datetime:
    return datetime(2026, 1, 1, n)


def test_two_at_once_replay_each_window_once(filled: Filled) -> None:
    stream = filled(done=3)
    store, until = stream.store, stream.store.clock.now()
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: store.replay('orders', hour(0), until), range(4)))
    assert sum(counts) == 3
    assert len(passed(stream, size=2, keep=True)) == 3
