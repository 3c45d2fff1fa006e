"""Each message once: of a window, or of so many seconds."""

from __future__ import annotations

from typing import Any

from minibatch.errors import WindowError
from minibatch.operators.fields import Field, freeze
from minibatch.operators.rows import Failed, Rows
from minibatch.operators.stages import Stage
from minibatch.operators.totals import hashable
from minibatch.table import Table
from minibatch.window.base import Batch


class Distinct(Stage):
    """The first message with each key.

    :param key: what tells messages apart
    :param within: seconds for which a key is remembered from the first message with it on; ``None``: in one window
    :param table: where they are remembered
    """

    def __init__(self, key: Any, within: float | None, table: str) -> None:
        self.key = Field(key, 'distinct')
        self.within = within
        self.table = None if within is None else Table(table, ttl=within)

    def __str__(self) -> str:
        key = '' if self.key.given is None else str(self.key)
        return f'distinct({key}{"" if self.within is None else f", within={self.within:g}"})'

    @property
    def keeps_state(self) -> bool:  # type: ignore[override]
        """Whether it remembers keys from window to window."""
        return self.table is not None

    def state(self) -> str:
        return '' if self.table is None else f'table {self.table.name!r}: keys of the last {self.within:g} s'

    def run(self, rows: Rows, window: Batch) -> Rows:
        first: dict[Any, int] = {}
        keys = self.key.each(rows.values)
        for at, key in enumerate(keys):
            try:
                first.setdefault(freeze(key), at)
            except TypeError:
                raise Failed(at) from WindowError(f'its key is a value of type {type(key).__name__}, which cannot be '
                                                  'one; use strings, numbers, times, or lists of these')
        places = list(first.values())
        if self.table is not None:
            there = self.table.get_many([hashable(keys[at]) for at in places])
            places = [at for at in places if hashable(keys[at]) not in there]
            self.table.update({hashable(keys[at]): True for at in places})
        return rows.pick(places)
