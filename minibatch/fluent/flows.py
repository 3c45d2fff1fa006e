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
