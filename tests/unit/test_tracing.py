"""Spans by OpenTelemetry's own SDK, kept in memory: one for each attempt at a window, linked to its appends."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import minibatch as mb
from minibatch import tracing
from minibatch.contrib.apps import StreamingApp
from minibatch.contrib.files import FileSource
from tests.support.consuming import passed
from tests.support.scripts import ROOT

PARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
_exporter = InMemorySpanExporter()


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What was recorded; there is one provider for a process, and it stays."""
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(_exporter))
        trace.set_tracer_provider(provider)
    _exporter.clear()
    yield _exporter
    _exporter.clear()


def windows(spans: InMemorySpanExporter) -> list[Any]:
    return [span for span in spans.get_finished_spans() if span.name.startswith('process ')]


def ids(context: Any) -> str:
    return tracing.written(context)


tracer = trace.get_tracer('tests')


def test_a_window_has_a_span_that_is_linked_to_its_appends(stream: mb.Stream, spans: InMemorySpanExporter) -> None:
    with tracer.start_as_current_span('one') as one:
        stream.append({'n': 0})
    stream.append({'n': 1})
    with tracer.start_as_current_span('many') as many:
        stream.extend({'n': n} for n in range(2, 5))
    gathering = mb.stream(stream.name, url=stream.store.connection.url, batchsize=10)
    with tracer.start_as_current_span('later') as later:
        gathering.append({'n': 5})
    gathering.append({'n': 6})
    gathering.stop()
    assert passed(stream, size=3, within=0) == [[{'n': n} for n in some] for some in ((0, 1, 2), (3, 4, 5), (6,))]
    linked = [[ids(link.context) for link in span.links] for span in windows(spans)]
    assert linked == [[ids(one.get_span_context()), ids(many.get_span_context())],
                      [ids(many.get_span_context()), ids(later.get_span_context())], []]
    first = windows(spans)[0]
    assert (first.name, first.kind, first.parent) == (f'process {stream.name}', SpanKind.CONSUMER, None)
    assert dict(first.attributes) == {
        'messaging.system': 'minibatch', 'messaging.operation.type': 'process', 'messaging.operation.name': 'process',
        'messaging.destination.name': stream.name, 'messaging.batch.message_count': 3,
        'minibatch.window.id': f'{stream.name}:1', 'minibatch.window.attempt': 1}
    assert all(set(doc) <= {'_id', 'stream', 'created', 'data', 'processed', 'window'}
               for doc in stream.store.buffer.find()), 'messages are stored as ever'


@pytest.mark.parametrize('options', [
    {'gap': 60, 'time': 'ts'}, {'interval': 60, 'every': 30, 'time': 'ts'}, {'size': 3, 'keep': True}],
                         ids=str)
def test_whatever_cuts_the_window(stream: mb.Stream, spans: InMemorySpanExporter, options: dict[str, Any]) -> None:
    with tracer.start_as_current_span('append') as append:
        stream.extend([{'n': n, 'ts': float(60 * n)} for n in range(3)] + [{'n': 9, 'ts': 1e6}])
    assert passed(stream, **options)
    assert windows(spans)
    for span in windows(spans):
        assert [ids(link.context) for link in span.links] == [ids(append.get_span_context())]


@pytest.mark.parametrize('executor', ['inline', 'process', 'thread'])
def test_the_function_runs_inside_of_it(stream: mb.Stream, spans: InMemorySpanExporter, executor: str) -> None:
    """What it calls is a part of the trace, in a worker process, too, and so is what it appends elsewhere."""
    got: list[Any] = []

    async def work(window: Any) -> str | None:
        return tracing.current()

    stream.append({'n': 0})
    stream.streaming(work, size=1, blocking=False, executor=executor, workers=1, sink=got.append)
    span, = windows(spans)
    assert got == [ids(span.get_span_context())]
    assert tracing.current() is None


