"""The last ids of a collection: where others may still come in between."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from functools import partial
from itertools import takewhile
from typing import Any

import bson
from bson import ObjectId

#: Most ids that the window holds; those that fall out of it are taken for final.
MOST = 50_000


def hashable(id_: Any) -> Hashable:
    """An id as a key of a dict, and as MongoDB can store it.

    >>> hashable(5), hashable({'a': 1}) == bson.encode({'': {'a': 1}})
    (5, True)
    """
    return bson.encode({'': id_}) if isinstance(id_, (dict, list)) else id_


class Window:
    """The documents read lately, in the order of the collection, and since when each of them was known.

    Before its beginning, ``low``, nothing comes in any more: what is there was read *late* seconds ago or more. For an
    ObjectId, which tells when it was made, that is the time that counts.

    :param late: seconds
    :param low: where the window begins; ``None`` for the beginning of the collection
    :param keys: of documents that were read before

    >>> window = Window(60.0, None, [])
    >>> window.add([(1, 1), (2, 2)], now=100.0)
    [True, True]
    >>> window.missing([(1, 1), (1.5, 1.5), (2, 2)])
    [(1.5, 1.5)]
    >>> window.add([(3, 3)], now=130.0)
    [True]
    >>> window.close(now=161.0)
    >>> window.low, len(window)
    (2, 1)
    """

    def __init__(self, late: float, low: Any, keys: Sequence[Any]) -> None:
        self.late = late
        self.low = low
        self._order: deque[tuple[Any, Hashable]] = deque()
        self._since: dict[Hashable, float] = dict.fromkeys(keys, float('inf'))

    def __len__(self) -> int:
        return len(self._order)

    def add(self, found: Sequence[tuple[Any, Any]], now: float) -> list[bool]:
        """Note documents that come after all others; for each, whether it is new enough to be remembered.

        :param found: pairs of a place and an id
        :param now: seconds since the epoch
        """
        since = [_made(id_, now) for _, id_ in found]
        for (place, id_), at in zip(found, since, strict=True):
            key = hashable(id_)
            self._since[key] = at
            self._order.append((place, key))
        return [at > now - self.late for at in since]

    def known(self, id_: Any) -> bool:
        """Whether a document was read."""
        return hashable(id_) in self._since

    def missing(self, there: Sequence[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        """Those of the documents in the window now that were not read.

        :param there: all that are there, in order
        """
        return [(place, id_) for place, id_ in there if not self.known(id_)]

    def settle(self, there: Sequence[tuple[Any, Any]], now: float) -> None:
        """All these, and no others, are in the window and were read."""
        keys = [(place, hashable(id_)) for place, id_ in there]
        self._since = {key: min(self._since.get(key, now), _made(id_, now))
                       for (_, key), (_, id_) in zip(keys, there, strict=True)}
        self._order = deque(keys)

    def close(self, now: float) -> None:
        """Move the beginning on to what is final by now; documents at the same place only together."""
        while self._order:
            place = self._order[0][0]
            group = [key for _, key in takewhile(partial(_at, place), self._order)]
            if len(self._order) <= MOST and any(self._since[key] > now - self.late for key in group):
                return
            for key in group:
                self._order.popleft()
                del self._since[key]
            self.low = place


def _at(place: Any, each: tuple[Any, Hashable]) -> bool:
    return bool(each[0] == place)


def _made(id_: Any, now: float) -> float:
    # the first four bytes are the second; ``generation_time`` takes ten times as long to say so
    return min(float(int.from_bytes(id_.binary[:4], 'big')), now) if type(id_) is ObjectId else now
