"""Messages enriched by what a table or a collection knows."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

from minibatch.errors import OptionError, WindowError, did_you_mean
from minibatch.models import store_for
from minibatch.operators.fields import Field, freeze
from minibatch.operators.rows import Failed, Rows
from minibatch.operators.stages import Stage
from minibatch.operators.totals import hashable
from minibatch.table import Table
from minibatch.window.base import Batch

HOW = ('left', 'inner')


class Lookup(Stage):
    """Adds to each message what is there for its key; one query for each window.

    :param source: a table, or the name of a collection in the stream's database
    :param on: what of the message is the key
    :param key: the field of the collection's documents that has it
    :param name: the field of the message that gets what was found
    :param how: ``'left'``: ``None`` where nothing is; ``'inner'``: such messages are left out
    """

    def __init__(self, source: Any, on: Any, *, key: str = '_id', name: str | None = None, how: str = 'left') -> None:
        self.table = source if isinstance(source, Table) else None
        if self.table is None and (not isinstance(source, str) or not source):
            raise OptionError("lookup takes a table, or the name of a collection in the stream's database, not "
                              f'{source!r}')
        if on is None:
            raise OptionError('lookup takes on=, the field of the message (or a function of it) that is the key')
        if how not in HOW:
            raise OptionError(f"how must be 'left' or 'inner', not {how!r}{did_you_mean(str(how), HOW)}")
        self.source: str = source if self.table is None else self.table.name
        self.on, self.key, self.how = Field(on, 'lookup'), key, how
        self.name = name or self.source
        self.url: str | None = None

    def __str__(self) -> str:
        what = 'table ' if self.table is not None else ''
        how = ", how='inner'" if self.how == 'inner' else ''
        return f'lookup({what}{self.source!r}, on={self.on}{how})'

    @property
    def calls(self) -> bool:
        return callable(self.on.given)

    def at(self, url: str) -> Lookup:
        bound = copy(self)
        bound.url = url
        return bound

    def run(self, rows: Rows, window: Batch) -> Rows:
        keys = self.on.each(rows.values)
        try:
            frozen = [freeze(key) for key in keys]
        except TypeError as error:
            raise Failed(None) from WindowError(f'a key cannot be looked up: {error}')
        found = self._found({name: key for name, key in zip(frozen, keys, strict=True) if key is not None})
        values, places = [], []
        for at, (value, name) in enumerate(zip(rows.values, frozen, strict=True)):
            if not isinstance(value, Mapping):
                raise Failed(at) from WindowError(f'lookup adds field {self.name!r} to a dict, and this is a value of '
                                                  f'type {type(value).__name__}')
            if self.how == 'left' or name in found:
                values.append({**value, self.name: found.get(name)})
                places.append(at)
        return rows.pick(places, values)

    def _found(self, keys: Mapping[Any, Any]) -> dict[Any, Any]:
        if not keys:
            return {}
        if self.table is not None:
            there = self.table.get_many([hashable(key) for key in keys.values()])
            return {name: there[hashable(key)] for name, key in keys.items() if hashable(key) in there}
        found: dict[Any, Any] = {}
        read = Field(self.key, 'lookup')
        for doc in store_for(self.url).documents_by(self.source, self.key, list(keys.values())):
            found.setdefault(freeze(read.each([doc])[0]), doc)
        return found
