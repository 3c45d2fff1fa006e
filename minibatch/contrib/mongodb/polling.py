"""A collection as a source, by asking it again and again: for any MongoDB, also one that is no replica set."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timezone
from struct import Struct
from typing import Any

import bson
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING
from pymongo.collection import Collection

from minibatch.contrib.inlet import Inlet
from minibatch.contrib.mongodb.upstream import (
    Away,
    asking,
    check_collection,
    check_seconds,
    collection_of,
    majority,
    name_of,
)
from minibatch.contrib.mongodb.window import MOST, Window, hashable
from minibatch.contrib.reconnect import detached, persist
from minibatch.errors import OptionError

_LENGTH = Struct('<i')
_ID = b'\x07_id\x00'
#: Documents in the window up to which they are all looked at each time; of more, only their number.
_FEW = 2000
#: How often the documents of a greater window are looked at all the same, in looks.
_SELDOM = 10


class MongoSource:
    """Read the documents of a collection as they come, in the order of their ids; each exactly once.

    Ids are made before their documents are inserted, and by many at a time. So a document can appear *before* one that
    was read already. The source therefore looks again, with every poll, at the ids of the last *late* seconds, and
    reads what has come in between.

    :param collection: a pymongo ``Collection``, or the name of one in the stream's own database. It should be one to
        which documents are only added: a document that is changed later is not read again.
    :param size: most documents read, and stored, at once
    :param idcol: the field to read in the order of. It needs an index, and values of one type, as the ``_id`` has to
        be; documents without it are not read. It need not be unique.
    :param delay: seconds to wait before asking again when there was nothing new
    :param late: seconds after which nothing comes any more before what is there. ObjectIds tell the second in which
        they were made; for others it counts from the moment they were read (at most the last 50,000 are looked at)
    :param query: only documents that match
    :param name: of the source, if not ``mongodb:`` and the collection's full name; its position is stored under it
    :param schema: what a document has to fit (:mod:`minibatch.contrib.schemas`)
    :raises minibatch.errors.OptionError: an option cannot be

    A message is the document as it is, ``_id`` included.
    """

    def __init__(self, collection: Collection[Any] | str, size: int = 1000, idcol: str = '_id', delay: float = 1.0, *,
                 late: float = 60.0, query: Mapping[str, Any] | None = None, name: str | None = None,
                 schema: Any = None) -> None:
        check_collection(collection)
        if not isinstance(idcol, str) or not idcol:
            raise OptionError(f'idcol={idcol!r}: give the name of a field')
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise OptionError(f'size must be a whole number, 1 or more, not {size!r}')
        self.collection, self.size, self.idcol = collection, size, idcol
        self.delay, self.late = check_seconds('delay', delay), check_seconds('late', late)
        self.query, self.schema = dict(query or {}), schema
        self.name = name or f'mongodb:{name_of(collection)}'
        self.cancelled = threading.Event()

    def __repr__(self) -> str:
        return f'MongoSource({name_of(self.collection)!r})'

    def stream(self, stream: Any) -> None:
        """Read into *stream* until :meth:`cancel` is called.

        :raises minibatch.errors.AccessRefused: the collection may not be read
        """
        with Inlet(stream, self.name, schema=self.schema, size=self.size, recents=2 * MOST,
                   cancelled=self.cancelled) as inlet:
            detached(lambda: persist(lambda up: _Session(self, inlet).run(up), f'{self!r} of stream {stream.name!r}',
                                     cancelled=self.cancelled, on=(Away,)), self.cancelled)

    def cancel(self) -> None:
        """Stop within a second."""
        self.cancelled.set()


class _Session:
    """Reading, from one outage to the next."""

    def __init__(self, source: MongoSource, inlet: Inlet) -> None:
        self.source, self.inlet = source, inlet
        collection = collection_of(source.collection, inlet.stream)
        self.what = collection.full_name
        self.raw = majority(collection, raw=source.schema is None)
        self.ids = majority(collection)
        self.sort = [(source.idcol, ASCENDING)] + ([('_id', ASCENDING)] if source.idcol != '_id' else [])
        position = inlet.open() or {}
        self.high, self.high_id = position.get('high'), position.get('id')
        self.window = Window(source.late, position.get('low'), inlet.keys())
        self.looks = 0

    def run(self, up: Callable[[], None]) -> None:
        """Read on, and look back."""
        cancelled = self.source.cancelled
        self.look_back(thoroughly=True)
        up()
        last = self.now()
        while not cancelled.is_set():
            found = self.read_on()
            if not found or self.now() - last >= self.source.delay:
                self.look_back()
                last = self.now()
            self.window.close(self.now())
            self.inlet.durable()
            if not found:
                cancelled.wait(self.source.delay)

    def now(self) -> float:
        """Seconds since the epoch, by the clock of the stream's server."""
        now: float = self.inlet.stream.store.clock.now().replace(tzinfo=timezone.utc).timestamp()
        return now

    def read_on(self) -> int:
        """Read the next documents; how many there were."""
        idcol = self.source.idcol
        after: dict[str, Any] = {idcol: {'$ne': None}}
        if self.high is not None:
            after = {idcol: {'$gt': self.high}}
            if idcol != '_id':
                after = {'$or': [after, {idcol: self.high, '_id': {'$gt': self.high_id}}]}
        docs = self.documents(after, self.source.size)
        if not docs:
            return 0
        places = self.places(docs)
        young = self.window.add(places, self.now())
        positions = [self.position(*place) for place in places]
        keys = [hashable(id_) if new else None for (_, id_), new in zip(places, young, strict=True)]
        self.high, self.high_id = places[-1]
        self.inlet.extend(docs, positions, keys=keys)
        return len(docs)

    def look_back(self, *, thoroughly: bool = False) -> None:
        """Read what has come in before the last document meanwhile."""
        if self.high is None:
            return
        idcol, low = self.source.idcol, self.window.low
        above = {} if low is None else {'$gt': low}
        within: dict[str, Any] = {idcol: {'$lte': self.high} | above}
        if idcol != '_id':  # others at the place of the last document were not read yet
            within = {'$or': [{idcol: {'$lt': self.high} | above}, {idcol: self.high, '_id': {'$lte': self.high_id}}]}
        self.looks += 1
        if not thoroughly and len(self.window) > _FEW and self.looks % _SELDOM:
            with asking(self.what):
                if self.ids.count_documents(self.matching(within)) == len(self.window):
                    return
        with asking(self.what):
            there = [(_reach(doc, idcol), doc['_id']) for doc in self.ids.find(
                self.matching(within), {idcol: 1, '_id': 1}, sort=self.sort)]
        missing = self.window.missing(there)
        for at in range(0, len(missing), self.source.size):
            wanted = [id_ for _, id_ in missing[at:at + self.source.size]]
            docs = self.documents({'_id': {'$in': wanted}}, len(wanted))
            where = self.position(self.high, self.high_id)
            self.inlet.extend(docs, [where] * len(docs), keys=[hashable(id_) for _, id_ in self.places(docs)])
        self.window.settle(there, self.now())

    def position(self, place: Any, id_: Any) -> dict[str, Any]:
        """Where reading goes on after a document."""
        where = {'low': self.window.low, 'high': place}
        return where if self.source.idcol == '_id' else where | {'id': id_}

    def matching(self, query: dict[str, Any]) -> dict[str, Any]:
        """The query, with that of the user."""
        return {'$and': [query, self.source.query]} if self.source.query else query

    def documents(self, query: dict[str, Any], limit: int) -> list[Any]:
        """The first documents that match."""
        with asking(self.what):
            if self.source.schema is not None:
                return list(self.ids.find(self.matching(query), sort=self.sort, limit=limit, batch_size=limit))
            batches = self.raw.find_raw_batches(self.matching(query), sort=self.sort, limit=limit, batch_size=limit)
            return [RawBSONDocument(each) for batch in batches for each in _split(batch)]

    def places(self, docs: Sequence[Any]) -> list[tuple[Any, Any]]:
        """The place of each document, and its id."""
        idcol = self.source.idcol
        found = []
        for doc in docs:
            raw = doc.raw if type(doc) is RawBSONDocument else b''
            if idcol == '_id' and raw[4:9] == _ID:
                id_: Any = ObjectId(bytes(raw[9:21]))
                found.append((id_, id_))
            else:
                whole = bson.decode(raw, self.ids.codec_options) if raw else doc
                found.append((_reach(whole, idcol), whole['_id']))
        return found


def _split(batch: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(batch):
        (n,) = _LENGTH.unpack_from(batch, at)
        yield batch[at:at + n]
        at += n


def _reach(doc: Any, field: str) -> Any:
    """The value of a field, dots reaching into embedded documents."""
    for part in field.split('.'):
        doc = doc[part]
    return doc
