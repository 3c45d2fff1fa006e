"""Where results go, and what counts as one."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import minibatch as mb
from minibatch.contrib.mongodb import MongoSink
from tests.support.consuming import passed
from tests.support.waiting import wait_until

TWO = [{'n': 0}, {'n': 1}]


@pytest.fixture(autouse=True)
def _messages(stream: mb.Stream) -> None:
    stream.extend(TWO)


class Put:
    """A sink as an object, that tells in which order it was called."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def put(self, message: Any) -> None:
        self.calls.append(message)


class Flushed(Put):
    def flush(self) -> None:
        self.calls.append('flush')


@pytest.mark.parametrize('result', [0, 0.0, '', False, {}, (), b'', 5, 'text', {'n': 1}, [0], [[]]], ids=repr)
def test_a_result_goes_to_the_sink_as_it_is(stream: mb.Stream, result: Any) -> None:
    got: list[Any] = []
    stream.streaming(lambda window: result, size=2, executor='inline', sink=got.append, blocking=False)
    assert got == [result]
    assert type(got[0]) is type(result)


@pytest.mark.parametrize('executor', ['inline', 'process'])
def test_no_result_stands_for_the_data(stream: mb.Stream, executor: str) -> None:
    got: list[Any] = []
    stream.streaming(lambda window: None, size=2, executor=executor, workers=1, sink=got.append, blocking=False)
    stream.extend(TWO)
    stream.streaming(lambda window: window, size=2, executor=executor, workers=1, sink=got.append, blocking=False)
    assert got == [TWO, TWO]


def test_an_empty_list_is_nothing(stream: mb.Stream) -> None:
    got: list[Any] = []
    stream.streaming(lambda window: [], size=2, executor='inline', sink=got.append, blocking=False)
    assert (got, stream.buffer().count()) == ([], 0)


def test_an_object_with_put_or_any_callable_or_several(stream: mb.Stream) -> None:
    one, two, three = Put(), Flushed(), []
    passed(stream, sink=[one, two, three.append], size=2)
    assert one.calls == [TWO]
    assert two.calls == [TWO, 'flush']
    assert three == [TWO]
    stream.extend(TWO)
    passed(stream, sink=two, size=2)
    assert two.calls[2:] == [TWO, 'flush']


class Whole(Flushed):
    """All that a sink may have."""

    def begin(self, batch: Any) -> None:
        self.calls.append(batch.id)

    def close(self) -> None:
        self.calls.append('close')


def test_every_sink_of_a_list_hears_of_windows_and_is_closed(stream: mb.Stream) -> None:
    one, two = Whole(), Whole()
    passed(stream, sink=[one, two, print], size=2)
    assert one.calls == two.calls == ['clicks:1', TWO, 'flush', 'close']


