"""Results of windows as documents of a collection."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pymongo import ASCENDING, InsertOne, MongoClient, ReplaceOne, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

from minibatch.contrib.base import as_document
from minibatch.errors import InvalidMessage, OptionError, check_choice

log = logging.getLogger(__name__)

#: A result is safe when a majority of the members has it in their journals; only then is its window committed.
MAJORITY = WriteConcern('majority', j=True)
MODES = ('insert', 'upsert')
#: Server errors that say an index on the same fields is there already, with other options or another name.
_OTHER_INDEX = {85, 86}
#: And that a collection is there already.
_EXISTS = 48

Document = dict[str, Any]


class MongoSink:
    """Write results of windows into a MongoDB collection.

    :param collection: a pymongo ``Collection``, or the name of one in the stream's own database
    :param mode: ``'insert'``, or ``'upsert'``: replace the document with the same *key*, insert it if there is none
    :param key: with ``'upsert'``, the field, or list of fields, that tells which document a result is; dots reach into
        embedded ones. A unique index on it is made if there is none, since two consumers that insert the same
        key at the same time would otherwise both succeed.
    :param exactly_once: write in the transaction that commits the window. The collection has to be in the MongoDB of
        the stream, which has to be a replica set or a sharded cluster. What is written in one go is limited by
        what MongoDB allows for a transaction (a minute, unless the server is set otherwise).

    A result is a dict, or any object that ``append`` would take, or a list of them. Nothing that was given is changed.

    >>> MongoSink('totals', mode='upsert')
    Traceback (most recent call last):
    minibatch.errors.OptionError: mode='upsert' needs key=, the field that tells which document to replace
    """

    #: A list is as many results.
    expand = True

    def __init__(self, collection: Collection[Any] | str, mode: str = 'insert',
                 key: str | Sequence[str] | None = None, exactly_once: bool = False) -> None:
        check_choice('mode', mode, MODES)
        self.key = _fields(key)
        if mode == 'upsert' and not self.key:
            raise OptionError("mode='upsert' needs key=, the field that tells which document to replace")
        if mode == 'insert' and self.key:
            raise OptionError("key= goes with mode='upsert'; with 'insert' every result is a new document")
        if not _names_a_collection(collection):
            raise OptionError(f'collection is {collection!r}; give a pymongo Collection, or the name of one')
        self.mode = mode
        self.exactly_once = bool(exactly_once)
        self._given = collection
        self._collection: Collection[Any] | None = None
        if isinstance(collection, Collection) and not exactly_once:
            self._use(collection)

    def __repr__(self) -> str:
        name = self._given if isinstance(self._given, str) else self._given.full_name
        how = ''.join([f', {self.mode!r}, key={list(self.key)!r}' if self.key else '',
                       ', exactly_once=True' if self.exactly_once else ''])
        return f'MongoSink({name!r}{how})'

    def bind(self, database: Database[Any]) -> None:
        """Make ready to write; called by the engine, with the database of the stream.

        :raises OptionError: the collection cannot be used in the way that was asked for
        """
        if isinstance(self._given, str):
            collection = database[self._given]
        elif self.exactly_once:
            # A session only works with the client it comes from, and the commit's comes from the engine's.
            _same_cluster(self._given.database.client, database.client)
            collection = _through(database.client, self._given)
        else:
            collection = self._given
        if self.exactly_once and not _has_transactions(database.client):
            raise OptionError('exactly_once=True needs transactions, and this MongoDB is a standalone server: run '
                              "it as a replica set (one member is enough), or use mode='upsert'")
        self._use(collection)

    def put(self, message: Any) -> None:
        """Write a result; it is on a majority of the members when this returns."""
        self._write(message, None)

    def put_in(self, session: ClientSession, messages: Any, batch: Any) -> None:
        """Write results inside the transaction of *session*, as a part of the window's commit."""
        self._write(messages, session)

    def flush(self) -> None:
        """Nothing to do: ``put`` returns when the result is safe."""

    def close(self) -> None:
        """Nothing to do: the client belongs to somebody else."""

    def _write(self, messages: Any, session: ClientSession | None) -> None:
        if self._collection is None:
            raise OptionError(f'{self!r} does not know its database yet: give it to mb.streaming(sink=...), or call '
                              'bind(database)')
        operations = [self._operation(as_document(each)) for each in _flat(messages)]
        collection = self._collection
        if session is not None:
            collection = _through(session.client, collection)
        if operations:
            collection.bulk_write(operations, ordered=True, session=session)

    def _operation(self, document: Document) -> InsertOne[Document] | ReplaceOne[Document]:
        if self.mode == 'insert':
            return InsertOne(document)
        return ReplaceOne({field: _value(document, field) for field in self.key}, document, upsert=True)

    def _use(self, collection: Collection[Any]) -> None:
        self._collection = collection.with_options(write_concern=MAJORITY)
        if self.exactly_once:
            # Made before any transaction: creating it inside of one takes locks that others would run into.
            try:
                collection.database.create_collection(collection.name, check_exists=False)
            except OperationFailure as error:
                if error.code != _EXISTS:
                    raise
        if self.key and self.key != ('_id',):
            self._make_unique(collection)

    def _make_unique(self, collection: Collection[Any]) -> None:
        try:
            collection.create_index([(field, ASCENDING) for field in self.key], unique=True)
        except DuplicateKeyError as error:
            raise OptionError(f'{collection.full_name} holds more than one document with the same '
                              f'{", ".join(self.key)}, so it cannot be the key of an upsert; remove the doubles, or '
                              'choose another key') from error
        except OperationFailure as error:
            if error.code not in _OTHER_INDEX:
                raise
            log.warning('%s has an index on %s that is not unique: consumers that insert the same key at the same time '
                        'may double it', collection.full_name, ', '.join(self.key))


