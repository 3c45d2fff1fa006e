"""Aggregates that go on for ever: what there is so far is in a table, which changes with the commit of the window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minibatch.errors import OptionError
from minibatch.operators.aggregators import Aggregator
from minibatch.operators.grouping import check_names, groups, heading
from minibatch.operators.rows import Failed, Rows
from minibatch.operators.stages import Stage
from minibatch.table import Table
from minibatch.window.base import Batch


class Totals(Stage):
    """One result for each group that there were messages of: what it comes to now.

    :param parts: the aggregators by the names of their results
    :param table: where the state of each group is. That of a single aggregator is the value; of several, a dict of them
    """

    keeps_state = True

    def __init__(self, parts: Mapping[str, Aggregator], table: str) -> None:
        check_names(parts)
        self.parts = dict(parts)
        for part in parts.values():
            if not part.runs:
                raise OptionError(f'{part} needs all messages of a window at once: put window(size=...) or '
                                  'window(interval=...) before it; without one, an aggregate goes on for ever')
        self.table = Table(table)
        self.in_order = any(part.ordered for part in parts.values())

    def __str__(self) -> str:
        if [part.name for part in self.parts.values()] == list(self.parts):
            return f'running {", ".join(map(str, self.parts.values()))}'
        return f'running aggregate({", ".join(f"{name}={part}" for name, part in self.parts.items())})'

    def state(self) -> str:
        return f'table {self.table.name!r}: what there is so far, of each key; kept for ever'

    def run(self, rows: Rows, window: Batch) -> Rows:
        found = list(groups(rows, window))
        there = self.table.get_many([hashable(key) for key, _ in found])
        results, states = [], {}
        for key, places in found:
            values = rows.values if places is None else [rows.values[at] for at in places]
            if not values:
                continue
            state = self._unpacked(there.get(hashable(key)))
            result = heading(key, window)
            for name, part in self.parts.items():
                try:
                    state[name] = self._advanced(part, state.get(name), values)
                except Failed as failed:
                    at = failed.at if failed.at is None or places is None else places[failed.at]
                    raise Failed(at) from failed.__cause__
                result[name] = part.result(state[name])
            states[hashable(key)] = next(iter(state.values())) if len(self.parts) == 1 else state
            results.append(result)
        self.table.update(states)
        return Rows(results, range(len(results)), None, str(self))

    def _unpacked(self, stored: Any) -> dict[str, Any]:
        if stored is None:
            return {}
        if len(self.parts) == 1:
            return dict.fromkeys(self.parts, stored)
        return dict(stored)

    @staticmethod
    def _advanced(part: Aggregator, state: Any, values: list[Any]) -> Any:
        state = part.start() if state is None else state
        for at, value in enumerate(part.read(values)):
            try:
                state = part.add(state, value)
            except Failed as failed:
                raise Failed(at) from failed.__cause__
            except Exception as error:  # values that cannot be compared with what there is, say
                raise Failed(None) from error
        return state


def hashable(key: Any) -> Any:
    """A key as tables take it: a list as a tuple.

    >>> hashable(['ann', [1]])
    ('ann', (1,))
    """
    return tuple(map(hashable, key)) if isinstance(key, (list, tuple)) else key
