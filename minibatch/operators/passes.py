"""All stages between two durable streams as one function of a window, which worker processes can run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from minibatch.errors import WindowError
from minibatch.operators.functions import Call
from minibatch.operators.rows import Failed, Rows
from minibatch.operators.stages import Stage
from minibatch.window.base import Batch


class Split:
    """The last step of a pass that feeds several streams: each message to every branch whose predicate holds.

    :param branches: predicates by the names of the streams; ``True`` takes all, ``None`` what no predicate takes
    """

    def __init__(self, branches: Mapping[str, Call | bool | None]) -> None:
        self.branches = dict(branches)

    def __str__(self) -> str:
        names = {True: 'all', None: 'the rest'}
        return f'branch({", ".join(names[call] if call in names else str(call) for call in self.branches.values())})'

    def run(self, rows: Rows) -> dict[str, list[Any]]:
        """The messages for each stream; those that no branch takes are left out.

        :raises Failed: a predicate raised
        """
        taken = [False] * len(rows.values)
        parts: dict[str, list[Any]] = {}
        for name, call in self.branches.items():
            if isinstance(call, Call):
                holds = call.each(rows.values)
                parts[name] = [value for value, held in zip(rows.values, holds, strict=True) if held]
                taken = [bool(before or held) for before, held in zip(taken, holds, strict=True)]
        rest = [value for value, held in zip(rows.values, taken, strict=True) if not held]
        for name, call in self.branches.items():
            if not isinstance(call, Call):
                parts[name] = rows.values if call else rest
        return {name: parts[name] for name in self.branches}


class Pass:
    """The stages, fused.

    :param stages: in order
    :param split: sends results to several streams
    """

    def __init__(self, stages: Sequence[Stage], split: Split | None = None) -> None:
        self.stages = tuple(stages)
        self.split = split

    def __str__(self) -> str:
        return ' -> '.join([str(each) for each in (*self.stages, self.split) if each is not None]) or 'as they are'

    @property
    def calls(self) -> bool:
        """Whether it calls functions of the user."""
        return self.split is not None or any(stage.calls for stage in self.stages)

    def __call__(self, window: Batch) -> Any:
        """The results for one window: a list; with a split, one for each stream.

        :raises minibatch.errors.WindowError: a function of the user raised: it says in which stage and at which
            message, and what was raised is its cause
        """
        rows = Rows(window.data, range(len(window.data)))
        for number, stage in enumerate(self.stages, 1):
            rows = self._step(number, stage, rows, partial(stage.run, rows, window))
        if self.split is None:
            return rows.values
        split = self.split
        parts: dict[str, list[Any]] = self._step(len(self.stages) + 1, split, rows, partial(split.run, rows))
        return parts if any(parts.values()) else []

    @staticmethod
    def _step(number: int, stage: object, rows: Rows, run: Callable[[], Any]) -> Any:
        try:
            return run()
        except Failed as failed:
            cause = failed.__cause__
            said = str(cause) if isinstance(cause, WindowError) else f'{type(cause).__name__}: {cause}'
            raise WindowError(f'stage {number}, {stage}, failed at {rows.name(failed.at)}: {said}') from cause
