"""Named points of the protocol, where the fault tests stop or kill the process.

A crash rule that no test has provoked is a hope (``docs/design/protocol.md``). The engine calls :func:`reached`
after each of its steps; it does nothing until a test puts a function in :data:`on_point`.
"""

from __future__ import annotations

from collections.abc import Callable

#: What is called with a point's name; ``None`` outside of tests.
on_point: Callable[[str], None] | None = None


def reached(name: str) -> None:
    """Say that the step called *name* has just been made."""
    if on_point is not None:
        on_point(name)
