"""Whatever comes in whatever order, and whoever dies in between: exactly the windows of a few lines of reference."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minibatch.window.batching import CountShelf
from minibatch.window.event import Event
from minibatch.window.hopping import HoppingShelf
from minibatch.window.joining import JoiningShelf
from minibatch.window.session import SessionShelf
from minibatch.window.shelf import Mark
from minibatch.window.sliding import SlidingShelf
from minibatch.window.spans import Spans
from minibatch.window.tumbling import TumblingShelf
from tests.support.shelving import END, Cut, Shelved

# The same examples each time: a rare one that fails is found by running more of them (--hypothesis-profile), not by
# a test that fails now and then.
some = settings(max_examples=75, deadline=None, database=None, derandomize=True,
                suppress_health_check=list(HealthCheck))

SLOTS = (b'a', b'b')
#: What may happen, each with a number: how many windows are cut, and what a message looks like, is drawn from it.
steps = st.lists(st.tuples(st.sampled_from(('arrive',) * 8 + (
    'append', 'append', 'look', 'look-dies', 'cut', 'cut', 'cut-1', 'cut-before', 'cut-after', 'cut-half', 'restart')),
                           st.integers(0, 15), st.sampled_from(SLOTS), st.integers(0, 15)), min_size=25, max_size=60)
lengths = st.integers(1, 9)


def play(steps: Iterable[tuple[str, int, bytes, int]], world: Shelved, in_order: bool = False) -> Shelved:
    """Do *steps*, and then let time pass."""
    marks: list[tuple[int, Mark]] = []
    for number, (step, time, slot, bits) in enumerate(steps):
        if step in ('arrive', 'append'):
            # Neither times nor ids are in the order in which messages come.
            time, id_ = (number, number) if in_order else (number // 2 + time, number * 37 % 100)
            event = Event(time, b'%02d' % id_, time, slot, slot, size=1 + bits % 5, closes=bits % 7 == 3,
                          right=bits % 2 == 1)
            (world.arrive if step == 'arrive' else world.append)(event)
        elif step == 'restart':
            world.restart()
        elif step.startswith('look'):
            world.look(crash=step == 'look-dies')
        else:
            world.now = number
            world.cut(1 if step == 'cut-1' else 10, crash=step.partition('-')[2] if step[4:] != '1' else '')
        marks.append((world.watermark, world.progress))
    world.finish()
    assert marks == sorted(marks), 'watermark or progress went back'
    return world


def accounted(world: Shelved, *, stay: bool = False) -> None:
    """Each message was in a window or late, and none was both."""
    windowed, late = set(world.members), set(world.late)
    assert len(late) == len(world.late)
    assert not windowed & late
    assert windowed | late | (set(world.buffer) if stay else set()) == set(world.events)
    if not stay:
        assert not world.buffer
        assert len(world.shelf) == 0
        assert world.shelf.next_due() is None


def cut_from(windows: dict[tuple[int, int, bytes], list[Event]]) -> list[Cut]:
    return sorted((*where, tuple(event.id for event in events)) for where, events in windows.items())


# -- hopping


def hopping(events: Iterable[Event], length: int, step: int, offset: int, since: dict[bytes, Mark]) -> list[Cut]:
    """The reference: each message in each window that covers it and had not been cut when it came."""
    windows: dict[tuple[int, int, bytes], list[Event]] = defaultdict(list)
    for event in sorted(events):
        for number in range(-80, 80):
            start = number * step + offset
            if start <= event.time < start + length and (start + length, event.slot) > since[event.id]:
                windows[start, start + length, event.slot].append(event)
    return cut_from(windows)


@some
@given(steps, lengths, lengths, st.integers(0, 5), st.integers(0, 12))
def test_hopping(steps: Any, one: int, other: int, offset: int, lateness: int) -> None:
    length, step = max(one, other), min(one, other)
    world = play(steps, Shelved(partial(HoppingShelf, length, step, offset), lateness))
    assert world.windows == hopping(world.events.values(), length, step, offset, world.since)
    accounted(world)


@some
@given(steps, lengths, st.integers(0, 5), st.integers(0, 12))
def test_tumbling(steps: Any, length: int, offset: int, lateness: int) -> None:
    world = play(steps, Shelved(partial(TumblingShelf, Spans(length, offset)), lateness))
    assert world.windows == hopping(world.events.values(), length, length, offset, world.since)
    accounted(world)


# -- sliding


def sliding(events: Iterable[Event], length: int | None, size: int | None, since: dict[bytes, Mark]) -> list[Cut]:
    """The reference: at each message that came in time, those before it in time's order."""
    windows, ordered = [], sorted(events)
    for at, event in enumerate(ordered):
        mark = (event.time + 1, event.slot, event.id)
        near = [each for each in ordered[:at + 1] if each.slot == event.slot and mark > since[each.id]
                and (length is None or each.time > event.time - length)][-(size or 0):]
        if mark > since[event.id]:
            start = event.time - length + 1 if length else near[0].time
            windows.append((start, event.time + 1, event.slot, tuple(each.id for each in near)))
    return sorted(windows)


