"""The states of a window and of a stream, one line each; the picture is in ``docs/design/protocol.md``."""

from __future__ import annotations

import enum


class WindowState(str, enum.Enum):
    """Where a window is between being decided and being finished."""

    CUTTING = 'cutting'  #: members decided and written down, messages not all marked yet
    READY = 'ready'      #: may be taken by any consumer (from ``not_before`` on)
    RUNNING = 'running'  #: taken: has an owner, a token and a lease
    DONE = 'done'        #: committed; its messages may be deleted by anybody, or stay (``keep=True``)
    DEAD = 'dead'        #: out of attempts: kept with its traceback until redriven or dropped
    VOID = 'void'        #: given up before it was ready because its messages went to another window

    __str__ = str.__str__


class StreamStatus(str, enum.Enum):
    """Whether a stream takes messages."""

    OPEN = 'open'
    CLOSED = 'closed'

    __str__ = str.__str__
