"""What the demo counts: live, and at the end, each message where it lies."""

from __future__ import annotations

import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import minibatch as mb
from minibatch.states import WindowState

#: Seconds over which rates are taken.
SPAN = 5.0
#: Results looked at each time; a few a second are new.
LATEST = 200


@dataclass
class Account:
    """One stream's figures.

    :ivar title: what people call it
    :ivar name: the stream's, fresh for each demo
    """

    title: str
    name: str
    appended: int = 0
    windows: int = 0
    committed: int = 0
    open: int = 0
    buffer: int = 0
    history: deque[tuple[float, int, int]] = field(default_factory=deque)

    def note(self, appended: int) -> None:
        """Take down how far things are now."""
        self.appended = max(appended, self.committed)  # the producer's word may come after its message
        if not self.appended:
            return  # it is still starting, which is no rate
        self.history.append((time.monotonic(), self.appended, self.committed))
        while self.history[-1][0] - self.history[0][0] > SPAN:
            self.history.popleft()

    def rates(self) -> tuple[float, float]:
        """Messages appended and committed a second, lately."""
        if len(self.history) < 2:
            return 0.0, 0.0
        (then, appended, committed), (now, *last) = self.history[0], self.history[-1]
        seconds = max(now - then, 1e-3)
        return (last[0] - appended) / seconds, (last[1] - committed) / seconds

    @property
    def windowed(self) -> int:
        """Messages that came into a window."""
        return self.committed + self.open

    @property
    def adds_up(self) -> bool:
        """Whether each message that was appended is somewhere, and nowhere twice."""
        return self.appended == self.committed + self.open + self.buffer


class Ledger:
    """The demo's streams and results in a database.

    :param url: of MongoDB
    :param titles: one for each stream
    """

    def __init__(self, url: str | None, titles: tuple[str, ...]) -> None:
        self.database = mb.connectdb(url)
        tag = uuid.uuid4().hex[:8]
        self.results = f'demo-{tag}-results'
        self.accounts = {name: Account(title, name) for title in titles for name in [f'demo-{tag}-{title}']}
        self._streams = {name: mb.stream(name, url=url) for name in self.accounts}
        self._seen: set[Any] = set()

    @property
    def exactly_once(self) -> bool:
        """Whether this MongoDB has transactions, for results that are written once whatever happens."""
        hello = self.database.client.admin.command('hello')
        return 'setName' in hello or hello.get('msg') == 'isdbgrid'

    def news(self) -> list[dict[str, Any]]:
        """Results that were not there the last time, in order; counts them."""
        # An ``_id`` is made a moment before its commit, by two processes, so what is new need not come last.
        latest = list(self.database[self.results].find({}, sort=[('_id', -1)], limit=LATEST))
        new = [result for result in latest if result['_id'] not in self._seen]
        self._seen = {result['_id'] for result in latest}
        for result in new:
            account = self.accounts[result['stream']]
            account.windows += 1
            account.committed += result['n']
        return new[::-1]

    def close_books(self, appended: dict[str, int]) -> list[Account]:
        """Count each message where it lies, now that nothing moves any more.

        :param appended: what the producer had confirmed, by stream
        """
        unfinished = [state.value for state in WindowState if state not in (WindowState.DONE, WindowState.VOID)]
        for name, account in self.accounts.items():
            stream, results = self._streams[name], list(self.database[self.results].find({'stream': name}, {'n': 1}))
            account.appended = appended[name]
            account.windows = len(results)
            account.committed = sum(result['n'] for result in results)
            account.open = sum(window.n for window in stream.window(state__in=unfinished))
            account.buffer = stream.buffer(processed=False).count()
        return list(self.accounts.values())

    def clear(self) -> None:
        """Leave nothing behind in the database."""
        for name, stream in self._streams.items():
            stream.stop()
            stream.clear()
            self.database['consumer'].delete_many({'stream': name})  # of those that were killed
            self.database['stream'].delete_one({'_id': name})
        self.database.drop_collection(self.results)
