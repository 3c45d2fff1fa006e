"""Stages whose functions work on data frames of a window's messages: ``map(fn, as_='pandas')``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from minibatch import frames
from minibatch.errors import WindowError
from minibatch.operators.functions import Call, name_of
from minibatch.operators.rows import Failed, Rows
from minibatch.operators.stages import Stage
from minibatch.outcome import wait_for
from minibatch.window.base import Batch


class Tabular(Stage):
    """A stage that calls a function once for the window.

    :param fn: gets the frame, and the window if it has a second parameter
    :param as_: ``'pandas'``, ``'polars'`` or ``'arrow'``
    """

    name = ''

    def __init__(self, fn: Any, as_: str) -> None:
        self.call, self.as_ = frames.framed(Call(fn, self.name).functions[0], as_), as_
        self.said = f'{self.name}({name_of(fn)}, as_={as_!r})'

    def __str__(self) -> str:
        return self.said

    def _called(self, rows: Rows, window: Batch) -> Any:
        seen = Batch(window.id, window.stream, rows.values, window.created, window.start, window.end, window.key,
                     window.attempt)
        try:
            result = self.call(seen)
            return wait_for(result) if inspect.iscoroutine(result) else result
        except Exception as error:
            raise Failed(None) from error


class MapFrame(Tabular):
    """The rows of the frame that a function makes of the window's frame."""

    name = 'map'

    def run(self, rows: Rows, window: Batch) -> Rows:
        made = frames.rows(self._called(rows, window))
        if made is None:
            raise Failed(None) from WindowError('the function returned None; return a frame, a dict, or a list of '
                                                'dicts')
        values = list(made) if isinstance(made, (list, tuple)) else [made]
        if rows.keys is not None and len(values) != len(rows.values):
            raise Failed(None) from WindowError('the function returned another number of rows than it got, so nobody '
                                                'knows their groups; put group_by(...) after it')
        if len(values) == len(rows.values):
            return rows.having(values)
        return Rows(values, range(len(values)), None, self.said)


class FilterFrame(Tabular):
    """The messages whose rows are true in what a function returns: one value for each row."""

    name = 'filter'

    def run(self, rows: Rows, window: Batch) -> Rows:
        mask = self._called(rows, window)
        mask = mask.to_list() if hasattr(mask, 'to_list') else mask.tolist() if hasattr(mask, 'tolist') else mask
        mask = mask.to_pylist() if hasattr(mask, 'to_pylist') else mask
        if isinstance(mask, (str, Mapping)) or not hasattr(mask, '__len__') or len(mask) != len(rows.values):
            raise Failed(None) from WindowError('the function must return one true or false value for each row, such '
                                                "as frame['ms'] > 10")
        return rows.pick([at for at, keep in enumerate(mask) if keep is not None and keep == keep and keep])
