"""How operators that are more than a stage change a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minibatch.errors import OptionError
from minibatch.models import Stream, check_name
from minibatch.operators.aggregators import Aggregator
from minibatch.operators.grouping import Aggregate
from minibatch.operators.options import window_options
from minibatch.operators.order import commutes, split_at_group
from minibatch.operators.pipeline import Pipeline


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
    first = pipeline.cut(pipeline.tail.window, tuple(before))
    return first.on(first.auto()).cut(options, tuple(after))


def aggregated(pipeline: Pipeline, parts: Mapping[str, Aggregator]) -> Pipeline:
    """One result for each window, or group in it."""
    if not parts:
        raise OptionError("aggregate() takes at least one value: aggregate(total=('sum', 'ms'))")
    stage = Aggregate(parts)
    if pipeline.tail.window is None:
        raise OptionError(f'{stage} needs windows: put window(size=...) or window(interval=...) before it')
    return pipeline.then(stage)


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
