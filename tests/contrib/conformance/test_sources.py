"""What every source has to do: bring each message once, in order, whatever happens."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import minibatch as mb
from tests.support.consuming import running
from tests.support.waiting import patience, wait_until
from tests.support.world import World, at

from .adapters import SourceAdapter

Open = Callable[..., mb.Stream]
#: What is lost or doubled once is so: such a test is not tried once more.
ONCE = pytest.mark.flaky(reruns=0)


@pytest.fixture
def open_stream(url: str) -> Iterator[Open]:
    """Gets the stream, each time another object of it; all are stopped in the end."""
    opened: list[mb.Stream] = []

    def get(**options: Any) -> mb.Stream:
        opened.append(mb.stream('clicks', url=url, **options))
        return opened[-1]

    yield get
    for stream in opened:
        stream.stop()


class Inside:
    """What is in the stream."""

    def __init__(self, db: Any, upstream: SourceAdapter) -> None:
        self._db, self._upstream = db, upstream

    def numbers(self) -> list[int]:
        return [self._upstream.number(doc['data']) for doc in self._db.buffer.find({'stream': 'clicks'}).sort('_id', 1)]

    def holds(self, count: int, timeout: float = 20) -> None:
        """Wait until that many messages are there."""
        wait_until(lambda: self._db.buffer.count_documents({'stream': 'clicks'}) >= count, timeout,
                   what=f'{count} messages in the stream')

    def are(self, count: int, *, ordered: bool = True) -> None:
        """Assert that the messages 0 to *count* are there, once each, and in this order."""
        numbers = self.numbers()
        assert (numbers if ordered and self._upstream.ordered else sorted(numbers)) == list(range(count))


@pytest.fixture
def inside(db: Any, upstream: SourceAdapter) -> Inside:
    return Inside(db, upstream)


@ONCE
def test_messages_arrive_once_and_in_order(upstream: SourceAdapter, open_stream: Open, inside: Inside) -> None:
    stream = open_stream()
    upstream.feed(range(1500))
    stream.attach(upstream.source())
    inside.holds(1500)
    upstream.feed(range(1500, 1510))
    inside.holds(1510)
    stream.stop()
    inside.are(1510)


@ONCE
def test_it_goes_on_where_it_was(upstream: SourceAdapter, open_stream: Open, inside: Inside) -> None:
    for round_ in range(3):
        upstream.feed(range(round_ * 100, (round_ + 1) * 100))
        stream = open_stream()
        stream.attach(upstream.source())
        inside.holds((round_ + 1) * 100)
        stream.stop()
    inside.are(300)


@ONCE
def test_each_stream_gets_all(upstream: SourceAdapter, url: str, db: Any) -> None:
    """Positions are a stream's own; so the second one starts at the beginning, or at least not where the first is."""
    upstream.feed(range(10))
    streams = [mb.stream(name, url=url) for name in ('one', 'two')]
    try:
        for stream in streams:
            stream.attach(upstream.source())
            wait_until(lambda name=stream.name: db.source.count_documents({'stream': name}), 20)
        upstream.feed(range(10, 20))
        for stream in streams:
            wait_until(lambda name=stream.name: set(range(10, 20)) <= {
                upstream.number(doc['data']) for doc in db.buffer.find({'stream': name})}, 20, what=stream.name)
    finally:
        for stream in streams:
            stream.stop()


