"""Two streams joined: both sides come into one durable stream, and meet in the windows of a ``JoiningWindow``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from minibatch.errors import OptionError, WindowError, did_you_mean
from minibatch.operators.fields import Field
from minibatch.operators.functions import Call
from minibatch.operators.rows import Failed, Rows
from minibatch.operators.stages import Stage
from minibatch.outcome import wait_for
from minibatch.window.base import Batch
from minibatch.window.event import Unplaceable
from minibatch.window.event import time_of as micros_of

HOW = ('inner', 'left', 'right', 'outer')


class Side(Stage):
    """Says of each message on which side it is, and what its key and its time are.

    A message without them fails nothing: it says so itself, and becomes a dead letter when it is placed.

    :param on: what of a message is the key
    :param time: what of a message is its time; ``None``: when it gets into the stream of the join
    :param right: on the right side
    """

    def __init__(self, on: Any, time: Any, *, right: bool) -> None:
        if on is None:
            raise OptionError('join takes on=, the field of the messages (or a function) by which they are joined')
        self.on = Field(on, 'join')
        self.time = None if time is None else Field(time, 'join')
        self.right = right

    def __str__(self) -> str:
        return f'{"right" if self.right else "left"} side, on={self.on}'

    def run(self, rows: Rows, window: Batch) -> Rows:
        made: list[dict[str, Any]] = [{'right': self.right, 'message': value} for value in rows.values]
        for name, field in (('key', self.on), ('time', self.time)):
            if field is not None:
                for one, (value, reason) in zip(made, _each(field, rows.values), strict=True):
                    if reason is None and name == 'time':
                        reason = _no_time(field, value)
                    one.update({name: value} if reason is None else {'wrong': reason})
        return rows.having(made)


def _each(field: Field, values: Sequence[Any]) -> list[tuple[Any, str | None]]:
    """What *field* reads of each value, or why it cannot."""
    try:
        return [(value, None) for value in field.each(values)]
    except Failed:
        pass
    found: list[tuple[Any, str | None]] = []
    for value in values:
        try:
            found.append((field.each([value])[0], None))
        except Failed as failed:
            cause = failed.__cause__
            found.append((None, str(cause) if isinstance(cause, WindowError) else f'{type(cause).__name__}: {cause}'))
    return found


def _no_time(field: Field, value: Any) -> str | None:
    try:
        micros_of(value)
    except ValueError as error:
        return f'{field}: {error}'
    return None


def key_of(sided: Mapping[str, Any]) -> Any:
    """The key that :class:`Side` noted; its absence is a reason to bury the message."""
    return _noted(sided, 'key')


def time_of(sided: Mapping[str, Any]) -> Any:
    """The time that :class:`Side` noted."""
    return _noted(sided, 'time')


def _noted(sided: Mapping[str, Any], name: str) -> Any:
    if 'wrong' in sided or name not in sided:
        raise Unplaceable(sided.get('wrong', f'it was appended to the stream of a join by somebody else: no {name!r}'))
    return sided[name]


class Pairs(Stage):
    """The pairs of one window of a join: a left message with each right one that is near it.

    :param merge: a function of the two, for the result; ``None``: a dict of both
    """

    def __init__(self, how: str, within: float, merge: Any = None) -> None:
        if how not in HOW:
            raise OptionError(f'how must be one of {", ".join(map(repr, HOW))}, not {how!r}'
                              f'{did_you_mean(str(how), HOW)}')
        if merge is not None and not callable(merge):
            raise OptionError(f'merge must be a function of the left and the right message, not {merge!r}')
        self.how, self.within = how, within
        self.merge = None if merge is None else Call(merge, 'join')

    def __str__(self) -> str:
        return f'{self.how} join{"" if self.merge is None else f", merge={self.merge}"}'

    def state(self) -> str:
        return 'the stream itself: messages wait there for those of the other side'

    def run(self, rows: Rows, window: Batch) -> Rows:
        results, places = [], []
        for left, right in self._pairs(rows.values, window):
            at = right if right is not None else left
            assert at is not None
            pair = [None if each is None else rows.values[each]['message'] for each in (left, right)]
            try:
                results.append(self._result(rows.values[at]['key'], *pair))
            except Exception as error:
                raise Failed(at) from error
            places.append(at)
        return rows.pick(places, results)

    def _pairs(self, values: Sequence[Any], window: Batch) -> list[tuple[int | None, int | None]]:
        for at, each in enumerate(values):
            if 'wrong' in each or 'key' not in each:  # a dead letter that is redriven
                raise Failed(at) from WindowError(f'it cannot be joined: {each.get("wrong", "it has no key")}; drop '
                                                  'this window, and append the message anew as it should be')
        if window.late:
            # What came too late to meet anybody is alone, if it may be.
            alone: list[tuple[int | None, int | None]] = [
                (None, at) if each['right'] else (at, None) for at, each in enumerate(values)]
            wanted = {'inner': (), 'left': (False,), 'right': (True,), 'outer': (False, True)}[self.how]
            if any(each['right'] not in wanted for each in values):
                raise Failed(None) from WindowError(
                    f'these messages came too late for an {self.how} join, and cannot be in it alone; drop this '
                    'window, or give the join more lateness=')
            return alone
        if not values or values[0]['right']:
            return [(None, at) for at in range(len(values))]
        return [(0, at) for at in range(1, len(values))] or [(0, None)]

    def _result(self, key: Any, left: Any, right: Any) -> Any:
        if self.merge is None:
            return {'key': key, 'left': left, 'right': right}
        made = self.merge.functions[0](left, right)
        made = wait_for(made) if inspect.iscoroutine(made) else made
        if made is None:
            raise WindowError(f'{self.merge} returned None; return the joined message')
        return made