@some
@given(steps, lengths, st.integers(0, 12))
def test_sliding_by_time(steps: Any, length: int, lateness: int) -> None:
    world = play(steps, Shelved(partial(SlidingShelf, length), lateness))
    assert world.windows == sliding(world.events.values(), length, None, world.since)
    accounted(world)


@some
@given(steps, st.integers(1, 4), st.integers(0, 12))
def test_sliding_by_number(steps: Any, size: int, lateness: int) -> None:
    world = play(steps, Shelved(partial(SlidingShelf, None, size), lateness))
    assert world.windows == sliding(world.events.values(), None, size, world.since)
    accounted(world, stay=True)
    by_slot = [len([each for each in world.buffer.values() if each.slot == slot]) for slot in SLOTS]
    assert max(by_slot) <= size - 1, 'no more stays than the next message needs'


# -- sessions


def sessions(events: Iterable[Event], gap: int, most: int | None) -> list[Cut]:
    """The reference: a message that comes *gap* or more after the last, or *most* after the first, begins another."""
    windows: list[Cut] = []
    for slot, group in itertools.groupby(sorted(events, key=lambda each: (each.slot, each)), lambda each: each.slot):
        run: list[Event] = []
        for event in (*group, Event(END, b'')):
            if run and (event.time - run[-1].time >= gap or (most and event.time - run[0].time >= most)):
                end = min(run[-1].time + gap, run[0].time + most if most else END)
                windows.append((run[0].time, end, slot, tuple(each.id for each in run)))
                run = []
            run.append(event)
    return sorted(windows)


@some
@given(steps, lengths, st.one_of(st.none(), st.integers(0, 20)))
def test_sessions(steps: Any, gap: int, more: int | None) -> None:
    most = None if more is None else gap + more
    world = play(steps, Shelved(partial(SessionShelf, gap, most), 100))
    assert world.windows == sessions(world.events.values(), gap, most)
    assert not world.late
    accounted(world)


class Compared(Shelved):
    """Compares what is due with what the reference makes of the buffer, each time."""

    shelf: SessionShelf

    def cut(self, most: int = 10**9, crash: str = '') -> int:
        how = self.shelf.gap, self.shelf.most
        there, late = {self.buffer[each] for each in self.read if each in self.buffer}, set()
        for slot in SLOTS:  # those are late, from the first one on, whose session ends by the progress
            own = sorted(event for event in there if event.slot == slot)
            while own and self.progress and (sessions(own, *how)[0][1], slot) <= self.progress:
                late.add(own.pop(0))
        panes = list(self.shelf.due(self.watermark, 0))
        assert [event.id for pane in panes for event in pane.late] == [event.id for event in sorted(
            late, key=lambda event: (event.slot, event))]
        assert sorted((pane.start, pane.end, pane.slot, tuple(event.id for event in pane.events))
                      for pane in panes if pane.events) == [
            window for window in sessions(there - late, *how) if window[1] <= self.watermark]
        return super().cut(most, crash)


@some
@given(steps, lengths, st.one_of(st.none(), st.integers(0, 20)), st.integers(0, 15))
def test_sessions_with_late_messages(steps: Any, gap: int, more: int | None, lateness: int) -> None:
    most = None if more is None else gap + more
    world = play(steps, Compared(partial(SessionShelf, gap, most), lateness))
    assert len(world.members) == len(set(world.members)), 'a message in two sessions'
    accounted(world)


