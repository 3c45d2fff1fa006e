"""Which strategy options mean, and what is refused before anything is stored or started."""

from __future__ import annotations

from typing import Any

import pytest

import minibatch as mb
from minibatch.models import Stream
from minibatch.window import CountWindow, HoppingWindow, JoiningWindow, SessionWindow, SlidingWindow, WindowEmitter
from minibatch.window.choice import strategy
from minibatch.window.event import Event
from minibatch.window.hopping import HoppingShelf
from minibatch.window.session import SessionShelf
from minibatch.window.shelf import Shelf
from minibatch.window.sliding import SlidingShelf

SECOND = 1_000_000


@pytest.mark.parametrize(('options', 'name'), [
    ({}, 'CountWindow'),
    ({'size': 3}, 'CountWindow'),
    ({'size': 3, 'key': 'user'}, 'CountWindow'),
    ({'when': bool}, 'CountWindow'),
    ({'bytes': 100, 'within': 3}, 'CountWindow'),
    ({'interval': 3}, 'RelaxedTimeWindow'),
    ({'interval': 3, 'relaxed': False}, 'FixedTimeWindow'),
    ({'interval': 3, 'time': 'ts'}, 'FixedTimeWindow'),
    ({'interval': 3, 'every': 1}, 'HoppingWindow'),
    ({'interval': 3, 'every': 1, 'sliding': False}, 'HoppingWindow'),
    ({'interval': 3, 'sliding': True}, 'SlidingWindow'),
    ({'size': 3, 'sliding': True}, 'SlidingWindow'),
    ({'gap': 3}, 'SessionWindow'),
    ({'gap': 3, 'max_length': 9, 'key': 'user', 'time': 'ts'}, 'SessionWindow'),
])
def test_options_tell_the_strategy(options: dict[str, Any], name: str) -> None:
    assert strategy(options).__name__ == name


@pytest.mark.parametrize(('options', 'says'), [
    ({'size': 2, 'interval': 3}, 'give one of them'),
    ({'when': bool, 'interval': 3}, 'when= cuts windows by what is in the messages'),
    ({'within': 2}, 'within= goes with size='),
    ({'key': 'user'}, 'key= goes with size=, interval= or gap='),
    ({'gap': 2, 'every': 3}, 'every= makes a HoppingWindow and gap= a SessionWindow'),
    ({'gap': 2, 'size': 3}, 'size= does not go with a SessionWindow'),
    ({'gap': 2, 'within': 3}, 'within= does not go with a SessionWindow'),
    ({'size': 2, 'time': 'ts'}, 'time= does not go with a CountWindow'),
    ({'size': 2, 'lateness': 3}, 'lateness= does not go with a CountWindow'),
    ({'interval': 2, 'every': 1, 'timezone': 'UTC'}, 'timezone= does not go with a HoppingWindow'),
    ({'interval': 2, 'sliding': True, 'early': 1}, 'early= does not go with a SlidingWindow'),
    ({'interval': 2, 'relaxed': True, 'time': 'ts'}, 'leave it out'),
    ({'sliding': 'yes', 'size': 3}, 'sliding must be True or False'),
    ({'interval': 2, 'evry': 1}, 'did you mean'),
    ({'interval': 2, 'max_lenght': 1}, "did you mean '?max_length"),
])
def test_options_that_do_not_go_together(options: dict[str, Any], says: str) -> None:
    with pytest.raises(mb.OptionError, match=says):
        mb.streaming('clicks', **options)


@pytest.mark.parametrize(('cls', 'options', 'says'), [
    (HoppingWindow, {'every': 1}, 'needs interval='),
    (HoppingWindow, {'interval': 1}, 'needs every='),
    (HoppingWindow, {'interval': 1, 'every': 0}, 'every must be a number of seconds'),
    (HoppingWindow, {'interval': '1', 'every': 1}, 'interval must be a number of seconds'),
    (HoppingWindow, {'interval': 1, 'every': 2}, 'every=2 is more than interval=1'),
    (HoppingWindow, {'interval': 2, 'every': 1, 'offset': 'x'}, 'offset must be a number'),
    (HoppingWindow, {'interval': 2, 'every': 1, 'time': 'ts', 'late': 'update'}, "late='update' is for intervals"),
    (HoppingWindow, {'interval': 2, 'every': 1, 'emit_empty': True}, 'emit_empty= is for intervals'),
    (HoppingWindow, {'interval': 2, 'every': 1, 'lateness': 3}, 'lateness= goes with time='),
    (HoppingWindow, {'interval': 2, 'every': 1, 'time': 'a..b'}, 'time must be'),
    (SlidingWindow, {}, 'not neither'),
    (SlidingWindow, {'interval': 1, 'size': 2}, 'not both'),
    (SlidingWindow, {'size': 0}, 'size must be a whole number'),
    (SlidingWindow, {'size': True}, 'size must be a whole number'),
    (SlidingWindow, {'interval': -1}, 'interval must be'),
    (SessionWindow, {}, 'needs gap='),
    (SessionWindow, {'gap': 0}, 'gap must be'),
    (SessionWindow, {'gap': -3}, 'gap must be'),
    (SessionWindow, {'gap': float('nan')}, 'gap must be'),
    (SessionWindow, {'gap': 3, 'max_length': 2}, 'max_length=2 is shorter than gap=3'),
    (SessionWindow, {'gap': 3, 'interval': 2}, 'has no interval='),
    (JoiningWindow, {'within': 3}, 'needs within='),
    (JoiningWindow, {'within': 3, 'right': 'r', 'how': 'full'}, "'inner', 'left', 'right', 'outer'"),
    (JoiningWindow, {'within': -3, 'right': 'r'}, 'within must be'),
    (JoiningWindow, {'within': 3, 'right': 'r', 'interval': 2}, 'has no interval='),
    (CountWindow, {'when': 'done'}, 'when must be a function'),
    (CountWindow, {'bytes': 0}, 'bytes must be a whole number'),
    (CountWindow, {'bytes': 1.5}, 'bytes must be a whole number'),
    (CountWindow, {'key': 'user'}, 'size must be a whole number'),
    (CountWindow, {'size': 0, 'when': bool}, 'size must be a whole number'),
    (CountWindow, {'size': 3, 'key': 7}, 'key must be'),
    (CountWindow, {'size': 3, 'key': 'user', 'emit_empty': True}, 'emit_empty='),
])
def test_values_that_cannot_be(cls: type[WindowEmitter], options: dict[str, Any], says: str) -> None:
    with pytest.raises(mb.OptionError, match=says):
        cls(Stream(name='clicks'), **options)


def test_what_is_not_due_is_not_looked_at() -> None:
    shelves: list[Shelf] = [HoppingShelf(10 * SECOND, 5 * SECOND), SessionShelf(10 * SECOND), SlidingShelf(10 * SECOND)]
    for shelf in shelves:
        for number in range(20_000):
            slot = b'%d' % (number % 10_000)
            assert shelf.add(Event(1000 * SECOND + number * SECOND, b'%05d' % number, slot=slot))
        looked: list[bytes] = []
        places = shelf._places  # type: ignore[attr-defined]
        shelf._places = lambda slot, places=places, looked=looked: looked.append(slot) or places(slot)  # type: ignore
        panes = list(shelf.due(1014 * SECOND, 0))
        for pane in panes:
            shelf.close(pane)
        shelf.next_due()
        assert panes
        assert len(looked) <= 2 * len(panes), 'keys were looked at that have nothing due'
