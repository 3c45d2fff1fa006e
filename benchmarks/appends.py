"""Append and extend in one thread, beside plain inserts of the same documents into the same kind of collection."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Any

from pymongo import MongoClient
from pymongo.collection import Collection

import minibatch as mb
from benchmarks.engines import MINIBATCH_DB, database_url
from benchmarks.figures import BARE, MINIBATCH, RAW, Figures, progress
from benchmarks.messages import rows, stored

PART, UNIT = 'append', 'msg/s'
APPEND = 'append / insert_one'
SLICES = 10
"""The sides take turns slice by slice, so that a slow second of the machine meets them all."""

_streams = count(1)
Documents = list[dict[str, Any]]


def case_of(chunk: int) -> str:
    """
    >>> case_of(1000)
    'extend / insert_many, 1,000 a call'
    """
    return f'extend / insert_many, {chunk:,} a call'


def run(figures: Figures, server: str, client: MongoClient[dict[str, Any]], *, singles: int, bulk: int,
        chunks: tuple[int, ...], reps: int) -> None:
    """Both cases, *reps* times."""
    for rep in range(reps):
        _compare(figures, server, client, APPEND, singles, 1, rep)
        for chunk in chunks:
            _compare(figures, server, client, case_of(chunk), bulk, chunk, rep)


def _compare(figures: Figures, server: str, client: MongoClient[dict[str, Any]], case: str, total: int, chunk: int,
             rep: int) -> None:
    name = f'append_{next(_streams)}'
    stream = mb.stream(name, url=database_url(server, MINIBATCH_DB))
    stream.append({'n': -1})
    database = client[MINIBATCH_DB]
    twin, bare = twins(database['buffer'])
    sides: dict[str, Callable[[Documents, Documents], object]] = {
        MINIBATCH: lambda plain, _: stream.append(plain[0]) if chunk == 1 else stream.extend(plain),
        RAW: lambda _, whole: _insert(twin, whole),
        BARE: lambda _, whole: _insert(bare, whole),
    }
    spent = dict.fromkeys(sides, 0.0)
    turns = [rows(total // SLICES, part * (total // SLICES)) for part in range(SLICES)]
    names = list(sides)
    for turn, messages in enumerate(turns):
        plain = list(messages)
        for side in names[turn % len(names):] + names[:turn % len(names)]:
            whole = stored(len(plain), name)
            started = time.perf_counter()
            for i in range(0, len(plain), chunk):
                sides[side](plain[i:i + chunk], whole[i:i + chunk])
            spent[side] += time.perf_counter() - started
    for side, seconds in spent.items():
        figures.add(PART, case, side, UNIT, total // SLICES * SLICES / seconds)
    told = ', '.join(f'{side} {total // SLICES * SLICES / seconds:,.0f}' for side, seconds in spent.items())
    progress(f'{PART}, {case} [{rep + 1}]: {told} {UNIT}')
    stream.clear()
    twin.drop()
    bare.drop()


def _insert(collection: Collection[dict[str, Any]], documents: Documents) -> None:
    if len(documents) == 1:
        collection.insert_one(documents[0])
    else:
        collection.insert_many(documents)


def twins(buffer: Collection[dict[str, Any]]) -> tuple[Collection[dict[str, Any]], Collection[dict[str, Any]]]:
    """A collection with the clustering and the indexes that the buffer has, and one without its indexes."""
    options = {key: value for key, value in buffer.options().items() if key == 'clusteredIndex'}
    twin, bare = buffer.database['append_twin'], buffer.database['append_bare']
    for collection in (twin, bare):
        collection.drop()
        buffer.database.create_collection(collection.name, **options)
    for name, index in buffer.index_information().items():
        if name != '_id_' and not index.get('clustered'):
            more = {key: index[key] for key in ('unique', 'sparse', 'partialFilterExpression') if key in index}
            twin.create_index(index['key'], name=name, **more)
    return twin, bare
