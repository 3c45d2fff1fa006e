"""What a MongoDB says of itself, as far as minibatch rests on it; nothing is changed or created."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from pymongo import WriteConcern
from pymongo.errors import OperationFailure, PyMongoError

from minibatch.clock import SystemClock
from minibatch.connection import Connection
from minibatch.store import schema
from minibatch.store.base import reason, verb
from minibatch.store.schema import Document

#: Seconds that a majority of the members have to acknowledge a write.
PATIENCE = 5.0


@verb
def examine(connection: Connection) -> Document:
    """Facts of a MongoDB.

    :param connection: from :func:`minibatch.connection.connect`
    :return: ``version``; ``set``: name of its replica set; ``sharded``; ``members``: ``name``, ``state``, ``healthy``
        of each, as far as we may know; ``default_w``: what other programs' writes wait for by default; ``journal``:
        whether a majority means their journals; ``acknowledged``: seconds that a majority write took, or ``None``, and
        then ``refusal`` says why; ``ahead``: seconds by which its clock is ahead of ours; ``collections``: whether
        there are ours; ``missing``: indexes; ``clustered``: whether the buffer is, ``None`` without a buffer
    :raises minibatch.errors.StoreUnavailable: it went away meanwhile
    """
    admin, db = connection.client.admin, connection.db
    hello: Document = admin.command('hello')
    there = set(db.list_collection_names(filter={'name': {'$in': list(schema.INDEXES)}}))
    acknowledged, refusal = _acknowledged(connection)
    return {
        'version': str(admin.command('buildInfo')['version']),
        'set': hello.get('setName'), 'sharded': hello.get('msg') == 'isdbgrid',
        'members': _members(admin, hello), 'default_w': _default(admin), 'journal': _journal(admin),
        'acknowledged': acknowledged, 'refusal': refusal,
        'ahead': (connection.clock.now() - SystemClock().now()).total_seconds(),
        'collections': bool(there), 'missing': schema.missing(db),
        'clustered': 'clusteredIndex' in db['buffer'].options() if 'buffer' in there else None,
    }


def _acknowledged(connection: Connection) -> tuple[float | None, str | None]:
    """How long a write waits for a majority; it matches nothing, but is acknowledged like one that does."""
    majority = WriteConcern('majority', j=True, wtimeout=round(PATIENCE * 1000))
    since = time.monotonic()
    try:
        connection.db.get_collection('stream', write_concern=majority).update_one({'_id': ''}, {'$set': {'_': 1}})
    except PyMongoError as error:
        return None, reason(error)
    return time.monotonic() - since, None


def _members(admin: Any, hello: Document) -> list[Document]:
    with contextlib.suppress(OperationFailure):  # no replica set, or we may not ask
        return [{'name': each['name'], 'state': each['stateStr'], 'healthy': each['health'] == 1}
                for each in admin.command('replSetGetStatus')['members']]
    return [{'name': name, 'state': 'PRIMARY' if name == hello.get('primary') else 'unknown', 'healthy': None}
            for name in [*hello.get('hosts', ()), *hello.get('arbiters', ())]]


def _default(admin: Any) -> Any:
    with contextlib.suppress(OperationFailure):  # before 4.4, or we may not ask, or no replica set
        return admin.command('getDefaultRWConcern').get('defaultWriteConcern', {}).get('w')
    return None


def _journal(admin: Any) -> bool | None:
    with contextlib.suppress(OperationFailure):
        return bool(admin.command('replSetGetConfig')['config'].get('writeConcernMajorityJournalDefault', True))
    return None
