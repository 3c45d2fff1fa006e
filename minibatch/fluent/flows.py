"""Operators between streams: through, branch, merge, and the ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minibatch.fluent.base import Fluent, operators

if TYPE_CHECKING:
    from minibatch.operators.pipeline import Pipeline


@operators
class Flows(Fluent):
    """Operators that take messages from one durable stream to another."""

    def to(self, *sinks: Any) -> Pipeline:
        """Where the results go; ends a pipeline.

        :param sinks: a stream, or the name of one in the same database: the results are appended in the transaction
            that commits the window they come from, so each is there exactly once. Or any sink of
            :func:`minibatch.streaming`: a callable gets the results one by one, as does an object with ``put``, unless
            it says by an attribute ``expand`` that it takes a list. Those get a result at least once
        :raises minibatch.errors.OptionError: one of them is no sink

        >>> import minibatch as mb
        >>> print(mb.stream('docs-to').map(dict).to('docs-other', print).explain())
        docs-to
          cut    up to 100 messages, as they come
          pass   map(dict)
          to     stream 'docs-other', exactly once
          to     print, at least once
        """
        from minibatch.operators.build import ended
        return ended(self._pipeline(), sinks)

    def through(self, name: str) -> Pipeline:
        """Goes on in another durable stream, to which what came so far is written exactly once.

        So the two halves run side by side, retry alone, and what is between them survives everything.

        :param name: of the stream
        :raises minibatch.errors.OptionError: no stream can be called so, or this one is read by the pipeline already
        """
        return self._pipeline().on(name)

    def branch(self, *predicates: Any, **named: Any) -> tuple[Pipeline, ...]:
        """Several pipelines, each with the messages for which its predicate returns something true.

        Each branch is a durable stream of its own, called ``<stream>/<name>``, that messages are written to exactly
        once. A message may go to several branches, or to none. Whichever of the pipelines runs, all streams are fed; so
        they may run in different programs. It is also how two pipelines read one stream:
        ``stream.branch(one=True, other=True)``.

        :param predicates: functions of the message; ``True`` takes all, ``None`` those for which no predicate
            holds
        :param named: the same, with names for their streams
        :return: the pipelines, in the order of the predicates
        :raises minibatch.errors.OptionError: there are fewer than two, or one is no function

        >>> import minibatch as mb
        >>> stream, got = mb.stream('docs-branch'), []
        >>> stream.extend({'n': n} for n in (1, 20, 3))
        3
        >>> small, rest = stream.branch(small=lambda message: message['n'] < 10, rest=None)
        >>> small.to(got.append).run(blocking=False, executor='inline')
        >>> got
        [{'n': 1}, {'n': 3}]
        >>> [message.data for message in mb.stream('docs-branch/rest').buffer()]
        [{'n': 20}]
        """
        from minibatch.operators.build import branched
        return branched(self._pipeline(), predicates, named)

    def merge(self, *others: Any, name: str | None = None) -> Pipeline:
        """All messages of this one and of others, in one durable stream that each is written to exactly once.

        :param others: streams, or pipelines
        :param name: of the durable stream (default: those of the others, with ``+`` between them)
        :raises minibatch.errors.OptionError: one is neither, is in another MongoDB, or reads a stream that another
            one reads

        >>> import minibatch as mb
        >>> one, other, got = mb.stream('docs-one'), mb.stream('docs-other'), []
        >>> one.append({'n': 1})
        >>> other.append({'n': 2})
        >>> one.merge(other.filter(len)).to(got.append).run(blocking=False, executor='inline')
        >>> got
        [{'n': 1}, {'n': 2}]
        """
        from minibatch.operators.build import merged
        return merged(self._pipeline(), others, name)

    def join(self, other: Any, on: Any, within: float, *, how: str = 'inner', right_on: Any = None, time: Any = None,
             right_time: Any = None, lateness: float | None = None, late: Any = None, max_ahead: float | None = None,
             merge: Any = None, name: str | None = None) -> Pipeline:
        """Pairs of messages of this one and of another that have the same key and are near each other in time.

        Both sides are written, exactly once, to one durable stream, where messages wait for those of the other side. A
        message without its key or time becomes a dead letter of that stream, and stops nothing.

        :param other: a stream or a pipeline: the right side
        :param on: the key: a dotted path, a list of paths, or a function of the message
        :param within: seconds between the times of the two, at the most
        :param how: ``'inner'``: only pairs; ``'left'``: also messages of this one that found none, with ``None`` for
            the other; ``'right'``, and ``'outer'`` for both. Those come *within* (right ones: twice that) and
            *lateness* seconds after their time, also if the other side is silent
        :param right_on: the key of the right side, if it is another one
        :param time: the time in a message: a dotted path, or a function (default: when it gets into the join)
        :param right_time: that of the right side, if it is another one
        :param lateness: seconds that messages of earlier times are waited for: by how much one side may be behind the
            other. It has to be given with *time*, and only then
        :param late: what becomes of those that come even later: ``'dead'`` (default), ``'drop'``, or a function
        :param max_ahead: seconds that a message may be ahead of the clock (default: 3600)
        :param merge: a function of the left and the right message, one of which may be ``None``, for the result
            (default: ``{'key': ..., 'left': ..., 'right': ...}``)
        :param name: of the durable stream (default: those of both, with ``*`` between them)
        :raises minibatch.errors.OptionError: an option cannot be, or both sides read the same stream

        >>> import minibatch as mb
        >>> orders, payments = mb.stream('docs-orders'), mb.stream('docs-payments')
        >>> print(orders.join(payments, on='order', within=3600, how='left').to('docs-paid').explain())
        docs-orders
          cut    up to 100 messages, as they come
          pass   left side, on='order'
          to     stream 'docs-orders*docs-payments', exactly once
        docs-payments
          cut    up to 100 messages, as they come
          pass   right side, on='order'
          to     stream 'docs-orders*docs-payments', exactly once
        docs-orders*docs-payments
          cut    JoiningWindow(within=3600, how='left')
          pass   left join
          state  the stream itself: messages wait there for those of the other side
          to     stream 'docs-paid', exactly once
        """
        from minibatch.operators.build import joined
        more = {'lateness': lateness, 'late': late, 'max_ahead': max_ahead}
        return joined(self._pipeline(), other, on, right_on, within, how, time, right_time, merge, name, more)
