"""Changelogs: every change of a table's keys, noted in the transaction that made it.

What a table has can be made anew from them: someone has emptied a collection, a program has written nonsense, a backup
is older than the stream. They also answer how a value came about.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from minibatch.errors import TableError
from minibatch.scope import MISSING, Id, Write
from minibatch.store import Store, keys
from minibatch.store.tables import LOG
from minibatch.tables.place import pages

if TYPE_CHECKING:
    from minibatch.table import Table

#: Keys that are made anew in one transaction.
_TOGETHER = 200


class Change(NamedTuple):
    """One change of one key.

    :ivar key: which
    :ivar number: 1 for the key's first change, 2 for its second, and so on
    :ivar value: what it has been from then on; ``None`` where it is *gone*
    :ivar gone: whether the key was deleted
    :ivar expires: when that value is gone by itself, in UTC; ``None``: it stays
    """

    key: Any
    number: int
    value: Any
    gone: bool
    expires: datetime | None


class Changelog:
    """The changes of a table that was made with ``changelog=True``; iterating gives all, key by key, in order.

    Each is written in the transaction that makes the change, so that neither is there without the other. It takes one
    more read and one more write for each key that a window changes, and the changelog grows until it is compacted.

    >>> import minibatch as mb
    >>> stock = mb.table('docs-stock', default=int, changelog=True)
    >>> stock['pen'] += 5
    >>> stock['pen'] -= 2
    >>> [(change.number, change.value) for change in stock.changelog.of('pen')]
    [(1, 5), (2, 3)]
    >>> stock.clear()
    >>> stock.changelog.compact()
    3
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def __repr__(self) -> str:
        return f'<changelog of {self._table!r}>'

    def __iter__(self) -> Iterator[Change]:
        return self._scan((self._table.name,))

    def of(self, key: Any) -> Iterator[Change]:
        """The changes of one key, the first one first."""
        return self._scan((self._table.name, key))

    def rebuild(self) -> int:
        """Make each key what its last change says.

        Keys of which the changelog knows nothing stay as they are: they were last written before there was one.
        Consumers may go on meanwhile.

        :return: how many keys were not so, and are now
        :raises minibatch.errors.TableError: this is a window function, whose changes are not committed yet
        """
        store, mended = self._store(), 0
        known = (each for each, _ in groupby(self._entries((self._table.name,)), key=lambda entry: entry[0][:-1]))
        ids = (keys.identity(*each) for each in known)
        while some := list(islice(ids, _TOGETHER)):
            while True:
                # In this order: what changes after it was looked at here is not overwritten.
                there = store.entries(some)
                writes: dict[Id, Write] = {}
                for each in some:
                    wanted = _wanted(store.last_change(each)[1], store.clock.now())
                    if there[each] != wanted.on(MISSING):
                        writes[each] = wanted
                if not writes or store.change({each: there[each].version for each in writes}, writes):
                    break
            mended += len(writes)
        return mended

    def compact(self) -> int:
        """Forget all changes but the last one of each key; of a key that is gone, that one, too.

        :return: how many were forgotten
        :raises minibatch.errors.TableError: this is a window function, whose changes are not committed yet
        """
        store, forgotten = self._store(), 0
        gone: list[Id] = []
        last: tuple[Id, tuple[Any, ...], bool] | None = None
        for each, (key, value) in self._ids((self._table.name,)):
            if last is not None and (last[1][:-1] == key[:-1] or last[2]):
                gone.append(last[0])
            last = each, key, not value
            if len(gone) >= _TOGETHER:
                forgotten += store.forget_changes(gone)
                gone = []
        if last is not None and last[2]:
            gone.append(last[0])
        return forgotten + store.forget_changes(gone)

    def _scan(self, prefix: tuple[Any, ...]) -> Iterator[Change]:
        for (_, key, number), change in self._entries(prefix):
            yield Change(key, number, change.get('value'), not change, change.get('expires'))

    def _entries(self, prefix: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        return (entry for _, entry in self._ids(prefix))

    def _ids(self, prefix: tuple[Any, ...]) -> Iterator[tuple[Id, tuple[tuple[Any, ...], dict[str, Any]]]]:
        for each, entry in pages(self._table.place.store, LOG, prefix):
            yield each, (keys.key_of(each), entry.value)

    def _store(self) -> Store:
        place = self._table.place
        if place.run() is not None:
            raise TableError(f'the changelog of table {self._table.name!r} cannot be used for that in a window '
                             'function, whose changes are not committed yet; nothing was written')
        return place.store


def _wanted(change: dict[str, Any], now: datetime) -> Write:
    """What makes a key what a change has made of it."""
    expires = change.get('expires')
    if not change or (expires is not None and expires <= now):
        return Write('delete')
    ttl = None if expires is None else (expires - now).total_seconds()
    return Write('set', change['value'], ttl=ttl, token=bytes(change['version']))
