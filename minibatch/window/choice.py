"""Which strategy the options of ``mb.streaming(...)`` mean, and which options it takes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from minibatch.errors import OptionError
from minibatch.window.base import WindowEmitter
from minibatch.window.count import CountWindow
from minibatch.window.fixed import FixedTimeWindow
from minibatch.window.hopping import HoppingWindow
from minibatch.window.placed import PlacedWindow
from minibatch.window.placing import PLACING
from minibatch.window.relaxed import RelaxedTimeWindow
from minibatch.window.session import SessionWindow
from minibatch.window.sliding import SlidingWindow

#: The strategies that options choose by their names.
BUILT_IN: tuple[type[WindowEmitter], ...] = (
    CountWindow, RelaxedTimeWindow, FixedTimeWindow, HoppingWindow, SlidingWindow, SessionWindow)
#: What tells a strategy by itself.
_TELLING: tuple[tuple[str, type[WindowEmitter]], ...] = (
    ('every', HoppingWindow), ('sliding', SlidingWindow), ('gap', SessionWindow))


def strategy(options: Mapping[str, Any]) -> type[WindowEmitter]:
    """The strategy that *options* mean.

    :raises OptionError: there is none that all of them go with

    >>> strategy({'interval': 60, 'every': 10}).__name__, strategy({'size': 10, 'key': 'user'}).__name__
    ('HoppingWindow', 'CountWindow')
    >>> strategy({'gap': 60, 'every': 10})
    Traceback (most recent call last):
        ...
    minibatch.errors.OptionError: every= makes a HoppingWindow and gap= a SessionWindow: give one of them
    """
    given = {name for name, value in options.items() if value is not None}
    cls = options.get('emitter')
    if cls is not None:
        if not (isinstance(cls, type) and issubclass(cls, WindowEmitter)):
            raise OptionError(f'emitter must be a subclass of WindowEmitter, not {cls!r}')
        return cls
    if not isinstance(options.get('sliding', False) or False, bool):
        raise OptionError(f"sliding must be True or False, not {options['sliding']!r}")
    telling = [(name, each) for name, each in _TELLING if name in given and options[name] is not False]
    if len(telling) > 1:
        (one, its), (other, others) = telling[:2]
        raise OptionError(f'{one}= makes a {its.__name__} and {other}= a {others.__name__}: give one of them')
    if telling:
        return telling[0][1]
    return _counting_or_timed(given, options)


def _counting_or_timed(given: set[str], options: Mapping[str, Any]) -> type[WindowEmitter]:
    closing = given & {'size', 'when', 'bytes'}
    if 'interval' in given and closing:
        if 'size' in closing:
            raise OptionError('size= cuts windows by count and interval= by time: give one of them; '
                              'for "size messages, or those there after S seconds" give size= and within=')
        raise OptionError(f'{min(closing)}= cuts windows by what is in the messages and interval= by time: give one of '
                          'them')
    if 'within' in given and not closing:
        raise OptionError('within= goes with size=: windows of that many messages, or of those there in time; or with '
                          'when= or bytes=')
    if 'interval' not in given:
        if 'grace' in given:
            raise OptionError('grace= goes with interval= and relaxed=False')
        if 'key' in given and not closing:
            raise OptionError('key= goes with size=, interval= or gap=: windows of so many messages, or so many '
                              'seconds, for each key')
        return CountWindow
    placed = bool(given & set(PLACING))
    if options.get('relaxed') and 'time' in given:
        raise OptionError('relaxed=True cuts windows by the clock, whatever time is in the messages: leave it out, for '
                          'intervals of the time= in them')
    return RelaxedTimeWindow if options.get('relaxed', not placed) else FixedTimeWindow


def own_options(cls: type[WindowEmitter]) -> set[str]:
    """The names of what a strategy and its bases take to be made.

    >>> sorted(own_options(HoppingWindow) - own_options(PlacedWindow))
    ['early', 'every', 'offset']
    """
    return {name for base in cls.__mro__ if issubclass(base, WindowEmitter)
            for name in inspect.signature(base.__init__).parameters}


def refuse_foreign(cls: type[WindowEmitter], options: Mapping[str, Any]) -> None:
    """Refuse options of other built-in strategies than *cls*.

    :raises OptionError: there is one

    >>> refuse_foreign(SessionWindow, {'gap': 3, 'size': 2})
    Traceback (most recent call last):
        ...
    minibatch.errors.OptionError: size= does not go with a SessionWindow; it is for CountWindow and SlidingWindow
    """
    if cls not in BUILT_IN and not issubclass(cls, PlacedWindow):
        return
    own = own_options(cls)
    for name, value in options.items():
        takers = [each.__name__ for each in BUILT_IN if name in own_options(each)]
        if value is not None and takers and name not in own:
            listed = ', '.join(takers[:-1]) + ' and ' * (len(takers) > 1) + takers[-1]
            raise OptionError(f'{name}= does not go with a {cls.__name__}; it is for {listed}')
