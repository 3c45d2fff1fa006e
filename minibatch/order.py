"""What a strategy tells the store to cut, and for whom: plain data, so that strategies need no database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a strategy wants cut next.

    :ivar size: messages in each window; ``None``: all there are, in one window
    :ivar most: no more windows than this
    :ivar partial: a last window may be shorter than *size*
    :ivar empty: write a window even if there is no message for it
    :ivar since: only messages created at or after this time
    :ivar until: only messages created before this time
    :ivar start: the window's start, if it is not that of its first message
    :ivar end: the window's end, likewise
    :ivar advance: what is read up to once this is cut
    """

    size: int | None
    most: int = 1
    partial: bool = False
    empty: bool = False
    since: datetime | None = None
    until: datetime | None = None
    start: datetime | None = None
    end: datetime | None = None
    advance: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """For whom windows are cut that go straight to a runner.

    :ivar windows: how many of them; the others become ready for anybody
    """

    owner: str
    token: str
    ttl: float
    windows: int
    lsid: Any = None
