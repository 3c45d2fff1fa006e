"""The Simple-Stream-Processor's quick start: agents in a chain, from Kafka to Kafka and Redis.

``KAFKA`` and ``REDIS`` say where these are. Measurements are handled 10000 at a time, or those there after 2 seconds;
what is out of range goes to Kafka and to the next agent, one by one, and from there to Redis.
"""

import os

import minibatch as mb
from minibatch.contrib.kafka import KafkaSink, KafkaSource
from minibatch.contrib.redis import RedisSink

kafka = os.environ.get('KAFKA', 'localhost:9092')
producer_sink = KafkaSink('alarms', kafka, key='sensor')
redis_sink = RedisSink('alarm-of:{sensor}', os.environ.get('REDIS', 'redis://localhost'), kind='keys')

worker = mb.App('worker', workers=2)


@worker.agent('measurements', source=KafkaSource('measurements', kafka), size=10000, within=2, atomic_send=True,
              sinks=[producer_sink], then='send_to_another_sink')
async def send_to_producer_and_next_agent(window):
    return [measurement for measurement in window if not 5 <= measurement['celsius'] <= 30]


@worker.agent(sinks=[redis_sink])
async def send_to_another_sink(window):
    return [{'sensor': alarm['sensor'], 'text': f'{alarm["celsius"]} degrees'} for alarm in window]


if __name__ == '__main__':
    worker.run()
