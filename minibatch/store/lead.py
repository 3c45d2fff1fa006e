"""Who cuts: the lease on the stream document, by the server's clock."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pymongo import ReturnDocument
from pymongo.client_session import ClientSession

from minibatch.alive import gone, mark
from minibatch.clock import EPOCH
from minibatch.errors import LeaseLost
from minibatch.points import reached
from minibatch.store.base import Base, in_seconds, verb
from minibatch.store.schema import LIGHT, Document


class Lead(Base):
    """The lease of the one consumer of a stream that cuts its windows."""

    @verb
    def lead(self, stream: str, owner: str, ttl: float, lsid: Any = None) -> bool:
        """Take the lease if it is free, has run out, or was held by a process of this machine that has ended.

        A predecessor that died in the middle of a transaction still holds the locks of what it touched, so its
        session is ended first; its open cut is then undone by the server. Without a session nobody could end what the
        server still does for the dead one, so its lease is waited for.

        :param owner: who asks; a new name for each start of a consumer
        :param ttl: seconds until the lease runs out unless it is renewed
        :param lsid: id of the server session in which *owner* will cut
        :return: whether *owner* leads now
        """
        over: Document = {'$lte': [{'$ifNull': ['$lease.until', EPOCH]}, '$$NOW']}
        found = list(self.streams.aggregate([{'$match': {'_id': stream}}, {'$project': {'lease': 1, 'over': over}}]))
        last = found[0].get('lease') or {} if found else {}
        dead = bool(last.get('lsid')) and gone(last.get('process'))
        if not found or not (found[0]['over'] or dead):
            return False
        if last.get('lsid') and last.get('owner') != owner:
            self.kill_sessions([last['lsid']])
        lease = {'owner': owner, 'until': in_seconds(ttl), 'lsid': {'$literal': lsid}, 'process': {'$literal': mark()}}
        free = {'lease.owner': last['owner']} if dead else {'$expr': over}
        taken = self.streams.find_one_and_update({'_id': stream, **free}, [{'$set': {'lease': lease}}], {'_id': 1})
        if taken is not None:
            reached('lead:taken')
        return taken is not None

    @verb
    def renew_lead(self, stream: str, owner: str, ttl: float) -> bool:
        """Hold the lease for *ttl* more seconds; ``False`` if it went to somebody else."""
        return self.streams.update_one({'_id': stream, 'lease.owner': owner},
                                       [{'$set': {'lease.until': in_seconds(ttl)}}]).matched_count == 1

    @verb
    def resign(self, stream: str, owner: str, unused: tuple[int, int] | None = None) -> None:
        """Give the lease back, so that another consumer can have it at once.

        :param unused: first and last of the window numbers allocated and not used; they are given back if they are the
            last ones
        """
        if unused is not None and unused[0] <= unused[1]:
            self.streams.with_options(write_concern=LIGHT).update_one(
                {'_id': stream, 'lease.owner': owner, 'seq': unused[1]}, {'$set': {'seq': unused[0] - 1}})
        self.streams.update_one({'_id': stream, 'lease.owner': owner}, {'$unset': {'lease': 1}})

    @verb
    def allocate(self, stream: str, owner: str, n: int, ttl: float, advance: datetime | None = None,
                 session: ClientSession | None = None) -> int:
        """Take *n* window numbers, and renew the lease with the same write.

        :param advance: time windows have been cut up to here, which is noted in the same write; it never goes back
        :return: the first of the numbers
        :raises LeaseLost: somebody else leads
        """
        doc = self.streams.find_one_and_update(
            {'_id': stream, 'lease.owner': owner},
            [{'$set': {'seq': {'$add': ['$seq', n]}, 'lease.until': in_seconds(ttl),
                       **({'last_read': {'$max': ['$last_read', advance]}} if session and advance else {})}}],
            {'seq': 1}, return_document=ReturnDocument.AFTER, session=session)
        if doc is None:
            raise LeaseLost(f'another consumer cuts the windows of {stream!r} now')
        reached('cut:allocated')
        return int(doc['seq']) - n + 1
