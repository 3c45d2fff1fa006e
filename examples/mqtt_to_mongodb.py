"""MQTT to stream to function to MongoDB: the mean of each sensor, once a second. ``MQTT`` says where the broker is."""

import os

import minibatch as mb
from minibatch.contrib.mongodb import MongoSink
from minibatch.contrib.mqtt import MQTTSource

url = os.environ.get('MQTT', 'mqtt://localhost:1883')
mb.stream('climate').attach(MQTTSource(url, 'sensors/+/climate'))


@mb.streaming('climate', size=10, within=1, sink=MongoSink('climate_means', exactly_once=True))
def mean(window):
    """Documents next to the stream's own collections, written in the transaction that takes the messages away."""
    celsius = {}
    for message in window:
        celsius.setdefault(message['topic'].split('/')[1], []).append(message['payload']['celsius'])
    return [{'sensor': sensor, 'celsius': sum(values) / len(values), 'of': len(values), 'until': window.end}
            for sensor, values in celsius.items()]
