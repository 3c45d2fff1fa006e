"""A process whose clock is wrong, without touching the machine's."""

from __future__ import annotations

import datetime
import time
from typing import Any


def shift(seconds: float) -> None:
    """Shift ``time.time`` and ``datetime.now`` of this process; to be called before anything else is imported."""
    real_time, real = time.time, datetime.datetime
    delta = datetime.timedelta(seconds=seconds)

    class Meta(type):
        def __instancecheck__(cls, obj: object) -> bool:
            return isinstance(obj, real)

        def __subclasscheck__(cls, sub: type) -> bool:
            return issubclass(sub, real)

    class Shifted(real, metaclass=Meta):  # type: ignore[misc, valid-type]
        @classmethod
        def now(cls, tz: Any = None) -> datetime.datetime:
            return real.now(tz) + delta

        @classmethod
        def utcnow(cls) -> datetime.datetime:
            return real.now(datetime.timezone.utc).replace(tzinfo=None) + delta

    def shifted_time() -> float:
        return real_time() + seconds

    def shifted_time_ns() -> int:
        return int(shifted_time() * 1e9)

    time.time, time.time_ns = shifted_time, shifted_time_ns
    datetime.datetime = Shifted  # type: ignore[misc]
