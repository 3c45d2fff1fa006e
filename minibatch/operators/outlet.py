"""Where the results of a pass go: streams, in the transaction that commits the window, and sinks of the user."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minibatch.backlog import Backlog
from minibatch.errors import OptionError
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

    def put_in(self, session: ClientSession, messages: Any, batch: Any) -> None:
        """Append *messages*, as a part of the transaction of *session*."""
        found, _ = convert(self.stream.name, messages)
        self._admit(len(found), session)
        self.store.append_in(session, wrap(self.stream.name, found, self.store.clock.now()))

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


class Outlet:
    """All ends of a pass as one sink of the engine.

    :param streams: sinks that append to streams, by the streams' names
    :param split: whether results come as one list for each stream's name
    :param sinks: sinks of the user. One that takes lists (an attribute ``expand`` that is true) gets all results of a
        window at once, any other one gets them one by one
    :raises minibatch.errors.OptionError: one of them is no sink
    """

    #: Results come as they are.
    frames = True

    def __init__(self, streams: Mapping[str, StreamSink], sinks: Sequence[Any] = (), *, split: bool = False) -> None:
        self.streams, self.split = dict(streams), split
        self.sinks = list(sinks)
        self._once = [sink for sink in self.sinks if getattr(sink, 'exactly_once', False)]
        self._plain = [sink for sink in self.sinks if not getattr(sink, 'exactly_once', False)]
        self._told = Sinks(self._plain)  # begin, flush, close
        here = [sink.exactly_once for sink in self.streams.values()]
        self.exactly_once = bool(self._once) or (bool(here) and all(here))
        if self._once and not all(here):
            raise OptionError(f'{self._once[0]!r} writes in the transaction that commits the window, which '
                              f'{", ".join(map(repr, self.streams))} cannot: it is in another MongoDB')

    def __repr__(self) -> str:
        return f'Outlet({[*self.streams.values(), *self.sinks]!r})'

    def bind(self, database: Any) -> None:
        """Tell the user's sinks the stream's database."""
        for sink in self.sinks:
            if hasattr(sink, 'bind'):
                sink.bind(database)

    def put_in(self, session: ClientSession, results: Any, batch: Any) -> None:
        """Everything that can be is done in the transaction of *session*, after what cannot."""
        self.begin(batch)
        self._put_plain(results)
        self.flush()
        for name, stream in self.streams.items():
            part = results[name] if self.split else results
            if part:
                stream.put_in(session, part, batch)
        for sink in self._once:
            sink.put_in(session, results, batch)

    def begin(self, batch: Any) -> None:
        """Tell each of the window whose results come next."""
        self._told.begin(batch)
        for stream in self.streams.values():
            stream.begin(batch)

    def put(self, results: Any) -> None:
        """Hand the results of a window on."""
        self._put_plain(results)
        for name, stream in self.streams.items():
            part = results[name] if self.split else results
            if part:
                stream.put(part)

    def flush(self) -> None:
        """Let each confirm what it was given."""
        self._told.flush()

    def close(self) -> None:
        """Close each."""
        self._told.close()
        for sink in self._once:
            if hasattr(sink, 'close'):
                sink.close()

    def _put_plain(self, results: Any) -> None:
        for sink in self._plain:
            put = getattr(sink, 'put', sink)
            if getattr(sink, 'expand', False):
                put(results)
            else:
                for result in results:
                    put(result)