def test_a_stream_that_is_fed_by_another_one_is_linked_to_it(url: str, spans: InMemorySpanExporter) -> None:
    first = mb.stream('first', url=url)
    first.extend({'n': n} for n in range(2))
    first.map(lambda message: {'n': -message['n']}).through('second').to(print).run(blocking=False)
    one, = [span for span in windows(spans) if span.name == 'process first']
    two, = [span for span in windows(spans) if span.name == 'process second']
    assert [ids(link.context) for link in two.links] == [ids(one.get_span_context())]


def test_a_failed_attempt_is_an_error(stream: mb.Stream, spans: InMemorySpanExporter) -> None:
    stream.append({'n': 0})
    passed(stream, lambda window: window.nothing if window.attempt == 1 else None, size=1)
    failed, good = windows(spans)
    assert (failed.status.status_code, failed.attributes['error.type']) == (StatusCode.ERROR, 'AttributeError')
    assert "'nothing'" in failed.status.description
    assert (good.status.status_code, good.attributes['minibatch.window.attempt']) == (StatusCode.UNSET, 2)
    assert failed.attributes['minibatch.window.id'] == good.attributes['minibatch.window.id']


def test_a_sink_that_fails_is_an_error(stream: mb.Stream, spans: InMemorySpanExporter) -> None:
    def sink(result: Any) -> None:
        raise OSError('full')
    stream.append({'n': 0})
    passed(stream, size=1, max_attempts=1, sink=sink)
    span, = windows(spans)
    assert 'the sink failed: OSError: full' in span.status.description


def test_contexts_that_came_with_messages(url: str, tmp_path: Path, spans: InMemorySpanExporter) -> None:
    """By HTTP, and in the headers of a broker's messages."""
    client = StreamingApp(url=url, ingest={'create': True}).test_client()
    other = PARENT.replace('b7ad', 'c8be')
    for headers in ({'traceparent': PARENT}, {'traceparent': other, 'Idempotency-Key': 'a'}, {'traceparent': '00-x'}):
        assert client.post('/streams/clicks', json={'n': 1}, headers=headers).status_code == 202
    stream = mb.stream('clicks', url=url)
    passed(stream, size=3)
    span, = windows(spans)
    assert [ids(link.context) for link in span.links] == [PARENT, other]

    lines = tmp_path / 'in.jsonl'
    lines.write_text(f'{{"headers": [["traceparent", "{PARENT}"]], "value": 1}}\n{{"headers": 7}}\n')
    stream.attach(FileSource(lines), background=False)
    spans.clear()
    passed(stream, size=1)
    assert [[ids(link.context) for link in span.links] for span in windows(spans)] == [[PARENT], []]


def test_mongodb_that_does_not_take_the_note_is_no_reason_not_to_append(
    stream: mb.Stream, spans: InMemorySpanExporter,
) -> None:
    stream.store.db.create_collection('trace', validator={'never': {'$exists': True}})
    with tracer.start_as_current_span('append'):
        stream.append({'n': 0})
    assert passed(stream, size=1) == [[{'n': 0}]]
    assert windows(spans)[0].links == ()


def test_nothing_happens_without_the_packages(url: str) -> None:
    """In an interpreter where they cannot be found."""
    code = f"""
        import importlib.util, sys
        found = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *args: None if name.startswith('opentelemetry') else found(name, *args)
        import minibatch as mb
        from minibatch import tracing
        stream = mb.stream('clicks', url={url!r})
        stream.append({{'n': 1}})
        stream.streaming(print, size=1, blocking=False, executor='inline')
        assert not tracing.loaded(), [name for name in sys.modules if name.startswith('opentelemetry')]
        assert 'trace' not in stream.store.db.list_collection_names()
    """
    said = subprocess.run([sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True, timeout=60,
                          env={'PYTHONPATH': str(ROOT), 'PATH': ''}, check=False)
    assert (said.stdout, said.stderr) == ('<window clicks:1: 1 messages, attempt 1>\n', '')
