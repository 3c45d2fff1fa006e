"""What every sink has to do: deliver, say so only when it is so, and raise when it is not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

import minibatch as mb
from minibatch import points
from tests.support.consuming import passed
from tests.support.waiting import wait_until

from .adapters import SinkAdapter


def numbers(messages: Any) -> list[int]:
    return sorted(each['n'] for each in messages)


def as_it_is(window: Any) -> Any:
    return list(window.data)


def test_all_results_arrive(downstream: SinkAdapter, stream: mb.Stream) -> None:
    stream.extend({'n': n, 'text': 'mu\u0308', 'in': {'x': [1.5, None, True]}} for n in range(50))
    passed(stream, as_it_is, size=5, sink=downstream.sink())
    arrived = downstream.read(50)
    assert numbers(arrived) == list(range(50))
    assert {name: arrived[0][name] for name in ('text', 'in')} == {'text': 'mu\u0308', 'in': {'x': [1.5, None, True]}}
    assert stream.buffer().count() == 0


def test_it_has_arrived_when_the_window_is_committed(downstream: SinkAdapter, stream: mb.Stream,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []

    def look(name: str) -> None:
        if name == 'commit:before':
            seen.append(numbers(downstream.read(0)))

    monkeypatch.setattr(points, 'on_point', look)
    stream.extend({'n': n} for n in range(4))
    passed(stream, as_it_is, size=4, sink=downstream.sink())
    assert seen == [[0, 1, 2, 3]]


def test_while_it_cannot_deliver_the_window_is_not_committed(downstream: SinkAdapter, stream: mb.Stream) -> None:
    if not downstream.can_be_away:
        pytest.skip('there is no server that could be away')
    sink = downstream.sink()
    stream.extend({'n': n} for n in range(4))
    passed(stream, as_it_is, size=4, sink=sink)
    downstream.read(4)
    stream.extend({'n': n} for n in range(4, 8))
    with downstream.away():
        passed(stream, as_it_is, size=4, sink=sink, backoff=2)  # so that a pass is one attempt
        window = stream.window().first()
        assert window is not None, 'committed although nothing was delivered'
        assert window.errors, 'it said nothing'
        assert 'the sink failed' in window.errors[0]['error']

    def delivered() -> bool:
        passed(stream, as_it_is, size=4, sink=sink, backoff=0.2)
        return int(stream.window().count()) == 0

    wait_until(delivered, 60, what='the window to be delivered when it is back')
    assert set(numbers(downstream.read(8))) == set(range(8))


def test_absent_from_the_start(downstream: SinkAdapter, stream: mb.Stream) -> None:
    """Making the sink, or the first window, fails; with the server there, all is well."""
    if not downstream.can_be_away:
        pytest.skip('there is no server that could be away')
    stream.extend({'n': n} for n in range(2))
    with downstream.away():
        with contextlib.suppress(Exception):
            passed(stream, as_it_is, size=2, sink=downstream.sink(), backoff=2)
        assert stream.buffer().count() + sum(window.n for window in stream.window()) >= 2
    sink = downstream.sink()

    def delivered() -> bool:
        passed(stream, as_it_is, size=2, sink=sink, backoff=0.2)
        return int(stream.window().count() + stream.buffer().count()) == 0

    wait_until(delivered, 60)
    assert set(numbers(downstream.read(2))) == {0, 1}


@pytest.mark.parametrize('expand', [True, False])
def test_expand_says_whether_a_list_is_one_message(downstream: SinkAdapter, stream: mb.Stream, expand: bool) -> None:
    if not downstream.expands:
        pytest.skip('it has no expand=')
    stream.extend({'n': n} for n in range(4))
    passed(stream, as_it_is, size=4, sink=downstream.sink(expand=expand))
    arrived = list(downstream.read(4 if expand else 1))
    assert arrived == ([{'n': 0}, {'n': 1}, {'n': 2}, {'n': 3}] if expand else
                       [[{'n': 0}, {'n': 1}, {'n': 2}, {'n': 3}]])


def test_a_single_result_is_one_message(downstream: SinkAdapter, stream: mb.Stream) -> None:
    stream.extend({'n': n} for n in range(4))
    passed(stream, lambda window: {'n': sum(each['n'] for each in window.data)}, size=2, sink=downstream.sink())
    assert numbers(downstream.read(2)) == [1, 5]


def test_what_cannot_be_sent_fails_its_window_only(downstream: SinkAdapter, stream: mb.Stream) -> None:
    stream.extend({'n': n} for n in range(3))

    def work(window: Any) -> Any:
        return [downstream.unencodable] if window.data[0]['n'] == 1 else as_it_is(window)

    passed(stream, work, size=1, sink=downstream.sink(), max_attempts=1)
    assert numbers(downstream.read(2)) == [0, 2]
    dead = stream.dead.list()
    assert [window.data for window in dead] == [[{'n': 1}]]
    assert 'the sink failed' in dead[0].error


def test_it_is_closed_with_the_consumer_and_opens_again(downstream: SinkAdapter, stream: mb.Stream) -> None:
    sink = downstream.sink()
    for round_ in range(2):
        stream.append({'n': round_})
        passed(stream, as_it_is, size=1, sink=sink)  # each pass is a consumer from beginning to end
    assert numbers(downstream.read(2)) == [0, 1]
    close: Callable[[], None] | None = getattr(sink, 'close', None)
    if close is not None:
        close()
        close()