@ONCE
@pytest.mark.fault
@pytest.mark.slow
def test_nothing_is_lost_or_doubled_by_sigkill(upstream: SourceAdapter, world: World, inside: Inside) -> None:
    """10,000 messages upstream; who reads them is killed five times, at a random step or at any time."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    config = {'role': 'source', 'adapter': f'{type(upstream).__module__}:{type(upstream).__qualname__}',
              'config': upstream.config(), 'options': {'size': upstream.batch}}
    points = ['source:moved', 'source:inserted', 'source:lettered', 'source:committed']
    for round_ in range(5):
        upstream.feed(range(round_ * 2000, round_ * 2000 + 2000))
        before = len(inside.numbers())
        if round_ % 2:
            nth = rng.randrange(1, 2000 // upstream.batch)
            child = world._start({**config, 'at': [at(rng.choice(points), nth=nth)]})
            child.wait_killed(60)
        else:
            child = world._start({**config, 'at': []})
            world.patiently(lambda n=before: len(inside.numbers()) > n, 60, f'some messages (seed {seed})')
            child.kill()
    child = world._start({**config, 'at': []})
    world.patiently(lambda: world.db.buffer.count_documents({}) >= 10_000, 60, f'all messages (seed {seed})')
    child.kill()
    inside.are(10_000)


def test_a_cancel_is_noticed_within_a_second(upstream: SourceAdapter, open_stream: Open, inside: Inside) -> None:
    """While there is nothing to do, and in the middle of work; what it had in hand is not lost."""
    stream = open_stream()
    upstream.feed(range(5))
    thread = stream.attach(upstream.source())
    inside.holds(5)
    took = stopped(stream)
    assert thread is not None
    assert not thread.is_alive()
    assert took < patience(1.0)
    upstream.feed(range(5, 3000))
    stream = open_stream()
    thread = stream.attach(upstream.source(size=50))
    inside.holds(100)
    took = stopped(stream)
    assert thread is not None
    assert not thread.is_alive()
    assert took < patience(1.0)
    open_stream().attach(upstream.source())
    inside.holds(3000)
    inside.are(3000)


def stopped(stream: mb.Stream) -> float:
    """Stop a stream; how many seconds that took."""
    began = time.monotonic()
    stream.stop()
    return time.monotonic() - began


def test_it_waits_for_upstream(upstream: SourceAdapter, open_stream: Open, inside: Inside,
                               caplog: pytest.LogCaptureFixture) -> None:
    """Absent at the start, and away in the middle: one line in the log each time, and nothing lost."""
    if not upstream.can_be_away:
        pytest.skip('it has no server that could be away')
    upstream.feed(range(50))
    stream = open_stream()
    source = upstream.source()
    for round_ in range(2):
        with upstream.away():
            if round_ == 0:
                thread = stream.attach(source)
            wait_until(lambda n=round_: complaints(caplog) > n, 20, what='a word about it')
            assert thread is not None
            assert thread.is_alive()
        if round_ == 1:
            upstream.feed(range(50, 100))
        inside.holds(50 * (round_ + 1), 30)
    stream.stop()
    inside.are(100)
    assert complaints(caplog) <= 4, 'an outage is not a flood of words'


def complaints(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.levelname == 'WARNING' and 'was interrupted' in record.getMessage() for record in caplog.records)


def test_a_cancel_ends_the_waiting_for_upstream(upstream: SourceAdapter, open_stream: Open,
                                                caplog: pytest.LogCaptureFixture) -> None:
    if not upstream.can_be_away:
        pytest.skip('it has no server that could be away')
    with upstream.away():
        stream = open_stream()
        thread = stream.attach(upstream.source())
        wait_until(lambda: complaints(caplog), 20)
        assert stopped(stream) < patience(1.0)
        assert thread is not None
        assert not thread.is_alive()


def test_what_cannot_be_read_is_kept_and_stops_nothing(upstream: SourceAdapter, open_stream: Open, inside: Inside,
                                                       ) -> None:
    if upstream.garbage is None:
        pytest.skip('upstream has nothing but messages')
    stream = open_stream()
    stream.attach(upstream.source())
    upstream.feed(range(5))
    upstream.feed_raw(upstream.garbage)
    upstream.feed(range(5, 10))
    inside.holds(10)
    wait_until(lambda: len(stream.dead) == 1)
    dead = stream.dead.list()[0]
    letter = dead.data[0]
    assert letter['raw'] == upstream.garbage
    assert letter['reason']
    assert letter['reason'] in dead.error
    assert letter['source']
    stream.stop()
    inside.are(10)
    assert stream.status()['dead'] == 1
    # mended or not, it can be handed to the function
    stream.dead.redrive()
    got: list[Any] = []
    stream.streaming(lambda window: got.extend(window.data), size=10, executor='inline', blocking=False)
    assert letter in got
    assert len(stream.dead) == 0


def test_a_full_stream_holds_it_up(upstream: SourceAdapter, open_stream: Open, inside: Inside) -> None:
    upstream.feed(range(300))
    stream = open_stream(max_backlog=40)
    stream.attach(upstream.source())
    inside.holds(40)
    got: list[int] = []
    most = 0

    def work(window: Any) -> None:
        nonlocal most
        most = max(most, len(inside.numbers()))
        got.extend(upstream.number(each) for each in window.data)

    with running(open_stream(), work, size=10):
        wait_until(lambda: len(got) >= 300, 30)
    assert sorted(got) == list(range(300))
    assert most <= 40
    stream.stop()


def test_a_cancel_ends_the_waiting_for_room(upstream: SourceAdapter, open_stream: Open, inside: Inside) -> None:
    upstream.feed(range(100))
    stream = open_stream(max_backlog=10)
    thread = stream.attach(upstream.source(size=10))
    inside.holds(10)
    assert stopped(stream) < patience(1.0)
    assert thread is not None
    assert not thread.is_alive()
    open_stream(max_backlog=1000).attach(upstream.source())
    inside.holds(100)
    inside.are(100)


@ONCE
def test_two_of_the_same_source_do_not_double(upstream: SourceAdapter, open_stream: Open, inside: Inside) -> None:
    """Somebody starts it twice, or the first one was only slow and not dead."""
    upstream.feed(range(500))
    streams = [open_stream(), open_stream()]
    for stream in streams:
        stream.attach(upstream.source(size=20))
    inside.holds(500, 30)
    upstream.feed(range(500, 600))
    inside.holds(600, 30)
    ended = threading.Event()
    ended.set()
    for stream in streams:
        stream.stop()
    inside.are(600, ordered=False)
