"""Where a table's keys are: in MongoDB at once or, inside a window function, in what its window is going to commit."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

from minibatch import scope
from minibatch.errors import OptionError, TableError
from minibatch.models import store_for, store_of
from minibatch.scope import MISSING, Entry, Id, Scope, Write
from minibatch.store import Store, keys

UNLOGGED = ('a table keeps a changelog on a replica set only, since a change and its note take a transaction; nothing '
            'was written; leave changelog=True away, or make this server a replica set of a single member')
STANDALONE = ('a table can be changed in a window function on a replica set only, since that takes a transaction; '
              'nothing was written; make this server one of a single member: start mongod with --replSet rs0, and run '
              'rs.initiate() in mongosh once')
#: Most keys that are read ahead.
AHEAD = 500


class Place:
    """The keys of one table, read and written as it is right at the moment of each call.

    :param name: the table's
    :param url: its database, if it was given one
    :param store: the same, if it is known
    """

    def __init__(self, name: str, url: str | None, store: Store | None = None) -> None:
        self.name = name
        self._url = url
        self._own: Store | None = store
        self._finding = threading.Lock()
        self._recent: set[Id] = set()  # the keys that the window function's last run looked at

    @property
    def url(self) -> str | None:
        """The database that it was given, or found. A worker process needs it: connectdb() was not called there."""
        return self._url or (self._own.connection.url if self._own is not None else None)

    def sister(self, name: str) -> Place:
        """The place of another table in the same database."""
        return Place(name, self._url, self._own)

    def bind(self, database: Any) -> None:
        """Be in this database, if there is no other one yet."""
        if self._url is None and self._own is None:
            self._own = store_of(database)

    def run(self) -> Scope | None:
        """The run of a window function that this is called in, if it is called in one.

        :raises TableError: that run is over
        """
        inside = scope.current.get()
        if inside is None or inside.url is None:
            return None
        if inside.over:
            raise TableError(f'table {self.name!r} is used by what a window function has left running: the window is '
                             'over, nothing was written; wait for threads and tasks before the function returns')
        return inside

    @property
    def store(self) -> Store:
        """The store that it is in: in a window function, the one that commits the window.

        :raises OptionError: the window is in another database
        """
        inside = self.run()
        found: Store | None = self._own if inside is None else inside.stores.get(self)
        if found is not None:
            return found
        with self._finding:
            own = self._own
            if own is None and (inside is None or self._url is not None):
                own = self._own = store_for(self._url)
        if inside is None:
            assert own is not None
            return own
        store = store_for(inside.url)
        if own is not None and own is not store:
            raise OptionError(f'table {self.name!r} is in another database than the stream, so that it cannot change '
                              'together with a window; nothing was written; give both the same url=')
        inside.stores[self] = store
        return store

    def look(self, each: Id) -> Entry:
        """What there is at a key."""
        inside, store = self.run(), self.store
        if inside is None or not store.transactions:
            return store.entries([each])[each]
        return inside.look(each, lambda each: self._load(inside, store, each))

    def _load(self, inside: Scope, store: Store, each: Id) -> Entry:
        """Read a key; with the first one of a run also those that the last run looked at, as this one likely will."""
        found = inside.ahead.get(each)
        if found is None:
            ids = {each}
            if self not in inside.warm:
                inside.warm.add(self)
                ids |= self._recent
                self._recent = set()
            inside.ahead |= store.entries(ids)
            found = inside.ahead[each]
        if len(self._recent) < AHEAD:
            self._recent.add(each)
        return found

    def look_many(self, ids: Mapping[Id, Any]) -> dict[Id, Entry]:
        """What there is at many keys, with one request."""
        inside, store = self.run(), self.store
        found = store.entries(ids)
        if inside is None or not store.transactions:
            return found
        return {each: inside.look(each, found.__getitem__) for each in ids}

    def write(self, writes: list[tuple[Id, Write]]) -> None:
        """Change keys."""
        inside, store = self.run(), self.store
        if inside is not None:
            if not store.transactions:
                raise OptionError(STANDALONE)
            for each, write in writes:
                inside.write(each, write)
        elif any(write.log for _, write in writes):
            self._log({}, dict(writes))
        elif len(writes) == 1 and writes[0][1].kind == 'add':
            store.add(*writes[0])
        else:
            store.write(writes)

    def write_if(self, each: Id, version: bytes | None, write: Write) -> bool:
        """Change a key that was just looked at, unless somebody was faster; in a window that shows when it commits."""
        if self.run() is None:
            return (self._log({each: version}, {each: write}) if write.log
                    else self.store.write_if(each, version, write))
        self.write([(each, write)])
        return True

    def _log(self, reads: dict[Id, bytes | None], writes: dict[Id, Write]) -> bool:
        store = self.store
        if not store.transactions:
            raise OptionError(UNLOGGED)
        return store.change(reads, writes)

    def scan(self, prefix: Any = None) -> Iterator[tuple[Id, Entry]]:
        """All keys that are there, in order."""
        inside, store = self.run(), self.store
        if inside is None or not store.transactions:
            yield from pages(store, self.name, prefix)
            return
        there = dict(pages(store, self.name, prefix))
        ids = {*there, *(each for each in inside.touched() if keys.belongs(each, self.name, prefix))}
        for each in sorted(ids, key=keys.rank):
            entry = inside.look(each, lambda each: there[each] if each in there else store.entries([each])[each])
            if entry is not MISSING:
                yield each, entry

    def count(self) -> int:
        """How many keys there are."""
        return self.store.count_keys(self.name) if self.run() is None else sum(1 for _ in self.scan())

    def clear(self, *, log: bool = False) -> None:
        """Remove all keys."""
        if self.run() is None and not log:
            self.store.drop_keys(self.name)
            return
        keys = [each for each, _ in self.scan()]
        for at in range(0, len(keys), AHEAD):
            self.write([(each, Write('delete', log=log)) for each in keys[at:at + AHEAD]])


def pages(store: Store, name: str, prefix: Any) -> Iterator[tuple[Id, Entry]]:
    """The keys of a table in order, as they are in the database, page by page."""
    after: Id | None = None
    while page := store.page(name, prefix, after):
        yield from ((each, entry) for each, entry in page if entry is not MISSING)
        after = page[-1][0]
