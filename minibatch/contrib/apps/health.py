"""How an app is doing: a look at MongoDB that never takes long, and a judgement with its reasons."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import minibatch as mb
from minibatch.contrib.apps.consumer import Consumer
from minibatch.logs import hidden

#: Seconds that a request waits for MongoDB; whoever asks for the health wants an answer, not the full truth.
PATIENCE = 1.0
#: Seconds for which a look is good enough for the next request too.
FRESH = 0.3


@dataclass(frozen=True)
class Look:
    """What one look at MongoDB saw.

    :ivar streams: figures of each stream, by name
    :ivar error: why there are none; ``None`` if all went well
    :ivar at: when (monotonic)
    """

    streams: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    at: float = 0.0


class Probe:
    """Looks at the streams of an app from a thread of its own, one look at a time.

    :param url: of MongoDB
    :param patience: seconds that who asks is willing to wait
    """

    def __init__(self, url: str | None, patience: float = PATIENCE) -> None:
        self.url = url
        self.patience = patience
        self._streams: dict[str, Any] = {}
        self._last = Look()
        self._looking_since: float | None = None
        self._news = threading.Condition()

    def look(self, names: Sequence[str], pids: Sequence[int]) -> Look:
        """The streams called *names* and those that processes *pids* of this machine consume.

        It returns within its patience: if MongoDB takes longer, with what was seen last and an error.
        """
        with self._news:
            if self._last.at and time.monotonic() - self._last.at < FRESH:
                return self._last
            if self._looking_since is None:
                self._looking_since = time.monotonic()
                threading.Thread(target=self._refresh, args=(names, pids), name='minibatch-probe', daemon=True).start()
            since = self._looking_since
            self._news.wait_for(lambda: self._looking_since != since, since + self.patience - time.monotonic())
            if self._looking_since != since:
                return self._last
            return Look(self._last.streams, self._last.error or f'MongoDB did not answer within {self.patience:g} s',
                        self._last.at)

    def _refresh(self, names: Sequence[str], pids: Sequence[int]) -> None:
        try:
            look = Look(self._seen(names, pids), at=time.monotonic())
        except Exception as error:  # whatever it is, it belongs into the answer
            look = Look(self._last.streams, hidden(f'{type(error).__name__}: {error}'), time.monotonic())
        with self._news:
            self._last, self._looking_since = look, None
            self._news.notify_all()

    def _seen(self, names: Sequence[str], pids: Sequence[int]) -> dict[str, Any]:
        database = mb.connectdb(self.url)
        database.command('ping')
        ours = {'host': socket.gethostname(), 'pid': {'$in': list(pids)}}
        for name in [*names, *database['consumer'].distinct('stream', ours)]:
            if name not in self._streams:
                self._streams[name] = mb.stream(name, url=self.url)
        return {name: stream.status() for name, stream in sorted(self._streams.items())}


def judge(look: Look, consumers: Sequence[Consumer]) -> dict[str, Any]:
    """The page at ``/status``: is the app healthy, if not why, and the figures.

    :param look: at MongoDB
    :param consumers: of the app
    """
    reasons = [trouble for consumer in consumers if (trouble := consumer.trouble())]
    warnings = []
    if look.error:
        reasons.append(f'no word from MongoDB: {look.error}')
    restarts = {consumer.pid: consumer.restarts for consumer in consumers}
    streams = {}
    for name, figures in look.streams.items():
        present = [{**each, 'restarts': restarts[each['pid']]} if each.get('pid') in restarts else each
                   for each in figures['consumers']]
        streams[name] = {**figures, 'consumers': present}
        if not present and not look.error:
            reasons.append(f'stream {name} has no consumer')
        if figures['failed']:
            warnings.append(f'stream {name}: {figures["failed"]} attempt(s) at a window have failed; '
                            "the consumer's log says why")
        if figures['dead']:
            warnings.append(f'stream {name} has {figures["dead"]} dead window(s); '
                            '`minibatch dead` or stream.dead lists, redrives and drops them')
    return {
        'healthy': not reasons, 'status': 'unhealthy' if reasons else 'healthy', 'reasons': reasons,
        'warnings': warnings, 'consumers': [consumer.report() for consumer in consumers], 'streams': streams,
    }
