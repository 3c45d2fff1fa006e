"""What a function receives, and which way a strategy of one's own is asked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from minibatch.models import Stream
from minibatch.window import Batch, CountWindow, View, WindowEmitter

NOON = datetime(2026, 1, 1, 12)


def s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def make(cls: type[Any], **options: Any) -> Any:
    return cls(Stream(name='clicks'), **options)


def test_a_window_is_a_sequence_of_its_messages() -> None:
    window = Batch('clicks:1', 'clicks', [{'n': 1}, {'n': 2}], NOON, NOON, NOON + s(1), key='ann', attempt=2, query=[3])
    assert (len(window), list(window), window.data) == (2, [{'n': 1}, {'n': 2}], [{'n': 1}, {'n': 2}])
    assert 'clicks:1' in repr(window)
    assert 'attempt 2' in repr(window)
    assert len(Batch('clicks:1', 'clicks')) == 0


def test_messages_are_decoded_when_somebody_looks() -> None:
    class Unread:
        times = 0

        def unpack(self) -> list[Any]:
            self.times += 1
            return [{'n': 1}]

    unread = Unread()
    window = Batch('clicks:1', 'clicks', unread=unread)
    assert unread.times == 0
    assert window.data is window.data
    assert (list(window), unread.times) == ([{'n': 1}], 1)


def test_a_strategy_without_a_decision_says_what_to_override() -> None:
    with pytest.raises(NotImplementedError, match='window_ready'):
        make(WindowEmitter).decide(View(now=NOON))


@pytest.mark.parametrize('name', WindowEmitter.HOOKS)
def test_a_strategy_that_overrides_a_hook_is_cut_through_its_hooks(name: str) -> None:
    own = type('Own', (CountWindow,), {name: lambda self, *args: None})
    assert make(own, size=1).hooked
    assert not make(type('Plain', (CountWindow,), {'sleep': lambda self: None}), size=1).hooked
    assert make(CountWindow, size=1, processfn=list).hooked
