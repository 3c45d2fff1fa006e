"""The page ``/metrics``: the figures of all streams in the form that Prometheus reads.

The names, units and types follow Prometheus' conventions (https://prometheus.io/docs/practices/naming/): base units,
``_total`` for what only grows, one label for the stream. The figures are the store's, not this process's: they hold
all producers and consumers, on whatever machine, and go on where they were when this process starts again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from math import isinf
from typing import Any

from flask import request
from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from werkzeug.wrappers import Response

import minibatch as mb
from minibatch.contrib.apps.health import Probe

#: Seconds that a scrape waits for MongoDB; Prometheus gives up after ten.
PATIENCE = 3.0

#: Name, figure of ``Stream.status()``, and what it says.
COUNTERS = (
    ('minibatch_messages_appended', 'appended', 'Messages appended, by whatever producer or source.'),
    ('minibatch_messages_committed', 'committed', 'Messages in windows that were committed.'),
    ('minibatch_windows_committed', 'done', 'Windows committed.'),
    ('minibatch_attempts_failed', 'failed', 'Attempts at a window that failed.'),
    ('minibatch_windows_retried', 'retried', 'Failed attempts after which the window was put back to be tried again.'),
    ('minibatch_windows_dead', 'died', 'Windows that were out of attempts, and messages that could not be read.'),
)
GAUGES = (
    ('minibatch_backlog_messages', 'backlog', 'Messages that are in no committed or dead window.'),
    ('minibatch_waiting_messages', 'waiting', 'Messages that are in no window at all.'),
    ('minibatch_lag_seconds', 'lag', 'Age of the oldest message that is in no committed or dead window.'),
)
HISTOGRAMS = (
    ('minibatch_window_duration_seconds', 'duration', 'How long the function took for a window, each attempt.'),
    ('minibatch_window_size_messages', 'size', 'Messages in committed windows.'),
    ('minibatch_window_queue_seconds', 'queue',
     "From when the last message of a window came to the window's first attempt."),
)


class Census(Probe):
    """Looks at all streams of a database."""

    def _seen(self, names: Sequence[str], pids: Sequence[int]) -> dict[str, Any]:
        database = mb.connectdb(self.url)
        seen = {}
        for name in database['stream'].distinct('_id'):
            if name not in self._streams:
                self._streams[name] = mb.stream(name, url=self.url)
            stream = self._streams[name]
            seen[name] = {**stream.status(), 'measured': stream.measured()}
        return seen


class Streams(Collector):
    """Collects the figures when Prometheus asks for them.

    :param url: of MongoDB
    """

    def __init__(self, url: str | None) -> None:
        self._census = Census(url, PATIENCE)

    def describe(self) -> Iterable[Metric]:
        """What there is to collect, without asking MongoDB."""
        return families({}, up=False)

    def collect(self) -> Iterable[Metric]:
        """The figures; of no stream, and ``minibatch_up`` is 0, if MongoDB does not give them."""
        look = self._census.look((), ())
        return families({} if look.error else look.streams, up=not look.error)


def families(streams: dict[str, Any], *, up: bool) -> list[Metric]:
    """The figures of *streams* as Prometheus' client has them.

    :param streams: by name what ``Stream.status()`` says, and what ``Stream.measured()`` says as ``measured``
    :param up: whether MongoDB answered

    >>> [family.name for family in families({}, up=True)][:2]
    ['minibatch_build', 'minibatch_up']
    """
    found: list[Metric] = [
        InfoMetricFamily('minibatch_build', 'Which version this is.', value={'version': _version()}),
        GaugeMetricFamily('minibatch_up', 'Whether MongoDB gave the figures.', value=int(up)),
    ]
    for name, figure, text in COUNTERS:
        counter = CounterMetricFamily(name, text, labels=['stream'])
        for stream, figures in streams.items():
            counter.add_metric([stream], figures[figure])
        found.append(counter)
    for name, figure, text in GAUGES:
        gauge = GaugeMetricFamily(name, text, labels=['stream'])
        for stream, figures in streams.items():
            gauge.add_metric([stream], figures[figure])
        found.append(gauge)
    found += _others(streams)
    for name, measure, text in HISTOGRAMS:
        histogram = HistogramMetricFamily(name, text, labels=['stream'])
        for stream, figures in streams.items():
            measured = figures['measured'][measure]
            buckets = [('+Inf' if isinf(bound) else repr(bound), n) for bound, n in measured['buckets']]
            histogram.add_metric([stream], buckets, measured['sum'])
        found.append(histogram)
    return found


def _others(streams: dict[str, Any]) -> list[Metric]:
    windows = GaugeMetricFamily('minibatch_windows', 'Windows there are, by what they wait for.',
                                labels=['stream', 'state'])
    consumers = GaugeMetricFamily('minibatch_consumers', 'Consumers that gave a sign of life lately.',
                                  labels=['stream'])
    progress = GaugeMetricFamily('minibatch_last_progress_timestamp_seconds',
                                 'When a window was last committed or failed.', labels=['stream'])
    for stream, figures in streams.items():
        for state in ('ready', 'running', 'dead'):
            windows.add_metric([stream, state], figures[state])
        consumers.add_metric([stream], len(figures['consumers']))
        last = figures['last_progress']
        if last is not None:
            progress.add_metric([stream], datetime.fromisoformat(last.replace('Z', '+00:00')).timestamp())
    return [windows, consumers, progress]


def _version() -> str:
    try:
        return version('minibatch')
    except PackageNotFoundError:  # run from a clone that is not installed
        return 'unknown'


class Others(Collector):
    """What else this process measures: metrics of the user's own, and the client's of the process."""

    def describe(self) -> Iterable[Metric]:
        """Nothing is said before it is collected: metrics may be made later."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """All of the default registry."""
        return REGISTRY.collect()


class Metrics:
    """The page.

    :param url: of MongoDB
    """

    def __init__(self, url: str | None) -> None:
        registry = CollectorRegistry()
        registry.register(Streams(url))
        registry.register(Others())
        self._app = make_wsgi_app(registry)  # which asks it once for each scrape

    def page(self) -> Response:
        """The answer to the request: as text, OpenMetrics or compressed, as it asks for."""
        return Response.from_app(self._app, request.environ)
