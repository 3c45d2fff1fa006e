"""The side of a consumer that cuts windows, step by step."""

from __future__ import annotations

from typing import Any

import pytest

import minibatch as mb
from minibatch import points
from tests.support.waiting import wait_until


@pytest.mark.parametrize('keep', [False, True], ids=['moved', 'kept'])
def test_who_slept_before_it_read_cuts_nothing_with_its_old_numbers(
        stream: mb.Stream, url: str, monkeypatch: pytest.MonkeyPatch, keep: bool) -> None:
    """Else the windows of later messages had lower numbers than those that another cut meanwhile."""
    got: list[tuple[int, list[int]]] = []

    def note(window: Any) -> None:
        got.append((int(window.id.rpartition(':')[2]), [each['n'] for each in window.data]))

    late, other = (mb.make_emitter(stream.name, note, url=url, size=2, lease=0.3, executor='inline', keep=keep)
                   for _ in range(2))

    def sleep(name: str) -> None:
        if name == 'lead:held':
            points.on_point = None
            wait_until(lambda: (other.run(blocking=False), len(got) == 4)[1])
            stream.extend({'n': n} for n in (8, 9))

    stream.extend({'n': n} for n in range(8))
    late._run_once()
    assert [ns for _, ns in got] == [[0, 1]]
    monkeypatch.setattr(points, 'on_point', sleep)
    late._run_once()
    assert len(got) == 4
    other.run(blocking=False)
    assert [ns for _, ns in sorted(got)] == [[n, n + 1] for n in range(0, 10, 2)]
    late.stop()


def test_what_a_watch_sees_while_others_wait_is_not_cut_before_them(stream: mb.Stream, url: str) -> None:
    got: list[int] = []
    emitter = mb.make_emitter(stream.name, lambda window: got.extend(each['n'] for each in window), url=url, size=1,
                              executor='inline')
    emitter._run_once()
    stream.extend({'n': n} for n in range(4))
    ids = [message.id for message in stream.buffer().order_by('id')]
    for seen in (ids[0], ids[2]):  # the watch tells of the first, is busy while the second comes, tells of the third
        emitter.engine.cutter._message_came(seen)
        emitter._run_once()
    emitter.run(blocking=False)
    assert got == [0, 1, 2, 3]
    emitter.stop()
