"""``bench``: what this machine does with this MongoDB, in half a minute."""

from __future__ import annotations

import statistics
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console

from minibatch.api import streaming
from minibatch.cli.options import with_json, with_url
from minibatch.cli.output import say_json, show, table
from minibatch.errors import StoreUnavailable
from minibatch.models import Stream, store_for
from minibatch.store import Store

#: What streams of a benchmark are called; then comes the second in which it began.
PREFIX = 'minibatch-bench-'
#: A benchmark that began so many seconds ago and is still there was killed.
OLD = 3600.0
#: Appends one by one, and messages that are followed from the append to the function.
SINGLES, FOLLOWED = 200, 50
#: Seconds that a part of it may take.
LIMIT = 120.0


@click.command()
@click.option('--messages', type=click.IntRange(100, 10_000_000), default=20_000, show_default=True)
@click.option('--size', type=click.IntRange(1, 10_000), default=100, show_default=True, help='Messages in a window.')
@click.option('--workers', type=click.IntRange(min=1), help='Worker processes.  [default: number of processors]')
@with_url
@with_json
def bench(messages: int, size: int, workers: int | None, url: str | None, json_: bool) -> None:
    """Measure appends, a consumer and the way through, with a function that does nothing.

    It uses a stream of its own, and removes it in the end. The figures are those of this moment: close what else works
    on this machine and on the server.
    """
    store = store_for(url)
    _remove_old(store)
    name = f'{PREFIX}{int(time.time())}-{uuid.uuid4().hex[:6]}'
    stream = Stream.get_or_create(name, url=url)
    try:
        with _telling() as tell:
            found = measure(stream, url, messages, size, workers, tell)
    finally:
        stream.stop()
        store.remove_stream(name)
    if json_:
        say_json(found)
        return
    show(table(('', 'MESSAGES A SECOND', 'MILLISECONDS'), [
        ('append, one by one', found['append_per_second'], found['append_ms']),
        ('extend, in bulk', found['extend_per_second'], None),
        (f'consumer, windows of {size:,}', found['consume_per_second'], None),
        ('from append to function', None, found['latency_ms']),
    ], right=('MESSAGES A SECOND', 'MILLISECONDS')))


def measure(stream: Stream, url: str | None, messages: int, size: int, workers: int | None,
            tell: Any) -> dict[str, Any]:
    """The figures.

    :return: ``append_per_second``, ``append_ms`` (median), ``extend_per_second``, ``consume_per_second``,
        ``latency_ms`` (median), and with what: ``messages``, ``size``, ``workers``
    """
    tell('appending')
    took = []
    for n in range(SINGLES):
        since = time.perf_counter()
        stream.append({'n': n})
        took.append(time.perf_counter() - since)
    stream.clear()
    since = time.perf_counter()
    stream.extend({'n': n} for n in range(messages))
    extending = time.perf_counter() - since
    tell('consuming')
    done: list[tuple[float, int]] = []
    arrived = threading.Event()

    def note(n: int) -> None:
        done.append((time.perf_counter(), n))
        arrived.set()

    options = {'url': url, 'workers': workers, 'background': True, 'sink': note}
    emitter = streaming(stream.name, len, size=size, within=1, **options)
    try:
        _wait(lambda: sum(n for _, n in done) >= messages, arrived, emitter)
    finally:
        working = emitter.engine.executor.workers
        emitter.stop()
    rate = _rate(done)
    tell('following messages')
    done.clear()
    emitter = streaming(stream.name, len, size=1, **options)
    latencies = []
    try:
        for n in range(FOLLOWED + 1):
            before = len(done)
            since = time.perf_counter()
            stream.append({'n': n})
            _wait(lambda before=before: len(done) > before, arrived, emitter)
            latencies.append(done[-1][0] - since)
    finally:
        emitter.stop()
    return {
        'messages': messages, 'size': size, 'workers': working,
        'append_per_second': round(SINGLES / sum(took), 1), 'append_ms': round(statistics.median(took) * 1000, 2),
        'extend_per_second': round(messages / extending, 1), 'consume_per_second': rate,
        # without the first one, which waits for the worker processes to start
        'latency_ms': round(statistics.median(latencies[1:]) * 1000, 2),
    }


def _rate(done: list[tuple[float, int]]) -> float | None:
    """Messages a second once the first window was done; ``None`` if they were done all at once.

    >>> _rate([(1.0, 10), (1.5, 10), (2.0, 10)])
    20.0
    """
    (first, n), last = done[0], done[-1][0]
    return round((sum(each for _, each in done) - n) / (last - first), 1) if last > first else None


def _wait(condition: Any, arrived: threading.Event, emitter: Any) -> None:
    until = time.monotonic() + LIMIT
    while not condition():
        arrived.wait(0.1)
        arrived.clear()
        if time.monotonic() > until or not emitter._thread.is_alive():
            raise StoreUnavailable('the consumer of the benchmark has not done its messages in time; its stream is '
                                   'removed, and nothing else was touched')


def _remove_old(store: Store) -> None:
    """Remove what benchmarks that were killed have left."""
    for name in store.names():
        began = name.removeprefix(PREFIX).partition('-')[0]
        if name.startswith(PREFIX) and began.isdigit() and time.time() - int(began) > OLD:
            store.remove_stream(name)


@contextmanager
def _telling() -> Iterator[Any]:
    """Say on standard error what is being done, if that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status('starting') as status:
        yield lambda text: status.update(f'{text} ...')


