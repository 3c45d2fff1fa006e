"""Strategies of one's own: the documented hooks and states, with the guarantees of the built-in ones."""

from __future__ import annotations

import threading
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


def test_a_fixed_interval_without_messages_is_no_obstacle(stream: mb.Stream) -> None:
    class Hooked(FixedTimeWindow):
        def process(self, qs: Any) -> Any:
            return list(qs)

    got: list[int] = []
    with running(stream, lambda window: got.extend(each['value'] for each in window), emitter=Hooked, interval=0.1):
        stream.append({'value': 1})
        wait_until(lambda: got == [1])
        then = stream.store.clock.now()
        wait_until(lambda: (stream.store.clock.now() - then).total_seconds() > 0.3)
        stream.append({'value': 2})
        wait_until(lambda: got == [1, 2], 5)


def test_messages_are_plain_dicts(stream: mb.Stream) -> None:
    """Not the model's own kind of them, which belong to it."""
    stream.append({'value': 1, 'deep': {'list': [1]}})
    types: list[Any] = []

    def work(window: Any) -> None:
        message = window.data[0]
        types.append((type(message), type(message['deep']), type(message['deep']['list'])))
        if window.attempt == 1:
            raise ValueError

    class Hooked(CountWindow):
        def process(self, qs: Any) -> Any:
            return list(qs)

    passed(stream, work, emitter=Hooked, size=1)
    assert types == [(dict, dict, list)] * 2


def test_query_arguments_may_be_anything(eight: mb.Stream) -> None:
    """They are the emitter's own affair; that they cannot be stored is no reason not to cut."""
    class Passing(WindowEmitter):
        def window_ready(self) -> Any:
            found = list(self.stream.buffer(processed=False).order_by('id'))
            return len(found) > 4, (found, object())

        def query(self, *args: Any) -> Any:
            return args[0]

    assert values(passed(eight, emitter=Passing)) == [[8, 5, 2, 7, 4, 1, 6, 3]]
