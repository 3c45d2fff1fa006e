"""One sink of what users give: an object with ``put``, a callable, or several of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minibatch import frames
from minibatch.errors import OptionError


class Sinks:
    """Several sinks as one: all must take a result, or its window is tried again, with all of them.

    Those that are exactly once write in the transaction that commits the window, the others before it. So if one of
    the others fails, nothing is written by those; what the others have taken by then, they are given again.

    :ivar exactly_once: whether any of them is
    :ivar mixed: whether any of them is not, besides

    >>> seen, also = [], []
    >>> Sinks([seen.append, also.append]).put({'n': 1})
    >>> seen == also == [{'n': 1}]
    True
    """

    #: each of them gets what it takes, by :func:`rows_for`
    frames = True

    def __init__(self, sinks: Sequence[Any]) -> None:
        self._sinks = list(sinks)
        self._within = [each for each in self._sinks if exactly_once(each)]
        self._before = [each for each in self._sinks if not exactly_once(each)]
        self.exactly_once = bool(self._within)
        self.mixed = bool(self._within and self._before)

    def __repr__(self) -> str:
        return repr(self._sinks)

    def put(self, message: Any) -> None:
        """Hand a result to each that is not exactly once, in order; the first that raises ends it."""
        for sink in self._before:
            rows = rows_for(sink, message)
            if not (isinstance(rows, list) and not rows):  # a data frame without rows: nothing, as ever
                getattr(sink, 'put', sink)(rows)

    def put_in(self, session: Any, messages: Any, batch: Any) -> None:
        """Hand a result to each that is exactly once, in the transaction of *session*."""
        for sink in self._within:
            rows = rows_for(sink, messages)
            if not (isinstance(rows, list) and not rows):
                sink.put_in(session, rows, batch)

    def put_all_in(self, session: Any, results: Sequence[tuple[Any, Any]]) -> None:
        """The same for several results, with the window that each comes from."""
        for sink in self._within:
            given = [(rows_for(sink, result), batch) for result, batch in results]
            put_all_in(sink, session, [(rows, batch) for rows, batch in given
                                       if not (isinstance(rows, list) and not rows)])

    def begin(self, batch: Any) -> None:
        """Tell each of the window whose result comes next."""
        self._each('begin', batch)

    def bind(self, database: Any) -> None:
        """Tell each the stream's database."""
        self._each('bind', database)

    def flush(self) -> None:
        """Let each confirm what it was given."""
        self._each('flush')

    def close(self) -> None:
        """Close each, also those after one that raises."""
        raised: list[Exception] = []
        for sink in self._sinks:
            try:
                if hasattr(sink, 'put') and hasattr(sink, 'close'):
                    sink.close()
            except Exception as error:
                raised.append(error)
        if raised:
            raise raised[0]

    def _each(self, name: str, *args: Any) -> None:
        for sink in self._sinks:
            if hasattr(sink, name):
                getattr(sink, name)(*args)


def put_all_in(sink: Any, session: Any, results: Sequence[tuple[Any, Any]]) -> None:
    """Hand results, with the window that each comes from, to a sink that is exactly once.

    One that has ``put_all_in(session, results)`` gets all at once, so that it can write them in one go.
    """
    together = getattr(sink, 'put_all_in', None)
    if together is not None:
        together(session, results)
        return
    for result, batch in results:
        sink.put_in(session, result, batch)


def rows_for(sink: Any, result: Any) -> Any:
    """What *sink* gets of a result: of a data frame its rows, as dicts, unless it says by ``frames = True`` that it
    takes frames.
    """
    return result if getattr(sink, 'frames', False) is True else frames.rows(result)


def one_sink(given: Any) -> Any:
    """The sink that the ``sink=`` of a user means.

    :raises minibatch.errors.OptionError: it is none
    """
    sinks = list(given) if isinstance(given, (list, tuple)) else [given]
    for each in sinks:
        if each is not None and not callable(getattr(each, 'put', each)):
            raise OptionError(f'a sink is an object with put(message), or a callable, not {each!r}')
    return sinks[0] if len(sinks) == 1 else Sinks([each for each in sinks if each is not None])


def exactly_once(sink: Any) -> bool:
    """Whether a sink writes in the transaction that commits the window."""
    return bool(getattr(sink, 'exactly_once', False))
