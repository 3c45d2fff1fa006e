"""What the live page shows: one poller of the store for all pages of a process, and the last minutes of its figures.

However many pages are open, MongoDB is asked once; what is the same for all of them is made into JSON once, too. While
no page is open the poller looks seldom, so that whoever opens one sees the minutes before.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import minibatch as mb
from minibatch.logs import hidden
from minibatch.measures import quantile

log = logging.getLogger(__name__)

#: Seconds between two looks with a page open, without one, and at the most; a look takes a twentieth of the time.
LIVE, QUIET, SLOWEST, SHARE = 1.0, 5.0, 15.0, 20
#: Messages that are counted at each look. More are counted after so many seconds, and for a hundredth of the time.
COUNTED, COUNT_AGAIN, COUNT_SHARE = 10_000, 60.0, 100
#: Seconds over which rates and percentiles are taken, and for which figures are kept.
RATE, LATELY, KEPT = 10.0, 60.0, 300.0
#: Seconds after which a total that has not grown counts as standing still.
SILENT = 4.0
#: Streams that are looked at; pages that may be open by default; seconds after which a page hears something.
MOST_STREAMS, MOST_PAGES, HEARTBEAT = 200, 32, 15.0
#: What a point of a stream's history has, besides its time.
SERIES = ('appended', 'committed', 'backlog')


class Total:
    """How fast a total grows that is told now and then: by every process a second or two after it has counted.

    The times of the looks at which it had grown are the ends of the span that a rate is taken over; else a rate would
    swing with the phase of those processes.

    >>> total = Total()
    >>> [total.rate(at, value) for at, value in ((0, 0), (1, 0), (2, 200), (3, 200), (4, 400), (5, 400))]
    [None, 0.0, 100.0, 100.0, 100.0, 100.0]
    """

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int]] = deque()
        self._looked: float | None = None

    def rate(self, at: float, value: int) -> float | None:
        """How much a second it has grown lately; ``None`` before it was seen twice.

        :param at: when *value* was seen
        """
        steps, looked, self._looked = self._steps, self._looked, at
        if looked is None:
            steps.append((at, value))
            return None
        if value != steps[-1][1]:
            if looked - steps[-1][0] > SILENT:
                steps.append((looked, steps[-1][1]))  # until then nothing came
            steps.append((at, value))
        while len(steps) > 1 and steps[1][0] <= at - RATE:
            steps.popleft()
        begin = steps[0][0]
        if len(steps) > 1 and steps[1][1] == steps[0][1]:
            begin = max(begin, at - RATE)  # it stood still there
        end = steps[-1][0] if at - steps[-1][0] <= SILENT else at
        # A total may fall: when a consumer is killed, or a stream made anew.
        return round(max(0, steps[-1][1] - steps[0][1]) / (end - begin), 1) if end > begin else 0.0


class Backlog:
    """A stream's figures where it takes MongoDB long to count what waits: it is counted seldom.

    In between, the totals tell what has come and gone since.

    :param stream: has ``status(most)``
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._counted: dict[str, Any] = {}
        self._again = 0.0

    def figures(self) -> dict[str, Any]:
        """As ``Stream.status()``, and ``counted``: whether its ``backlog`` and ``waiting`` were counted just now."""
        seen: dict[str, Any] = self._stream.status(COUNTED)
        if seen['waiting'] < COUNTED:
            self._counted = {}
            return seen | {'counted': True}
        began = time.monotonic()
        if not self._counted or began >= self._again:
            self._counted = self._stream.status()
            self._again = began + max(COUNT_AGAIN, COUNT_SHARE * (time.monotonic() - began))
            return self._counted | {'counted': True}
        more = sum(sign * (seen[total] - self._counted[total]) for sign, total in ((1, 'appended'), (-1, 'committed')))
        return seen | {name: max(seen[name], self._counted[name] + more) for name in ('backlog', 'waiting')} | {
            'counted': False}


