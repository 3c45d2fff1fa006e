"""What a strategy tells the store to cut, and for whom: plain data, so that strategies need no database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A window of messages that the strategy has chosen one by one, to be cut; times in microseconds.

    :ivar start: of its interval
    :ivar end: of its interval, exclusive
    :ivar name: what follows the stream's name in its id; ``None``: its number
    :ivar key: the key of its messages, as the user sees it
    :ivar slot: the canonical bytes of the key
    :ivar ids: its members' ids as bytes, in order
    :ivar times: when they were appended
    :ivar blobs: their data, as BSON documents; ``None`` for a window that is too large to carry them
    :ivar marks: those of *ids* that are in no later window; ``None``: all of them
    :ivar keeps: whether its document stays when it is committed, for messages that come late
    :ivar final: whether it will not come again
    :ivar late: whether its messages came too late for their window
    :ivar dead: why it is a dead letter from the start, and what kind of one
    """

    start: int
    end: int
    name: str | None = None
    key: Any = None
    slot: bytes = b''
    ids: Sequence[bytes] = ()
    times: Sequence[int] = ()
    blobs: Sequence[bytes] | None = ()
    marks: Sequence[bytes] | None = None
    keeps: bool = False
    final: bool = True
    late: bool = False
    dead: tuple[str, str] | None = None

    def with_data(self, blobs: Sequence[bytes]) -> Part:
        """The same with its messages' data."""
        return replace(self, blobs=blobs)

    def without_others(self, reason: str, kind: str) -> Part:
        """A dead letter of those of its messages that no later window needs; their data stay in the buffer."""
        kept = set(self.marks if self.marks is not None else self.ids)
        mine = [(id_, time) for id_, time in zip(self.ids, self.times, strict=True) if id_ in kept]
        return replace(self, ids=[id_ for id_, _ in mine], times=[time for _, time in mine], marks=None, blobs=None,
                       dead=(reason, kind))


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a stream has been cut, to be stored with the cut.

    :ivar id: of the strategy's run on the stream: a new one once somebody has reset it, which fences off the old one
    :ivar mark: the last window's mark (``None``: as it is)
    :ivar watermark: as :meth:`minibatch.window.watermark.Watermark.document` says
    :ivar keys: the same two for keys that have a watermark of their own, by slot
    :ivar gone: ids of all messages that leave the buffer
    :ivar bare: those of them that are in none of the windows
    :ivar late: how many of them are dropped since they came too late
    :ivar held: ids of messages whose own window this is, and that stay for later ones
    :ivar early: ids of windows that were handed out early, and need not run if nobody has taken them yet
    """

    id: str
    mark: Sequence[Any] | None = None
    watermark: dict[str, Any] = field(default_factory=dict)
    keys: dict[bytes, tuple[Sequence[Any], dict[str, Any]]] = field(default_factory=dict)
    gone: Sequence[bytes] = ()
    bare: Sequence[bytes] = ()
    late: int = 0
    held: Sequence[bytes] = ()
    early: Sequence[str] = ()
