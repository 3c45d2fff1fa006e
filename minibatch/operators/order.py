"""Whether a window may be cut before stages that stand before it: if that makes no difference.

Windows are cut from messages as they are in a durable stream. ``stream.map(f).window(size=10)`` can therefore cut
first and map then, in one pass. ``stream.filter(f).window(size=10)`` cannot: ten messages that pass the filter are
something else than those of ten that pass it. Then what stands before the window becomes a pass of its own, which
writes to a durable stream, and the window is cut from that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minibatch.operators.grouping import GroupBy
from minibatch.operators.stages import Stage

#: Options by which a strategy looks into messages.
_LOOKS_INSIDE = ('key', 'time', 'when', 'bytes', 'emitter')


def commutes(stages: Sequence[Stage], window: Mapping[str, Any]) -> bool:
    """Whether *stages* may run after the window is cut although they stand before it.

    :param window: the options of ``window(...)``, and ``key`` if the messages are grouped before it

    >>> from minibatch.operators.stages import Filter, Map
    >>> commutes([Map(dict)], {'size': 10}), commutes([Filter(bool)], {'size': 10})
    (True, False)
    >>> commutes([Filter(bool)], {'interval': 60, 'time': 'ts'}), commutes([Map(dict)], {'interval': 60, 'time': 'ts'})
    (True, False)
    """
    inside = any(window.get(option) is not None for option in _LOOKS_INSIDE)
    # Windows of so many messages, and those that end where none comes, are others if some are left out.
    each_counts = 'interval' not in window or window.get('sliding') is not None or window.get('emitter') is not None
    return all(
        stage.does == 'looks' or (stage.does == 'drops' and not each_counts) or (
            stage.does == 'changes' and not inside) or (stage.does == 'spreads' and not inside and not each_counts)
        for stage in stages)


def split_at_group(stages: Sequence[Stage]) -> tuple[Sequence[Stage], GroupBy | None, Sequence[Stage]]:
    """The stages before the last ``group_by``, that, and those after it."""
    for at in range(len(stages) - 1, -1, -1):
        stage = stages[at]
        if isinstance(stage, GroupBy):
            return stages[:at], stage, stages[at + 1:]
    return stages, None, ()
