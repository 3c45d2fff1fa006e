"""Each hook of an emitter, overridden by itself: when it is called, with what, and what it may do."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pytest

import minibatch as mb
from minibatch import Buffer
from minibatch.window import CountWindow
from tests.support.consuming import passed, running
from tests.support.waiting import wait_until


def values(windows: list[list[Any]]) -> list[list[int]]:
    return [[each['value'] for each in window] for window in windows]


@pytest.fixture
def eight(stream: mb.Stream) -> mb.Stream:
    stream.extend({'value': value} for value in [8, 5, 2, 7, 4, 1, 6, 3])
    return stream


class Told(CountWindow):
    """Tells which hooks are called, with what."""

    def __init__(self, *args: Any, told: list[Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.told = told

    def seen(self, name: str, qs: Iterable[Buffer], *more: Any) -> None:
        self.told.append((name, [(each.data['value'], each.processed) for each in qs], *more))


class Processed(Told):
    def process(self, qs: Iterable[Buffer]) -> Iterable[Buffer]:
        qs = list(qs)
        self.seen('process', qs)
        return [each for each in reversed(qs) if each.data['value'] != 5]


def test_process_chooses_and_orders(eight: mb.Stream) -> None:
    told: list[Any] = []
    assert values(passed(eight, emitter=Processed, size=4, told=told)) == [[7, 2, 8], [6, 1, 4]]
    assert told[0] == ('process', [(8, False), (5, False), (2, False), (7, False)])
    assert sorted(each.data['value'] for each in eight.buffer(processed=False)) == [3, 5], 'what is left out stays'


class Emitted(Told):
    def emit(self, qs: Iterable[Buffer], query_args: Any = None) -> Any:
        window = super().emit(qs, query_args)
        window.data = [{'value': sum(each['value'] for each in window.data)}]
        window.key = 'sum'
        return window


def test_emit_makes_the_window(eight: mb.Stream) -> None:
    keys: list[Any] = []
    assert values(passed(eight, lambda window: keys.append(window.key), emitter=Emitted, size=4, told=[])) == [
        [22], [14]]
    assert keys == ['sum', 'sum']
    assert (eight.buffer().count(), eight.window().count()) == (0, 0)


class Committed(Told):
    def commit(self, qs: Iterable[Buffer], window: Any) -> None:
        self.seen('commit', qs, window.processed, window.state)
        if window.data[0]['value'] == 8:
            super().commit(qs, window)

    def undo(self, qs: Iterable[Buffer], window: Any) -> None:
        self.seen('undo', qs, window.processed, window.state)


def test_commit_says_what_becomes_of_messages_and_window(eight: mb.Stream) -> None:
    told: list[Any] = []
    passed(eight, emitter=Committed, size=4, told=told)
    assert told[0] == ('commit', [(8, True), (5, True), (2, True), (7, True)], True, 'done')
    assert [each.data['value'] for each in eight.buffer().order_by('id')] == [4, 1, 6, 3]
    assert [each.state for each in eight.window()] == ['done']


def test_undo_is_told_of_each_failure(eight: mb.Stream) -> None:
    told: list[Any] = []

    def fail(window: Any) -> None:
        raise ValueError

    passed(eight, fail, emitter=Committed, size=8, told=told, max_attempts=2)
    assert [(name, len(qs), *more) for name, qs, *more in told] == [
        ('undo', 8, False, 'ready'), ('undo', 8, False, 'dead')]


@pytest.mark.parametrize('hook', ['commit', 'undo'])
def test_a_hook_that_raises_afterwards_changes_nothing(
    eight: mb.Stream, hook: str, caplog: pytest.LogCaptureFixture,
) -> None:
    def wrong(self: Any, qs: Any, window: Any) -> None:
        raise RuntimeError('in the hook')

    attempts: list[int] = []

    def work(window: Any) -> None:
        attempts.append(window.attempt)
        if hook == 'undo' and window.attempt == 1:
            raise ValueError

    passed(eight, work, emitter=type('Wrong', (CountWindow,), {hook: wrong}), size=8)
    assert attempts == ([1, 2] if hook == 'undo' else [1])
    assert 'in the hook' in caplog.text
    assert eight.buffer(processed=False).count() == 0


def test_forward_takes_the_results(eight: mb.Stream) -> None:
    class Forwarding(Told):
        def forward(self, data: Any) -> None:
            self.told.append(data)

    told: list[Any] = []
    passed(eight, lambda window: len(window), emitter=Forwarding, size=4, told=told)
    assert told == [4, 4]


def test_timestamp_is_told_of_each_cut(eight: mb.Stream) -> None:
    class Stamped(Told):
        def timestamp(self, query_args: Any = None) -> None:
            self.told.append(query_args)
            super().timestamp(query_args)

    told: list[Any] = []
    passed(eight, emitter=Stamped, size=4, told=told)
    assert told == [(), ()]
    assert isinstance(eight.store.last_read('clicks'), datetime)


def test_sleep_says_how_to_wait(stream: mb.Stream) -> None:
    class Sleepy(Told):
        def sleep(self) -> None:
            self.told.append('slept')
            self.engine.idle(0.01)

    told: list[Any] = []
    got: list[Any] = []
    with running(stream, lambda window: got.append(window.data), emitter=Sleepy, size=1, told=told):
        wait_until(lambda: len(told) > 2)
        stream.append({'value': 1})
        wait_until(lambda: values(got) == [[1]])


def test_should_stop_ends_it(eight: mb.Stream) -> None:
    class Once(Told):
        def should_stop(self) -> bool:
            return bool(self.told) or super().should_stop()

    told: list[Any] = []
    thread = threading.Thread(daemon=True, target=lambda: eight.streaming(
        lambda window: told.append(window.data), emitter=Once, size=4, told=told, executor='inline', workers=1))
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert len(told) >= 1
