"""``bench``, ``completion``, help, and what Python's own errors become."""

from __future__ import annotations

import time
from collections.abc import Callable

import minibatch as mb
from minibatch.cli import commands
from minibatch.cli.bench import OLD, PREFIX
from tests.support.shell import Shell

Filled = Callable[..., mb.Stream]


def test_bench_measures_and_leaves_nothing(shell: Shell, filled: Filled) -> None:
    stream = filled()
    old, other = (f'{PREFIX}{int(time.time() - age)}-abc' for age in (OLD + 60, 0))
    for name in (old, other):
        mb.stream(name, url=stream.store.connection.url).append({'n': 1})
    found = shell('bench', '--messages', '1000', '--size', '50', '--workers', '1', '--json').json
    assert (found['messages'], found['size'], found['workers']) == (1000, 50, 1)
    for figure in ('append_per_second', 'append_ms', 'extend_per_second', 'consume_per_second', 'latency_ms'):
        assert found[figure] > 0, figure
    assert stream.store.names() == [other, 'orders'], 'what a killed one left is removed, what may run now is not'
    assert stream.store.buffer.count_documents({}) == 1
    assert shell('bench', '--size', '0').code == 2


def test_the_shell_completes_commands_and_streams(shell: Shell, filled: Filled) -> None:
    for each in ('bash', 'zsh', 'fish'):
        script = shell('completion', each)
        assert script.code == 0
        assert '_MINIBATCH_COMPLETE' in script.out
    filled('orders')
    filled('visits')

    def completed(words: str) -> list[str]:
        out = shell(_MINIBATCH_COMPLETE='bash_complete', COMP_WORDS=words, COMP_CWORD=str(words.count(' '))).out
        return [line.partition(',')[2] for line in out.splitlines()]

    assert completed('minibatch st') == ['status', 'streams'] or completed('minibatch st') == ['streams', 'status']
    assert completed('minibatch peek o') == ['orders']
    assert completed('minibatch dead sh') == ['show']


def test_every_command_says_what_it_does_and_which_codes_it_has(shell: Shell) -> None:
    text = shell('--help').out
    assert 'Exit codes: 0 done' in ' '.join(text.split())
    named = {'append', 'bench', 'clear', 'completion', 'dead', 'demo', 'doctor', 'peek', 'replay', 'run', 'server',
             'status', 'streams', 'tail', 'windows'}
    assert set(commands().commands) == named
    for name, command in commands().commands.items():
        assert name in text
        assert command.help
        for each in getattr(command, 'commands', {}).values():
            assert each.help
    assert shell('append', '--help').code == 0
