"""Verbs on dead windows, and the figures that ``/status`` shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from minibatch.states import WindowState
from minibatch.store.base import free, verb
from minibatch.store.record import Record
from minibatch.store.schema import Document
from minibatch.store.windows import Windows

DEAD, READY, DONE, VOID = (each.value for each in (
    WindowState.DEAD, WindowState.READY, WindowState.DONE, WindowState.VOID))


class Dead(Windows):
    """List, redrive and drop dead windows; count everything."""

    @verb
    def dead(self, stream: str, ids: Sequence[str] | None = None, limit: int = 0) -> list[Document]:
        """Window documents that are dead, first ones first."""
        return list(self.windows.find(_dead(stream, ids), sort=[('seq', 1)], limit=limit))

    @verb
    def redrive(self, stream: str, ids: Sequence[str] | None = None) -> int:
        """``dead -> ready`` with all attempts anew; all of the stream's if no ids are given."""
        return self.windows.update_many(_dead(stream, ids), {
            '$set': {'state': READY, 'attempt': 0},
            '$unset': {'not_before': 1, 'token': 1, 'owner': 1}}).modified_count

    @verb
    def drop(self, stream: str, ids: Sequence[str] | None = None) -> int:
        """Remove dead windows and their messages for good."""
        dropped = [Record.from_document(doc) for doc in self.windows.find(_dead(stream, ids), {'data': 0})]
        # As if committed without keeping: what a crash leaves here, any consumer's sweep removes.
        self.windows.update_many(_dead(stream, [each.id for each in dropped]), {'$set': {'state': DONE, 'keep': False}})
        self.clean([replace(each, keep=False) for each in dropped])
        return len(dropped)

    @verb
    def figures(self, stream: str, most: int | None = None) -> Document:
        """Counts by state, of messages and of windows, with the age of the oldest message not committed.

        :param most: count no more than so many of the messages that wait; MongoDB goes through them one by one
        """
        states: dict[str, Document] = {doc['_id']: doc for doc in self.windows.aggregate([
            {'$match': {'stream': stream}},
            {'$group': {'_id': '$state', 'windows': {'$sum': 1}, 'messages': {'$sum': '$n'},
                        'oldest': {'$min': '$start'}}}])}
        limit: dict[str, Any] = {} if most is None else {'limit': most}
        waiting = self.buffer.count_documents(free(stream), **limit)
        first = self.buffer.find_one(free(stream), {'created': 1}, sort=[('_id', 1)])
        open_states = [doc for state, doc in states.items() if state not in (DEAD, DONE, VOID)]
        times = [doc['oldest'] for doc in open_states if doc['messages']] + ([first['created']] if first else [])
        now = self.clock.now()
        doc = self.streams.find_one({'_id': stream}) or {}
        stats: dict[str, Any] = doc.get('stats') or {}
        return {
            'known': bool(doc),
            'waiting': waiting,
            'backlog': waiting + sum(each['messages'] for each in open_states),
            'lag': max(0.0, (now - min(times)).total_seconds()) if times else 0.0,
            'states': {state: {'windows': each['windows'], 'messages': each['messages']}
                       for state, each in states.items()},
            'stats': stats, 'last_read': doc.get('last_read'), 'now': now,
        }


def _dead(stream: str, ids: Sequence[str] | None) -> Document:
    return {'stream': stream, 'state': DEAD} | ({} if ids is None else {'_id': {'$in': list(ids)}})
