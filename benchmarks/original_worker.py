"""Runs inside the original's own virtual environment: fills its buffer, drains it for a while, prints one line of JSON.

Imports nothing of this package: ``python original_worker.py URL STREAM SIZE TOTAL SECONDS``. It meets the same backlog
as everybody; it is too slow to be waited for, so its rate is that of the first seconds.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
import threading
import time
from typing import Any

import minibatch  # the original, 0.6.0


def count(window: Any) -> int:
    """The window function: no work, as everywhere in these benchmarks."""
    return len(window.data)


class Counter:
    """A sink that knows when the last message came, and stops the emitter then."""

    def __init__(self, total: int) -> None:
        self.total, self.seen = total, 0
        self.events: list[tuple[float, int]] = []
        self.complete = threading.Event()

    def put(self, data: Any) -> None:
        self.seen += data if isinstance(data, int) else len(data)
        self.events.append((time.monotonic(), self.seen))
        if self.seen >= self.total:
            self.complete.set()


def main(url: str, stream: str, size: int, total: int, seconds: float) -> None:
    """Fill, drain, print."""
    minibatch.connectdb(url=url)
    sink = Counter(total)
    emitter = minibatch.make_emitter(stream, count, size=size, sink=sink)
    now = datetime.datetime.now(datetime.timezone.utc)
    rows = [{'n': n, 'user': f'user-{n % 100}', 'ms': n % 997 / 10} for n in range(total)]
    minibatch.Buffer._get_collection().insert_many(
        {'stream': stream, 'created': now, 'data': row, 'processed': False} for row in rows)

    events: list[tuple[float, int]] = []

    def stop_in_time() -> None:
        sink.complete.wait(seconds)
        # What it finishes after it was stopped goes faster, since nothing is marked meanwhile: it does not count.
        events.extend(sink.events)
        emitter._stop = True

    stopper = threading.Thread(target=stop_in_time, daemon=True)
    stopper.start()
    emitter.run()
    stopper.join()
    minibatch.Buffer._get_collection().delete_many({'stream': stream})
    print(json.dumps({'events': events}), flush=True)
    # Its housekeeping threads are not daemons, and would keep this process.
    os._exit(0)


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