def _names_a_collection(given: object) -> bool:
    return isinstance(given, Collection) or (isinstance(given, str) and bool(given))


def _fields(key: str | Sequence[str] | None) -> tuple[str, ...]:
    fields: tuple[object, ...] = (key,) if isinstance(key, str) else tuple(key or ())
    names = tuple(field for field in fields if isinstance(field, str) and field)
    if len(names) != len(fields):
        raise OptionError(f'key={key!r}: give the name of a field, or a list of names')
    return names


def _value(document: Document, field: str) -> Any:
    """The value of a field, dots reaching into embedded documents; it has to be there."""
    value: Any = document
    for part in field.split('.'):
        if not isinstance(value, Mapping) or part not in value:
            raise InvalidMessage(f'the result has no field {field!r}, which is the key of the upsert; return it '
                                 'from the window function', path=f'data.{field}')
        value = value[part]
    return value


def _through(client: MongoClient[Any], collection: Collection[Any]) -> Collection[Any]:
    """The same collection by another client."""
    return client[collection.database.name].get_collection(collection.name, collection.codec_options)


def _flat(messages: Any) -> Iterable[Any]:
    """The single results of a dict, a list of dicts, or a list with such lists in it."""
    if not isinstance(messages, (list, tuple)):
        yield messages
        return
    for each in messages:
        yield from _flat(each)


def _has_transactions(client: MongoClient[Any]) -> bool:
    hello = client.admin.command('hello')
    return 'setName' in hello or hello.get('msg') == 'isdbgrid'


def _same_cluster(one: MongoClient[Any], other: MongoClient[Any]) -> None:
    """Refuse a collection of another MongoDB than the stream's, whose writes cannot be in one transaction with it."""
    if one is other:
        return
    try:
        (names, number), (other_names, other_number) = _identity(one), _identity(other)
    except PyMongoError as error:
        raise OptionError('exactly_once=True: cannot tell whether the collection is in the MongoDB of the stream '
                          f'({type(error).__name__}); give the name of a collection in its database') from error
    if names != other_names or (number and other_number and number != other_number):
        raise OptionError('exactly_once=True needs a collection in the MongoDB of the stream, and this one is in '
                          "another; use mode='upsert' with a key there, which has the same effect")


def _identity(client: MongoClient[Any]) -> tuple[Any, Any]:
    """What all clients of one cluster have in common: its names, and its number, if this user may read that.

    Names alone can deceive: two replica sets on two machines may both call their only member ``localhost:27017``.
    """
    hello = client.admin.command('hello')
    number = None
    with contextlib.suppress(OperationFailure):
        if hello.get('msg') == 'isdbgrid':
            number = (client['config']['version'].find_one() or {}).get('clusterId')
        elif 'setName' in hello:
            number = client['local']['system.replset'].find_one({}, {'settings.replicaSetId': 1})
    return (hello.get('msg'), hello.get('setName'), sorted(hello.get('hosts', ()))), number
