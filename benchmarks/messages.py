"""The messages of all benchmarks: small, and the same for everybody."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any


def rows(count: int, start: int = 0) -> Iterator[dict[str, Any]]:
    """*count* small messages.

    >>> next(rows(1))
    {'n': 0, 'user': 'user-0', 'ms': 0.0}
    """
    for n in range(start, start + count):
        yield {'n': n, 'user': f'user-{n % 100}', 'ms': n % 997 / 10}


def stored(count: int, stream: str) -> list[dict[str, Any]]:
    """The same messages as minibatch stores them, for the raw inserts (the driver adds the ``_id``)."""
    now = datetime.now(timezone.utc)
    return [
        {'stream': stream, 'created': now, 'data': row, 'processed': False, 'window': None} for row in rows(count)
    ]
