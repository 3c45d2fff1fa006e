"""What a window, a poll and an idle consumer cost, in commands and documents: the faults that the original had."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.monitoring import CommandListener, CommandStartedEvent

import minibatch as mb
import minibatch.client
from tests.support.consuming import passed, running
from tests.support.waiting import wait_until


class Counted(CommandListener):
    """Counts the commands of the engine's client."""

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()

    def started(self, event: CommandStartedEvent) -> None:
        self.names[event.command_name] += 1

    def succeeded(self, event: Any) -> None: ...

    def failed(self, event: Any) -> None: ...

    def total(self) -> int:
        return sum(self.names.values())


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Counts what the clients that are made from here on send."""
    counted = Counted()

    def client(*args: Any, **options: Any) -> Any:
        return MongoClient(*args, **{**options, 'event_listeners': [counted]})

    monkeypatch.setattr(minibatch.client, 'MongoClient', client)
    return counted


@pytest.fixture
def profile(db: Any) -> Iterator[Any]:
    """What the server notes of each operation on the test's database."""
    db.command('profile', 2)
    yield db['system.profile']
    db.command('profile', 0)


def fill(stream: mb.Stream, n: int) -> None:
    stream.extend({'n': each} for each in range(n))


@pytest.mark.parametrize('options', [{}, {'keep': True}, {'within': 60}], ids=str)
def test_commands_for_one_window_of_a_hundred(commands: Counted, stream: mb.Stream, options: dict[str, Any]) -> None:
    """The original needed 208. One at a time, so that none shares its commands with another one."""
    got: list[Any] = []

    def windows(n: int) -> None:
        for _ in range(n):
            before = len(got)
            fill(stream, 100)
            wait_until(lambda before=before: len(got) > before)
            wait_until(lambda: not stream.window(state='running').count())

    with running(stream, got.append, size=100, lease=60, **options):
        windows(2)
        commands.names.clear()
        windows(5)
        sent = {name: n for name, n in commands.names.items() if name not in ('aggregate', 'getMore')}  # our waiting
    assert len(got) == 7
    assert sum(sent.values()) / 5 < 20, sent


def test_a_consumer_that_comes_and_goes_for_one_window(commands: Counted, stream: mb.Stream) -> None:
    """All of it: to begin, to lead, to cut, to commit, to look in vain, to leave."""
    fill(stream, 100)
    commands.names.clear()
    assert [len(window) for window in passed(stream, size=100)] == [100]
    assert commands.total() < 35, commands.names


def test_commands_grow_less_than_windows(commands: Counted, stream: mb.Stream) -> None:
    """Small windows are cut and committed in groups."""
    fill(stream, 3000)
    commands.names.clear()
    got: list[Any] = []
    with running(stream, got.append, size=3):
        wait_until(lambda: len(got) == 1000)
    assert commands.total() < 1000, commands.names


def test_an_append_is_one_command(commands: Counted, stream: mb.Stream) -> None:
    stream.append({'n': 0})
    commands.names.clear()
    for n in range(10):
        stream.append({'n': n})
    stream.extend({'n': n} for n in range(500))
    assert commands.names == {'insert': 11}


def test_an_idle_consumer_says_hardly_anything(commands: Counted, stream: mb.Stream) -> None:
    got: list[Any] = []
    with running(stream, got.append, size=1, lease=60):
        stream.append({'n': 1})
        wait_until(lambda: got)
        wait_until(lambda: commands.names['aggregate'] > 0, what='the watch to be opened')
        wait_until(lambda: quiet(commands), 20, what='less than two commands in a second')


def quiet(commands: Counted) -> bool:
    before, began = commands.total(), time.monotonic()
    threading.Event().wait(1.5)  # a rate needs its time
    return commands.total() - before <= 2 * (time.monotonic() - began)


