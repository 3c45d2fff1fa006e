"""Where the results of an agent go: into the streams of other agents, and to sinks; as they are, or item by item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from minibatch.coerce import fields
from minibatch.sinks import Sinks, put_all_in


class Results(list[Any]):
    """What an agent has yielded for one window: so many results, each to be sent by itself."""


class Outlet(Sinks):
    """All that an agent's results go to, as one sink.

    :param streams: sinks into streams
    :param sinks: the others
    :param atomic_send: send the items of a list one by one (True), a list as one (False), or one by one into streams
        and as one to sinks (None)

    >>> seen = []
    >>> outlet = Outlet([], [seen.append], True)
    >>> outlet.put([{'n': 1}, {'n': 2}])
    >>> seen
    [{'n': 1}, {'n': 2}]
    """

    def __init__(self, streams: Sequence[Any], sinks: Sequence[Any], atomic_send: bool | None = None) -> None:
        super().__init__([*(_Shaped(each, atomic_send is not False, of_stream=True) for each in streams),
                          *(_Shaped(each, bool(atomic_send)) for each in sinks)])


class _Shaped:
    """One sink, which is given results in the shape that it is to have them."""

    def __init__(self, sink: Any, one_by_one: bool, *, of_stream: bool = False) -> None:
        self._sink, self._one_by_one, self._of_stream = sink, one_by_one, of_stream
        self._object = hasattr(sink, 'put')
        self.exactly_once = bool(getattr(sink, 'exactly_once', False))
        self.frames = getattr(sink, 'frames', False) is True and not one_by_one and not of_stream

    def __repr__(self) -> str:
        return repr(self._sink)

    def __getattr__(self, name: str) -> Any:
        if name not in ('begin', 'bind', 'flush') or not self.__dict__.get('_object'):
            raise AttributeError(name)
        return getattr(self._sink, name)

    def put(self, result: Any) -> None:
        put = getattr(self._sink, 'put', self._sink)
        for each in self._each(result):
            put(each)

    def put_in(self, session: Any, result: Any, batch: Any) -> None:
        for each in self._each(result):
            self._sink.put_in(session, each, batch)

    def put_all_in(self, session: Any, results: Sequence[tuple[Any, Any]]) -> None:
        if self._of_stream and not getattr(self._sink, 'limited', False):  # else each window waits for room of its own
            messages = [each for result, _ in results for part in self._each(result) for each in part]
            if messages:
                self._sink.put_in(session, messages, results[-1][1])
        else:
            put_all_in(self._sink, session, [(part, batch) for result, batch in results for part in self._each(result)])

    def close(self) -> None:
        if self._object and hasattr(self._sink, 'close'):
            self._sink.close()

    def _each(self, result: Any) -> Iterator[Any]:
        items = list(shaped(result, self._one_by_one))
        if self._of_stream:  # which takes many at once
            yield [as_message(item) for item in items]
        elif getattr(self._sink, 'expand', False):  # which tells the items of a list apart itself, and numbers them
            yield items if isinstance(result, Results) else result
        else:
            yield from items


def shaped(result: Any, one_by_one: bool) -> Iterator[Any]:
    """The single things to send for a result.

    >>> list(shaped([1, 2], True)), list(shaped([1, 2], False)), list(shaped(Results([1, [2, 3]]), False))
    ([1, 2], [[1, 2]], [1, [2, 3]])
    """
    if isinstance(result, Results):
        for each in result:
            yield from shaped(each, one_by_one)
    elif one_by_one and isinstance(result, list):
        yield from result
    else:
        yield result


def as_message(value: Any) -> Any:
    """What a stream takes: a value that is no mapping, nor an object with fields, becomes one.

    >>> as_message({'n': 1}), as_message(5), as_message([1, 2])
    ({'n': 1}, {'value': 5}, {'value': [1, 2]})
    """
    return {'value': value} if fields(value) is None else value
