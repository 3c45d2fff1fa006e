"""MQTT as a source and as a sink, by paho-mqtt (``pip install 'minibatch[mqtt]'``).

>>> import minibatch as mb
>>> from minibatch.contrib.mqtt import MQTTSink, MQTTSource
>>> mb.stream('climate').attach(MQTTSource('mqtts://ann:secret@broker', 'sensors/+/climate'))     # doctest: +SKIP
>>> @mb.streaming('climate', size=100, sink=MQTTSink('mqtts://ann:secret@broker', 'means/climate'))   # doctest: +SKIP
... def mean(window):
...     return {'celsius': sum(each['payload']['celsius'] for each in window) / len(window)}

The source has a session at the broker, which keeps messages for it while it is away, and acknowledges a message when it
is in the stream. What the broker then sends again is recognized, so that each message is in the stream exactly once.
The sink delivers at least once, and its windows are committed when the broker has acknowledged their results.
"""

from __future__ import annotations

from minibatch.contrib.mqtt.sink import MQTTSink
from minibatch.contrib.mqtt.source import MQTTSource

__all__ = ['MQTTSink', 'MQTTSource']
