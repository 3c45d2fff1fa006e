"""Help for users' own tests: a consumer run on a list of messages, with a clock that is turned by hand.

:func:`consume` runs a function as a consumer does, on a real MongoDB (the embedded one, in a database of the test's
own that is empty before and after), but in place: no process, no thread, no waiting. With pytest there are two
fixtures besides, which come with minibatch: ``minibatch_stream`` and ``minibatch_clock``.

>>> def total(window):
...     return {'total': sum(message['amount'] for message in window)}
>>> consume(total, [{'amount': 1}, {'amount': 2}, {'amount': 5}], size=2).results
[{'total': 3}]
"""

from minibatch.clock import ManualClock
from minibatch.testing.consuming import Consumed, Later, consume
from minibatch.testing.scratch import START, Scratch, database, discard
from minibatch.testing.sinks import MemorySink
from minibatch.testing.waiting import wait_until

__all__ = ['START', 'Consumed', 'Later', 'ManualClock', 'MemorySink', 'Scratch', 'consume', 'database', 'discard',
           'wait_until']
