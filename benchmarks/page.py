"""The live page: how soon it is up, and what five pages that are open cost a consumer that drains a backlog."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing import get_context
from typing import Any

import psutil
from pymongo import MongoClient

from benchmarks.drain import drain
from benchmarks.engines import MINIBATCH_DB, PROCESS, database_url
from benchmarks.figures import MINIBATCH, Figures, TrialFailed, progress

PART, UNIT, SECONDS, LOAD = 'page', 'msg/s', 's', '% of a CPU'
UP = 'from the first request to figures on the page'
PAGES = 5
SIZE = 1_000
NONE, OPEN = 'drain without an app', f'drain with {PAGES} pages open'
ASSETS = ('/', '/live/uplot.css', '/live/live.css', '/live/uplot.js', '/live/live.js', '/live/charts.js', '/live/state',
          '/live/events')
LIMIT = 30.0
#: Seconds until the app is stopped, or goes on.
TURN = 3.0

_spawn = get_context('spawn')


def run(figures: Figures, server: str, client: MongoClient[dict[str, Any]], *, messages: int, reps: int) -> None:
    """In one drain, now with an app that five pages look at, now with one that is stopped, which costs nothing.

    Two drains, one after the other, differ by far more than what is asked for here.
    """
    for rep in range(reps):

        def trial(rep: int = rep) -> None:
            with app(server) as (port, process):
                up = page_up(port)
                figures.add(PART, UP, MINIBATCH, SECONDS, up)
                progress(f'{PART}, {UP} [{rep + 1}]: {up:.3f} {SECONDS}')
                with pages(port) as seen, in_turns(process) as turns:
                    used = cpu(process)
                    drained = drain(PROCESS, server, client, SIZE, messages, 1)
                    used = cpu(process) - used
                if min(seen) < 2:
                    raise TrialFailed('a page saw nothing')
            rates = rates_of(turns, drained.events)
            figures.add(PART, OPEN, 'the app itself', LOAD, 100 * used / (drained.seconds / 2))
            for case, rate in rates.items():
                figures.add(PART, case, MINIBATCH, UNIT, rate)
                progress(f'{PART}, {case} [{rep + 1}]: {rate:,.0f} {UNIT}')

        figures.attempt(PART, trial)


@contextmanager
def in_turns(process: psutil.Process) -> Iterator[list[float]]:
    """Stop a process, and let it go on, in turns; when each turn begins: of those in which it runs, then stands."""
    begins, over = [time.monotonic()], threading.Event()

    def turn() -> None:
        while not over.wait(TURN):
            begins.append(time.monotonic())
            process.suspend() if len(begins) % 2 == 0 else process.resume()
        process.resume()

    thread = threading.Thread(target=turn, daemon=True)
    thread.start()
    try:
        yield begins
    finally:
        over.set()
        thread.join()


def rates_of(turns: Sequence[float], events: Sequence[tuple[float, int]]) -> dict[str, float]:
    """Messages a second with and without the pages, over all whole turns in which messages were run.

    As many turns of the one as of the other.

    >>> rates_of([0, 1, 2, 3, 4, 5], [(0.9, 1), (1.5, 50), (2.5, 10), (3.5, 30), (4.5, 20), (5.0, 7)])
    {'drain with 5 pages open': 15.0, 'drain without an app': 40.0}
    """
    found: dict[str, list[float]] = {OPEN: [], NONE: []}
    begin, end = min(events)[0], max(events)[0]
    for at, (since, until) in enumerate(pairwise(turns)):
        if begin <= since and until <= end:
            found[NONE if at % 2 else OPEN].append(
                sum(n for when, n in events if since <= when < until) / (until - since))
    whole = min(map(len, found.values()))
    if not whole:
        raise TrialFailed('it was drained before there was a turn of each')
    return {case: sum(rates[:whole]) / whole for case, rates in found.items()}


def _serve(url: str, port: Any, stop: Any) -> None:
    from minibatch.contrib.apps import StreamingApp
    server = StreamingApp(url=url).serve(port=0)
    port.value = server.port
    stop.wait()
    server.stop()


@contextmanager
def app(server: str) -> Iterator[tuple[int, psutil.Process]]:
    """An app in a process of its own; its port, and the process."""
    port, stop = _spawn.Value('i', 0), _spawn.Event()
    process = _spawn.Process(target=_serve, args=(database_url(server, MINIBATCH_DB), port, stop))
    process.start()
    try:
        until = time.monotonic() + LIMIT
        while not port.value:
            if time.monotonic() > until or not process.is_alive():
                raise TrialFailed('the app did not start')
            time.sleep(0.001)
        yield int(port.value), psutil.Process(process.pid)
    finally:
        stop.set()
        process.join(LIMIT)
        process.kill()


def cpu(process: psutil.Process) -> float:
    """The processor time that it has used, in seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)


def page_up(port: int) -> float:
    """Seconds until all that a browser asks for is there, and an event with figures; one after another."""
    began = time.monotonic()
    for path in ASSETS:
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=LIMIT)
        connection.request('GET', path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise TrialFailed(f'{path}: {answer.status}')
        if path.endswith('events'):
            answer.readline()
        elif path.endswith('state'):
            if json.loads(answer.read())['event'] is None:
                raise TrialFailed('there were no figures in time')
        else:
            answer.read()
        connection.close()
    return time.monotonic() - began


@contextmanager
def pages(port: int) -> Iterator[list[int]]:
    """Pages that listen; how many events each has seen."""
    seen, over = [0] * PAGES, threading.Event()

    def listen(page: int) -> None:
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=LIMIT)
        connection.request('GET', '/live/events')
        answer = connection.getresponse()
        while not over.is_set() and (line := answer.readline()):
            seen[page] += line.startswith(b'data: ')
        connection.close()

    threads = [threading.Thread(target=listen, args=(page,), daemon=True) for page in range(PAGES)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join(LIMIT)
