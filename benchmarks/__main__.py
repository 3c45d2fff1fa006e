"""``python -m benchmarks``: measure, print the table, write it down."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from typing import Any

from pymongo import MongoClient

from benchmarks import appends, backlog, bridges, drain, events, idle, latency, page, report
from benchmarks.figures import Figures, progress
from benchmarks.server import connected, environment, server

BUSY = 0.3
"""Load for each processor from which on a run is not worth much."""

PARTS = (appends.PART, drain.PART, latency.PART, idle.PART, backlog.PART, bridges.PART, events.PART, page.PART)


def numbers(text: str) -> list[int]:
    """Numbers with commas between them.

    >>> numbers('1,100')
    [1, 100]
    """
    return [int(part) for part in text.split(',') if part]


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """What to measure, and how much of it."""
    parser = argparse.ArgumentParser(prog='python -m benchmarks', description=__doc__)
    parser.add_argument('parts', nargs='*', metavar='part', help=f'of {", ".join(PARTS)} (default: all)')
    parser.add_argument('--quick', action='store_true', help='fewer messages and repetitions: minutes, and coarse')
    parser.add_argument('--url', help='a MongoDB to measure on (default: an embedded one of its own)')
    parser.add_argument('--reps', type=int, help='repetitions of each trial (default: 3)')
    parser.add_argument('--sizes', type=numbers, help='window sizes of the drain (default: 1,10,100,1000,10000)')
    parser.add_argument('--consumers', type=numbers, default=[1, 3], help='numbers of consumers (default: 1,3)')
    parser.add_argument('--scale', type=float, help='messages in each drain, as a factor (default: 1)')
    parser.add_argument('--long', type=int, help='messages in the long backlog (default: 1000000)')
    parser.add_argument('--name', help='of the files in benchmarks/results (default: bench, or quick)')
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f'no part is called {", ".join(sorted(unknown))}; there are {", ".join(PARTS)}')
    quick = chosen.quick
    chosen.parts = chosen.parts or list(PARTS)
    chosen.reps = chosen.reps or (1 if quick else 3)
    chosen.scale = chosen.scale or (0.3 if quick else 1.0)
    chosen.sizes = chosen.sizes or ([1, 100, 1_000] if quick else list(drain.TOTALS))
    chosen.long = chosen.long or (200_000 if quick else 1_000_000)
    chosen.name = chosen.name or ('quick' if quick else 'bench')
    chosen.with_original = os.environ.get('BENCH_ORIGINAL') == '1'
    return chosen


def measure(chosen: argparse.Namespace, url: str, client: MongoClient[dict[str, Any]], figures: Figures) -> None:
    """The chosen parts, one after another."""
    share = 0.3 if chosen.quick else 1.0
    if appends.PART in chosen.parts:
        appends.run(figures, url, client, singles=int(3_000 * share), bulk=200_000, chunks=(1_000, 10_000),
                    reps=chosen.reps)
    if drain.PART in chosen.parts:
        drain.run(figures, url, client, sizes=chosen.sizes, members=chosen.consumers, reps=chosen.reps,
                  scale=chosen.scale, with_original=chosen.with_original)
    if latency.PART in chosen.parts:
        latency.run(figures, url, client, appends=int(500 * share), reps=chosen.reps)
    if idle.PART in chosen.parts:
        idle.run(figures, url, client, seconds=20 * share, reps=chosen.reps)
    if backlog.PART in chosen.parts:
        backlog.run(figures, url, client, long=chosen.long, reps=chosen.reps)
    if bridges.PART in chosen.parts:
        bridges.run(figures, url, client, messages=int(100_000 * share), reps=chosen.reps)
    if events.PART in chosen.parts:
        events.run(figures, url, client, reps=chosen.reps, scale=chosen.scale)
    if page.PART in chosen.parts:
        page.run(figures, url, client, messages=int(2_000_000 * share), reps=chosen.reps)


def interrupt(signum: int, frame: Any) -> None:
    """A termination ends a run as Ctrl-C does: no process and no data stays behind."""
    raise KeyboardInterrupt


def main() -> int:
    """0, or 1 if a trial failed; missed targets are in the table."""
    chosen = options()
    signal.signal(signal.SIGTERM, interrupt)
    figures = Figures()
    with server(chosen.url) as url, connected(url) as client:
        facts = environment(client)
        if float(facts['load before']) > BUSY * float(facts['CPUs']):
            progress(f'load {facts["load before"]}: others use this machine, and the figures will show it')
        try:
            measure(chosen, url, client, figures)
        except KeyboardInterrupt:
            figures.failures.append('interrupted: the rest was not measured')
        except Exception as error:
            traceback.print_exc()
            figures.failures.append(f'{type(error).__name__}: {error}; the rest was not measured')
    print(report.markdown(figures, facts))
    for path in report.write(figures, facts, chosen.name):
        progress(f'written: benchmarks/results/{path.name}')
    return 1 if figures.failures else 0


if __name__ == '__main__':
    sys.exit(main())
