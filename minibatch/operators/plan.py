"""From a pipeline to consumers: one emitter for each pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minibatch.api import make_emitter
from minibatch.errors import OptionError
from minibatch.models import Stream
from minibatch.operators.options import BATCH, WHOLE
from minibatch.operators.outlet import Outlet, StreamSink
from minibatch.operators.passes import Pass
from minibatch.operators.pipeline import Leg, Pipeline, compatible
from minibatch.window.base import WindowEmitter


def checked(pipeline: Pipeline) -> tuple[Leg, ...]:
    """The passes of a pipeline.

    :raises minibatch.errors.OptionError: two of them would compete for the messages of one stream, or it does nothing
    """
    legs = pipeline.legs()
    if all(leg.idle for leg in legs):
        raise OptionError(f'this pipeline does nothing to stream {pipeline.root.name!r}: add operators, or .to(sink)')
    return compatible(legs)


def emitters(pipeline: Pipeline, *, wait: bool) -> list[WindowEmitter]:
    """The consumers of a pipeline, which are not running yet, in the order in which messages reach them.

    :param wait: mind ``max_backlog`` of the streams between passes
    """
    legs = checked(pipeline)
    options = {name: value for name, value in pipeline.running.items() if name not in WHOLE}
    url = pipeline.running.get('url') or pipeline.root.store.connection.url
    return [_emitter(leg, url, options, wait) for leg in legs]


def _emitter(leg: Leg, url: str, options: Mapping[str, Any], wait: bool) -> WindowEmitter:
    own = {name: value for name, value in options.items() if name not in BATCH}
    window = leg.window or {**BATCH, **{name: options[name] for name in BATCH if name in options}}
    function = Pass([stage.at(url) for stage in leg.stages], leg.split)
    if not function.calls:
        own.setdefault('executor', 'inline')  # nothing of the user's runs: worker processes would be a detour
    if any(stage.keeps_state for stage in leg.stages) and not {'workers', 'max_workers'} & set(own):
        own['workers'] = 1  # windows at the same time would wait for each other's state, and run again
    if any(stage.in_order for stage in leg.stages):
        own.setdefault('ordered', True)
    return make_emitter(leg.stream, function, url=url, sink=_outlet(leg, url, wait), **{**own, **window})


def _outlet(leg: Leg, url: str, wait: bool) -> Outlet | None:
    if not (leg.into or leg.sinks):
        return None
    of = Stream.get_or_create(leg.stream, url=url)
    streams: dict[str, StreamSink] = {}
    for each in leg.into:
        stream = Stream.get_or_create(each, url=url) if isinstance(each, str) else each
        streams[f'{stream.name} #{len(streams)}' if stream.name in streams else stream.name] = StreamSink(
            stream, of, wait=wait)
    return Outlet(streams, leg.sinks, split=leg.split is not None)
