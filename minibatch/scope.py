"""What a window function does to tables: noted while it runs, held back, and committed together with its window.

A function's reads are noted with the version that they found, its writes are held back, and both travel in the
:class:`~minibatch.outcome.Outcome` to the consumer. It makes the writes in the transaction that commits the window, if
everything that was read is still so then. Nothing here talks to MongoDB.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from minibatch.errors import TableError

#: A table's name and a key, as BSON: what its document has for ``_id``.
Id = bytes
#: What a document is marked with anew by each write; no two writes have the same.
Version = bytes

#: The integers that MongoDB stores.
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """What there is at a key: a value and the version of it; ``MISSING`` if there is none."""

    version: Version | None
    value: Any = None


MISSING = Entry(None)


@dataclass(frozen=True, slots=True)
class Write:
    """One change of a key.

    :ivar kind: ``set``: to *value*; ``delete``; ``add``: *value* to what is there when it is committed
    :ivar token: what makes the new version
    :ivar start: what ``add`` adds to where there is nothing
    :ivar ttl: seconds after which the key is gone, if it is not written again
    :ivar log: whether the change goes into the table's changelog, too
    """

    kind: Literal['set', 'delete', 'add']
    value: Any = None
    start: Any = 0
    ttl: float | None = None
    log: bool = False
    token: bytes = field(default_factory=lambda: os.urandom(12))

    def on(self, entry: Entry) -> Entry:
        """What is there after this write, if *entry* was before.

        An added amount's version follows from that of what it is added to. So whoever has read what a function before
        it in the same call is going to leave behind can tell whether that came true.

        :raises TableError: what is there is no number, or becomes too large a one
        """
        if self.kind == 'delete':
            return MISSING
        if self.kind == 'set':
            return Entry(self.token, self.value)
        before = self.start if entry.version is None else entry.value
        version = hashlib.blake2b((entry.version or b'') + self.token, digest_size=12).digest()
        return Entry(version, plus(before, self.value))


@dataclass(slots=True)
class Changes:
    """What one run of a function did to tables.

    :ivar reads: the versions that it found; ``None``: nothing was there
    :ivar writes: at most one for each key
    :ivar marks: by windowed table, the latest time that it has seen, and when that message was appended
    """

    reads: dict[Id, Version | None] = field(default_factory=dict)
    writes: dict[Id, Write] = field(default_factory=dict)
    marks: dict[str, tuple[int, int]] = field(default_factory=dict)

    def holds(self, there: Mapping[Id, Entry]) -> bool:
        """Whether everything that was read is still so."""
        return all(there[each].version == version for each, version in self.reads.items())


class Pending:
    """What the windows before, of the same call, have changed and nobody has committed yet."""

    def __init__(self) -> None:
        self.entries: dict[Id, Entry] = {}
        self.added: dict[Id, list[Write]] = {}

    def absorb(self, changes: Changes, seen: Mapping[Id, Entry]) -> None:
        """Take in what one more window has changed."""
        for each, write in changes.writes.items():
            if write.kind != 'add':
                self.entries[each] = write.on(MISSING)
                self.added.pop(each, None)
            elif each in self.entries:
                self.entries[each] = write.on(self.entries[each])
            else:
                self.added.setdefault(each, []).append(write)

    def look(self, each: Id, load: Callable[[Id], Entry]) -> tuple[Entry, bool]:
        """What is at a key after these windows, and whether they had to do with it."""
        if each in self.entries:
            return self.entries[each], True
        entry = load(each)
        writes = self.added.get(each, ())
        for write in writes:
            entry = write.on(entry)
        return entry, bool(writes)


class Scope:
    """One run of a function on one window, as tables see it.

    :param url: the database that the window is committed in; ``None`` if nobody is going to commit anything
    :param batch: the window
    :param pending: what windows before it, in the same call, have changed
    :ivar stores: by table, what has been found to hold it
    :ivar ahead: what has been read before anybody looked at it
    :ivar warm: the tables of which something has been read
    """

    def __init__(self, url: str | None, batch: Any = None, pending: Pending | None = None) -> None:
        self.url = url
        self.batch = batch
        self.over = False
        self.stores: dict[Any, Any] = {}
        self.ahead: dict[Id, Entry] = {}
        self.warm: set[Any] = set()
        self._pending = pending or Pending()
        self._seen: dict[Id, Entry] = {}
        self._writes: dict[Id, Write] = {}
        self._marks: dict[str, tuple[int, int]] = {}
        self._leans = False  # on what is not committed yet

    def look(self, each: Id, load: Callable[[Id], Entry]) -> Entry:
        """What is at a key for this window: what it wrote itself, else what it or those before it found."""
        write = self._writes.get(each)
        if write is None:
            return self._found(each, load)
        if write.kind == 'add':  # looked at, it depends on what is there
            write = self._writes[each] = replace(write, kind='set', value=write.on(self._found(each, load)).value)
        return write.on(MISSING)

    def _found(self, each: Id, load: Callable[[Id], Entry]) -> Entry:
        if each not in self._seen:
            self._seen[each], leans = self._pending.look(each, load)
            self._leans |= leans
        return self._seen[each]

    def write(self, each: Id, write: Write) -> None:
        """Change a key, when the window commits."""
        before = self._writes.get(each)
        if write.kind == 'add':
            if before is not None and before.kind == 'add':
                write = replace(write, value=plus(before.value, write.value))
            elif before is not None or each in self._seen:
                entry = before.on(MISSING) if before is not None else self._seen[each]
                write = replace(write, kind='set', value=write.on(entry).value)
        self._writes[each] = write

    def mark(self, table: str, time: int, appended: int) -> None:
        """Note that a windowed table has seen *time*, in a message that was appended at *appended*."""
        self._marks[table] = max(self._marks.get(table, (time, appended)), (time, appended))

    def touched(self) -> set[Id]:
        """The keys that this window, or those before it in the same call, have changed."""
        return {*self._writes, *self._pending.entries, *self._pending.added}

    def finish(self) -> Changes | None:
        """End the run; what it changed, or ``None`` if there is nothing to commit or to check."""
        self.over = True
        if not self._writes and not self._leans:
            return None
        changes = Changes({each: entry.version for each, entry in self._seen.items()}, self._writes,
                          self._marks)
        self._pending.absorb(changes, self._seen)
        return changes


#: The run that the code that asks belongs to.
current: ContextVar[Scope | None] = ContextVar('minibatch-tables', default=None)


def plus(a: Any, b: Any) -> Any:
    """The sum of two numbers that MongoDB can store.

    >>> plus(2, 0.5)
    2.5
    >>> plus('a', 1)
    Traceback (most recent call last):
        ...
    minibatch.errors.TableError: 1 cannot be added to 'a': both must be numbers; the table was not changed
    """
    if not _number(a) or not _number(b):
        raise TableError(f'{b!r} cannot be added to {a!r}: both must be numbers; the table was not changed')
    total = a + b
    if isinstance(total, int) and not _LEAST <= total <= _MOST:
        raise TableError(f'{total} has more than 64 bits, which MongoDB cannot store; the table was not changed')
    return total


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
