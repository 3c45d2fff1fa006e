"""Where the results of a pass go: streams, in the transaction that commits the window, and sinks of the user."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minibatch.backlog import Backlog
from minibatch.messages import convert, wrap
from minibatch.sinks import Sinks

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

    from minibatch.models import Stream


#: Seconds to wait for room in a stream without a transaction, before the attempt at the window fails.
_PATIENCE = 5.0
#: Seconds for which a count of the messages there is good: others append, too.
_FRESH = 1.0


class StreamSink:
    """Appends results to another stream: exactly once, in the transaction that commits the window they come from.

    A consumer that is killed at any moment leaves either both, the messages in the other stream and the commit, or
    neither. Where there are no transactions (a standalone server, or a stream in another MongoDB), the messages are
    appended before the commit, with ids that are made of the window's: a repeat finds them there, unless they have
    been consumed meanwhile.

    :param stream: the other stream, open; a producer's batch of its own is not used
    :param of: the stream whose windows are consumed
    :param wait: mind the other stream's ``max_backlog``: nothing is committed while it has no room
    :raises minibatch.errors.BacklogFull: by ``put_in``: it has none; the engine tries again until it has
    """

    def __init__(self, stream: Stream, of: Stream, *, wait: bool = True) -> None:
        self.stream, self.store = stream, stream.store
        self.exactly_once = self.store is of.store and self.store.transactions
        self._most = stream.max_backlog if wait else None
        self._backlog = Backlog(self.store, stream.name, self._most, threading.Event(),
                                timeout=_PATIENCE)
        self._window: Any = None
        self._room, self._counted = 0, float('-inf')

    def __repr__(self) -> str:
        return f'StreamSink({self.stream.name!r})'

    @property
    def limited(self) -> bool:
        """Whether it minds a ``max_backlog``."""
        return self._most is not None

    def put_in(self, session: ClientSession, messages: Any, batch: Any) -> None:
        """Append *messages*, as a part of the transaction of *session*."""
        found, _ = convert(self.stream.name, messages)
        self._admit(len(found), session)
        self.store.append_in(session, wrap(self.stream.name, found, self.store.clock.now(),
                                            getattr(batch, '_trace', None)))

    def begin(self, batch: Any) -> None:
        """Take note of the window whose results come next."""
        self._window = batch

    def put(self, messages: Any) -> None:
        """Append *messages*, once for each window as far as that can be without a transaction."""
        found, _ = convert(self.stream.name, messages)
        if self._most is not None and found:
            self._backlog.wait(min(len(found), self._most))
            self._backlog.stored(min(len(found), self._most))
        self.store.append_again(self.stream.name, self._window.id, self._window.created, found)

    def _admit(self, n: int, session: ClientSession) -> None:
        if self._most is None or n == 0:
            return
        n = min(n, self._most)  # more than it ever takes come when it is empty
        if self._room < n or time.monotonic() - self._counted > _FRESH:
            # Counted in the transaction, so that what it has inserted for other windows is there.
            self._room = self._most - self.store.count_in(session, self.stream.name, self._most)
            self._counted = time.monotonic()
        if self._room < n:
            raise self._backlog.full(n)
        self._room -= n


class Outlet(Sinks):
    """All ends of a pass as one sink of the engine.

    :param streams: sinks that append to streams, by the streams' names
    :param sinks: sinks of the user. One that takes lists (an attribute ``expand`` that is true) gets all results of a
        window at once, any other one gets them one by one
    :param split: whether results come as one list for each stream's name

    >>> one, all = [], type('All', (list,), {'expand': True, 'put': list.append})()
    >>> Outlet({}, [one.append, all]).put([1, 2])
    >>> one, all
    ([1, 2], [[1, 2]])
    """

    def __init__(self, streams: Mapping[str, StreamSink], sinks: Sequence[Any] = (), *, split: bool = False) -> None:
        super().__init__([*(_Part(sink, name if split else None) for name, sink in streams.items()),
                          *(_Items(sink) for sink in sinks)])


class _End:
    """A sink that gets the results of a pass in the shape that it is to have them."""

    frames = True  # results come as they are

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self.exactly_once = bool(getattr(sink, 'exactly_once', False))

    def __repr__(self) -> str:
        return repr(self._sink)

    def __getattr__(self, name: str) -> Any:
        if name in ('begin', 'bind', 'flush', 'close') and hasattr(self.__dict__.get('_sink'), 'put'):
            return getattr(self._sink, name)
        raise AttributeError(name)

    def shaped(self, results: Any) -> Any:
        """What there is of the results for this sink."""
        return results

    def put(self, results: Any) -> None:
        part = self.shaped(results)
        if part:
            self._sink.put(part)

    def put_in(self, session: Any, results: Any, batch: Any) -> None:
        part = self.shaped(results)
        if part:
            self._sink.put_in(session, part, batch)


class _Part(_End):
    def __init__(self, sink: StreamSink, name: str | None) -> None:
        super().__init__(sink)
        self._name = name

    def shaped(self, results: Any) -> Any:
        return results if self._name is None else results[self._name]

    def put_all_in(self, session: Any, results: Sequence[tuple[Any, Any]]) -> None:
        if self._sink.limited:  # then each window waits for room of its own
            for result, batch in results:
                self.put_in(session, result, batch)
            return
        messages = [each for result, _ in results for each in self.shaped(result)]
        if messages:
            self._sink.put_in(session, messages, results[-1][1])


class _Items(_End):
    def put(self, results: Any) -> None:
        put = getattr(self._sink, 'put', self._sink)
        if getattr(self._sink, 'expand', False):
            put(results)
        else:
            for result in results:
                put(result)
