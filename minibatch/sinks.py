"""One sink of what users give: an object with ``put``, a callable, or several of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minibatch.errors import OptionError


class Sinks:
    """Several sinks as one: all must take a result, or its window is tried again, with all of them.

    >>> seen, also = [], []
    >>> Sinks([seen.append, also.append]).put({'n': 1})
    >>> seen == also == [{'n': 1}]
    True
    """

    def __init__(self, sinks: Sequence[Any]) -> None:
        self._sinks = list(sinks)

    def __repr__(self) -> str:
        return repr(self._sinks)

    def put(self, message: Any) -> None:
        """Hand a result to each, in order; the first that raises ends it."""
        for sink in self._sinks:
            getattr(sink, 'put', sink)(message)

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


def one_sink(given: Any) -> Any:
    """The sink that the ``sink=`` of a user means.

    :raises minibatch.errors.OptionError: it is none, or cannot be one of several
    """
    sinks = list(given) if isinstance(given, (list, tuple)) else [given]
    if any(getattr(each, 'exactly_once', False) for each in sinks) and len(sinks) > 1:
        raise OptionError('an exactly-once sink commits together with the window, so it must be the only sink')
    for each in sinks:
        if each is not None and not callable(getattr(each, 'put', each)):
            raise OptionError(f'a sink is an object with put(message), or a callable, not {each!r}')
    return sinks[0] if len(sinks) == 1 else Sinks([each for each in sinks if each is not None])
