"""What the thread of an inlet does with a batch: read, wait for room, store with the position, tell what is durable."""

from __future__ import annotations

import contextlib
import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Any, NamedTuple

from minibatch.backlog import Backlog
from minibatch.contrib.reading import Reader, Unreadable, as_raw, size_of
from minibatch.contrib.reconnect import LONGEST, SHORTEST, Stopped
from minibatch.errors import BacklogFull, StoreUnavailable
from minibatch.ids import ids
from minibatch.store.sources import Letter, Move, Unstorable, dead_letter, messages
from minibatch.tracing import installed, parent_in

log = logging.getLogger(__name__)

#: Most bytes in a transaction, about.
MOST_BYTES = 4 * 1024 * 1024
#: From how many keys on a part writes them into a page.
PAGE = 1000


class _Nowhere:
    """No position given, or no message."""

    def __repr__(self) -> str:
        return 'NOWHERE'


NOWHERE = _Nowhere()


class Durable(NamedTuple):
    """What has become durable with one write.

    :ivar positions: of the parts that were read on, by name
    :ivar tokens: those given with the messages, in order, but for ``None``
    """

    positions: dict[str, Any]
    tokens: list[Any]


@dataclass(eq=False)
class Part:
    """A part of a source, as far as it is stored; and the keys of what was added lately.

    :ivar most: how many keys to remember at least
    :ivar recent: those keys, those of messages in hand too
    :ivar noted: the keys that are in the part's own document
    :ivar pages: the documents that hold the others, oldest first, and how many each has
    """

    name: str
    id: str
    version: int
    position: Any
    most: int
    recent: dict[Any, None] = field(default_factory=dict)
    pending: list[Any] = field(default_factory=list)
    noted: list[Any] = field(default_factory=list)
    pages: list[tuple[str, int]] = field(default_factory=list)

    def remember(self, key: Any) -> None:
        """Note a key; the oldest one goes."""
        self.recent.pop(key, None)
        self.recent[key] = None
        while len(self.recent) > self.most:
            del self.recent[next(iter(self.recent))]

    def moved(self, move: Move, ahead: int) -> list[str]:
        """Note that a move was made; the pages that are not needed any more."""
        self.version, self.position, self.pending = move.version + ahead, move.position, list(move.pending)
        if move.page is None:
            self.noted += move.recent
            return []
        self.noted = []
        self.pages.append((move.page_id, len(move.page)))
        left, old = sum(n for _, n in self.pages), []
        while self.pages and left - self.pages[0][1] >= self.most:
            left -= self.pages[0][1]
            old.append(self.pages.pop(0)[0])
        return old


#: Part, position, raw, meta, token, key.
Item = tuple[Part | None, Any, Any, Any, Any, Any]


