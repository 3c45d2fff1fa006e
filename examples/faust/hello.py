"""Faust's first app: it prints what comes to a Kafka topic. ``python hello.py worker`` runs it.

``KAFKA`` says where it is. ``python hello.py send example_kafka_topic '{"n": 1}'`` does without.
"""

import os

import minibatch as mb
from minibatch.contrib.kafka import KafkaSource

app = mb.App('example_faust_app')
input_stream = app.stream('example_kafka_topic')
topic = KafkaSource('example_kafka_topic', os.environ.get('KAFKA', 'localhost:9092'))


@app.agent(input_stream, source=topic)
async def report_messages_received(windows):
    async for message in windows.messages():
        print(message)


if __name__ == '__main__':
    app.main()
