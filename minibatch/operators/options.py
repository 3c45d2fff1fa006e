"""Options of pipelines: those that cut windows, and those that say how passes are run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minibatch.api import streaming
from minibatch.errors import OptionError, did_you_mean

#: How passes are run: for ``run``, ``start`` and ``options``.
RUNNING = frozenset({'url', 'workers', 'max_workers', 'executor', 'keep', 'lease', 'max_attempts', 'backoff', 'timeout',
                     'queue', 'source'})
#: Of those, what is no matter of a single consumer.
WHOLE = frozenset({'url', 'queue', 'source'})
#: How many messages a pass takes in one go if no window(...) says what belongs together, and for how many seconds it
#: waits for them.
BATCH: Mapping[str, Any] = {'size': 100, 'within': 0.0}
#: What mb.streaming takes and pipelines say in another way.
_ELSEWHERE = {'sink': 'end the pipeline with .to(sink)', 'blocking': 'give it to run()', 'background': 'call start()'}


def window_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the options of ``window(...)``, which choose a strategy.

    :raises minibatch.errors.OptionError: one is not known there, or does not go with the others
    """
    options = {name: value for name, value in given.items() if value is not None}
    if not options:
        raise OptionError('window() takes what says how windows are cut: size=, interval=, gap=, ...')
    for name in options:
        if name in RUNNING:
            raise OptionError(f'window() does not take {name!r}, which says how windows are run: give it to run(), '
                              'start() or options()')
        _refuse_elsewhere(name)
    streaming('pipeline', **options)  # says what is wrong with them; without a function it does nothing else
    return options


def running_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check options that say how passes are run.

    :raises minibatch.errors.OptionError: one is not known, or its value cannot be
    """
    options = {name: value for name, value in given.items() if value is not None}
    known = RUNNING | set(BATCH) | {'ordered'}
    for name in options:
        _refuse_elsewhere(name)
        if name not in known:
            raise OptionError(f'there is no option {name!r} for running a pipeline{did_you_mean(name, known)}')
    streaming('pipeline', **{**BATCH, **options})
    return options


def _refuse_elsewhere(name: str) -> None:
    if name in _ELSEWHERE:
        raise OptionError(f'{name}= is an option of mb.streaming; of a pipeline, {_ELSEWHERE[name]}')
