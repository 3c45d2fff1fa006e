"""Kafka as a source and as a sink, by kafka-python (``pip install 'minibatch[kafka]'``).

>>> import minibatch as mb
>>> from minibatch.contrib.kafka import KafkaSink, KafkaSource
>>> mb.stream('clicks').attach(KafkaSource('clicks', urls='kafka:9092'))                    # doctest: +SKIP
>>> @mb.streaming('clicks', size=100, sink=KafkaSink('counts', urls='kafka:9092', key='user'))   # doctest: +SKIP
... def count(window):
...     counts = Counter(click['user'] for click in window.data)
...     return [{'user': user, 'clicks': n} for user, n in counts.items()]

The source brings each message of the topics into the stream exactly once: how far each partition has been read is
stored in MongoDB, in the transaction that appends the messages. The sink delivers at least once; the headers of what it
sends say which window it comes from, so that whoever reads can tell a repetition.
"""

from __future__ import annotations

from minibatch.contrib.kafka.sink import KafkaSink
from minibatch.contrib.kafka.source import KafkaSource

__all__ = ['KafkaSink', 'KafkaSource']
