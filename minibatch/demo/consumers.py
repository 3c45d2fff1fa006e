"""The demo's two consumers: what somebody with metrics of their own would write."""

from __future__ import annotations

from typing import Any

import minibatch as mb
from minibatch.contrib.mongodb import MongoSink

#: Messages in a window of the consumer that cuts by count.
SIZE = 20
METRICS = ('cpu', 'memory', 'disk', 'network')


def by_count(stream: str, results: str, url: str | None, exactly_once: bool) -> None:
    """Average every :data:`SIZE` samples."""
    mb.streaming(stream, average, size=SIZE, url=url, workers=1, lease=5,
                 sink=MongoSink(results, exactly_once=exactly_once))


def by_second(stream: str, results: str, url: str | None, exactly_once: bool) -> None:
    """Average the samples of each second."""
    mb.streaming(stream, average, interval=1, relaxed=False, url=url, workers=1, lease=5,
                 sink=MongoSink(results, exactly_once=exactly_once))


def average(window: Any) -> Any:
    """One result for a window: how many samples, and the mean of each metric; none for an empty one.

    >>> from minibatch.window import Batch
    >>> metrics = [dict(cpu=n, memory=50, disk=0, network=8) for n in (1, 2)]
    >>> average(Batch(id='s:1', stream='s', data=metrics))['cpu']
    1.5
    """
    n = len(window.data)
    if not n:
        return []
    means = {metric: sum(sample[metric] for sample in window.data) / n for metric in METRICS}
    return {'stream': window.stream, 'window': window.id, 'n': n, 'start': window.start, **means}
