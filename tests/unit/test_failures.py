"""Windows whose function fails: tried again, unchanged, later and later, then dead; nothing is silent."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

import minibatch as mb
from minibatch.delivery import backoff
from minibatch.order import Claim, Order
from minibatch.window.base import Options
from tests.support.consuming import passed, running
from tests.support.waiting import wait_until


def fail(window: Any) -> None:
    raise ValueError(f'attempt {window.attempt}')


def poison(window: Any) -> None:
    if any(message.get('poison') for message in window.data):
        raise ValueError('poison')


@pytest.mark.parametrize('options', [{'size': 2}, {'size': 2, 'keep': True}, {'interval': 0.05},
                                     {'interval': 0.2, 'relaxed': False}], ids=str)
def test_a_window_is_tried_until_it_succeeds(stream: mb.Stream, options: dict[str, Any]) -> None:
    seen: list[Any] = []

    def work(window: Any) -> None:
        if window.data:
            seen.append((window.attempt, window.id, window.data))
            if window.attempt < 4:
                raise ValueError('not yet')

    with running(stream, work, **options):
        stream.extend([{'n': 0}, {'n': 1}])
        wait_until(lambda: sum(len(data) for attempt, _, data in seen if attempt == 4) == 2)
    by_window = {name: [attempt for attempt, each, _ in seen if each == name] for _, name, _ in seen}
    assert set(map(tuple, by_window.values())) == {(1, 2, 3, 4)}
    assert len({(name, str(data)) for _, name, data in seen}) == len(by_window), 'its messages never change'


@pytest.mark.parametrize('keep', [False, True])
def test_failure_shows_the_documented_states(stream: mb.Stream, keep: bool) -> None:
    """Between two attempts: the messages are in the buffer, flagged, and in the window."""
    stream.extend([{'n': 0}, {'n': 1}])
    passed(stream, fail, size=2, keep=keep, backoff=1000)
    window, = stream.window()
    assert (window.state, window.processed, window.attempt, window.data) == ('ready', False, 1, [{'n': 0}, {'n': 1}])
    assert [(each.processed, each.window) for each in stream.buffer()] == [(True, window.id)] * 2
    assert window.errors[0]['error'] == 'ValueError: attempt 1'
    assert "raise ValueError(f'attempt {window.attempt}')" in window.errors[0]['traceback']
    assert '/minibatch/' not in window.errors[0]['traceback'], 'no frames but those of the function'


def test_past_its_attempts_it_is_dead_and_kept_with_the_reason(
    stream: mb.Stream, caplog: pytest.LogCaptureFixture,
) -> None:
    stream.extend([{'n': 0}, {'n': 1}])
    assert len(passed(stream, fail, size=2, max_attempts=3)) == 3
    dead, = stream.dead.list()
    assert (dead.data, dead.attempts, dead.error) == ([{'n': 0}, {'n': 1}], 3, 'ValueError: attempt 3')
    assert [each['error'] for each in dead.errors] == [f'ValueError: attempt {n}' for n in (1, 2, 3)]
    assert passed(stream, size=2) == []
    assert [each.levelno for each in caplog.records if 'clicks:' in each.message] == [
        logging.WARNING, logging.WARNING, logging.ERROR], 'no attempt without a line in the log'
    assert 'is dead after 3 attempts' in caplog.text


def test_a_dead_window_is_redriven_shown_and_dropped(stream: mb.Stream) -> None:
    stream.extend({'n': n} for n in range(4))
    passed(stream, fail, size=2, max_attempts=1)
    first, second = stream.dead.list()
    assert stream.dead.show(first.id) == first
    assert stream.dead.redrive(first.id) == 1
    assert passed(stream, size=2) == [[{'n': 0}, {'n': 1}]]
    assert stream.dead.drop(second.id) == 1
    assert (stream.dead(), stream.buffer().count(), stream.window().count()) == ([], 0, 0)


def test_a_poison_message_stops_nothing(stream: mb.Stream) -> None:
    stream.extend([{'n': 0}, {'poison': True}, {'n': 2}, {'n': 3}])
    assert passed(stream, poison, size=1, backoff=1000) == [[{'n': 0}], [{'poison': True}], [{'n': 2}], [{'n': 3}]]
    assert [window.data for window in stream.window()] == [[{'poison': True}]]


def test_a_poison_message_is_not_tried_in_a_hurry(stream: mb.Stream) -> None:
    """The original tried one 76 times in 2 s; here each attempt waits twice as long as the one before."""
    times: list[float] = []

    def work(window: Any) -> None:
        times.append(time.monotonic())
        raise ValueError

    stream.append({'n': 1})
    with running(stream, work, size=1, backoff=0.2, max_attempts=4):
        wait_until(lambda: len(stream.dead) == 1)
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]  # noqa: RUF007
    assert all(gap >= 0.2 * 2 ** n / 2 for n, gap in enumerate(gaps)), gaps
    assert len(gaps) == 3


def test_delays_double_up_to_a_minute_and_are_left_to_chance() -> None:
    options = Options(backoff=2)
    for attempt, full in enumerate((2, 4, 8, 16, 32, 60, 60), 1):
        delays = {backoff(attempt, options) for _ in range(50)}
        assert all(full / 2 <= each <= full for each in delays)
        assert len(delays) > 10
    assert backoff(10_000, options) <= 60
    assert backoff(5, Options(backoff=0)) == 0


@pytest.mark.parametrize('executor', ['process', 'thread'])
def test_a_function_that_takes_too_long(stream: mb.Stream, executor: str) -> None:
    stream.append({'n': 1})
    stream.streaming(lambda window: time.sleep(3), size=1, executor=executor, workers=1, timeout=0.3,
                     max_attempts=1, blocking=False)
    dead, = stream.dead.list()
    assert dead.errors[0]['kind'] == 'timeout'
    assert '0.3' in dead.error


@pytest.mark.parametrize('error', [SystemExit, KeyboardInterrupt, BaseException, StopIteration])
def test_whatever_a_function_raises_fails_its_window_only(stream: mb.Stream, error: type[BaseException]) -> None:
    def work(window: Any) -> None:
        if window.data[0]['n'] == 0:
            raise error('no')

    stream.extend([{'n': 0}, {'n': 1}])
    stream.streaming(work, size=1, executor='thread', max_attempts=1, blocking=False)
    assert [each.data for each in stream.dead.list()] == [[{'n': 0}]]
    assert stream.buffer(processed=False).count() == 0


def test_the_status_counts_it_all(stream: mb.Stream) -> None:
    stream.extend([{'n': 0}, {'poison': True}, {'n': 2}])
    passed(stream, poison, size=1, max_attempts=1)
    stream.append({'n': 4})
    status = stream.status()
    assert (status['done'], status['committed'], status['dead'], status['failed']) == (2, 2, 1, 1)
    assert (status['backlog'], status['ready'], status['running'], status['consumers']) == (1, 0, 0, [])
    assert 0 <= status['lag'] < 60


@pytest.mark.parametrize('cut', ['for itself', 'for others', 'kept', 'by hand'])
@pytest.mark.parametrize('executor', ['inline', 'thread'])
def test_a_function_may_change_its_window_and_fail(stream: mb.Stream, db: Any, cut: str, executor: str) -> None:
    """It has the window in its own process; still the next attempt gets what was appended."""
    stream.extend([{'n': 0}, {'n': 1}])
    if cut == 'for others':
        ready(stream)
    if cut == 'by hand':
        db.buffer.delete_many({})
        db.buffer.insert_many({'_id': n, 'stream': 'clicks', 'created': stream.store.clock.now(), 'data': {'n': n},
                               'processed': False, 'window': None} for n in range(2))
    seen: list[Any] = []

    def work(window: Any) -> None:
        seen.append([dict(each) for each in window.data])
        window.data[0]['n'] = 99
        window.data.append('more') if window.attempt == 1 else window.data.pop()
        if window.attempt < 3:
            raise ValueError

    stream.streaming(work, size=2, executor=executor, keep=cut == 'kept', backoff=0, blocking=False)
    assert seen == [[{'n': 0}, {'n': 1}]] * 3


def ready(stream: mb.Stream) -> None:
    """Another consumer has cut a window and left it to whoever takes it."""
    store = stream.store
    assert store.lead('clicks', 'other', 60)
    with store.session() as session:
        assert store.move(session, 'clicks', Order(size=2), Claim(owner='other', token='t', ttl=60, windows=0),
                          lambda n: store.allocate('clicks', 'other', n, 60))
    store.resign('clicks', 'other')


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError('there is nothing to say')


@pytest.mark.parametrize('place', ['function', 'sink'])
@pytest.mark.parametrize(
    'error', [ValueError('bad \ud800 text'), ValueError('\0'), Wordless(), ValueError('x' * 10**7)],
    ids=['surrogate', 'nul', 'wordless', 'long'])
def test_an_error_that_cannot_be_stored_as_it_is(stream: mb.Stream, place: str, error: Exception) -> None:
    """It must not end the consumer, and then the next one that takes the window."""
    def work(window: Any) -> None:
        raise error

    stream.append({'n': 1})
    if place == 'function':
        passed(stream, work, size=1, max_attempts=2)
    else:
        passed(stream, sink=work, size=1, max_attempts=2)
    dead, = stream.dead.list()
    assert type(error).__name__ in dead.error
