"""Groups in a window, and what each of them comes to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from minibatch.errors import OptionError, WindowError
from minibatch.operators.aggregators import Aggregator
from minibatch.operators.fields import Field, freeze
from minibatch.operators.rows import Failed, Rows
from minibatch.operators.stages import Stage
from minibatch.window.base import Batch

#: What each result says of its window; values go by other names.
RESERVED = ('key', 'start', 'end', 'window', 'final', 'revision', 'late')


class GroupBy(Stage):
    """Notes the key of each message, for the aggregate that follows.

    :param key: what of a message it is
    :param table: the name of the table that keeps the state of an aggregate that goes on for ever
    """

    does = 'looks'

    def __init__(self, key: Any, table: str | None = None) -> None:
        self.table = table
        if key is None:
            raise OptionError('group_by takes the name of a field, a list of names, or a function of the message')
        self.key = Field(key, 'group_by')

    def __str__(self) -> str:
        return f'group_by({self.key})'

    def run(self, rows: Rows, window: Batch) -> Rows:
        return Rows(rows.values, rows.origins, self.key.each(rows.values), rows.of)

    @property
    def calls(self) -> bool:
        return callable(self.key.given)


class Aggregate(Stage):
    """One result for each group, or for the window if there are none.

    :param parts: the aggregators by the names of their results
    """

    def __init__(self, parts: Mapping[str, Aggregator]) -> None:
        check_names(parts)
        self.parts = dict(parts)

    def __str__(self) -> str:
        if list(self.parts) == [part.name for part in self.parts.values()]:
            return ', '.join(str(part) for part in self.parts.values())
        return f'aggregate({", ".join(f"{name}={part}" for name, part in self.parts.items())})'

    def run(self, rows: Rows, window: Batch) -> Rows:
        results = []
        for key, places in groups(rows, window):
            result = heading(key, window)
            values = rows.values if places is None else [rows.values[at] for at in places]
            for name, part in self.parts.items():
                try:
                    result[name] = part.of(part.read(values))
                except Failed as failed:
                    at = failed.at if failed.at is None or places is None else places[failed.at]
                    raise Failed(at) from failed.__cause__
                except Exception as error:  # values that cannot be compared, say
                    raise Failed(None) from error
            results.append(result)
        return Rows(results, range(len(results)), None, str(self))


def check_names(parts: Mapping[str, Aggregator]) -> None:
    """Refuse names of values that results have already.

    :raises minibatch.errors.OptionError: one of them is taken
    """
    for name in parts:
        if name in RESERVED:
            raise OptionError(f'a result has a field {name!r} already, which tells about its window; choose another '
                              'name')


def groups(rows: Rows, window: Batch) -> Iterator[tuple[Any, Sequence[int] | None]]:
    """The groups in the order of their first messages: the key, and the places of the values; ``None`` for all.

    :raises Failed: a value cannot be a key
    """
    if rows.keys is None:
        yield window.key, None
        return
    found: dict[Any, list[int]] = {}
    keys: list[Any] = []
    for at, key in enumerate(rows.keys):
        try:
            places = found.setdefault(freeze(key), [])
        except TypeError:
            raise Failed(at) from WindowError(f'its key is a value of type {type(key).__name__}, which cannot be one; '
                                              'use strings, numbers, times, or lists of these')
        if not places:
            keys.append(key)
        places.append(at)
    yield from zip(keys, found.values(), strict=True)


def heading(key: Any, window: Batch) -> dict[str, Any]:
    """What each result says of its window."""
    said = {'key': key, 'start': window.start, 'end': window.end, 'window': window.id}
    if not window.final:
        said['final'] = False
    if window.revision:
        said['revision'] = window.revision
    if window.late:
        said['late'] = True
    return said
