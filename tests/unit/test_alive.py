"""What is known of a process by its mark."""

from __future__ import annotations

import subprocess
import sys

import pytest

from minibatch.alive import gone, mark
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(mark() is None, reason='this system has no /proc')

CHILD = 'import sys; from minibatch.alive import mark; print(mark(), flush=True); sys.stdin.read()'


@pytest.mark.parametrize('reaped', [True, False])
def test_a_killed_process_is_gone(reaped: bool) -> None:
    """Also while its parent has not asked for its end."""
    with subprocess.Popen([sys.executable, '-c', CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as child:
        assert child.stdout is not None
        its = child.stdout.readline().strip()
        assert not gone(its)
        child.kill()
        if reaped:
            child.wait()
        wait_until(lambda: gone(its), 10)


def test_numbers_are_used_again() -> None:
    """A process with the number of a dead one is another process."""
    mine = mark()
    assert mine is not None
    same, _, started = mine.rpartition(' ')
    assert not gone(mine)
    assert gone(f'{same} {int(started) - 1}')


@pytest.mark.parametrize('place', [0, 1, 2], ids=['machine', 'boot', 'container'])
def test_nothing_is_known_of_another_place(place: int) -> None:
    mine = mark()
    assert mine is not None
    words = mine.split(' ')
    words[place] += '0'
    words[-2] = '999999999'
    assert not gone(' '.join(words))


def test_no_such_number() -> None:
    mine = mark()
    assert mine is not None
    where, _, started = mine.rsplit(' ', 2)
    assert gone(f'{where} 999999999 {started}')
