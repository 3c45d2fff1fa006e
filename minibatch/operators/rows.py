"""What flows through the stages of a pass: values, and from which messages they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any


class Failed(Exception):
    """A function of the user raised; what it raised is the ``__cause__``.

    :ivar at: at which of the values it was given, counted from 0; ``None``: it was given all of them
    """

    def __init__(self, at: int | None = None) -> None:
        super().__init__(at)
        self.at = at


@dataclass(frozen=True, slots=True)
class Rows:
    """The values between two stages.

    :ivar values: messages, or what was made of them
    :ivar origins: for each value, the place in the window of the message that it comes from
    :ivar keys: for each value its group, if there are groups
    :ivar of: what made them, if they are results and no longer messages
    """

    values: list[Any]
    origins: Sequence[int]
    keys: list[Any] | None = None
    of: str = ''

    def having(self, values: list[Any]) -> Rows:
        """Other values, one in place of each."""
        return replace(self, values=values)

    def pick(self, places: Sequence[int], values: list[Any] | None = None) -> Rows:
        """The values at *places*, or other ones that come from them.

        >>> Rows(['a', 'b'], range(2)).pick([1]).values
        ['b']
        """
        return replace(
            self, values=[self.values[at] for at in places] if values is None else values,
            origins=[self.origins[at] for at in places],
            keys=None if self.keys is None else [self.keys[at] for at in places])

    def name(self, at: int | None) -> str:
        """How to call the value at a place in a message to people.

        >>> Rows(['b'], [7]).name(0)
        'message 7 of the window (counted from 0)'
        """
        if at is None or not 0 <= at < len(self.origins):
            return 'the window'
        return f'result {at} of {self.of} (counted from 0)' if self.of else (
            f'message {self.origins[at]} of the window (counted from 0)')
