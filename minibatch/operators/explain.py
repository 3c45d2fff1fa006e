"""A pipeline as a text for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minibatch.operators.functions import name_of
from minibatch.operators.options import BATCH
from minibatch.operators.pipeline import Leg, Pipeline
from minibatch.operators.plan import checked
from minibatch.window.choice import strategy

#: Options that the name of the strategy says already.
_UNSAID = ('emitter', 'relaxed')


def explained(pipeline: Pipeline) -> str:
    """The durable streams of *pipeline*, and for each how it is cut, what one pass does, which state it keeps, and
    where the results go.
    """
    legs = checked(pipeline)
    lines = []
    for leg in legs:
        lines += [leg.stream, f'  cut    {_cut(leg, pipeline.running)}']
        steps = [str(stage) for stage in (*leg.stages, leg.split) if stage is not None]
        lines.append(f'  pass   {" -> ".join(steps) or "messages as they are"}')
        lines += [f'  state  {stage.state()}' for stage in leg.stages if stage.state()]
        lines += [f'  to     {line}' for line in _ends(leg, pipeline)]
    if pipeline.tail not in legs:
        lines += [pipeline.tail.stream, '  kept   until somebody consumes it']
    return '\n'.join(lines)


def _cut(leg: Leg, running: Mapping[str, Any]) -> str:
    if leg.window is None:
        batch = {name: running.get(name, BATCH[name]) for name in BATCH}
        wait = f', or those there after {batch["within"]:g} s' if batch['within'] else ', as they come'
        return f'up to {batch["size"]} messages{wait}'
    options = ', '.join(f'{name}={_shown(value)}' for name, value in leg.window.items()
                        if name not in _UNSAID and not (leg.joins and name in ('key', 'right', 'time')))
    return f'{strategy(dict(leg.window)).__name__}({options})'


def _shown(value: Any) -> str:
    return name_of(value) if callable(value) else repr(value)


def _ends(leg: Leg, pipeline: Pipeline) -> list[str]:
    store = pipeline.root.store
    lines = []
    for each in leg.into:
        name, other = (each, store) if isinstance(each, str) else (each.name, each.store)
        exactly = other is store and store.transactions
        lines.append(f'stream {name!r}, {"exactly" if exactly else "at least"} once')
    for sink in leg.sinks:
        exactly = bool(getattr(sink, 'exactly_once', False))
        shown = repr(sink) if hasattr(sink, 'put') else name_of(sink)
        lines.append(f'{shown}, {"exactly" if exactly else "at least"} once')
    return lines or ['nowhere: results are dropped; end with .to(sink)']
