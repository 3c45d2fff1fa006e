"""What is in a stream, and windows cut by hand."""

from __future__ import annotations

from typing import Any

import minibatch as mb
from minibatch.order import Claim, Order


def numbers(db: Any) -> list[int]:
    return [doc['data']['n'] for doc in db.buffer.find({}).sort('_id', 1)]


def window(stream: mb.Stream, size: int, *, keep: bool = False, state: str = 'ready') -> str:
    """Cut one window by hand, and bring it into *state*; its id."""
    store = stream.store
    assert store.lead(stream.name, 'test', 60)
    claim = Claim(owner='test', token='t', ttl=60, windows=0)
    doc, = store.mark(stream.name, Order(size=size), claim, lambda n: store.allocate(stream.name, 'test', n, 60),
                      keep=keep)
    store.resign(stream.name, 'test')
    if state == 'done':
        store.commit(store.take(stream.name, 'test', 1, 60))
    return str(doc['_id'])