# -- joins


def joins(events: Iterable[Event], within: int, how: str, since: dict[bytes, Mark]) -> list[tuple[bytes, ...]]:
    """The reference: each left message that came in time, with what was there when its window was cut."""
    windows, ordered, matched = [], sorted(events), set()
    for left in ordered:
        mark = (left.time + within + 1, left.slot, 0, left.id)
        if not left.right and mark > since[left.id]:
            near = [each.id for each in ordered if each.right and each.slot == left.slot and mark > since[each.id]
                    and abs(each.time - left.time) <= within]
            matched.update(near)
            if near or how in ('left', 'outer'):
                windows.append((left.id, *near))
    alone = [(each.id,) for each in ordered if each.right and each.id not in matched
             and (each.time + 2 * within + 1, each.slot, 1, each.id) > since[each.id]]
    return sorted([*windows, *(alone if how in ('right', 'outer') else ())])


@some
@given(steps, lengths, st.sampled_from(('inner', 'left', 'right', 'outer')), st.integers(0, 12))
def test_joins(steps: Any, within: int, how: str, lateness: int) -> None:
    world = play(steps, Shelved(partial(JoiningShelf, within, how), lateness))
    assert sorted(members for *_, members in world.windows) == joins(world.events.values(), within, how, world.since)
    assert not world.buffer
    assert len(world.shelf) == 0
    if how == 'outer':
        accounted(world)


# -- batches


def batches(events: Iterable[Event], size: int | None, most: int | None, rest: bool) -> list[tuple[bytes, ...]]:
    """The reference: key by key, message by message."""
    found = []
    for _, group in itertools.groupby(sorted(events, key=lambda each: (each.slot, each)), lambda each: each.slot):
        run: list[Event] = []
        for event in group:
            if most and run and sum(each.size for each in run) + event.size > most:
                found.append(run)
                run = []
            run = [*run, event]
            if event.closes or len(run) == size or (most and sum(each.size for each in run) >= most):
                found.append(run)
                run = []
        if run and rest:
            found.append(run)
    return sorted(tuple(event.id for event in run) for run in found)


@some
@given(steps, st.one_of(st.none(), st.integers(1, 5)), st.one_of(st.none(), st.integers(1, 12)))
def test_batches(steps: Any, size: int | None, most: int | None) -> None:
    steps = [(step.replace('append', 'arrive'), *rest) for step, *rest in steps]
    world = play(steps, Shelved(partial(CountShelf, size, most), 0), in_order=True)
    assert sorted(members for *_, members in world.windows) == batches(world.events.values(), size, most, rest=False)
    assert not world.late


@some
@given(steps, st.one_of(st.none(), st.integers(1, 5)), st.one_of(st.none(), st.integers(1, 12)), st.integers(1, 12))
def test_batches_that_cannot_wait(steps: Any, size: int | None, most: int | None, within: int) -> None:
    world = play(steps, Shelved(partial(CountShelf, size, most, within), 0))
    assert len(world.members) == len(set(world.members)), 'a message in two batches'
    accounted(world)
    for *_, members in world.windows:
        events = [world.events[each] for each in members]
        assert len(events) <= (size or END)
        assert len(events) == 1 or sum(event.size for event in events) <= (most or END)
        assert not any(event.closes for event in events[:-1])


# -- single rules


def test_a_message_that_is_read_twice_is_there_once() -> None:
    for shelf in (HoppingShelf(10, 5), SessionShelf(10), SlidingShelf(10), JoiningShelf(10), CountShelf(5, within=1)):
        for _ in range(2):
            for time in (1, 4, 2):
                assert shelf.add(Event(time, b'%d' % time))
        first = next(pane for pane in shelf.due(END, END))
        assert len(first.events) == len(set(first.events))


def test_one_late_message_does_not_make_others_late() -> None:
    shelf = SessionShelf(5, 10, progress=(19, b''))
    for time in (11, 14, 18, 8):  # with 8, a session of [8, 18) would be over
        assert shelf.add(Event(time, b'%02d' % time))
    late, session = shelf.due(100, 0)
    assert [event.time for event in late.late] == [8]
    assert (session.start, session.end, len(session.events)) == (11, 21, 3)
