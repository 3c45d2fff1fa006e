"""The strategies by themselves: what they decide from what they are told. No database, no clock but the test's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minibatch.clock import EPOCH, ManualClock
from minibatch.errors import OptionError
from minibatch.models import Stream
from minibatch.order import Order
from minibatch.window import CountWindow, FixedTimeWindow, RelaxedTimeWindow, View, WindowEmitter

NOON = datetime(2026, 1, 1, 12)


def s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def make(cls: type[Any], **options: Any) -> Any:
    return cls(Stream(name='clicks'), **options)


class World:
    """A stream in memory that is cut as the engine would, for one strategy.

    :param visible: messages as (created, becomes visible); the strategy sees the ones that are visible by now
    """

    def __init__(self, strategy: WindowEmitter, visible: Sequence[tuple[datetime, datetime]] = ()) -> None:
        self.strategy = strategy
        self.clock = ManualClock(NOON)
        self.messages = list(visible)
        self.last_read: datetime | None = None
        self.windows: list[tuple[datetime | None, datetime | None, list[datetime]]] = []

    def append(self, *created: float) -> None:
        """Messages of so many seconds after noon, visible at once."""
        self.messages += [(NOON + s(each), NOON + s(each)) for each in created]

    def free(self) -> list[datetime]:
        return [created for created, seen in self.messages if seen <= self.clock.now()]

    def view(self) -> View:
        free = self.free()
        late = [each for each in free if self.last_read and each < self.last_read]
        return View(now=self.clock.now(), count=min(len(free), self.strategy.need()), oldest=free[0] if free else None,
                    late=late[0] if late else None, last_read=self.last_read, most=100)

    def cut(self) -> datetime | None:
        """Cut until nothing is due; the time at which to ask again."""
        for _ in range(1000):
            decision = self.strategy.decide(self.view())
            cut = [self.take(order) for order in decision.orders]
            if not any(cut):
                return decision.ask_at
        raise AssertionError('it never ends')

    def take(self, order: Order) -> bool:
        fit = [each for each in self.free() if (order.since is None or each >= order.since)
               and (order.until is None or each < order.until)]
        parts = [fit] if order.size is None else [fit[at:at + order.size] for at in range(0, len(fit), order.size)]
        parts = [each for each in parts[:order.most] if order.size is None or len(each) == order.size or order.partial]
        for part in parts if fit or not order.empty else [[]]:
            if part or order.empty:
                self.windows.append((order.start, order.end, part))
                self.messages = [each for each in self.messages if each[0] not in part]
        if order.advance is not None:
            self.last_read = max(self.last_read or EPOCH, order.advance)
        return bool(parts) or order.advance is not None

    def run(self, seconds: float, step: float = 1.0) -> None:
        """Let time go by in steps."""
        end = self.clock.now() + s(seconds)
        while self.clock.now() < end:
            self.clock.advance(step)
            self.cut()

    def seconds(self) -> list[tuple[float, float]]:
        """The windows' intervals, in seconds after noon."""
        return [((start - NOON).total_seconds(), (end - NOON).total_seconds())
                for start, end, _ in self.windows if start and end]


# -- by count


@pytest.mark.parametrize(('count', 'cut'), [(0, False), (1, False), (2, False), (3, True), (100, True)])
def test_exactly_so_many_messages(count: int, cut: bool) -> None:
    decision = make(CountWindow, size=3).decide(View(now=NOON, count=count, most=7))
    assert list(decision.orders) == ([Order(size=3, most=7)] if cut else [])
    assert cut or decision.ask_at is None, 'without a deadline only a message can make it due'


def test_as_many_windows_as_may_be_are_ordered_at_once() -> None:
    world = World(make(CountWindow, size=2))
    world.append(*(n / 100 for n in range(-5, 0)))
    world.cut()
    assert [len(part) for _, _, part in world.windows] == [2, 2]


def test_the_deadline_counts_from_the_first_message() -> None:
    window = make(CountWindow, size=3, within=10)
    waiting = View(now=NOON, count=1, oldest=NOON - s(4))
    assert window.decide(waiting).orders == ()
    assert window.decide(waiting).ask_at == NOON + s(6)
    due = window.decide(View(now=NOON, count=2, oldest=NOON - s(10)))
    assert list(due.orders) == [Order(size=3, partial=True)]
    assert window.decide(View(now=NOON, count=0)).ask_at is None, 'no message, no deadline'
    assert window.decide(View(now=NOON, count=3, oldest=NOON)).orders[0].partial is False, 'full before its time'


