"""Windowed tables: one value for each key and window of time, as a table has one for each key.

The values are in a plain table whose keys are pairs of a window's start and the user's key. So one window's keys lie
side by side, and the oldest windows come first.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from minibatch.clock import SECOND, micros, moment
from minibatch.errors import OptionError, TableError
from minibatch.tables import moments
from minibatch.tables.moments import Spans, spans
from minibatch.window.event import dotted

if TYPE_CHECKING:
    from minibatch.table import Table

#: What a windowed table calls when a key's window is over: with key, value, start and end of the window.
OnClose = Callable[[Any, Any, datetime, datetime], Any]

#: Those of this process whose windows expire; a consumer of this process closes them.
expiring: weakref.WeakSet[WindowedTable] = weakref.WeakSet()


class WindowedTable:
    """A table with a value for each key and window; made by :meth:`Table.tumbling` and :meth:`Table.hopping`.

    ``table[key] += 1`` changes all windows that the current message's time is in. That is the message which the window
    function is at while it iterates over its window (``for message in window``); where it does not iterate, the time
    is that of the window's end; outside of a window function it is now. ``table[key]`` reads: see :class:`AtKey`.

    :ivar name: of the plain table that holds the values, under pairs of window start and key
    """

    def __init__(self, table: Table, size: float, step: float, expires: float | None = None,
                 on_window_close: OnClose | None = None, relative: str = 'stream', field: str = '') -> None:
        self.spans: Spans = spans(size, step)
        if expires is None and on_window_close is not None:
            expires = 0
        if expires is not None and (isinstance(expires, bool) or not isinstance(expires, (int, float))
                                    or not 0 <= expires < 1e10):
            raise OptionError(f'expires must be a number of seconds after the end of a window, not {expires!r}')
        if on_window_close is not None and not callable(on_window_close):
            raise OptionError(f'on_window_close must be a function, not {on_window_close!r}')
        self._given = table, size, step, expires, on_window_close
        self._relative, self._field = relative, field
        self._find = dotted(field, option='relative_to_field') if relative == 'field' else None
        self.expires = None if expires is None else round(expires * SECOND)
        self.on_window_close = on_window_close
        self.name = f'{table.name}@{size:g}' if step == size else f'{table.name}@{size:g}/{step:g}'
        self.rows = table.sister(self.name, changelog=table.changelog is not None)
        self.marks = table.sister(f'{self.name}:marks')
        if self.expires is not None:
            expiring.add(self)

    def __repr__(self) -> str:
        return f'<windowed table {self.name!r}>'

    def __reduce__(self) -> tuple[Any, ...]:
        table, size, step, expires, _ = self._given
        # Windows are closed by the consumer and not by its workers, so the function can stay here.
        keep = None if expires is None else float(expires)
        return WindowedTable, (table, size, step, keep, None, self._relative, self._field)

    @property
    def url(self) -> str | None:
        """Its database, if it is known."""
        return self.rows.place.url

    # -- what the time is

    def relative_to_now(self) -> WindowedTable:
        """The same table, for which the time is that of the clock (of the database's server)."""
        return self._relative_to('now')

    def relative_to_stream(self) -> WindowedTable:
        """The same table, for which the time is the current message's, which is the default.

        Outside of a window function it is the latest that any message had.
        """
        return self._relative_to('stream')

    def relative_to_field(self, field: str) -> WindowedTable:
        """The same table, for which the time is in a field of the messages.

        :param field: a name, or a dotted path; the field has a datetime, seconds since the epoch, or ISO 8601
        """
        return self._relative_to('field', field)

    def _relative_to(self, relative: str, field: str = '') -> WindowedTable:
        made = WindowedTable(*self._given, relative=relative, field=field)
        if made._given[4] is not None or made.expires is not None:
            expiring.discard(made)  # its windows are this one's
            made._first = self
        return made

    _first: Any = None

    def time(self) -> int:
        """The time that it is for this table now, in microseconds since the epoch."""
        inside = self.rows.place.run()
        if self._relative == 'now':
            return self.clock()
        if inside is not None:
            return moments.of_message(inside, self._find, self._field)
        return self.latest()

    def clock(self) -> int:
        """The time of the database's server."""
        return micros(self.rows.place.store.clock.now())

    def message(self) -> int:
        """The time of the message that the window function is at.

        :raises TableError: this is no window function
        """
        inside = self.rows.place.run()
        if inside is None:
            raise TableError(f'current() of {self.name!r} is the window of the message that a window function is at, '
                             'and this is none; use value() or now()')
        return moments.of_message(inside, self._find, self._field)

    def latest(self) -> int:
        """The latest time that any message had; now, if there was none."""
        mark = self.rows.place.store.table_time(self.name)
        return self.clock() if mark is None else int(mark['latest'])

    # -- writing

    def __getitem__(self, key: Any) -> AtKey:
        return AtKey(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, AtKey):
            if value.table.name == self.name:
                return  # table[key] += 1 has been done
            value = value.value()
        for start in self.open_around(self._writing()):
            self.rows[(moment(start), key)] = value

    def add(self, key: Any, n: float = 1) -> None:
        """Add *n* in all windows of the current message's time, without looking: see :meth:`Table.add`."""
        for start in self.open_around(self._writing()):
            self.rows.add((moment(start), key), n)

    def change(self, key: Any, function: Callable[[Any], Any]) -> None:
        """Set the value to what *function* makes of it, in all windows of the current message's time."""
        for start in self.open_around(self._writing()):
            self.rows.change((moment(start), key), function)

    def _writing(self) -> int:
        """The time at which to write; the table's latest time is at least that from then on."""
        inside = self.rows.place.run()
        if inside is None:
            now = self.clock()
            self.rows.place.store.table_seen({self.name: (now, now)}, None)
            return now
        time = self.time()
        inside.mark(self.name, time, moments.appended(inside))
        return time

    def open_around(self, time: int) -> list[int]:
        """The starts of the windows around *time* that are not over for good; the others' messages are late."""
        starts = self.spans.around(time)
        if self.expires is None:
            return starts
        closed = self.marks.get('closed', micros(datetime.min))
        late = [start for start in starts if start + self.spans.size <= closed]
        if late:
            self.marks.add('late', len(late))
        return starts[:len(starts) - len(late)]

    # -- reading

    @property
    def late(self) -> int:
        """How many changes were not made, since they came after their window had been closed."""
        return int(self.marks.get('late', 0))

    def at(self, key: Any, time: int) -> Any:
        """The value of *key* in the latest window that *time* is in; the table's default if there is none."""
        return self.rows[(moment(self.spans.latest(time)), key)]

    def __contains__(self, key: Any) -> bool:
        return (moment(self.spans.latest(self.time())), key) in self.rows

    def __iter__(self) -> Iterator[Any]:
        return self.keys()

    def keys(self, ago: float = 0.0) -> Iterator[Any]:
        """The keys in the window that :meth:`AtKey.value` reads; see :meth:`items`."""
        return (key for key, _ in self.items(ago))

    def values(self, ago: float = 0.0) -> Iterator[Any]:
        """The values in the window that :meth:`AtKey.value` reads; see :meth:`items`."""
        return (value for _, value in self.items(ago))

    def items(self, ago: float = 0.0) -> Iterator[tuple[Any, Any]]:
        """Keys and values in the window that :meth:`AtKey.value` reads; or in the one *ago* seconds before."""
        start = moment(self.spans.latest(self.time() - round(ago * SECOND)))
        return ((key, value) for (_, key), value in self.rows.items(prefix=(start,)))

    def windows(self) -> Iterator[tuple[datetime, Any, Any]]:
        """All there is, the oldest first: start of the window, key and value."""
        return ((start, key, value) for (start, key), value in self.rows.items())

    def clear(self) -> None:
        """Remove all keys in all windows, and what is known about which of them are over."""
        self.rows.clear()
        self.marks.clear()
        if self.rows.place.run() is None:
            self.rows.place.store.forget_time(self.name)

    def close_expired(self) -> int:
        """Close the windows that have expired, as a consumer does by itself twice a second; how many keys they had."""
        from minibatch.tables.closing import close_expired
        return close_expired(self)


class AtKey:
    """The values of one key of a windowed table: ``table[key]``.

    Each method reads the latest of the windows that a time is in (there are several of hopping ones), and gives the
    table's default where there is no value.
    """

    def __init__(self, table: WindowedTable, key: Any) -> None:
        self.table = table
        self.key = key

    def __repr__(self) -> str:
        return f'<{self.table!r} at {self.key!r}>'

    def now(self) -> Any:
        """The value in the window that is now, by the clock."""
        return self.table.at(self.key, self.table.clock())

    def current(self) -> Any:
        """The value in the window of the message that the window function is at."""
        return self.table.at(self.key, self.table.message())

    def value(self) -> Any:
        """The value in the window of what the time is for the table: see its ``relative_to_...``."""
        return self.table.at(self.key, self.table.time())

    def delta(self, seconds: float) -> Any:
        """The value in the window so many seconds before that of :meth:`value`."""
        return self.table.at(self.key, self.table.time() - round(seconds * SECOND))

    def add(self, n: float = 1) -> None:
        """As :meth:`WindowedTable.add`."""
        self.table.add(self.key, n)

    def __iadd__(self, other: Any) -> AtKey:
        return self._done(operator.add, other)

    def __isub__(self, other: Any) -> AtKey:
        return self._done(operator.sub, other)

    def __imul__(self, other: Any) -> AtKey:
        return self._done(operator.mul, other)

    def _done(self, function: Callable[[Any, Any], Any], other: Any) -> AtKey:
        self.table.change(self.key, lambda value: function(value, other))
        return self
