"""Windows by event time and key, as a user of a stream sees them: real MongoDB, one process, killed by exceptions."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

import minibatch as mb
from minibatch import inbox, points
from minibatch.errors import OptionError
from tests.support.waiting import wait_until

#: Options that all of these have: no process is started, and nothing is late by the clock.
PLAIN = {'executor': 'inline', 'idle': None, 'max_ahead': None}


class Consumer:
    """Runs passes over a stream, and notes what the function got."""

    def __init__(self, stream: mb.Stream, url: str) -> None:
        self.stream, self.url = stream, url
        self.windows: list[mb.Batch] = []
        self.fail: Callable[[mb.Batch], bool] = lambda window: False
        self.emitters: list[Any] = []

    def __call__(self, window: mb.Batch) -> None:
        self.windows.append(window)
        if self.fail(window):
            raise ValueError('no')

    def start(self, **options: Any) -> Any:
        """A new consumer; the one before is gone, and so is its lead."""
        self.stop()
        options = {name: value for name, value in {**PLAIN, **options}.items()
                   if name not in ('idle', 'max_ahead') or 'time' in options}
        self.emitters.append(mb.make_emitter(self.stream.name, self, url=self.url, **options))
        return self.emitters[-1]

    def run(self, **options: Any) -> list[Any]:
        """One pass of a new consumer; what it got: (key, numbers of the messages)."""
        since = len(self.windows)
        self.start(**options).run(blocking=False)
        return [(window.key, [each['n'] for each in window]) for window in self.windows[since:]]

    def stop(self) -> None:
        for each in self.emitters:
            each.stop()


@pytest.fixture
def consumer(stream: mb.Stream, url: str) -> Iterator[Consumer]:
    consumer = Consumer(stream, url)
    yield consumer
    consumer.stop()


def rows(*times: float, **more: Any) -> list[dict[str, Any]]:
    return [{'n': time, 'ts': time, **more} for time in times]


def test_windows_come_when_event_time_has_passed_them(stream: mb.Stream, consumer: Consumer) -> None:
    stream.extend(rows(1, 12, 3, 15))
    assert consumer.run(interval=10, time='ts') == [(None, [1, 3])]
    window, = consumer.windows
    assert (window.id, window.final, window.revision) == ('clicks:1970-01-01T00:00:00Z', True, 0)
    assert (window.start, window.end) == (datetime(1970, 1, 1), datetime(1970, 1, 1, 0, 0, 10))
    stream.extend(rows(20))
    assert consumer.run(interval=10, time='ts') == [(None, [12, 15])]
    assert [each.data['n'] for each in stream.buffer()] == [20], 'an open window waits in the buffer'
    assert stream.window().count() == 0


def test_edges_are_exact_to_the_microsecond(stream: mb.Stream, consumer: Consumer) -> None:
    stream.extend(rows(0.3, 0.299999, 0.1, 5))
    assert consumer.run(interval=0.1, time='ts') == [(None, [0.1]), (None, [0.299999]), (None, [0.3])]
    assert [window.start.microsecond for window in consumer.windows] == [100_000, 200_000, 300_000]


def test_each_key_has_its_windows(stream: mb.Stream, consumer: Consumer) -> None:
    stream.extend([{'n': n, 'ts': n, 'who': {'name': 'ann' if n % 2 else 7, 'at': n // 4}} for n in range(8)])
    stream.extend(rows(10, who={'name': 'x', 'at': 0}))
    assert consumer.run(interval=8, time='ts', key=['who.name', 'who.at']) == [
        ((7, 0), [0, 2]), ((7, 1), [4, 6]), (('ann', 0), [1, 3]), (('ann', 1), [5, 7])]
    assert len({window.id for window in consumer.windows}) == 4


def test_what_has_no_time_or_key_is_a_dead_letter(stream: mb.Stream, consumer: Consumer) -> None:
    now = time.time()
    stream.extend([*rows(1, 2, who='ann'), {'n': 3}, {'n': 4, 'ts': 'x', 'who': 'ann'}, {'n': 5, 'ts': 6},
                   {'n': 6, 'ts': now + 7200, 'who': 'ann'}, *rows(7, 15, who='ann')])
    assert consumer.run(interval=10, time='ts', key='who', max_ahead=3600) == [('ann', [1, 2, 7])]
    letters = {letter.data[0]['n']: letter.error for letter in stream.dead()}
    assert "no field 'ts'" in letters[3]
    assert "ts: 'x' is no time" in letters[4]
    assert "no field 'who'" in letters[5]
    assert 'max_ahead=3600' in letters[6], "a clock that is wrong closes nobody else's windows"
    assert stream.dead.redrive() == 4
    consumer.run(interval=10, time='ts', key='who', max_ahead=3600)
    assert sorted(each['n'] for window in consumer.windows[1:] for each in window) == [3, 4, 5, 6]
    assert not stream.dead()


def late(stream: mb.Stream, consumer: Consumer, **options: Any) -> list[Any]:
    stream.extend(rows(1, 2, 12, who='ann'))
    assert consumer.run(interval=10, time='ts', key='who', **options) == [('ann', [1, 2])]
    stream.extend(rows(3, 4, 13, who='ann'))
    return consumer.run(interval=10, time='ts', key='who', **options)


@pytest.mark.parametrize('keep', [False, True])
def test_late_messages_are_dead_letters_of_their_window(stream: mb.Stream, consumer: Consumer, keep: bool) -> None:
    assert late(stream, consumer, keep=keep) == []
    letter, = stream.dead()
    assert letter.key == 'ann'
    assert [each['n'] for each in letter.data] == [3, 4]
    assert (letter.start, letter.end) == (datetime(1970, 1, 1), datetime(1970, 1, 1, 0, 0, 10))
    assert letter.errors[0]['kind'] == 'late'
    stream.dead.redrive()
    assert consumer.run(interval=10, time='ts', key='who') == [('ann', [3, 4])]
    assert consumer.windows[-1].late
    assert not stream.dead()


def test_late_messages_that_are_dropped_are_counted(stream: mb.Stream, consumer: Consumer, db: Any) -> None:
    assert late(stream, consumer, late='drop') == []
    assert not stream.dead()
    assert db.stream.find_one()['stats']['late'] == 2
    assert [each.data['n'] for each in stream.buffer()] == [12, 13]


@pytest.mark.parametrize('keep', [False, True])
def test_late_messages_bring_their_window_again(stream: mb.Stream, consumer: Consumer, keep: bool) -> None:
    stream.extend(rows(15, who='bob'))
    assert late(stream, consumer, late='update', keep=keep) == [('ann', [1, 2, 3, 4])]
    first, again = consumer.windows
    assert (first.id, first.revision, again.revision) == (again.id, 0, 1)
    stream.extend(rows(0, 5, who='ann'))
    stream.extend(rows(5, who='bob'))
    got = consumer.run(interval=10, time='ts', key='who', late='update', keep=keep)
    assert sorted(got) == [('ann', [0, 1, 2, 3, 4, 5]), ('bob', [5])]
    assert {(window.key, window.revision) for window in consumer.windows[2:]} == {('ann', 2), ('bob', 0)}
    assert stream.buffer(processed=False).count() == 3


def test_late_messages_go_to_a_function(stream: mb.Stream, consumer: Consumer) -> None:
    got: list[Any] = []

    def note(messages: list[Any], start: datetime, end: datetime, key: str) -> None:
        got.append(([each['n'] for each in messages], start, (end - start).total_seconds(), key))
        if len(got) == 1:
            raise ValueError('not yet')

    assert late(stream, consumer, late=note, backoff=0.0) == []
    wait_until(lambda: consumer.run(interval=10, time='ts', key='who', late=note) == [] and len(got) == 2)
    assert got[0] == got[1] == ([3, 4], datetime(1970, 1, 1), 10, 'ann')
    assert not stream.dead()


def test_what_is_there_so_far_is_handed_out_early(stream: mb.Stream, consumer: Consumer) -> None:
    stream.extend(rows(1, 2))
    options = {'interval': 10, 'time': 'ts', 'early': 0.02}
    emitter = consumer.start(**options)
    emitter.run(blocking=False)
    stream.extend(rows(3))
    wait_until(lambda: (emitter.run(blocking=False), len(consumer.windows) >= 2)[1])
    wait_until(lambda: not stream.window().count())
    stream.extend(rows(4, 10))
    emitter.run(blocking=False)
    assert [(len(window), window.final) for window in consumer.windows][:2] == [(2, False), (3, False)]
    assert [(len(window), window.final) for window in consumer.windows if window.final] == [(4, True)]
    assert {window.id for window in consumer.windows if len(window) != 1} == {'clicks:1970-01-01T00:00:00Z'}
    assert stream.buffer().count() == 1


def test_an_early_window_that_fails_holds_up_nothing(stream: mb.Stream, consumer: Consumer) -> None:
    consumer.fail = lambda window: not window.final
    stream.extend(rows(1, 2))
    consumer.run(interval=10, time='ts', early=0.01)
    stream.extend(rows(10))
    consumer.run(interval=10, time='ts', early=100)
    assert [(len(window), window.final) for window in consumer.windows if window.final] == [(2, True)]


def test_keyed_windows_by_count(stream: mb.Stream, consumer: Consumer) -> None:
    stream.extend({'n': n, 'who': 'abc'[n % 3], 'end': n == 7} for n in range(11))
    assert consumer.run(size=2, key='who') == [
        ('a', [0, 3]), ('b', [1, 4]), ('c', [2, 5]), ('a', [6, 9]), ('b', [7, 10])]
    assert stream.buffer().count() == 1


def test_windows_that_a_message_closes(stream: mb.Stream, consumer: Consumer) -> None:
    stream.extend({'n': n, 'end': n in (3, 4)} for n in range(7))
    assert consumer.run(when=lambda message: message['end']) == [(None, [0, 1, 2, 3]), (None, [4])]


def test_windows_of_so_many_bytes(stream: mb.Stream, consumer: Consumer) -> None:
    stream.extend({'n': n, 'pad': 'x' * 1000} for n in range(7))
    assert consumer.run(bytes=3200) == [(None, [0, 1, 2]), (None, [3, 4, 5])]


def test_each_key_has_its_window_at_a_tick(stream: mb.Stream, consumer: Consumer) -> None:
    stream.extend({'n': n, 'who': 'ab'[n % 2]} for n in range(4))
    wait_until(lambda: (consumer.run(interval=0.05, relaxed=True, key='who'), len(consumer.windows) == 2)[1])
    assert [(window.key, [each['n'] for each in window]) for window in consumer.windows] == [
        ('a', [0, 2]), ('b', [1, 3])]


def test_days_are_those_of_a_place(stream: mb.Stream, consumer: Consumer) -> None:
    stream.extend({'n': day, 'ts': f'2026-03-{day}T20:30:00Z'} for day in (27, 28, 29, 30))
    got = consumer.run(interval=86400, time='ts', timezone='Europe/Zurich')
    assert got == [(None, [27]), (None, [28]), (None, [29])]
    hours = [(window.end - window.start) / timedelta(hours=1) for window in consumer.windows]
    assert hours == [24, 24, 23]


def test_another_strategy_is_refused(stream: mb.Stream, consumer: Consumer) -> None:
    stream.extend(rows(1, 12, 15))
    consumer.run(interval=10, time='ts')
    for options in ({'interval': 20, 'time': 'ts'}, {'interval': 10, 'time': 'n'}, {'size': 3},
                    {'interval': 10, 'time': 'ts', 'key': 'n'}):
        with pytest.raises(OptionError, match='reset=True'):
            consumer.run(**options)
    assert consumer.run(interval=10, time='ts', lateness=100) == [], 'how late messages may be, may change'
    stream.extend(rows(3))
    assert consumer.run(interval=5, time='ts', reset=True) == [(None, [3]), (None, [12])]
    stream.clear()
    consumer.run(size=3)


def test_a_kept_window_is_not_replaced_after_a_reset(stream: mb.Stream, consumer: Consumer) -> None:
    for number in range(3):
        stream.extend(rows(1, 10))
        assert len(consumer.run(interval=10, time='ts', keep=number == 0, reset=True)) == 1
    assert stream.window(state='done').count() == 1
    assert len({window.id for window in consumer.windows}) == 3, 'the later ones have numbers'


def test_who_runs_with_the_former_strategy_makes_way(
        stream: mb.Stream, url: str, consumer: Consumer, caplog: pytest.LogCaptureFixture) -> None:
    options = {**PLAIN, 'url': url, 'time': 'ts', 'background': True, 'lease': 1}
    former = mb.streaming(stream.name, consumer, interval=10, **options)
    try:
        stream.extend(rows(1, 12))
        wait_until(lambda: len(consumer.windows) == 1)
        latter = mb.streaming(stream.name, consumer, interval=5, reset=True, **options)
        try:
            stream.extend(rows(13, 16))
            wait_until(lambda: len(consumer.windows) == 2)
        finally:
            latter.stop()
        wait_until(lambda: 'reset=True' in caplog.text, what='the former one to say why it does not go on')
    finally:
        former.stop()
    assert [each['n'] for each in consumer.windows[1]] == [12, 13]


@pytest.mark.parametrize('second', [0, 100], ids=['the same second', 'long before'])
def test_messages_that_become_visible_out_of_order_are_found(
        stream: mb.Stream, consumer: Consumer, monkeypatch: pytest.MonkeyPatch, second: int) -> None:
    """Ids of one second come in any order, and an insert may take its time."""
    monkeypatch.setattr(inbox, 'RECOUNT', 0.0)
    stream.extend(rows(1, 2))
    emitter = consumer.start(interval=10, time='ts')
    emitter.run(blocking=False)
    first = stream.buffer().order_by('id').first()
    at = int.from_bytes(first.id.binary[:4], 'big') - second
    for low, n in ((b'\0' * 8, 3), (b'\0' * 7 + b'\1', 4)):
        stream.store.append([{'_id': ObjectId(at.to_bytes(4, 'big') + low), 'stream': stream.name, 'data': rows(n)[0],
                              'created': first.created, 'processed': False, 'window': None}])
    emitter.run(blocking=False)
    stream.extend(rows(10))
    emitter.run(blocking=False)
    assert [[each['n'] for each in window] for window in consumer.windows] == [[1, 2, 3, 4]]


def test_messages_that_others_store_their_own_way(stream: mb.Stream, consumer: Consumer, db: Any) -> None:
    for n, (id_, created) in enumerate((('mine', None), (7, datetime(2026, 1, 1)), (ObjectId(), datetime(2026, 1, 1)))):
        db.buffer.insert_one({'data': rows(n)[0], 'processed': False, 'window': None, 'created': created, '_id': id_,
                              'stream': stream.name, 'more': 1})
    stream.extend(rows(10))
    assert consumer.run(interval=10, time='ts') == [(None, [0, 1, 2])]
    assert [each.data['n'] for each in stream.buffer()] == [10]


def test_a_backlog_is_placed_as_it_would_have_been_at_once(
        stream: mb.Stream, consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in pages, and begun anew by another consumer after each."""
    monkeypatch.setattr(inbox, 'PAGE', 7)
    stream.extend({'n': n, 'ts': n + (n % 5), 'who': 'ab'[n % 2]} for n in range(200))
    for looks in (1, 5, 40) * 4:
        emitter = consumer.start(interval=10, time='ts', key='who', lateness=5)
        for _ in range(looks):
            emitter._run_once()
    assert not stream.dead()
    got = [n for window in consumer.windows for n in sorted(each['n'] for each in window)]
    assert len(got) == len(set(got))
    assert len(got) >= 180
    spans = [(window.start, window.key) for window in consumer.windows]
    assert spans == sorted(spans)


