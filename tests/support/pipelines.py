"""Pipelines in tests: run in place over what is there, or as the function of one window without any database."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from minibatch.models import Stream
from minibatch.operators import Pipeline
from minibatch.operators.passes import Pass
from minibatch.window import Batch

START, END = datetime(2026, 1, 1, 12), datetime(2026, 1, 1, 13)


def ran(pipeline: Pipeline, **options: Any) -> list[Any]:
    """The results of one run over what is there."""
    results: list[Any] = []
    pipeline.to(results.append).run(blocking=False, **{'executor': 'inline', 'backoff': 0, **options})
    return results


def begun(name: str = 'clicks') -> Pipeline:
    """A pipeline on a stream that is in no database."""
    return Pipeline.of(Stream(name=name))


def applied(pipeline: Pipeline, messages: list[Any], *, key: Any = None, late: bool = False) -> list[Any]:
    """What the last pass of a pipeline makes of one window."""
    (*_, leg) = pipeline.legs()
    results: list[Any] = Pass(leg.stages, leg.split)(Batch('clicks:1', leg.stream, list(messages), start=START, end=END,
                                                           key=key, late=late))
    return results


def values(results: list[dict[str, Any]], name: str) -> dict[Any, Any]:
    """One value of each result, by the key."""
    return {result['key']: result[name] for result in results}
