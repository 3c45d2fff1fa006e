"""Event time by itself: times, keys, intervals, watermarks and open windows. No database, no clock but the test's."""

from __future__ import annotations

import itertools
from collections import defaultdict
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from hypothesis import given, settings
from hypothesis import strategies as st

from minibatch.clock import LAST, SECOND, micros, moment
from minibatch.errors import OptionError
from minibatch.models import Stream
from minibatch.window import CountWindow, FixedTimeWindow, RelaxedTimeWindow
from minibatch.window.event import Event, Unplaceable, dotted, finder, name_of, slot_of, span_name, time_of
from minibatch.window.placing import placing
from minibatch.window.spans import DAY, LocalSpans, Spans
from minibatch.window.ticks import TickShelf
from minibatch.window.tracks import Tracks
from minibatch.window.tumbling import TumblingShelf
from minibatch.window.watermark import ClockMark, Watermark

NOON = datetime(2026, 1, 1, 12)
AT_NOON = micros(NOON)


def event(time: int, number: int = 0, key: Any = None, created: int = 0) -> Event:
    return Event(time, b'%012d' % number, created, key, slot_of(key) if key is not None else b'')


# -- times and keys


@pytest.mark.parametrize('value', [
    NOON, NOON.replace(tzinfo=timezone.utc), NOON.replace(hour=14, tzinfo=timezone(timedelta(hours=2))),
    1767268800, 1767268800.0, '2026-01-01T12:00:00Z', '2026-01-01 12:00', ' 2026-01-01T14:00:00+02:00 ',
    Decimal(1767268800), np.int64(1767268800), np.float64(1767268800), np.datetime64('2026-01-01T12:00:00'),
    pd.Timestamp('2026-01-01 12:00'), pd.Timestamp('2026-01-01 13:00', tz='Europe/Zurich'),
    DatetimeMS(1767268800000),
], ids=repr)
def test_a_time_may_be_given_in_many_ways(value: Any) -> None:
    assert time_of(value) == AT_NOON


def test_a_time_is_exact_to_the_microsecond() -> None:
    assert time_of(1767268800.123457) == AT_NOON + 123_457
    assert time_of(-0.25) == -250_000
    assert time_of('2026-01-01T12:00:00.000001') == AT_NOON + 1
    assert time_of(date(2026, 1, 1)) == AT_NOON - 12 * 3600 * SECOND
    assert moment(AT_NOON + 1) == NOON.replace(microsecond=1)


