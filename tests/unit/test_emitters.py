"""Strategies of one's own: the documented hooks and states, with the guarantees of the built-in ones."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pytest

import minibatch as mb
from minibatch import Buffer
from minibatch.window import CountWindow, FixedTimeWindow, RelaxedTimeWindow, WindowEmitter
from tests.support.consuming import passed, running
from tests.support.waiting import wait_until


class SortedWindow(WindowEmitter):
    """
    sort all data by value and output only multiples of 2 in batches of interval size
    """
    def window_ready(self):  # type: ignore[no-untyped-def]
        qs = Buffer.objects.no_cache().filter(processed=False)
        data = []
        for obj in sorted(qs, key=lambda obj : obj.data['value']):
            if obj.data['value'] % 2 == 0:
                data.append(obj)
                if len(data) >= self.interval:
                    break
        self._data = data
        return len(self._data) == self.interval, ()

    def query(self, *args):  # type: ignore[no-untyped-def]
        return self._data


def values(windows: list[list[Any]]) -> list[list[int]]:
    return [[each['value'] for each in window] for window in windows]


@pytest.fixture
def eight(stream: mb.Stream) -> mb.Stream:
    stream.extend({'value': value} for value in [8, 5, 2, 7, 4, 1, 6, 3])
    return stream


@pytest.mark.parametrize('keep', [False, True])
def test_the_documented_example(eight: mb.Stream, url: str, keep: bool) -> None:
    mb.connectdb(url)
    other = mb.stream('other', url=url)
    other.extend({'value': value} for value in (0, 2, 4, 6))
    assert values(passed(eight, emitter=SortedWindow, interval=2, keep=keep)) == [[2, 4], [6, 8]]
    assert sorted(each.data['value'] for each in eight.buffer(processed=False)) == [1, 3, 5, 7]
    assert other.buffer(processed=False).count() == 4, "another stream's messages are not ours"
    assert eight.buffer(processed=True).count() == (4 if keep else 0)
    assert [each.data for each in eight.window(processed=True)] == ([
        [{'value': 2}, {'value': 4}], [{'value': 6}, {'value': 8}]] if keep else [])
    assert Buffer.objects.count() >= 4, 'outside of the hooks all streams are seen'


def test_it_fails_and_dies_like_any_other(eight: mb.Stream) -> None:
    def fail(window: Any) -> None:
        raise ValueError('no')

    assert values(passed(eight, fail, emitter=SortedWindow, interval=4, max_attempts=2)) == [[2, 4, 6, 8]] * 2
    dead, = eight.dead.list()
    assert dead.data == [{'value': value} for value in (2, 4, 6, 8)]
    eight.dead.redrive()
    assert values(passed(eight, emitter=SortedWindow, interval=4)) == [[2, 4, 6, 8]]


def test_two_of_them_share_a_stream(stream: mb.Stream) -> None:
    got: list[int] = []
    lock = threading.Lock()

    def work(window: Any) -> None:
        with lock:
            got.extend(each['value'] for each in window)

    options = {'emitter': SortedWindow, 'interval': 2, 'lease': 1.0}
    with running(stream, work, **options), running(stream, work, **options):
        for value in range(0, 40, 2):
            stream.append({'value': value})
        wait_until(lambda: len(got) == 20)
    assert sorted(got) == list(range(0, 40, 2))


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


@pytest.mark.parametrize(('cls', 'options'), [
    (CountWindow, {'size': 4}), (RelaxedTimeWindow, {'interval': 0.1}), (FixedTimeWindow, {'interval': 0.2})])
def test_built_in_strategies_through_their_hooks(eight: mb.Stream, cls: type[Any], options: dict[str, Any]) -> None:
    class Hooked(cls):  # type: ignore[misc]
        def process(self, qs: Any) -> Any:
            return list(qs)

    got: list[int] = []
    with running(eight, lambda window: got.extend(each['value'] for each in window), emitter=Hooked, **options):
        wait_until(lambda: len(got) == 8)
    assert got == [8, 5, 2, 7, 4, 1, 6, 3]
    assert (eight.buffer().count(), eight.window().count()) == (0, 0)


def test_the_original_marks_messages_in_its_hooks(eight: mb.Stream) -> None:
    """Programs for the original flag messages themselves; that must neither hide nor lose them."""
    class Marking(CountWindow):
        def process(self, qs: Any) -> Any:
            data = []
            for each in qs:
                each.modify(processed=True)
                data.append(each)
            return data

    assert values(passed(eight, emitter=Marking, size=4)) == [[8, 5, 2, 7], [4, 1, 6, 3]]
    assert eight.buffer().count() == 0


def test_what_the_query_is_told_is_in_the_window(eight: mb.Stream) -> None:
    class Asking(WindowEmitter):
        def window_ready(self) -> Any:
            return self.stream.buffer(processed=False).count() > 4, (5, 'big')

        def query(self, *args: Any) -> Any:
            assert args == (5, 'big')
            return self.stream.buffer(processed=False).filter(data__value__gte=args[0])

    queries: list[Any] = []
    assert values(passed(eight, lambda window: queries.append(window.query), emitter=Asking)) == [[8, 5, 7, 6]]
    assert queries == [[5, 'big']]


def test_a_strategy_that_raises_is_asked_again(stream: mb.Stream, caplog: pytest.LogCaptureFixture) -> None:
    class Moody(SortedWindow):
        asked = 0

        def window_ready(self) -> Any:
            Moody.asked += 1
            if Moody.asked < 3:
                raise ZeroDivisionError('moody')
            return super().window_ready()

    got: list[Any] = []
    stream.extend([{'value': 2}, {'value': 4}])
    with running(stream, lambda window: got.append(window.data), emitter=Moody, interval=2):
        wait_until(lambda: values(got) == [[2, 4]])
    assert 'moody' in caplog.text