def test_a_deadline_survives_whoever_knew_it() -> None:
    """It is the first message's, which is stored: another process decides the same."""
    view = View(now=NOON, count=1, oldest=NOON - s(11))
    assert make(CountWindow, size=3, within=10).decide(view) == make(CountWindow, size=3, within=10).decide(view)


@pytest.mark.parametrize('size', [0, -1, 1.5, '3', True, None])
def test_a_size_that_cannot_be(size: Any) -> None:
    with pytest.raises(OptionError, match='size'):
        make(CountWindow, size=size)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 5), within=st.none() | st.floats(0.5, 5),
       gaps=st.lists(st.floats(0.001, 3), min_size=1, max_size=30))
def test_by_count_every_message_is_in_one_window_in_order(size: int, within: float | None, gaps: list[float]) -> None:
    world = World(make(CountWindow, size=size, within=within))
    appended, at = [], 0.0
    for gap in gaps:
        at += gap
        world.append(at)
        appended.append(NOON + s(at))
    world.run(at + 10, step=0.5)
    cut = [each for _, _, part in world.windows for each in part]
    assert cut + world.free() == appended
    assert all(1 <= len(part) <= size for _, _, part in world.windows)
    assert len(world.free()) == (len(gaps) % size if within is None else 0)


# -- by fixed intervals


def test_intervals_are_aligned_and_half_open() -> None:
    world = World(make(FixedTimeWindow, interval=10, grace=0))
    world.append(3, 9.999999, 10, 19)
    world.run(25)
    assert world.seconds() == [(0, 10), (10, 20)]
    assert [len(part) for _, _, part in world.windows] == [2, 2], 'what is created at 10 belongs to [10, 20)'


def test_intervals_without_messages_are_emitted_too() -> None:
    world = World(make(FixedTimeWindow, interval=10, grace=0))
    world.cut()
    world.append(25)
    world.run(41)
    assert world.seconds() == [(0, 10), (10, 20), (20, 30), (30, 40)]
    assert [len(part) for _, _, part in world.windows] == [0, 0, 1, 0]


def test_unless_empty_ones_are_not_wanted() -> None:
    world = World(make(FixedTimeWindow, interval=10, grace=0, emit_empty=False))
    world.cut()
    world.append(25)
    world.run(41)
    assert world.seconds() == [(20, 30)]


@pytest.mark.parametrize(('grace', 'due'), [(0.0, 10.0), (3.0, 13.0), (None, 11.0)])
def test_an_interval_waits_for_late_inserts(grace: float | None, due: float) -> None:
    window = make(FixedTimeWindow, interval=10, grace=grace)
    view = {'last_read': NOON, 'oldest': NOON + s(3), 'count': 1}
    early = window.decide(View(now=NOON + s(due - 0.001), **view))
    assert early.orders == ()
    assert early.ask_at == NOON + s(due)
    order, = window.decide(View(now=NOON + s(due), **view)).orders
    assert (order.start, order.end, order.advance) == (NOON, NOON + s(10), NOON + s(10))


def test_what_is_later_still_gets_a_further_window_of_its_own_interval() -> None:
    world = World(make(FixedTimeWindow, interval=10, grace=1))
    world.messages = [(NOON + s(2), NOON + s(2)), (NOON + s(3), NOON + s(27))]
    world.run(35)
    assert world.seconds() == [(0, 10), (10, 20), (0, 10), (20, 30)]
    assert [len(part) for _, _, part in world.windows] == [1, 0, 1, 0]
    assert world.last_read == NOON + s(30), 'it does not go back'


def test_after_downtime_each_interval_comes_once_and_in_order() -> None:
    """Nobody cut for five intervals, while producers went on."""
    world = World(make(FixedTimeWindow, interval=10, grace=0))
    world.append(1)
    world.run(10)
    world.append(*(10.5 + n for n in range(50)))
    world.clock.advance(51)
    world.strategy = make(FixedTimeWindow, interval=10, grace=0)  # another process
    world.cut()
    assert world.seconds() == [(n, n + 10) for n in range(0, 60, 10)]
    assert [len(part) for _, _, part in world.windows] == [1] + [10] * 5