def test_polls_do_not_look_at_what_is_kept(stream: mb.Stream, profile: Any) -> None:
    """The original examined every kept document with each poll."""
    fill(stream, 2000)
    passed(stream, size=100, keep=True)
    assert stream.buffer().count() == 2000
    mark = profile.count_documents({})
    fill(stream, 1)
    passed(stream, size=2, keep=True)
    looks = list(profile.find({'op': {'$in': ['query', 'command', 'update', 'remove']}}).skip(mark))
    looks = [each for each in looks if each.get('ns', '').endswith(('.buffer', '.window'))]
    assert looks
    examined = {f'{each["op"]} {each["ns"]}': each.get('docsExamined', 0) for each in looks}
    assert max(examined.values()) < 50, examined
    assert max(each.get('keysExamined', 0) for each in looks) < 50


def test_a_poll_of_a_stream_does_not_look_at_others(stream: mb.Stream, url: str, profile: Any) -> None:
    fill(mb.stream('another', url=url), 2000)
    mark = profile.count_documents({})
    fill(stream, 4)
    passed(stream, size=2)
    looks = [each for each in profile.find({}).skip(mark) if each.get('ns', '').endswith('.buffer')]
    assert max(each.get('docsExamined', 0) for each in looks) < 50


@pytest.mark.parametrize('options', [{}, {'keep': True}], ids=str)
def test_no_pause_between_windows_while_there_is_a_backlog(stream: mb.Stream, options: dict[str, Any]) -> None:
    """The original slept after each window. A pause of 50 ms would show here; a hundred windows take far less."""
    starts: list[float] = []
    fill(stream, 200)
    with running(stream, lambda window: starts.append(time.monotonic()), size=2, **options):
        wait_until(lambda: len(starts) == 100)
    assert starts[-1] - starts[0] < 100 * 0.05
    gaps = sorted(b - a for a, b in zip(starts, starts[1:], strict=False))  # noqa: RUF007
    assert gaps[50] < 0.02, 'most follow at once'


def test_a_slow_function_holds_no_more_than_it_runs(stream: mb.Stream) -> None:
    """Windows in flight are limited by the workers, so that other consumers find work, and a crash costs little."""
    go_on = threading.Event()
    fill(stream, 50)
    with running(stream, lambda window: go_on.wait(30), size=1, executor='thread', workers=2):
        wait_until(lambda: stream.window(state='running').count() == 2)
        try:
            assert stream.window(state='running').count() == 2
            assert stream.buffer(processed=False).count() >= 44
        finally:
            go_on.set()


def test_two_consumers_deliver_each_message_once(stream: mb.Stream) -> None:
    """Two of the original delivered 630 messages of 400."""
    got: list[int] = []
    lock = threading.Lock()

    def work(window: Any) -> None:
        with lock:
            got.extend(each['n'] for each in window)

    with running(stream, work, size=5, lease=1.0), running(stream, work, size=5, lease=1.0):
        for start in range(0, 400, 40):
            stream.extend({'n': n} for n in range(start, start + 40))
        wait_until(lambda: len(got) >= 400)
    assert sorted(got) == list(range(400))
    assert (stream.buffer().count(), stream.window().count()) == (0, 0)


def test_a_message_on_the_edge_is_in_one_window(stream: mb.Stream, db: Any) -> None:
    """In the original it came in the window that ended there and in the one that began there."""
    fill(stream, 3)
    edge = stream.store.clock.now().replace(second=0, microsecond=0)
    db.buffer.update_many({}, {'$set': {'created': edge}})
    sizes: list[tuple[Any, int]] = []
    passed(stream, lambda window: sizes.append((window.start, len(window))), interval=60, relaxed=False, grace=0)
    with running(stream, lambda window: sizes.append((window.start, len(window))), interval=0.5, relaxed=False):
        wait_until(lambda: sum(n for _, n in sizes) == 3)
    assert [(start, n) for start, n in sizes if n] == [(edge, 3)]
