"""Stages that work on one message after another: filter, map, flat_map, peek.

A stage says what it does to the messages (:attr:`Stage.does`), since that decides whether a window may be cut
before it although it stands before the window: see :mod:`minibatch.operators.order`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from minibatch.errors import WindowError
from minibatch.operators.functions import Call, apply
from minibatch.operators.rows import Failed, Rows
from minibatch.outcome import wait_for
from minibatch.window.base import Batch

#: ``looks``: leaves everything as it is; ``drops``: leaves messages out; ``changes``: another one in place of each;
#: ``spreads``: any number in place of each; ``needs all``: its result depends on which messages come together.
Does = Literal['looks', 'drops', 'changes', 'spreads', 'needs all']


class Stage:
    """One step of a pass over a window; can be pickled."""

    does: ClassVar[Does] = 'needs all'
    #: Whether it keeps state from window to window, so that windows at the same time would be in each other's way.
    keeps_state: bool = False
    #: Whether what it keeps depends on the order of windows.
    in_order: bool = False

    def run(self, rows: Rows, window: Batch) -> Rows:
        """What becomes of the rows of one window.

        :raises Failed: a function of the user raised
        """
        raise NotImplementedError

    def at(self, url: str) -> Stage:
        """The stage, told where its stream's database is."""
        return self

    def state(self) -> str:
        """Which state it keeps, for people; empty if none."""
        return ''

    @property
    def calls(self) -> bool:
        """Whether it calls functions of the user, which then run in worker processes."""
        return True


class Filter(Stage):
    """Keeps the messages for which all functions return something true."""

    does = 'drops'

    def __init__(self, fn: Any) -> None:
        self.call = Call(fn, 'filter')

    def __str__(self) -> str:
        return f'filter({self.call})'

    def run(self, rows: Rows, window: Batch) -> Rows:
        places = list(range(len(rows.values)))
        for function in self.call.functions:
            try:
                kept = apply(function, [rows.values[at] for at in places])
            except Failed as failed:
                raise Failed(places[failed.at or 0]) from failed.__cause__
            places = [at for at, keep in zip(places, kept, strict=True) if keep]
        return rows.pick(places)


class Map(Stage):
    """Puts what a function returns in place of each message."""

    does = 'changes'

    def __init__(self, fn: Any) -> None:
        self.call = Call(fn, 'map')

    def __str__(self) -> str:
        return f'map({self.call})'

    def run(self, rows: Rows, window: Batch) -> Rows:
        values = self.call.each(rows.values)
        for at, value in enumerate(values):
            if value is None:
                raise Failed(at) from WindowError(
                    f'{self.call} returned None; return the message, leave messages out with filter(...), or use '
                    'peek(...) for a function that has no result')
        return rows.having(values)


class FlatMap(Stage):
    """Puts all that a function returns or yields in place of each message."""

    does = 'spreads'

    def __init__(self, fn: Any) -> None:
        self.call = Call(fn, 'flat_map')

    def __str__(self) -> str:
        return f'flat_map({self.call})'

    def run(self, rows: Rows, window: Batch) -> Rows:
        places: list[int] = []
        values: list[Any] = []
        for at, made in enumerate(self.call.each(rows.values)):
            try:
                listed = self._listed(made)
            except Exception as error:  # of a generator, which runs only now
                raise Failed(at) from error
            values += listed
            places += [at] * len(listed)
        return rows.pick(places, values)

    def _listed(self, made: Any) -> list[Any]:
        if made is None:
            return []
        if hasattr(made, '__aiter__'):
            listed: list[Any] = wait_for(_all_of(made))
            return listed
        if isinstance(made, (str, bytes, Mapping)) or not isinstance(made, Iterable):
            raise WindowError(f'{self.call} returned a value of type {type(made).__name__}; return a list of messages, '
                              'or yield them')
        return list(made)


async def _all_of(made: Any) -> list[Any]:
    return [each async for each in made]


class Peek(Stage):
    """Calls a function on each message, and leaves the message as it is."""

    does = 'looks'

    def __init__(self, fn: Any) -> None:
        self.call = Call(fn, 'peek')

    def __str__(self) -> str:
        return f'peek({self.call})'

    def run(self, rows: Rows, window: Batch) -> Rows:
        for function in self.call.functions:
            apply(function, rows.values)
        return rows