def test_a_stream_that_was_never_read_begins_with_its_oldest_message() -> None:
    world = World(make(FixedTimeWindow, interval=10, grace=0))
    world.append(-34)
    world.cut()
    assert world.seconds() == [(-40, -30), (-30, -20), (-20, -10), (-10, 0)]


@pytest.mark.parametrize('interval', [0.1, 0.3, 1 / 3, 7, 3600])
def test_intervals_meet_whatever_their_length(interval: float) -> None:
    window = make(FixedTimeWindow, interval=interval, grace=0)
    at, last = window.aligned(NOON), None
    for _ in range(50):
        order, = window.decide(View(now=NOON + s(100 * interval), last_read=at)).orders
        assert order.start == at
        assert last in (None, order.start)
        assert window.aligned(order.start) == order.start
        at = last = order.end


@settings(max_examples=60, deadline=None)
@given(interval=st.sampled_from([0.5, 1.0, 3.0, 10.0]), grace=st.sampled_from([0.0, 0.5, 2.0]),
       messages=st.lists(st.tuples(st.floats(0.001, 40), st.sampled_from([0.0, 0.1, 1.0, 15.0])), max_size=20))
def test_by_fixed_interval_every_message_is_once_in_its_own(
    interval: float, grace: float, messages: list[tuple[float, float]],
) -> None:
    visible = sorted({NOON + s(at): NOON + s(at + delay) for at, delay in messages}.items())
    world = World(make(FixedTimeWindow, interval=interval, grace=grace), visible)
    world.cut()
    world.run(80, step=0.5)
    assert sorted(each for _, _, part in world.windows for each in part) == [created for created, _ in visible]
    own = [(start, end) for start, end, part in world.windows]
    assert all(start <= each < end for start, end, part in world.windows for each in part)  # type: ignore[operator]
    on_time = [start for start, _ in dict.fromkeys(own)]
    assert on_time == sorted(on_time), 'each interval first comes in its turn'  # type: ignore[type-var]
    step = s(interval)
    assert all(b - a == step for a, b in pairwise(on_time))  # type: ignore[operator]


# -- by relaxed intervals


def test_all_there_is_every_so_many_seconds() -> None:
    world = World(make(RelaxedTimeWindow, interval=10))
    world.cut()
    world.append(1, 9, 11)
    world.run(30)
    assert [len(part) for _, _, part in world.windows] == [2, 1]
    assert world.seconds() == [(0, 10), (10, 20)]


def test_nothing_comes_too_late_for_the_next_one() -> None:
    world = World(make(RelaxedTimeWindow, interval=10), [(NOON + s(1), NOON + s(25))])
    world.cut()
    world.append(5)
    world.run(31)
    assert [len(part) for _, _, part in world.windows] == [1, 1]


@pytest.mark.parametrize('emit_empty', [None, False, True])
def test_nothing_is_no_window_unless_it_is_wanted(emit_empty: bool | None) -> None:
    world = World(make(RelaxedTimeWindow, interval=10, emit_empty=emit_empty))
    world.cut()
    world.run(35)
    assert len(world.windows) == (3 if emit_empty else 0)


def test_it_says_when_to_ask_again() -> None:
    window = make(RelaxedTimeWindow, interval=10)
    assert window.decide(View(now=NOON, last_read=NOON - s(3))).ask_at == NOON + s(7)
    assert window.decide(View(now=NOON, last_read=NOON - s(99))).ask_at == NOON + s(10), 'idle: no hurry'


@pytest.mark.parametrize('cls', [FixedTimeWindow, RelaxedTimeWindow])
@pytest.mark.parametrize('interval', [0, -1, 'a', None, True, float('inf'), float('nan')])
def test_an_interval_that_cannot_be(cls: type[Any], interval: Any) -> None:
    with pytest.raises(OptionError, match='interval'):
        make(cls, interval=interval)


@pytest.mark.parametrize('grace', [-1, 'a', True])
def test_a_grace_that_cannot_be(grace: Any) -> None:
    with pytest.raises(OptionError, match='grace'):
        make(FixedTimeWindow, interval=1, grace=grace)