def test_a_window_too_large_for_a_document(stream: mb.Stream, consumer: Consumer) -> None:
    stream.extend({'n': n, 'ts': 1, 'pad': 'x' * 1_000_000} for n in range(14))
    stream.extend(rows(10))
    assert consumer.run(interval=10, time='ts') == [(None, list(range(14)))]
    assert stream.buffer().count() == 1


def test_one_window_of_a_key_after_another(stream: mb.Stream, url: str) -> None:
    """Others in parallel; also when one fails and is tried again."""
    stream.extend({'n': n, 'who': 'abc'[n % 3]} for n in range(30))
    running: set[str] = set()
    overlaps: list[str] = []
    done: dict[str, list[int]] = defaultdict(list)
    together: list[int] = []
    failed: set[int] = set()
    met = threading.Event()

    def work(window: mb.Batch) -> None:
        if window.key in running:
            overlaps.append(window.key)
        running.add(window.key)
        together.append(len(running))
        if len(running) > 1:
            met.set()
        met.wait(5)  # the first one, until one of another key runs as well
        running.discard(window.key)
        if window.data[0]['n'] % 5 == 0 and window.data[0]['n'] not in failed:
            failed.add(window.data[0]['n'])
            raise ValueError('once')
        done[window.key] += [each['n'] for each in window]

    emitters = [mb.streaming(stream.name, work, url=url, size=2, key='who', ordered=True, executor='thread', workers=4,
                             backoff=0.01, background=True) for _ in range(2)]
    try:
        wait_until(lambda: sum(map(len, done.values())) == 30, 20)
    finally:
        for emitter in emitters:
            emitter.stop()
    assert not overlaps
    assert dict(done) == {key: list(range(at, 30, 3)) for at, key in enumerate('abc')}
    assert max(together) > 1, 'keys are not held up by each other'
    assert failed