class Past:
    """What one stream did in the last minutes."""

    def __init__(self) -> None:
        self.points: deque[tuple[float | None, ...]] = deque()
        self._appended, self._committed = Total(), Total()
        self._measured: deque[tuple[float, dict[str, Any]]] = deque()

    def note(self, at: float, figures: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
        """Take in a look.

        :param at: when, in seconds since 1970
        :param figures: of the stream
        :param measured: what its windows took
        :return: ``rates``, messages a second; ``latency`` and ``duration``: percentiles of windows in the last minute,
            in seconds; ``None`` for what is not known
        """
        rates = {'appended': self._appended.rate(at, figures['appended']),
                 'committed': self._committed.rate(at, figures['committed'])}
        self._measured.append((at, measured))
        while len(self._measured) > 2 and self._measured[1][0] <= at - LATELY:
            self._measured.popleft()
        before = self._measured[0][1]
        took = {kind: _percentiles(measured[kind]['buckets'], before[kind]['buckets'])
                for kind in ('latency', 'duration')}
        self.points.append((at, rates['appended'], rates['committed'], figures['backlog']))
        while at - KEPT > (self.points[0][0] or 0.0):
            self.points.popleft()
        return {'rates': rates, **took}

    def history(self) -> dict[str, list[float | None]]:
        """The points as columns: ``at``, and :data:`SERIES`."""
        return {name: [point[column] for point in self.points] for column, name in enumerate(('at', *SERIES))}


def _percentiles(now: list[tuple[float, int]], before: list[tuple[float, int]]) -> dict[str, float | None]:
    """Those of what came between two looks.

    >>> _percentiles([(1.0, 10), (2.0, 30)], [(1.0, 10), (2.0, 10)])
    {'p50': 1.5, 'p95': 1.95, 'p99': 1.99}
    """
    past = dict(before)
    fresh = [(bound, n - past.get(bound, 0)) for bound, n in now]
    found = {f'p{percent}': quantile(fresh, percent / 100) for percent in (50, 95, 99)}
    return {name: None if value is None else round(value, 4) for name, value in found.items()}


class Board:
    """The figures of all streams, looked at by a thread, and handed to whoever listens.

    :param url: of MongoDB
    :param consumers: tells how the app's own consumers are, in reports
    :ivar most: pages that may listen at a time
    """

    def __init__(self, url: str | None, consumers: Callable[[], list[dict[str, Any]]]) -> None:
        self.url = url
        self.most = MOST_PAGES
        self._consumers = consumers
        self._news = threading.Condition()
        self._event: dict[str, Any] | None = None
        self._packed = b''
        self._number = 0
        self._past: dict[str, Past] = {}
        self._streams: dict[str, tuple[Any, Backlog]] = {}
        self._listeners = 0
        self._thread: threading.Thread | None = None
        self._owner = 0
        self._run = 0

    def start(self) -> None:
        """Look from now on; harmless if it does."""
        with self._news:
            if self._owner != os.getpid():  # or this is a fork, whose threads stayed behind
                self._thread, self._owner, self._listeners = None, os.getpid(), 0
            if self._thread is None:
                self._run += 1
                self._thread = threading.Thread(
                    target=self._loop, args=(self._run,), name='minibatch-page', daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Look no more, and let every page that listens go; :meth:`start` begins anew."""
        with self._news:
            self._run += 1
            thread, self._thread = self._thread, None
            self._news.notify_all()
        if thread is not None and thread is not threading.current_thread() and self._owner == os.getpid():
            thread.join(2.0)

    def state(self, patience: float = 2.0) -> dict[str, Any]:
        """The last look, as ``event``, and the minutes before it, by stream, as ``history``.

        :param patience: seconds to wait for the first look; after them ``event`` is ``None``
        """
        self.start()
        with self._news:
            self._news.wait_for(lambda: self._event is not None, patience)
            return {'event': self._event, 'history': {name: past.history() for name, past in self._past.items()}}

    def listen(self) -> Listener | None:
        """Events for one page; ``None`` if there are as many as may be."""
        self.start()
        with self._news:
            if self._listeners >= self.most:
                return None
            self._listeners += 1
            self._news.notify_all()  # a page is open: look more often
            return Listener(self, self._run)

    # -- for listeners

    def wait(self, run: int, number: int) -> tuple[int, bytes]:
        """The next event after *number*, in the format of server-sent events; or a sign of life.

        :param run: which of its runs the listener belongs to
        :raises StopIteration: that run is over
        """
        with self._news:
            self._news.wait_for(lambda: self._run != run or self._number != number, HEARTBEAT)
            if self._run != run:
                raise StopIteration
            if self._number == number:
                return number, b': nothing new\n\n'
            return self._number, self._packed

    def left(self, run: int) -> None:
        """A listener has gone."""
        with self._news:
            if self._owner == os.getpid():
                self._listeners = max(0, self._listeners - 1)

    # -- the poller

    def _loop(self, run: int) -> None:
        while self._run == run:
            began = time.monotonic()
            event = self._look()
            packed = b'data: ' + json.dumps(event, separators=(',', ':'), default=str).encode() + b'\n\n'
            least = LIVE if event['error'] else min(SLOWEST, SHARE * (time.monotonic() - began))
            with self._news:
                self._event, self._packed = event, packed
                self._number += 1
                self._news.notify_all()
                self._pause(run, least)

    def _pause(self, run: int, least: float) -> None:
        """Wait until the next look, *least* seconds or more; who opens a page does not wait for that of quiet times."""
        began, quiet = time.monotonic(), not self._listeners
        pause = max(least, QUIET if quiet else LIVE)
        self._news.wait_for(lambda: self._run != run or (quiet and self._listeners), pause)
        self._news.wait_for(lambda: self._run != run, max(0.0, least - (time.monotonic() - began)))

    def _look(self) -> dict[str, Any]:
        event: dict[str, Any] = {'at': round(time.time(), 3), 'error': None, 'consumers': self._consumers(),
                                 'streams': (self._event or {}).get('streams', {}), 'more': 0}
        try:
            names = [doc['_id'] for doc in mb.connectdb(self.url)['stream'].find({}, {'_id': 1}, sort=[('_id', 1)])]
            streams = {name: self._figures(event['at'], name) for name in names[:MOST_STREAMS]}
        except Exception as error:  # whatever it is, it is shown on the page
            log.debug('the live page sees nothing', exc_info=True)
            return event | {'error': hidden(f'{type(error).__name__}: {error}')}
        with self._news:
            for name in [name for name in self._past if name not in streams]:
                del self._past[name], self._streams[name]
        return event | {'streams': streams, 'more': max(0, len(names) - MOST_STREAMS)}

    def _figures(self, at: float, name: str) -> dict[str, Any]:
        if name not in self._streams:
            stream = mb.stream(name, url=self.url)
            self._streams[name] = stream, Backlog(stream)
        stream, backlog = self._streams[name]
        seen, took = backlog.figures(), stream.measured()
        with self._news:
            return {**seen, **self._past.setdefault(name, Past()).note(at, seen, took)}


class Listener:
    """The events of one page, one after another, for as long as it listens."""

    def __init__(self, board: Board, run: int) -> None:
        self._board, self._run = board, run
        self._number = -1
        self._open = True

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._open:
            raise StopIteration
        self._number, packed = self._board.wait(self._run, self._number)
        return packed

    def close(self) -> None:
        """The page has gone."""
        if self._open:
            self._open = False
            self._board.left(self._run)