def test_a_sink_that_cannot_be_closed_costs_nothing(stream: mb.Stream, caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(Put):
        def close(self) -> None:
            raise OSError('stuck')

    last = Whole()
    passed(stream, sink=[Stuck(), last], size=2)
    assert last.calls[-1] == 'close'
    assert stream.buffer().count() == 0
    assert 'the sink could not be closed: OSError: stuck' in caplog.text


def test_a_sink_that_fails_fails_the_window_for_all(stream: mb.Stream) -> None:
    class Failing(Put):
        def put(self, message: Any) -> None:
            super().put(message)
            if len(self.calls) == 1:
                raise OSError('down')

    before, failing, after = Put(), Failing(), Put()
    passed(stream, sink=[before, failing, after], size=2)
    assert (before.calls, failing.calls, after.calls) == ([TWO, TWO], [TWO, TWO], [TWO])


def test_the_sink_comes_before_the_commit(stream: mb.Stream) -> None:
    states: list[Any] = []
    passed(stream, size=2, keep=True, sink=lambda message: states.extend(
        (window.state, window.processed) for window in stream.window()))
    assert states == [('running', False)]
    assert [(window.state, window.processed) for window in stream.window()] == [('done', True)]


@pytest.mark.parametrize('place', ['put', 'flush'])
@pytest.mark.parametrize('keep', [False, True])
def test_a_sink_that_raises_costs_an_attempt_and_no_message(
    stream: mb.Stream, place: str, keep: bool, caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Flushed):
        def fail(self) -> None:
            if self.calls.count('failed') < 2:
                self.calls.append('failed')
                raise ConnectionError('down')

        def put(self, message: Any) -> None:
            if place == 'put':
                self.fail()
            super().put(message)

        def flush(self) -> None:
            if place == 'flush':
                self.fail()

    sink = Failing()
    attempts: list[int] = []
    passed(stream, lambda window: attempts.append(window.attempt), sink=sink, size=2, keep=keep)
    assert attempts == [1, 2, 3]
    assert sink.calls[-1] == TWO
    assert 'the sink failed: ConnectionError: down' in caplog.text


def test_a_sink_that_hangs_is_given_up(stream: mb.Stream) -> None:
    end = threading.Event()
    try:
        stream.streaming(lambda window: 1, size=2, executor='thread', timeout=0.1, max_attempts=1, blocking=False,
                         sink=lambda message: end.wait(60))
        dead, = stream.dead.list()
        assert 'longer than 0.1 s' in dead.error
    finally:
        end.set()
    wait_until(lambda: not any('minibatch-sink' in each.name for each in threading.enumerate()))


def test_what_is_exactly_once_is_written_when_all_others_have_the_result(stream: mb.Stream, db: Any) -> None:
    written: list[int] = []

    class Failing(Flushed):
        def put(self, message: Any) -> None:
            super().put(message)
            written.append(db.totals.count_documents({}))
            if len(written) == 1:
                raise OSError('down')

    failing = Failing()
    passed(stream, lambda window: {'_id': window.id}, sink=[MongoSink('totals', exactly_once=True), failing], size=2)
    assert written == [0, 0]
    assert list(db.totals.find()) == [{'_id': 'clicks:1'}]
    assert failing.calls == [{'_id': 'clicks:1'}] * 2 + ['flush']


def test_results_of_several_windows_may_be_written_in_one_go(stream: mb.Stream) -> None:
    class Many:
        exactly_once = True
        calls: list[list[Any]] = []  # noqa: RUF012

        def put_all_in(self, session: Any, results: Any) -> None:
            self.calls.append([(result, batch.id) for result, batch in results])

        def put(self, message: Any) -> None:
            raise AssertionError

    sink = Many()
    stream.extend({'n': n} for n in range(2, 40))
    passed(stream, lambda window: window.data[0]['n'] or [], sink=sink, size=1)
    assert [result for call in sink.calls for result, _ in call] == list(range(1, 40)), 'an empty one is none'
    assert [window for call in sink.calls for _, window in call] == [f'clicks:{n}' for n in range(2, 41)]
    assert len(sink.calls) < 39


def test_what_mongodb_refuses_is_in_no_exactly_once_sink(stream: mb.Stream, db: Any) -> None:
    db.totals.insert_one({'_id': 'clicks:1', 'of': 'somebody'})
    before = Put()
    passed(stream, lambda window: {'_id': window.id}, max_attempts=2, size=2,
           sink=[before, MongoSink('others', exactly_once=True), MongoSink('totals', exactly_once=True)])
    assert len(before.calls) == 2, 'which is why it is to be exactly once, too'
    assert (db.others.count_documents({}), len(stream.dead.list())) == (0, 1)


def test_results_are_not_sent_anywhere_if_nobody_wants_them(stream: mb.Stream) -> None:
    """Then it does not matter that this one could not leave its process."""
    stream.streaming(lambda window: threading.Lock(), size=2, executor='process', workers=1, blocking=False,
                     max_attempts=1)
    assert (len(stream.dead), stream.buffer().count()) == (0, 0)