def test_a_window_closes_on_time_without_a_further_message(stream: mb.Stream, url: str) -> None:
    at: list[float] = []
    now = stream.store.clock.now()
    stream.append({'ts': now, 'n': 1})
    started = time.time()
    emitter = mb.streaming(stream.name, lambda window: at.append(time.time()), url=url, interval=1, time='ts',
                           executor='inline', background=True)
    try:
        wait_until(lambda: bool(at), 5)
    finally:
        emitter.stop()
    due = 1 - now.microsecond / 1e6
    assert due - 0.1 < at[0] - started < due + 1


class Killed(BaseException):
    """Whoever is killed does not tidy up."""


@pytest.mark.parametrize('keep', [False, True], ids=['moved', 'kept'])
@pytest.mark.parametrize('seed', range(3))
def test_killed_at_any_step_each_message_is_in_its_window_once(
        stream: mb.Stream, consumer: Consumer, monkeypatch: pytest.MonkeyPatch, seed: int, keep: bool) -> None:
    """The next one finds in the buffer what the last one knew."""
    chance = random.Random(seed)
    steps = ['place:before', 'place:advanced', 'place:deleted', 'place:inserted', 'place:committed', 'mark:intended',
             'mark:marked', 'mark:advanced', 'mark:published']
    wanted: dict[Any, list[float]] = defaultdict(list)
    n = 0

    def killed(name: str) -> None:
        if name in steps and threading.current_thread() is threading.main_thread() and chance.random() < 0.1:
            raise Killed(name)

    options = {'interval': 10, 'time': 'ts', 'key': 'who', 'lateness': 20, 'lease': 0.2, 'keep': keep, 'watermark':
               'key' if seed == 2 else 'stream'}
    kills = 0
    for _ in range(12):
        some = []
        for _ in range(chance.randrange(20)):
            n += 1
            ts, who = n - chance.randrange(20), chance.choice('ab')
            some.append({'n': n, 'ts': ts, 'who': who})
            wanted[who, ts // 10 * 10].append((ts, n))
        stream.extend(some)
        monkeypatch.setattr(points, 'on_point', killed)
        try:
            consumer.start(**options).run(blocking=False)
        except Killed:
            kills += 1
            emitter = consumer.emitters.pop()
            stream.store.streams.update_one({'_id': stream.name}, {'$unset': {'lease': 1}})
            if emitter._engine is not None:
                emitter._engine.cutter._session.end_session()
        finally:
            monkeypatch.setattr(points, 'on_point', None)
    stream.extend([{'n': -1, 'ts': n + 1000, 'who': who} for who in 'ab'])

    def all_there() -> bool:
        consumer.run(**options)
        return len({window.id for window in consumer.windows}) >= len(wanted)

    wait_until(all_there, 15)
    assert kills
    assert not stream.dead()
    got: dict[Any, set[Any]] = defaultdict(set)
    for window in consumer.windows:
        got[window.key, int((window.start - datetime(1970, 1, 1)).total_seconds())].add(
            tuple(each['n'] for each in window))
    assert {window: list(each) for window, each in got.items()} == {
        window: [tuple(n for _, n in sorted(events))] for window, events in wanted.items()}


def test_a_hundred_thousand_keys(stream: mb.Stream, consumer: Consumer) -> None:
    """Each has an open window; those that are over are cut, and the next consumer finds the others."""
    stream.extend({'who': n} for n in range(100_000))
    assert consumer.run(size=2, key='who') == []
    stream.extend({'who': n, 'n': n} for n in (0, 50_000, 99_999))
    consumer.start(size=2, key='who').run(blocking=False)
    assert sorted((window.key, window.data[1]['n']) for window in consumer.windows) == [
        (0, 0), (50_000, 50_000), (99_999, 99_999)]
    assert stream.buffer().count() == 99_997


def test_a_window_that_is_open_for_a_month(stream: mb.Stream, consumer: Consumer) -> None:
    day = 86_400
    options = {'interval': 30 * day, 'time': 'ts', 'key': 'who', 'lateness': 7 * day}
    for n in range(37):
        stream.extend([{'n': n, 'ts': n * day, 'who': 'ann'}])
        assert consumer.run(**options) == [], 'each day by another consumer'
    stream.extend([{'n': 37, 'ts': 37 * day, 'who': 'ann'}])
    assert consumer.run(**options) == [('ann', list(range(30)))]
    window, = consumer.windows
    assert (window.end - window.start) == timedelta(days=30)
