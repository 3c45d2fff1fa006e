"""Kafka to stream to function to Kafka: visits per page, of each 10 visits. ``KAFKA`` says where it is."""

import os

import minibatch as mb
from minibatch.contrib.kafka import KafkaSink, KafkaSource

urls = os.environ.get('KAFKA', 'localhost:9092')
mb.stream('visits').attach(KafkaSource('visits', urls))


@mb.streaming('visits', size=10, sink=KafkaSink('visits-per-page', urls, key='page'))
def count(window):
    """Each result is a message; it is acknowledged by Kafka before the visits leave the stream."""
    pages = [visit['page'] for visit in window]
    return [{'page': page, 'visits': pages.count(page)} for page in sorted(set(pages))]
