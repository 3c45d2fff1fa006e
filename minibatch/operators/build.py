"""How operators that are more than a stage change a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minibatch.errors import OptionError
from minibatch.fluent import Operators
from minibatch.models import Stream, check_name
from minibatch.operators import joins
from minibatch.operators.aggregators import Aggregator
from minibatch.operators.distinct import Distinct
from minibatch.operators.functions import Call
from minibatch.operators.grouping import Aggregate
from minibatch.operators.options import window_options
from minibatch.operators.order import commutes, split_at_group
from minibatch.operators.passes import Split
from minibatch.operators.pipeline import Pipeline
from minibatch.operators.totals import Totals
from minibatch.window.joining import JoiningWindow


def windowed(pipeline: Pipeline, given: Mapping[str, Any]) -> Pipeline:
    """Windows for what follows; what must come before them goes to a pass of its own."""
    pipeline.going_on('window()')
    options = window_options(given)
    before, group, after = split_at_group(pipeline.tail.stages)
    if group is not None:
        if 'key' in options:
            raise OptionError('group_by(...) before window(...) is its key=; give it once')
        options = window_options({**options, 'key': group.key.given})
        if not commutes(after, {**options, 'key': None}):
            raise OptionError(f'{after[0]} between group_by(...) and window(...) changes what the windows are cut '
                              'from: put it before group_by(...), or after window(...)')
    if pipeline.tail.window is None and commutes(before, options):
        return pipeline.cut(options, (*before, *after))
    first = pipeline.cut(pipeline.tail.window, tuple(before), joins=pipeline.tail.joins)
    return first.on(first.auto()).cut(options, tuple(after))


def aggregated(pipeline: Pipeline, parts: Mapping[str, Aggregator]) -> Pipeline:
    """One result for each window, or group in it."""
    if not parts:
        raise OptionError("aggregate() takes at least one value: aggregate(total=('sum', 'ms'))")
    _, group, after = split_at_group(pipeline.tail.stages)
    if any(isinstance(stage, (Aggregate, Totals)) for stage in after):
        group = None
    table = None if group is None else group.table
    if summed_over(pipeline) is None:
        return pipeline.then(Totals(parts, table or state_name(pipeline, '+'.join(parts))))
    if table is not None:
        raise OptionError('table= goes with an aggregate that goes on for ever; of a window(...) each result is '
                          'complete')
    return pipeline.then(Aggregate(parts))


def summed_over(pipeline: Pipeline) -> Mapping[str, Any] | None:
    """The window that aggregates are of; ``None``: they go on for ever."""
    return None if pipeline.tail.joins else pipeline.tail.window


def state_name(pipeline: Pipeline, what: str) -> str:
    """The name of a table for the state of one more stage: the same whenever the same pipeline is built."""
    nth = sum(stage.keeps_state for stage in pipeline.tail.stages)
    return f'{pipeline.tail.stream}/{what}' + (f'/{nth + 1}' if nth else '')


def distinct(pipeline: Pipeline, key: Any, within: float | None) -> Pipeline:
    """Each message once."""
    window = summed_over(pipeline)
    if within is None and window is None:
        raise OptionError('distinct() takes within=, the seconds for which a key is remembered, or comes after '
                          'window(...): it would remember every key for ever')
    if within is not None:
        if isinstance(within, bool) or not isinstance(within, (int, float)) or not 0 < within < float('inf'):
            raise OptionError(f'within must be a number of seconds, more than 0, not {within!r}')
        if key is None:
            raise OptionError('distinct(key, within=) remembers keys: say which field of a message is its key')
        if window is not None and window.get('early') is not None:
            raise OptionError('distinct(key, within=) after window(early=) would know all messages of a window when it '
                              'comes again: put it before window(...)')
    return pipeline.then(Distinct(key, within, state_name(pipeline, 'distinct')))


def branched(pipeline: Pipeline, predicates: Sequence[Any], named: Mapping[str, Any]) -> tuple[Pipeline, ...]:
    """A durable stream for each branch."""
    given = {**{f'branch-{at}': each for at, each in enumerate(predicates, 1)}, **named}
    if len(given) < 2:
        raise OptionError('branch() takes two or more predicates: small, large = stream.branch(small=is_small, '
                          'large=None)')
    calls: dict[str, Call | bool | None] = {}
    for name, each in given.items():
        calls[f'{pipeline.tail.stream}/{name}'] = each if each is None or each is True else Call(each, 'branch')
    return tuple(pipeline.fork(list(calls), Split(calls)))


def merged(pipeline: Pipeline, others: Sequence[Any], name: str | None) -> Pipeline:
    """All messages of several pipelines in one durable stream."""
    inputs = [pipeline, *(pipeline_of(each, 'merge') for each in others)]
    if not others:
        raise OptionError('merge() takes the streams or pipelines whose messages come in addition')
    name = name or '+'.join(each.tail.stream for each in inputs)
    first, *rest = [each.on(name) for each in inputs]
    return first.joined(rest)


def pipeline_of(given: Any, what: str) -> Pipeline:
    """The pipeline that somebody means by a stream or a pipeline.

    :raises minibatch.errors.OptionError: it is neither
    """
    if not isinstance(given, Operators):
        raise OptionError(f'{what}() takes a stream or a pipeline, not {given!r}; mb.stream(name) gets one')
    return given._pipeline()


def ended(pipeline: Pipeline, sinks: Sequence[Any]) -> Pipeline:
    """Ends: streams, and sinks of the user."""
    if not sinks:
        raise OptionError('to() takes where the results go: a stream, the name of one, or a sink')
    into: list[str | Stream] = []
    plain: list[Any] = []
    for sink in sinks:
        if isinstance(sink, str):
            check_name(sink)
            into.append(sink)
        elif isinstance(sink, Stream):
            into.append(sink)
        elif callable(getattr(sink, 'put', sink)):
            plain.append(sink)
        else:
            raise OptionError(f'a sink is a stream, the name of one, an object with put(message), or a callable, '
                              f'not {sink!r}')
    for each in into:
        name = each if isinstance(each, str) else each.name
        if name in [leg.stream for leg in (*pipeline.before, pipeline.tail)] and (
                isinstance(each, str) or each is pipeline.root or each.store is pipeline.root.store):
            raise OptionError(f'stream {name!r} is one that this pipeline reads, so it would feed itself for ever')
    return pipeline.ending(*plain, into=into)


def joined(pipeline: Pipeline, other: Any, on: Any, right_on: Any, within: Any, how: str, time: Any, right_time: Any,
           merge: Any, name: str | None, more: Mapping[str, Any]) -> Pipeline:
    """Both sides in one durable stream, from which windows of messages that are near each other are cut."""
    right = pipeline_of(other, 'join')
    timed = time is not None or right_time is not None
    if timed and more.get('lateness') is None:
        raise OptionError('join(time=) needs lateness=, the seconds that one side may be behind the other: what comes '
                          'even later is late, as each side has a consumer of its own')
    window: dict[str, Any] = {'emitter': JoiningWindow, 'within': within, 'right': 'right', 'how': how,
                              'key': joins.key_of, 'time': joins.time_of if timed else None, **more}
    pairs = joins.Pairs(how, within, merge)
    sides = (pipeline.then(joins.Side(on, time, right=False)),
             right.then(joins.Side(on if right_on is None else right_on, time if right_time is None else right_time,
                                   right=True)))
    options = window_options(window)
    JoiningWindow(Stream(name='pipeline'), **{key: value for key, value in options.items() if key != 'emitter'})
    name = name or f'{pipeline.tail.stream}*{right.tail.stream}'
    first, second = (side.on(name) for side in sides)
    return first.joined([second]).cut(options, (pairs,), joins=True)
