"""The six collections: their names, their indexes, and how they are read and written.

``buffer`` is clustered on ``_id`` where the server can do that (MongoDB 5.3 and later): one B-tree less for each
message to enter and to leave, worth 1.4 to 1.6 times the drain rate (``docs/design/why-this-protocol.md``).
"""

from __future__ import annotations

from typing import Any

from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import IndexModel, ReadPreference, WriteConcern
from pymongo.database import Database
from pymongo.errors import CollectionInvalid, OperationFailure
from pymongo.read_concern import ReadConcern

Document = dict[str, Any]

#: What survives the loss of a primary: acknowledged by a majority of the members, and in their journals.
MAJORITY = WriteConcern('majority', j=True, wtimeout=30_000)
#: For what may be lost, such as totals for people to look at.
LIGHT = WriteConcern(1)
#: A transaction's reads see one moment of the database.
SNAPSHOT = ReadConcern('snapshot')
#: What a majority of the members has, so that no failover takes it back; it may be a little behind.
SETTLED = ReadConcern('majority')

CODEC: CodecOptions[Document] = CodecOptions(
    uuid_representation=UuidRepresentation.STANDARD, datetime_conversion=DatetimeConversion.DATETIME_AUTO)

#: Largest message: what MongoDB takes (16 MiB), less room for what the engine adds to a message.
MAX_MESSAGE = 16 * 1024 * 1024 - 16 * 1024
#: Most data that a window document carries itself; a larger window leaves its messages in the buffer.
MAX_INLINE = 12 * 1024 * 1024
#: Most messages cut in one go.
MAX_GROUP = 10_000

BUFFER_INDEX = IndexModel([('stream', 1), ('processed', 1), ('window', 1), ('_id', 1)], name='state')
#: Consumers that died are forgotten after an hour.
CONSUMER_INDEX = IndexModel([('beat', 1)], name='beat', expireAfterSeconds=3600)
#: Name of the source whose parts are the keys of batches that were appended once; they are forgotten after a day.
ONCE = 'minibatch:once'
ONCE_INDEX = IndexModel([('at', 1)], name='once', expireAfterSeconds=24 * 3600,
                        partialFilterExpression={'name': ONCE})
#: Keys of tables with ``ttl=`` go when their time has come; until the server has removed them they count as gone.
EXPIRY_INDEX = IndexModel([('expires', 1)], name='expires', expireAfterSeconds=0, sparse=True)
WINDOW_INDEX = IndexModel([('stream', 1), ('state', 1), ('seq', 1)], name='state')
INDEXES = {'buffer': BUFFER_INDEX, 'window': WINDOW_INDEX, 'consumer': CONSUMER_INDEX, 'source': ONCE_INDEX,
           'table': EXPIRY_INDEX}


def bound(db: Database[Any]) -> Database[Any]:
    """The same database, read from the primary and written with :data:`MAJORITY`."""
    return db.with_options(codec_options=CODEC, write_concern=MAJORITY, read_preference=ReadPreference.PRIMARY,
                           read_concern=ReadConcern('local'))


def ensure(db: Database[Any]) -> bool:
    """Create what is missing of the collections and indexes; harmless to repeat and to do at the same time.

    Outside of any transaction, since creating a collection in one blocks every other writer.

    :return: whether the buffer is clustered
    """
    plain = ('stream', 'window', 'consumer', 'source', 'table', 'progress')
    there = set(db.list_collection_names(filter={'name': {'$in': ['buffer', *plain]}}))
    for name in plain:
        if name not in there:
            _create(db, name)
    if 'buffer' not in there:
        try:
            _create(db, 'buffer', clusteredIndex={'key': {'_id': 1}, 'unique': True})
        except OperationFailure:  # a server before 5.3
            _create(db, 'buffer')
    for name, index in INDEXES.items():
        db[name].create_indexes([index])
    return 'clusteredIndex' in db['buffer'].options()


def missing(db: Database[Any]) -> list[str]:
    """The indexes that :func:`ensure` would create in collections that are there, as ``collection.index``."""
    there = set(db.list_collection_names(filter={'name': {'$in': list(INDEXES)}}))
    return [f'{name}.{index.document["name"]}' for name, index in INDEXES.items()
            if name in there and index.document['name'] not in db[name].index_information()]


def _create(db: Database[Any], name: str, **options: Any) -> None:
    try:
        db.create_collection(name, **options)
    except CollectionInvalid:
        return  # somebody else was faster
    except OperationFailure as error:
        if error.code != 48:  # NamespaceExists
            raise
