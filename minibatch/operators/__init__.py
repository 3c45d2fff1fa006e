"""Lazy pipelines on streams: filter, map, group, window, aggregate, join, and durable streams in between.

The operators are methods of streams and of pipelines (:mod:`minibatch.fluent`). Each adds a stage to the description
of a pass (:mod:`~minibatch.operators.pipeline`). When it is run, all stages between two durable streams become one
function of a window (:mod:`~minibatch.operators.passes`) and one consumer (:mod:`~minibatch.operators.plan`), with
the guarantees of any other one.
"""

from minibatch.operators import agg
from minibatch.operators.pipeline import Pipeline
from minibatch.operators.running import Running

__all__ = ['Pipeline', 'Running', 'agg']