@pytest.mark.parametrize('value', [None, True, 'soon', '', float('nan'), float('inf'), 1e18, [], {}, pd.NaT,
                                   np.datetime64('NaT'), Decimal('NaN'), DatetimeMS(LAST // 1000 + 1), object],
                         ids=repr)
def test_what_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match='is no time'):
        time_of(value)


@pytest.mark.parametrize('key', ['ann', '', 1, -1, 0.5, None, True, b'x', NOON, ('a', 1), ['a', ['b']], {'a': 1},
                                 ObjectId('65f0000000000000000000aa'), 2 ** 62], ids=repr)
def test_a_key_has_bytes_of_its_own(key: Any) -> None:
    others = ['bob', '1', 2, 0.25, False, b's', ('a', '1'), ('a1',), {'a': 2}, [['a'], 'b'], -2]
    assert slot_of(key) == slot_of(key)
    assert slot_of(key) not in {slot_of(each) for each in others}


def test_equal_keys_have_equal_bytes() -> None:
    assert slot_of(1) == slot_of(1.0)
    assert slot_of((1, 'a')) == slot_of([1, 'a'])
    assert slot_of({'a': 1, 'b': 2}) == slot_of({'b': 2, 'a': 1})


@pytest.mark.parametrize('key', [object, {1, 2}, 2 ** 64, '\ud800', {1: 2}, [object]], ids=repr)
def test_what_cannot_be_a_key_is_refused(key: Any) -> None:
    with pytest.raises(Unplaceable, match='key'):
        slot_of(key)


@given(st.lists(st.one_of(st.text(), st.integers(), st.none(), st.booleans()).filter(
    lambda key: not (isinstance(key, str) and not key.isascii())), unique_by=lambda key: (type(key), key)))
def test_different_keys_have_different_names(keys: list[Any]) -> None:
    keys = [key for key in keys if not isinstance(key, int) or abs(key) < 2 ** 63]
    assert len({name_of(key, slot_of(key)) for key in keys}) == len(keys)


def test_a_path_finds_what_is_there_and_says_what_is_not() -> None:
    assert dotted('user.tags.1')({'user': {'tags': ['a', 'b']}}) == 'b'
    assert finder(['a', lambda message: message['b'] * 2], 'key')({'a': 1, 'b': 2}) == (1, 4)
    for path, message in (('ts', {}), ('a.b', {'a': 1}), ('a.b', {'a': None}), ('a.x', {'a': [1]}), ('a.5', {'a': []})):
        with pytest.raises(Unplaceable, match=f"no field '{path}'"):
            dotted(path)(message)
    for path in ('', 'a.', '.a', 'a..b'):
        with pytest.raises(OptionError):
            dotted(path)
    with pytest.raises(OptionError, match='key'):
        finder(5, 'key')


# -- intervals


@given(st.integers(1, 10 ** 15), st.integers(-10 ** 15, 10 ** 15), st.integers(-10 ** 17, 10 ** 17))
def test_each_time_is_in_one_interval(length: int, offset: int, time: int) -> None:
    start, end = Spans(length, offset).of(time)
    assert start <= time < end == start + length
    assert (start - offset) % length == 0
    assert Spans(length, offset).of(start) == (start, end) == Spans(length, offset).of(end - 1)


@settings(max_examples=200)
@given(st.sampled_from(['Europe/Zurich', 'America/New_York', 'America/Sao_Paulo', 'Pacific/Apia', 'Asia/Beirut',
                        'Australia/Lord_Howe', 'Atlantic/Azores', 'UTC']),
       st.integers(micros(datetime(1975, 1, 1)), micros(datetime(2035, 1, 1))), st.sampled_from([1, 7]))
def test_days_of_a_place_follow_each_other(zone: str, time: int, days: int) -> None:
    spans = LocalSpans(days * DAY, 0, ZoneInfo(zone))
    start, end = spans.of(time)
    assert start <= time < end
    fresh = LocalSpans(days * DAY, 0, ZoneInfo(zone))
    assert fresh.of(end - 1) == (start, end) == fresh.of(start)
    assert fresh.of(end)[0] == end
    assert days * 24 - 25 <= (end - start) / 3_600_000_000 <= days * 24 + 25


def test_a_day_may_have_23_or_25_hours() -> None:
    zurich = LocalSpans(DAY, 0, ZoneInfo('Europe/Zurich'))
    hours = [(end - start) // 3_600_000_000 for start, end in (
        zurich.of(micros(datetime(2026, month, day, 12))) for month, day in ((3, 28), (3, 29), (10, 25), (10, 26)))]
    assert hours == [24, 23, 25, 24]
    assert moment(zurich.of(AT_NOON)[0]) == datetime(2025, 12, 31, 23)


# -- watermarks


def test_time_passes_when_everything_is_read() -> None:
    mark = Watermark(lateness=10, idle=2)
    assert mark.move(1000) < 0, 'without a message nothing is known'
    mark.see(100, created=1000)
    assert [mark.move(now) for now in (None, 1000, 1002, 1007, None, 1001)] == [90, 90, 90, 95, 95, 95]
    assert mark.reached_at(95) == 1007


def test_a_watermark_recovers_from_a_clock_that_was_ahead() -> None:
    mark = Watermark()
    mark.see(100, created=100)
    mark.see(900, created=110)
    assert mark.move(110) == 900
    mark.see(905, created=905)
    assert mark.move(910) == 910


def test_idle_none_waits_for_messages() -> None:
    mark = Watermark(idle=None)
    mark.see(100, created=100)
    assert (mark.move(10_000), mark.reached_at(101)) == (100, None)


