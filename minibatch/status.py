"""What a stream is doing, in figures, as plain data that can be written as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from minibatch.measures import histograms
from minibatch.models import check_name, store_for
from minibatch.store import Store

#: A consumer that gave no sign of life for so many of its intervals counts as gone.
MISSED = 3


def status(stream: str, url: str | None = None) -> dict[str, Any]:
    """The figures of one stream.

    :param stream: its name
    :param url: its database (default: as :func:`minibatch.connectdb` finds it)
    :return: ``stream``; ``backlog``: messages that are not in a committed or dead window, of which ``waiting`` are
        in no window at all; ``lag``: age in seconds of the oldest of them; windows ``ready``, ``running``,
        ``dead``, those ``done`` since the stream was made, and attempts ``failed``, of which some were ``retried``
        and others, as many as windows ``died``, were the last; ``appended``: messages that ever came;
        ``committed``: messages in windows done; ``rate``: committed messages a second, lately; ``last_progress``:
        when a window was last committed or failed (ISO 8601, UTC), or ``None``; ``consumers``: those alive, each
        with ``id``, ``host``, ``pid``, ``started``, ``beat``, and ``silent``, the seconds since; ``lost``: those that
        gave no sign of life for a while, and did not sign off, in the last hour
    :raises minibatch.errors.StoreUnavailable: MongoDB is away
    """
    check_name(stream)
    return figures(store_for(url), stream)


def figures(store: Store, stream: str, most: int | None = None) -> dict[str, Any]:
    """As :func:`status`, of a store at hand.

    :param most: count no more than so many of the messages that wait: if there may be more, ``waiting`` and ``backlog``
        are too low
    """
    raw = store.figures(stream, most)
    stats, states, now = raw['stats'], raw['states'], raw['now']

    def windows(state: str) -> int:
        return int(states.get(state, {}).get('windows', 0))

    consumers: list[dict[str, Any]] = []
    lost: list[dict[str, Any]] = []
    for doc in store.consumers_of(stream, alive_within=3600):
        silent = max(0.0, (now - doc['beat']).total_seconds())
        (consumers if silent < MISSED * doc.get('every', 5.0) + 1 else lost).append({
            'id': doc['_id'], 'host': doc.get('host'), 'pid': doc.get('pid'), 'workers': doc.get('workers'),
            'rate': doc.get('rate', 0.0), 'started': _iso(doc.get('started')), 'beat': _iso(doc.get('beat')),
            'silent': round(silent, 1)})
    return {
        'stream': stream, 'backlog': raw['backlog'], 'waiting': raw['waiting'], 'lag': round(raw['lag'], 3),
        'ready': windows('ready') + windows('cutting'), 'running': windows('running'), 'dead': windows('dead'),
        'done': int(stats.get('windows', 0)), 'failed': int(stats.get('failed', 0)),
        'committed': int(stats.get('messages', 0)), 'rate': round(sum(each['rate'] for each in consumers), 1),
        'appended': int(stats.get('appended', 0)), 'retried': int(stats.get('retried', 0)),
        'died': int(stats.get('dead', 0)),
        'last_progress': _iso(stats.get('last')), 'consumers': consumers, 'lost': lost,
    }


def measured(store: Store, stream: str) -> dict[str, dict[str, Any]]:
    """How long, how large and how late a stream's windows were: see :meth:`minibatch.models.Stream.measured`."""
    return histograms(store.totals(stream))


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec='milliseconds') + 'Z'