class Intake:
    """Stores batches of one source; called from one thread.

    :param stream: where to
    :param name: of the source, or ``None``
    :param reader: makes messages of what came
    :param cancelled: ends all waiting
    :param replays: whether upstream brings again what is not stored now
    """

    def __init__(self, stream: Any, name: str | None, reader: Reader, cancelled: threading.Event,
                 replays: bool) -> None:
        self._store, self._stream, self._name = stream.store, stream.name, name
        self._traced = installed()
        self._fields = {'stream': stream.name, 'source': name}
        self._reader, self._cancelled, self._replays = reader, cancelled, replays
        self._session = self._store.session()
        # A source is held up by a full stream, whatever producers are: raising would end it.
        self._backlog = Backlog(self._store, stream.name, stream.max_backlog, cancelled)

    def open(self, part: str, owner: str, recents: int) -> Part:
        """Read where a part is, and make this inlet its reader."""
        doc = self._patiently(lambda: self._store.open_source(
            self._stream, self._name, part, owner, dict(self._session.session_id)))
        last = doc.get('last')
        if last is not None:  # what comes now sorts after what is there, also if it comes within the same second
            ids.take(0, last.generation_time.replace(tzinfo=None) + timedelta(seconds=1))
        keys = [key for _, page in doc['pages'] for key in page] + doc['recent']
        recent = dict.fromkeys(tuple(key) if isinstance(key, list) else key for key in keys[-recents:])
        return Part(part, doc['_id'], doc['version'], doc['position'], recents, recent, doc['pending'], doc['recent'],
                    [(page, len(keys)) for page, keys in doc['pages']])

    def close(self, busy: bool) -> None:
        """End the session, unless the thread is still in the middle of something: then it ends with the process."""
        if not busy:
            self._session.end_session()

    def store(self, batch: Sequence[Item], note: Callable[[Durable], None]) -> None:
        """Store a batch, in as many transactions as room and size make of it.

        :param note: told what is durable, after each transaction
        :raises Stopped: cancelled before all was stored
        :raises PositionMoved: somebody else has read on
        """
        found, size = self._read(batch)
        most = len(batch) if size <= MOST_BYTES else 0
        at = 0
        while at < len(batch):
            upto = at + most if most else _fitting(found, at)
            upto = min(self._admitted(found, at, upto), len(batch))
            note(self._write(batch[at:upto], found[at:upto]))
            at = upto

    def _read(self, batch: Sequence[Item]) -> tuple[list[Any], int]:
        """The messages of a batch, :class:`Unreadable` ones, and ``NOWHERE`` for mere positions."""
        some = [item for item in batch if item[2] is not NOWHERE]
        found, size = self._reader.read([item[2] for item in some], [item[3] for item in some])
        bad = [each for each in found if type(each) is Unreadable]
        if bad:
            log.warning('stream %r: %d message(s) from source %r could not be read and are dead letters now, the first '
                        'because: %s', self._stream, len(bad), self._name, bad[0].reason, extra=self._fields)
        if len(some) == len(batch):
            return found, size
        rest = iter(found)
        return [NOWHERE if item[2] is NOWHERE else next(rest) for item in batch], size

    def _admitted(self, found: Sequence[Any], at: int, upto: int) -> int:
        """Wait for room; up to which of the messages there is some."""
        places = [n for n, each in enumerate(islice(found, at, upto), at) if _is_message(each)]
        if not places or (self._cancelled.is_set() and not self._replays):
            return upto
        try:
            granted = self._patiently(lambda: self._backlog.wait(len(places), part=True))
        except BacklogFull:
            if not self._replays:
                return upto
            raise Stopped from None
        return upto if granted == len(places) else places[granted]

    def _write(self, items: Sequence[Item], found: list[Any]) -> Durable:
        batch, counted = uuid.uuid4().hex, sum(map(_is_message, found))
        try:
            while True:
                docs, letters, moves, places = self._documents(items, found)
                self._note_spans(docs, [found[at] for at in places])
                try:
                    self._patiently(lambda d=docs, w=letters, m=moves: self._store.append_from(  # type: ignore[misc]
                        self._session, d, w, m, batch))
                    break
                except Unstorable as refused:  # it is in no state to be a message, so it is a letter
                    log.warning('stream %r: MongoDB refused a message from source %r, which is a dead letter now: %s',
                                self._stream, self._name, refused.reason, extra=self._fields)
                    found[places[refused.index]] = Unreadable(f'MongoDB refused it: {refused.reason}')
        except BaseException:
            self._backlog.dropped(counted)
            raise
        self._backlog.stored(counted)
        positions = {}
        ahead = 1 if self._store.transactions else 2
        for move in moves:
            part = next(item[0] for item in items if item[0] is not None and item[0].id == move.id)
            old = part.moved(move, ahead)
            if old:
                with contextlib.suppress(StoreUnavailable):
                    self._store.drop_pages(old)
            positions[part.name] = move.position
        return Durable(positions, [item[4] for item in items if item[4] is not None])

    def _note_spans(self, docs: Sequence[Any], found: Sequence[Any]) -> None:
        """Note the trace contexts that messages brought with them, in headers."""
        if self._traced:
            spans = [(doc['_id'], doc['_id'], parent) for doc, message in zip(docs, found, strict=True)
                     if type(message) is dict and (parent := parent_in(message.get('headers')))]
            if spans:
                self._store.note_spans(self._stream, spans)

    def _documents(self, items: Sequence[Item], found: Sequence[Any]) -> tuple[list[Any], list[Any], list[Move],
                                                                              list[int]]:
        """What to store: messages, letters, and the moves of the parts; and where each message is among the items."""
        now = self._store.clock.now()
        given = self._ids(items, found, now)
        places = [at for at, each in enumerate(found) if _is_message(each)]
        if len(places) == len(found):
            docs = messages(self._stream, now, given, found)
        else:
            docs = messages(self._stream, now, [given[at] for at in places], [found[at] for at in places])
        letters = [dead_letter(self._stream, now, given[at], self._letter(items[at], each))
                   for at, each in enumerate(found) if type(each) is Unreadable]
        moves = []
        for part in dict.fromkeys(item[0] for item in items):
            if part is not None:
                mine = [at for at, item in enumerate(items) if item[0] is part]
                moves.append(self._move(part, [items[at] for at in mine],
                                        [given[at] for at in mine if found[at] is not NOWHERE]))
        return docs, letters, moves, places

    def _ids(self, items: Sequence[Item], found: Sequence[Any], now: Any) -> list[Any]:
        """An id for each item; those that an earlier reader has written ahead for its part come first."""
        given = ids.take(len(items), now)
        for part in dict.fromkeys(item[0] for item in items):
            if part is not None and part.pending:
                mine = (at for at, item in enumerate(items) if item[0] is part and found[at] is not NOWHERE)
                for at, id_ in zip(mine, part.pending, strict=False):
                    given[at] = id_
        return given

    def _move(self, part: Part, items: Sequence[Item], given: Sequence[Any]) -> Move:
        position = next((item[1] for item in reversed(items) if item[1] is not NOWHERE), part.position)
        recent = [item[5] for item in items if item[5] is not None]
        page = [*part.noted, *recent] if len(part.noted) + len(recent) >= PAGE else None
        return Move(id=part.id, version=part.version, position=position, recent=recent, page=page, ids=given,
                    pending=part.pending[len(given):])

    def _letter(self, item: Item, why: Unreadable) -> Letter:
        part, position = item[0], item[1]
        return Letter(raw=as_raw(item[2]), reason=why.reason, source=self._name, part=part.name if part else '',
                      position=None if position is NOWHERE else position)

    def _patiently(self, call: Callable[[], Any]) -> Any:
        """Try again while MongoDB is away; when cancelled, no more."""
        delay = SHORTEST
        while True:
            try:
                return call()
            except StoreUnavailable as error:
                if delay == SHORTEST:
                    log.warning('stream %r: source %r waits for MongoDB: %s', self._stream, self._name, error,
                                extra=self._fields)
                if self._cancelled.wait(delay):
                    raise Stopped from None
                delay = min(delay * 2, LONGEST)


def _is_message(each: Any) -> bool:
    return type(each) is not Unreadable and each is not NOWHERE


def _fitting(found: Sequence[Any], at: int) -> int:
    """How far a transaction goes that begins at *at*: at least one message, and no more bytes than are good."""
    size, upto = 0, at
    while upto < len(found):
        size += size_of(found[upto])
        if size > MOST_BYTES and upto > at:
            break
        upto += 1
    return upto