def test_append_time_passes_by_itself() -> None:
    mark = ClockMark(idle=2)
    assert mark.move(100) == 98
    mark.see(50, 50)
    assert (mark.move(None), mark.move(110), mark.reached_at(120)) == (98, 108, 122)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100), st.booleans(), st.booleans()), max_size=30),
       st.integers(0, 20), st.none() | st.integers(0, 5))
def test_a_watermark_never_goes_back_nor_does_a_restart_lose_it(
        steps: list[tuple[int, int, bool, bool]], lateness: int, idle: int | None) -> None:
    mark, now, last, top = Watermark(lateness, idle), 0, None, None
    for time, passed, whole, restart in steps:
        now += passed
        if restart:
            mark = Watermark(lateness, idle, mark.document())
        mark.see(time, now)
        top = time if top is None else max(top, time)
        base = mark.move(now if whole else None)
        assert last is None or base >= last
        assert base >= top - lateness
        last = base


# -- open windows


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(-50, 50), st.sampled_from('abc'), st.integers(0, 30), st.booleans()),
                max_size=60),
       st.integers(1, 20), st.integers(-5, 5), st.integers(0, 15))
def test_tumbling_windows_are_those_of_the_sorted_messages(
        steps: list[tuple[int, str, int, bool]], length: int, offset: int, lateness: int) -> None:
    """Whatever is cut when, and whoever begins again with what is left: each window once, its messages in order."""
    spans = Spans(length, offset)
    shelf, mark = TumblingShelf(spans), Watermark(lateness, None)
    kept: list[Event] = []
    late: list[Event] = []
    cut: dict[tuple[int, str], list[Event]] = {}

    def close(until: int, most: int) -> None:
        for pane in list(itertools.islice(shelf.due(until, 0), most)):
            shelf.close(pane)
            assert (pane.start, pane.key) not in cut, 'a window comes once'
            assert list(pane.events) == sorted(pane.events)
            cut[pane.start, pane.key] = list(pane.events)
            for each in pane.gone:
                kept.remove(each)

    for number, (time, key, most, restart) in enumerate(steps):
        if restart:
            shelf = TumblingShelf(spans, shelf.progress)
            assert all(shelf.add(each) for each in kept), 'what was not late is not late for whoever comes next'
        came = event(time, number, key)
        (kept if shelf.add(came) else late).append(came)
        mark.see(time, 0)
        close(mark.move(None), most)
    close(1000, 1000)
    wanted = defaultdict(list)
    for number, (time, key, _, _) in enumerate(steps):
        if event(time, number, key) not in late:
            wanted[spans.of(time)[0], key].append(event(time, number, key))
    assert cut == {window: sorted(events) for window, events in wanted.items()}
    assert not kept
    assert len(shelf) == 0


def test_empty_intervals_between_messages() -> None:
    shelf = TumblingShelf(Spans(10), empty=True)
    shelf.add(event(5))
    shelf.add(event(42, 1))
    seen = []
    while True:
        pane = next(shelf.due(65, 0), None)
        if pane is None:
            break
        shelf.close(pane)
        seen.append((pane.start, len(pane.events)))
    assert seen == [(0, 1), (10, 0), (20, 0), (30, 0), (40, 1), (50, 0)]
    assert shelf.next_due() == 70


def test_early_panes_are_those_that_have_grown() -> None:
    shelf = TumblingShelf(Spans(10))
    shelf.add(event(5))
    pane, = shelf.early()
    assert (pane.final, pane.gone, pane.name) == (False, (), span_name(0))
    shelf.close(pane)
    assert list(shelf.early()) == []
    shelf.add(event(6, 1))
    assert [len(pane.events) for pane in shelf.early()] == [2]
    final, = shelf.due(10, 0)
    assert (final.final, final.name, len(final.events)) == (True, pane.name, 2)


