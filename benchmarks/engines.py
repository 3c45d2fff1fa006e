"""Who drains: minibatch through its public API, and the hand-written loop. Each side runs in any process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pymongo import MongoClient
from pymongo.uri_parser import parse_uri

from benchmarks.figures import HANDWRITTEN, INLINE, MINIBATCH
from benchmarks.handwritten import Queue
from benchmarks.messages import rows

CHUNK = 10_000
MINIBATCH_DB, HANDWRITTEN_DB, ORIGINAL_DB = 'bench_minibatch', 'bench_handwritten', 'bench_original'


@dataclass(frozen=True)
class Engine:
    """One way to do the work.

    :param kind: ``minibatch`` or ``handwritten``
    :param option: the executor of minibatch, or the variant of the hand-written loop
    :param subject: the name that its figures carry
    """

    kind: str
    option: str
    subject: str


PROCESS = Engine('minibatch', 'process', MINIBATCH)
INLINE_ENGINE = Engine('minibatch', 'inline', INLINE)
MARK = Engine('handwritten', 'mark', f'{HANDWRITTEN}, mark')
MOVE = Engine('handwritten', 'move', f'{HANDWRITTEN}, move')
EACH = Engine('handwritten', 'each', f'{HANDWRITTEN}, each')


@dataclass(frozen=True)
class Job:
    """What a consumer process is told.

    :ivar options: of minibatch's emitter, if it is no ``CountWindow``
    """

    engine: Engine
    server: str
    stream: str
    size: int
    latency: bool = False
    listen: bool = False
    options: dict[str, Any] | None = None


def database_url(server: str, database: str) -> str:
    """The server's URL with another database.

    >>> database_url('mongodb://127.0.0.1:27017/?replicaSet=rs0', 'bench')
    'mongodb://127.0.0.1:27017/bench?replicaSet=rs0'
    """
    address, _, options = server.partition('?')
    scheme, _, rest = address.partition('://')
    return f'{scheme}://{rest.split("/")[0]}/{database}' + (f'?{options}' if options else '')


def client_of(server: str) -> MongoClient[dict[str, Any]]:
    """A client of the server for the raw and the hand-written sides."""
    parse_uri(server)
    return MongoClient(server, w='majority', journal=True)


def fill(job: Job, client: MongoClient[dict[str, Any]], total: int) -> Callable[[], bool]:
    """Put *total* messages where the job's consumers look for them; returns a check of "nothing is left"."""
    if job.engine.kind == 'handwritten':
        queue = Queue(client, HANDWRITTEN_DB, job.stream, job.engine.option, job.size)
        queue.create()
        for start in range(0, total, CHUNK):
            queue.put(list(rows(min(CHUNK, total - start), start)))
        return lambda: queue.messages.find_one() is None and queue.windows.find_one() is None
    import minibatch as mb
    stream = mb.stream(job.stream, url=database_url(job.server, MINIBATCH_DB))
    for start in range(0, total, CHUNK):
        stream.extend(rows(min(CHUNK, total - start), start))
    db = client[MINIBATCH_DB]
    mine = {'stream': job.stream}
    return lambda: db['buffer'].find_one(mine, {'_id': 1}) is None and db['window'].find_one(mine, {'_id': 1}) is None


def consume(job: Job, put: Callable[[Any], None], stopping: threading.Event, ready: Callable[[], None]) -> None:
    """Drain in this process until *stopping*; *ready* is called when all is imported and connected."""
    work = stamp_window() if job.latency else count_window()
    if job.engine.kind == 'handwritten':
        client = client_of(job.server)
        queue = Queue(client, HANDWRITTEN_DB, job.stream, job.engine.option, job.size)
        ready()
        queue.run(work, put, stopping.is_set)
        return
    import minibatch as mb
    emitter = mb.make_emitter(job.stream, work, executor=job.engine.option, sink=put,
                              url=database_url(job.server, MINIBATCH_DB), **(job.options or {'size': job.size}))

    def stop_emitter() -> None:
        stopping.wait()
        emitter.stop()

    threading.Thread(target=stop_emitter, daemon=True).start()
    ready()
    emitter.run(blocking=True)


def count_window() -> Callable[[Any], int]:
    """The function that does nothing; made here so that it travels to worker processes by value."""
    def count(window: Any) -> int:
        return len(window.data)
    return count


def stamp_window() -> Callable[[Any], dict[str, int]]:
    """The function that says when it was called, on the clock that all processes of a machine share."""
    def stamp(window: Any) -> dict[str, int]:
        import time
        return {'n': window.data[0]['n'], 'called': time.monotonic_ns()}
    return stamp
