"""What a source and a sink are: two small contracts, for those who write their own.

Nothing has to be inherited. Any object with these methods will do, any iterable is a source and any callable is a
sink; the classes here say what the engine calls, when, and what it relies on.

A source brings messages in. It acknowledges upstream only after ``append`` has returned, because from then on
minibatch answers for the message and before that nobody else does:

>>> class Countdown:
...     def __init__(self, start):
...         self.left, self.cancelled = start, False
...     def stream(self, stream):
...         while self.left and not self.cancelled:
...             stream.append({'left': self.left})      # durable when it returns
...             self.left -= 1                          # only now forget it
...     def cancel(self):
...         self.cancelled = True
>>> isinstance(Countdown(3), Source)
True

A sink takes results out. It returns from ``put`` only when the result is safe, because the window is committed,
and its messages leave the buffer, right after:

>>> class Collect:
...     def __init__(self):
...         self.seen = []
...     def put(self, message):
...         self.seen.append(message)
>>> isinstance(Collect(), Sink)
True
>>> exactly_once(Collect())
False
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from minibatch.convert import Converter
from minibatch.errors import InvalidMessage
from minibatch.refused import Refused

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession
    from pymongo.database import Database


@runtime_checkable
class Source(Protocol):
    """Where a stream's messages come from; given to ``stream.attach(source)``.

    What it may rely on: ``stream`` is called once per ``attach``, in a thread of its own (in the caller's, with
    ``background=False``), and ``cancel`` from any other thread, at any time, maybe more than once.
    """

    def stream(self, stream: Any) -> None:
        """Append what comes in, until there is no more or :meth:`cancel` is called.

        Acknowledge upstream (commit an offset, store a resume token, confirm a delivery) after the append that
        covers it has returned, never before and never on a timer. One message that cannot be read must not end the
        source: log it, hand it to whoever asked for such, and go on.

        :param stream: the :class:`minibatch.Stream` to ``append`` or ``extend``
        """

    def cancel(self) -> None:
        """Make :meth:`stream` return soon, also if nothing comes in; what was appended stays."""


@runtime_checkable
class Sink(Protocol):
    """Where the results of windows go; given as ``sink=`` to ``minibatch.streaming``.

    ``put`` is all a sink needs. These are called too, where they exist:

    * ``bind(database)``: once, before the first window, with the stream's own database; raise
      :class:`~minibatch.errors.OptionError` here if the sink cannot work with it
    * ``begin(batch)``: before the ``put`` of a window's result, with the window (``batch.id``, ``batch.attempt``)
    * ``flush()``: after the ``put`` of one or more results, before their windows are committed; for sinks that collect
    * ``close()``: when the consumer stops

    The engine calls them in one thread at a time.

    A consumer that dies between ``put`` and the commit makes the window run again, with the same id and the same
    members, perhaps elsewhere. So a sink sees a result at least once, and one that must not act twice remembers
    ``batch.id``, overwrites by a key, or is an :class:`ExactlyOnceSink`.
    """

    def put(self, message: Any) -> None:
        """Store or send *message*; return when it is safe, raise when it is not.

        An exception fails the attempt: nothing is committed, the messages stay, and the window is tried again with
        back-off.

        :param message: what the window function returned; the window's data (a list of dicts) if it was ``None``
        """


@runtime_checkable
class ExactlyOnceSink(Sink, Protocol):
    """A sink that writes into the stream's own MongoDB, in the transaction that commits the window.

    The engine calls :meth:`put_in` in place of ``put`` if the attribute ``exactly_once`` is true. Effects and commit
    are then one: both are seen, or neither is. Several windows may be committed together; a sink that has a method
    ``put_all_in(session, results)`` gets all of their results in one call, as pairs of a result and its window.
    """

    #: Say yes to being called by :meth:`put_in`.
    exactly_once: bool

    def put_in(self, session: ClientSession, messages: Any, batch: Any) -> None:
        """Write *messages* with *session*, whose transaction the engine has begun and will commit.

        It may run more than once for a window, since MongoDB asks for transactions to be tried again; whatever an
        abandoned try wrote is gone. So write with *session* only, and let errors of pymongo out as they are: their
        labels tell the engine whether to try again.

        :param session: the session of the running transaction
        :param messages: what the window function returned, as for :meth:`Sink.put`
        :param batch: the window they come from
        """


def group_of(stream: Any) -> str:
    """The group of consumers upstream that is a stream's own.

    No other stream has it, not even one of the same name in another database, or an earlier one that was dropped.
    """
    identity = f'{stream.store.connection.db.name}/{stream.name}/{stream.created}'
    return f'minibatch.{stream.name}.{hashlib.sha256(identity.encode()).hexdigest()[:12]}'


def exactly_once(sink: Any) -> bool:
    """Whether *sink* wants to write inside the commit's transaction (see :class:`ExactlyOnceSink`)."""
    return bool(getattr(sink, 'exactly_once', False)) and callable(getattr(sink, 'put_in', None))


@runtime_checkable
class BoundSink(Sink, Protocol):
    """A sink that has to know the stream's database before it can write, such as one that was given a name."""

    def bind(self, database: Database[Any]) -> None:
        """Called once, before the first window, with the database of the stream."""


def spread(message: Any, expand: bool) -> Sequence[Any]:
    """The single messages of a result: those of a list if *expand* is true, else the result itself.

    >>> spread([{'n': 1}, {'n': 2}], True)
    [{'n': 1}, {'n': 2}]
    >>> spread([{'n': 1}, {'n': 2}], False), spread({'n': 1}, True)
    ([[{'n': 1}, {'n': 2}]], [{'n': 1}])
    """
    return message if expand and isinstance(message, (list, tuple)) else [message]


def as_document(message: Any) -> dict[str, Any]:
    """A fresh dict with what MongoDB can store of *message*, which stays as it was.

    It makes the same conversions as ``append`` does, so that results of numpy, dataclasses and the like can be
    written by a sink as they are.

    >>> from decimal import Decimal
    >>> as_document({'sum': Decimal('1.50'), 'of': ('a', 'b')})
    {'sum': Decimal128('1.50'), 'of': ['a', 'b']}
    >>> as_document(3)
    Traceback (most recent call last):
    minibatch.errors.InvalidMessage: the sink got something it cannot store: data is a value of type int, ...

    :raises InvalidMessage: it is no mapping, or holds a value that cannot be stored
    """
    try:
        return Converter().message(message)
    except Refused as error:
        raise InvalidMessage(f'the sink got something it cannot store: {error}', path=error.path) from error