def test_ticks_take_what_has_come() -> None:
    shelf = TickShelf(10)
    shelf.add(event(5, 1, 'a', created=5))
    shelf.add(event(6, 2, 'b', created=6))
    assert (shelf.next_deadline(), list(shelf.due(0, 14))) == (15, [])
    first, second = shelf.due(0, 17)
    assert [(pane.start, pane.end, pane.key) for pane in (first, second)] == [(5, 17, 'a'), (5, 17, 'b')]
    shelf.close(first)
    shelf.add(event(18, 3, 'a', created=18))
    assert list(shelf.due(0, 18)) == [second], 'what was over is cut as it was'
    shelf.close(second)
    assert (shelf.next_deadline(), list(shelf.due(0, 26))) == (27, [])
    again = TickShelf(10, (17, b'sb'))  # whoever leads next
    again.add(event(18, 3, 'a', created=18))
    assert [(pane.start, pane.end) for pane in again.due(0, 27)] == [(17, 27)]


def test_a_key_may_have_a_watermark_of_its_own() -> None:
    place = placing(lambda progress: TumblingShelf(Spans(10), progress), {}, time='ts', key='k', watermark='key',
                    idle=0)
    tracks = Tracks(place)
    for each in (event(5, 1, 'slow', created=100), event(5, 2, 'fast', created=100), event(95, 3, 'fast', created=100)):
        assert tracks.of(each.slot).shelf.add(each)
        tracks.see([each])
    tracks.move(100, whole=False, touched=[slot_of('slow'), slot_of('fast')])
    (track, pane), = tracks.due()
    assert (pane.key, pane.start) == ('fast', 0)
    tracks.close(track, pane)
    assert list(tracks.due()) == []
    tracks.move(104, whole=True)
    assert list(tracks.due()) == []
    assert tracks.next_time() == 105
    tracks.move(105, whole=True)
    assert sorted((pane.key, pane.start) for _, pane in tracks.due()) == [('fast', 90), ('slow', 0)]


# -- options


def make(cls: type[Any], **options: Any) -> Any:
    return cls(Stream(name='clicks'), **options)


@pytest.mark.parametrize(('cls', 'options', 'says'), [
    (FixedTimeWindow, {'interval': 10, 'time': 5}, 'time must be'),
    (FixedTimeWindow, {'interval': 10, 'time': ['a']}, 'time must be'),
    (FixedTimeWindow, {'interval': 10, 'time': 'ts', 'key': 5}, 'key must be'),
    (FixedTimeWindow, {'interval': 10, 'time': 'ts', 'lateness': -1}, 'lateness'),
    (FixedTimeWindow, {'interval': 10, 'time': 'ts', 'lateness': '5'}, 'lateness'),
    (FixedTimeWindow, {'interval': 10, 'time': 'ts', 'late': 'never'}, 'late must be'),
    (FixedTimeWindow, {'interval': 10, 'time': 'ts', 'watermark': 'key'}, 'key='),
    (FixedTimeWindow, {'interval': 10, 'time': 'ts', 'watermark': 'all'}, 'watermark'),
    (FixedTimeWindow, {'interval': 10, 'time': 'ts', 'grace': 1}, 'grace='),
    (FixedTimeWindow, {'interval': 10, 'time': 'ts', 'timezone': 'Europe/Zurich'}, 'whole days'),
    (FixedTimeWindow, {'interval': 86400, 'time': 'ts', 'timezone': 'Zurich'}, 'time zone'),
    (FixedTimeWindow, {'interval': 10, 'time': 'ts', 'early': 0}, 'early'),
    (FixedTimeWindow, {'interval': 10, 'lateness': 5}, 'time='),
    (FixedTimeWindow, {'interval': 10, 'key': 'k', 'late': 'drop'}, 'time='),
    (FixedTimeWindow, {'interval': 10, 'max_ahead': 5}, 'time='),
    (FixedTimeWindow, {'interval': 10, 'key': 'k', 'emit_empty': True}, 'emit_empty'),
    (RelaxedTimeWindow, {'interval': 10, 'key': 'k', 'emit_empty': True}, 'emit_empty'),
    (CountWindow, {'key': 'k'}, 'size'),
    (CountWindow, {'when': 5}, 'when'),
    (CountWindow, {'bytes': 0}, 'bytes'),
], ids=lambda value: ','.join(value) if isinstance(value, dict) else '')
def test_options_that_do_not_go_together_are_refused(cls: type[Any], options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        make(cls, **options)
