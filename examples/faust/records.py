"""Faust's records: typed messages, two codecs in a row, and a topic of sanitized ones. ``KAFKA`` says where it is.

What does not fit the record becomes a dead letter, and stops nothing.
"""

import os
from dataclasses import dataclass

import minibatch as mb
from minibatch.contrib.kafka import KafkaSink, KafkaSource

urls = os.environ.get('KAFKA', 'localhost:9092')


@dataclass
class Purchase:
    username: str
    currency: str
    amount: int = 0


@dataclass
class Sanitized:
    currency: str
    amount: int


app = mb.App('purchases')
purchases = KafkaSource('purchases', urls, codec='base64|json', schema=Purchase)
sanitized = KafkaSink('sanitized', urls, codec='base64|json', key=lambda purchase: purchase.currency)


@app.agent('purchases', source=purchases, sinks=[sanitized], size=100, within=0.5)
def sanitize(window):
    return [Sanitized(purchase['currency'], purchase['amount']) for purchase in window]


if __name__ == '__main__':
    app.main()
