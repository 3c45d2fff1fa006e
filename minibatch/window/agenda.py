"""Which key's turn it is: one place in the order for each key, moved and taken away in O(log n)."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar('T')

#: Where something stands in the order: tuples of integers and bytes. ``()`` stands before all others.
Place = tuple[Any, ...]
#: What one key has to come, in order; each with a function that makes it, called when its turn has come.
Coming = Iterator[tuple[Place, Callable[[], T]]]


class Agenda:
    """The first place of each key, in order.

    >>> agenda = Agenda()
    >>> agenda.put(b'ann', (20,))
    >>> agenda.put(b'bob', (10,))
    >>> agenda.put(b'ann', (5,))
    >>> agenda.first()
    (5,)
    >>> coming = {b'ann': [(5,), (15,)], b'bob': [(10,), (20,)]}
    >>> list(agenda.walk((20,), lambda key: iter([(place, lambda at=place: (key, at)) for place in coming[key]])))
    [(b'ann', (5,)), (b'bob', (10,)), (b'ann', (15,))]
    """

    __slots__ = ('_heap', '_places')

    def __init__(self) -> None:
        self._heap: list[tuple[Place, bytes]] = []
        self._places: dict[bytes, Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def put(self, key: bytes, place: Place | None) -> None:
        """Note where the first thing of *key* stands now; ``None``: there is nothing more of it."""
        if place is None:
            self._places.pop(key, None)
        elif self._places.get(key) != place:
            self._places[key] = place
            heapq.heappush(self._heap, (place, key))
        if len(self._heap) > 2 * len(self._places) + 64:
            self._heap = [(place, key) for key, place in self._places.items()]
            heapq.heapify(self._heap)

    def first(self) -> Place | None:
        """The first place of all."""
        heap = self._heap
        while heap and self._places.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def walk(self, until: Place, coming: Callable[[bytes], Coming[T]]) -> Iterator[T]:
        """What stands before *until*, in order, lazily, and without changing anything; nor may anybody meanwhile.

        A heap is read in order by walking down its tree, so what is not due is not looked at. What a key has behind
        its first place is asked for when that has had its turn.

        :param until: up to where, exclusive
        :param coming: what a key has to come, in order, from its place in this agenda on
        """
        self.first()
        heap, places = self._heap, self._places
        seen: set[bytes] = set()
        # Of the tree: place, key, position. Of a key that has begun: place, key, -1, how to make it, what follows.
        turns: list[Any] = [(*heap[0], 0)] if heap else []
        while turns and turns[0][0] < until:
            place, key, at, *begun = heapq.heappop(turns)
            if begun:
                build, rest = begun
            else:
                for child in (2 * at + 1, 2 * at + 2):
                    if child < len(heap):
                        heapq.heappush(turns, (*heap[child], child))
                if key in seen or places.get(key) != place:
                    continue  # it has moved since
                seen.add(key)
                rest = coming(key)
                _, build = next(rest)
            yield build()
            following = next(rest, None)
            if following is not None:
                heapq.heappush(turns, (following[0], key, -1, following[1], rest))
