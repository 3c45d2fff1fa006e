"""The operators as methods, of streams and of pipelines alike; what they do is in :mod:`minibatch.operators`.

They are here, below the documents that have them, and take from above only when they are called.
"""

from __future__ import annotations

from minibatch.fluent.aggregates import Aggregates
from minibatch.fluent.flows import Flows
from minibatch.fluent.messages import Messages

__all__ = ['Operators']


class Operators(Messages, Aggregates, Flows):
    """All operators; each answers a pipeline, and none runs anything."""
