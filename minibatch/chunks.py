"""Many messages in parts: as many at a time as memory and the database like, and soon enough for a live source."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from itertools import islice
from typing import Any, TypeGuard

from minibatch.errors import InvalidMessage
from minibatch.messages import Message, convert

MOST = 10_000  #: messages in a chunk
MOST_BYTES = 32 * 1024 * 1024  #: bytes of a chunk, about
_OLDEST = 0.5  # seconds after which a chunk goes out even if it is small: a generator may be a live source
_SLOW = 0.05  # seconds that taking a group from a generator should take at most


def chunks(stream: str, rows: Iterable[Any]) -> Iterator[list[Message]]:
    """Convert *rows* and cut them in chunks.

    A collection is checked as a whole before its first chunk comes. Of an iterator that is not possible; the error
    then says how many messages were stored, and takes those of all earlier chunks to be.

    :param stream: the name of the stream
    :param rows: many messages
    :raises InvalidMessage: for the first message that cannot be stored
    """
    if isinstance(rows, (Mapping, str, bytes, bytearray)) or not isinstance(rows, Iterable):
        fix = 'use append() for one message' if isinstance(rows, Mapping) else 'give it a list of dicts'
        raise InvalidMessage(f'stream {stream!r} cannot be extended by a value of type {type(rows).__name__}, which '
                             f'is not many messages; nothing was stored; {fix}')
    if is_collection(rows):
        rows = list(rows)
        messages, size = convert(stream, rows, keep=len(rows) <= MOST)
        if len(rows) <= MOST and size <= MOST_BYTES:  # the one chunk there is, converted once
            if messages:
                yield messages
            return
    yield from _chunks(stream, rows)


def is_collection(rows: Iterable[Any]) -> TypeGuard[Sequence[Any] | Set[Any] | ValuesView[Any]]:
    """Whether *rows* surely has a length and can be gone through twice.

    A length alone does not tell: progress bars around generators have one too.

    >>> is_collection([]), is_collection(iter([]))
    (True, False)
    """
    return isinstance(rows, (Sequence, Set, ValuesView))


def _chunks(stream: str, rows: Iterable[Any]) -> Iterator[list[Message]]:
    source = iter(rows)
    chunk: list[Message] = []
    size = before = stored = 0
    began, take = time.monotonic(), 1
    while True:
        started = time.monotonic()
        group = list(islice(source, min(take, MOST - len(chunk))))
        took = time.monotonic() - started
        messages, bytes_ = convert(stream, group, before=before, stored=stored)
        before += len(group)
        if not chunk:
            began = started
        chunk += messages
        size += bytes_
        if chunk and (not group or len(chunk) == MOST or size >= MOST_BYTES or time.monotonic() - began > _OLDEST):
            yield chunk
            stored += len(chunk)
            chunk, size = [], 0
        if not group:
            return
        if took > _SLOW or bytes_ > MOST_BYTES // 8:
            take = max(take // 8, 1)
        else:
            take = min(take * 2, 1024)
