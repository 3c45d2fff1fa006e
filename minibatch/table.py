"""Tables: dicts that are persisted in MongoDB, and that change together with windows.

Used by itself a table is a durable dict that any number of programs share. Touched inside a window function, what is
read must be so still when the window commits, and what is written is written in the same transaction. So state and
progress never disagree, whatever dies in between; see ``docs/tables.md``.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from minibatch.convert import Converter
from minibatch.errors import OptionError, TableError
from minibatch.models import check_name
from minibatch.refused import Refused
from minibatch.scope import Entry, Id, Write, plus
from minibatch.store import keys
from minibatch.tables.changelog import Changelog
from minibatch.tables.inplace import InPlace, plain, remembering
from minibatch.tables.place import Place
from minibatch.tables.windowed import OnClose, WindowedTable

_NOTHING: Any = object()
#: What is stored as it is.
_PLAIN, _BIG = frozenset({float, bool, type(None)}), 1 << 63


def table(name: str, default: Any = None, *, url: str | None = None, ttl: float | None = None,
          changelog: bool = False) -> Table:
    """Get a table, a dict that is kept in MongoDB; it is there as soon as a key is set.

    :param name: 1 to 120 characters; whoever uses the same name in the same database has the same table
    :param default: what a key that is not there has for its value: a function without arguments such as ``int``, or
        the value itself (default: :class:`KeyError`, as a dict does)
    :param url: its database (default: the one of the stream whose window function uses it; else as
        :func:`minibatch.connectdb` finds it)
    :param ttl: seconds after which a key is gone that was not written again (default: never)
    :param changelog: note each change, in the transaction that makes it: see :class:`~minibatch.tables.Changelog`
    :raises minibatch.errors.OptionError: the name, or an option, cannot be

    >>> clicks = table('docs-clicks', default=int)
    >>> clicks['ann'] += 1
    >>> clicks['ann'], clicks['bob'], dict(clicks)
    (1, 0, {'ann': 1})
    >>> clicks.clear()
    """
    return Table(name, default, url=url, ttl=ttl, changelog=changelog)


class Table:
    """A dict persisted in MongoDB; see :func:`minibatch.table` for how to get one.

    Keys are str, int, float, bool, None, datetime, and tuples of these; they come back in order. Values are what a
    message may have for a field. A value that was read is a copy: ``table[key].append(1)`` changes nothing, while
    ``table[key] += [1]`` does.

    :ivar name: its name
    :ivar changelog: its changes, if it keeps them
    :ivar place: where its keys are
    """

    def __init__(self, name: str, default: Any = None, *, url: str | None = None, ttl: float | None = None,
                 changelog: bool = False) -> None:
        check_name(name)
        if ttl is not None and (isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0 < ttl < 1e10):
            raise OptionError(f'ttl must be a number of seconds, more than 0, not {ttl!r}')
        self.name = name
        self.ttl = ttl
        self._default = default
        self.place = Place(name, url)
        self.changelog = Changelog(self) if changelog else None
        if default is not None and not callable(default):
            self._stored(default)

    def __repr__(self) -> str:
        return f'<table {self.name!r}>'

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.name, self._default, self.place.url, self.ttl, self.changelog is not None)

    # -- a dict

    def __getitem__(self, key: Any) -> Any:
        each = self._id(key)
        entry = self.place.look(each)
        value = self._missing(key) if entry.version is None else _copy(entry.value)
        return value if self.place.run() else remembering(value, (self.name, each, entry.version))

    def __setitem__(self, key: Any, value: Any) -> None:
        each = self._id(key)
        if isinstance(value, InPlace):
            name, of, version = value.origin
            if value.steps and (name, of) == (self.name, each) and self.place.run() is None:
                self._redo(key, each, version, value)
                return
        self.place.write([(each, self._set(value))])

    def __delitem__(self, key: Any) -> None:
        each = self._id(key)
        if self.place.look(each).version is None:
            raise KeyError(key)
        self.place.write([(each, self._deletion())])

    def __contains__(self, key: Any) -> bool:
        return self.place.look(self._id(key)).version is not None

    def __iter__(self) -> Iterator[Any]:
        return (key for key, _ in self._scan())

    def __len__(self) -> int:
        return self.place.count()

    def __bool__(self) -> bool:
        return True  # a table that is empty is a table, wherever one is optional

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of *key*, or *default* if it is not there."""
        entry = self.place.look(self._id(key))
        return default if entry.version is None else _copy(entry.value)

    def keys(self, prefix: Any = None) -> Iterator[Any]:
        """The keys, in order.

        :param prefix: only those that begin with it: a str, or a tuple of which they have all members first
        """
        return (key for key, _ in self._scan(prefix))

    def values(self, prefix: Any = None) -> Iterator[Any]:
        """The values, in the order of their keys."""
        return (value for _, value in self._scan(prefix))

    def items(self, prefix: Any = None) -> Iterator[tuple[Any, Any]]:
        """Keys and values, in the order of the keys.

        >>> seen = table('docs-items')
        >>> seen.update({('ann', 1): 'x', ('ann', 2): 'y', ('bob', 1): 'z'})
        >>> list(seen.items(prefix=('ann',)))
        [(('ann', 1), 'x'), (('ann', 2), 'y')]
        >>> seen.clear()
        """
        return self._scan(prefix)

    def update(self, other: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **more: Any) -> None:
        """Set many keys. In a window function all of them are set or none; elsewhere one after the other, in bulk."""
        pairs = list(other.items() if isinstance(other, Mapping) else other) + list(more.items())
        self.place.write([(self._id(key), self._set(value)) for key, value in pairs])

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """The value of *key*, which is set to *default* if it is not there."""
        return self._change(key, lambda entry: _NOTHING if entry.version is not None else default)

    def pop(self, key: Any, default: Any = _NOTHING) -> Any:
        """Remove *key*; its value, or *default* if it is not there.

        :raises KeyError: it is not there, and no default is given
        """
        each = self._id(key)
        while True:
            entry = self.place.look(each)
            if entry.version is None:
                if default is _NOTHING:
                    raise KeyError(key)
                return default
            if self.place.write_if(each, entry.version, self._deletion()):
                return _copy(entry.value)

    def popitem(self) -> tuple[Any, Any]:
        """Remove the first key; it and its value.

        :raises KeyError: the table is empty
        """
        for key, _ in self._scan():
            return key, self.pop(key)
        raise KeyError(f'table {self.name!r} is empty')

    def clear(self) -> None:
        """Remove all keys."""
        self.place.clear(log=self.changelog is not None)

    # -- more than a dict

    def add(self, key: Any, n: float = 1) -> None:
        """Add *n* to the value of *key* without looking at it: atomic, and never in the way of others who add.

        In a window function this is what counters should use that many windows change at the same time: it needs no
        run again. Where the key is not there, *n* is added to the default, or to 0.

        :raises minibatch.errors.TableError: *n*, or what is there, is no number; nothing was written

        >>> total = table('docs-total')
        >>> total.add('ann', 2)
        >>> total.add('ann', 0.5)
        >>> total['ann']
        2.5
        >>> total.clear()
        """
        each = self._id(key)
        start = self._made() if self._default is not None else 0
        self.place.write([
            (each, Write('add', plus(0, self._stored(n)), start, self.ttl, log=self.changelog is not None))])

    def change(self, key: Any, function: Callable[[Any], Any]) -> Any:
        """Set *key* to what *function* makes of its value, as one step: if another was faster, it is called again.

        :param function: gets the value, or the default; without one, :class:`KeyError` is raised for a missing key
        :return: the new value

        >>> last = table('docs-change', default=list)
        >>> last.change('ann', lambda values: [*values, 7][-3:])
        [7]
        >>> last.clear()
        """
        return self._change(key, lambda entry: function(
            self._missing(key) if entry.version is None else _copy(entry.value)))

    def get_many(self, wanted: Iterable[Any]) -> dict[Any, Any]:
        """Those of the keys that are there, with their values: one request to the database for all of them.

        In a window function it also makes later reads of these keys quick.
        """
        ids = {self._id(key): key for key in wanted}
        found = self.place.look_many(ids)
        return {key: _copy(found[each].value) for each, key in ids.items() if found[each].version is not None}

    # -- windows of time

    def tumbling(self, size: float, *, expires: float | None = None,
                 on_window_close: OnClose | None = None) -> WindowedTable:
        """A table with a value for each key and window of *size* seconds; windows lie end to end.

        :param size: seconds; windows begin at multiples of it since 1970, in UTC
        :param expires: seconds that a window is kept after its end (default: for ever; 0 with *on_window_close*)
        :param on_window_close: called with key, value, start and end once a key's window has expired. It may change
            tables: that is one transaction with the end of the window. If it raises, it is called again later
        :raises minibatch.errors.OptionError: an option cannot be

        >>> visits = table('docs-visits', default=int).tumbling(60)
        >>> visits['ann'] += 1
        >>> visits['ann'].now(), visits['ann'].delta(60)
        (1, 0)
        >>> visits.clear()
        """
        return WindowedTable(self, size, size, expires, on_window_close)

    def hopping(self, size: float, step: float, *, expires: float | None = None,
                on_window_close: OnClose | None = None) -> WindowedTable:
        """The same with windows that overlap: one of *size* seconds begins each *step* seconds."""
        return WindowedTable(self, size, step, expires, on_window_close)

    def sister(self, name: str, *, changelog: bool = False) -> Table:
        """A table of another name in the same database, with the same default."""
        made = Table('-', self._default, url=self.place.url, changelog=changelog)
        made.name = name
        made.place = self.place.sister(name)
        return made

    # -- a sink

    def put(self, message: Any) -> None:
        """Set what a window function returned: a dict, a (key, value) pair, or a list of these.

        :raises minibatch.errors.TableError: it is something else; nothing was written
        """
        self.place.write([(self._id(key), self._set(value)) for key, value in _pairs(message, self.name)])

    def __call__(self, *message: Any) -> None:
        """As :meth:`put`; also ``table(key, value)``."""
        self.put(message if len(message) == 2 else message[0])

    def bind(self, database: Any) -> None:
        """As a sink, be in the database of the stream, if there is no other one for it."""
        self.place.bind(database)

    # -- keys and values, in and out

    def _scan(self, prefix: Any = None) -> Iterator[tuple[Any, Any]]:
        return ((keys.key_of(each), _copy(entry.value)) for each, entry in self.place.scan(prefix))

    def _change(self, key: Any, function: Callable[[Entry], Any]) -> Any:
        each, pause = self._id(key), 0.001
        while True:
            entry = self.place.look(each)
            value = function(entry)
            if value is _NOTHING:
                return _copy(entry.value)
            write = self._set(value)
            if self.place.write_if(each, entry.version, write):
                return _copy(write.value)
            threading.Event().wait(pause * random.random())
            pause = min(2 * pause, 0.1)

    def _redo(self, key: Any, each: Id, version: bytes | None, value: InPlace) -> None:
        """``table[key] += n`` outside of a window: at once if nobody was faster, else on what is there now."""
        if self.place.write_if(each, version, self._set(value)):
            return

        def again(now: Any) -> Any:
            for step, operand in value.steps:
                now = step(now, operand)
            return now

        self.change(key, again)

    def _id(self, key: Any) -> Id:
        return keys.identity(self.name, key)

    def _set(self, value: Any) -> Write:
        return Write('set', self._stored(value), ttl=self.ttl, log=self.changelog is not None)

    def _deletion(self) -> Write:
        return Write('delete', log=self.changelog is not None)

    def _stored(self, value: Any) -> Any:
        if type(value) in _PLAIN or (type(value) is int and -_BIG < value < _BIG):
            return value
        try:
            return Converter().message({'value': plain(value)})['value']
        except Refused as refused:
            path = refused.path.removeprefix('data.')
            raise TableError(f'table {self.name!r} cannot take this: {path.replace("data", "value")} {refused.what}; '
                             f'nothing was written; {refused.fix}') from None

    def _made(self) -> Any:
        return self._default() if callable(self._default) else _copy(self._default)

    def _missing(self, key: Any) -> Any:
        if self._default is None:
            raise KeyError(key)
        return self._made()


MutableMapping.register(Table)


def _again(kind: type[Table], name: str, default: Any, url: str | None, ttl: float | None, changelog: bool) -> Table:
    return kind(name, default, url=url, ttl=ttl, changelog=changelog)


def _pairs(message: Any, name: str) -> list[tuple[Any, Any]]:
    if isinstance(message, Mapping):
        return list(message.items())
    if isinstance(message, tuple) and len(message) == 2:
        return [message]
    if not isinstance(message, list):
        raise TableError(f'table {name!r} takes a dict, a (key, value) pair or a list of these, not {message!r:.60}; '
                         'nothing was written')
    pairs: list[tuple[Any, Any]] = []
    for each in message:
        pairs += _pairs(tuple(each) if isinstance(each, list) else each, name)
    return pairs


def _copy(value: Any) -> Any:
    if type(value) is dict:
        return {key: _copy(each) for key, each in value.items()}
    return [_copy(each) for each in value] if type(value) is list else value
