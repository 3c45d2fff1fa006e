"""Traces by OpenTelemetry, if its packages are installed: a span for each window, linked to its appends.

An append inside of a span notes, beside the messages, which one it was; so does a message that brought a trace context
with it. Whoever runs a window makes a span for each attempt at it, linked to those, and what the function does is
inside of that span, in a worker process, too: calls that it makes, and appends to other streams, belong to the trace.

Contexts are handed on as the W3C's ``traceparent`` (https://www.w3.org/TR/trace-context/). Without the packages, or
where nothing is set up to record spans, nothing of this happens.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Link, Span, SpanContext, Tracer

_PARENT = re.compile(r'00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})')
#: Most links of a span; what OpenTelemetry keeps by default.
MOST_LINKS = 128


def installed() -> bool:
    """Whether OpenTelemetry's interface is installed."""
    return find_spec('opentelemetry') is not None and find_spec('opentelemetry.trace') is not None


def loaded() -> bool:
    """Whether there can be spans in this process: somebody has imported OpenTelemetry."""
    return 'opentelemetry.trace' in sys.modules


def current() -> str | None:
    """The ``traceparent`` of the span that this code runs in; ``None`` if it is in none.

    >>> current() is None
    True
    """
    trace = sys.modules.get('opentelemetry.trace')  # whoever is in a span has imported it
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    return written(context) if context.is_valid else None


def written(context: SpanContext) -> str:
    """The ``traceparent`` of a span."""
    return f'00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}'


def known(parent: object) -> bool:
    """Whether something is a ``traceparent``.

    >>> known('00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'), known('00-1-2-3'), known(None)
    (True, False, False)
    """
    found = _PARENT.fullmatch(parent) if isinstance(parent, str) else None
    return found is not None and int(found[1], 16) != 0 and int(found[2], 16) != 0


@contextlib.contextmanager
def inside(parent: str | None) -> Iterator[None]:
    """Run what is in the block as a part of the span *parent* of somebody else; of no span if it is none."""
    if not known(parent) or not installed():
        yield
        return
    from opentelemetry import context, trace
    assert parent is not None
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(_read(parent)), context.Context()))
    try:
        yield
    finally:
        context.detach(token)


def _read(parent: str) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags
    _, trace_id, span_id, flags = parent.split('-')
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


class Spans:
    """The spans of one consumer's windows.

    :param stream: its name
    :param find: asked for the spans in which messages were appended, by the windows' members
    """

    def __init__(self, stream: str, find: Any) -> None:
        self._stream, self._find = stream, find
        self._tracer: Tracer | None = None
        self._open: dict[str, Span] = {}
        if installed():
            from opentelemetry import trace
            self._tracer = trace.get_tracer('minibatch')

    def begin(self, records: Sequence[Any], batches: Sequence[Any]) -> None:
        """Begin a span for each of these windows, and let their functions be inside of it."""
        if self._tracer is None:
            return
        from opentelemetry.context import Context
        from opentelemetry.trace import ProxyTracerProvider, SpanKind, get_tracer_provider
        if isinstance(get_tracer_provider(), ProxyTracerProvider):  # nothing is set up to record, so far
            return
        made = {}
        for record, batch in zip(records, batches, strict=True):
            # Not a part of the span that this code runs in: the consumer may have been started in one.
            span = self._tracer.start_span(f'process {self._stream}', Context(), SpanKind.CONSUMER, {
                'messaging.system': 'minibatch', 'messaging.operation.type': 'process',
                'messaging.operation.name': 'process', 'messaging.destination.name': self._stream,
                'messaging.batch.message_count': record.n, 'minibatch.window.id': batch.id,
                'minibatch.window.attempt': record.attempt})
            if span.is_recording():
                made[record.id] = span
                batch._trace = written(span.get_span_context())
        self._open |= made
        if made:
            found = self._find([record for record in records if record.id in made])
            for record_id, parents in found.items():
                for link in _links(parents):
                    made[record_id].add_link(link.context)

    def failed(self, record: Any, error: str | None) -> None:
        """Note that the attempt at a window has failed."""
        span = self._open.get(record.id)
        if span is not None:
            from opentelemetry.trace import Status, StatusCode
            span.set_status(Status(StatusCode.ERROR, error))
            span.set_attribute('error.type', (error or '').partition(':')[0] or 'failed')

    def end(self, records: Sequence[Any]) -> None:
        """End the spans of windows that are settled."""
        for record in records:
            span = self._open.pop(record.id, None)
            if span is not None:
                span.end()


def _links(parents: Sequence[str]) -> Iterator[Link]:
    from opentelemetry.trace import Link
    for parent in list(dict.fromkeys(parents))[:MOST_LINKS]:
        if known(parent):
            yield Link(_read(parent))


def parent_in(headers: Any) -> str | None:
    """The ``traceparent`` among the headers that came with a message: pairs of a name and a value, or a mapping.

    >>> parent_in([['kind', 'a'], ['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01']])
    '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    >>> parent_in(None) is parent_in(7) is parent_in(['traceparent']) is None
    True
    """
    pairs = headers.items() if isinstance(headers, Mapping) else headers if isinstance(headers, (list, tuple)) else ()
    for pair in pairs:
        if isinstance(pair, (list, tuple)) and len(pair) == 2 and pair[0] == 'traceparent' and known(pair[1]):
            return str(pair[1])
    return None
