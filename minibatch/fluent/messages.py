"""Operators on single messages: filter, map, flat_map, peek, and what groups and cuts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minibatch.fluent.base import Fluent, operators

if TYPE_CHECKING:
    from minibatch.operators.pipeline import Pipeline


@operators
class Messages(Fluent):
    """Operators that take one message after another."""

    def filter(self, fn: Any) -> Pipeline:
        """Only the messages for which a function returns something true.

        :param fn: a function of the message, a coroutine function, or a list of these, of which all must agree
        :raises minibatch.errors.OptionError: it is no function

        >>> import minibatch as mb
        >>> print(mb.stream('docs-filter').filter(len).to(print).explain().splitlines()[2])
          pass   filter(len)
        """
        from minibatch.operators.stages import Filter
        return self._pipeline().then(Filter(fn))

    def map(self, fn: Any) -> Pipeline:
        """What a function returns, in place of each message.

        :param fn: a function of the message, a coroutine function, or a list of these (a *processor*), which are
            applied in order. It must not return ``None``
        :raises minibatch.errors.OptionError: it is no function

        >>> import minibatch as mb
        >>> print(mb.stream('docs-map').map([dict, sorted]).to(print).explain().splitlines()[2])
          pass   map([dict, sorted])
        """
        from minibatch.operators.stages import Map
        return self._pipeline().then(Map(fn))

    def flat_map(self, fn: Any) -> Pipeline:
        """All that a function returns or yields, in place of each message.

        :param fn: a function of the message that returns an iterable, or ``None`` for nothing; generators,
            coroutine functions and asynchronous generators too. Of a list of functions, the last one does
        :raises minibatch.errors.OptionError: it is no function

        >>> import minibatch as mb
        >>> stream, words = mb.stream('docs-flat-map'), []
        >>> stream.append({'line': 'to be or'})
        >>> stream.flat_map(lambda message: message['line'].split()).to(words.append).run(blocking=False)
        >>> words
        ['to', 'be', 'or']
        """
        from minibatch.operators.stages import FlatMap
        return self._pipeline().then(FlatMap(fn))

    def peek(self, fn: Any) -> Pipeline:
        """Call a function on each message, and go on with the message as it is.

        :param fn: a function of the message, a coroutine function, or a list of these
        :raises minibatch.errors.OptionError: it is no function

        >>> import minibatch as mb
        >>> print(mb.stream('docs-peek').peek(print).explain().splitlines()[2])
          pass   peek(print)
        """
        from minibatch.operators.stages import Peek
        return self._pipeline().then(Peek(fn))

    def group_by(self, key: Any) -> Pipeline:
        """One result for each key, of the aggregate that follows.

        After ``window(...)``, the messages of each window are grouped. Before it, each key has windows of its own:
        ``group_by('user').window(size=10)`` waits for ten messages of one user. With no window at all,
        ``group_by('user').count()`` goes on for ever: see :meth:`aggregate`.

        :param key: a dotted path, a list of paths, or a function of the message. A message without the field fails its
            window, with an error that names the field; ``filter`` such messages out before, or let the window go to the
            dead letters, where it stops nobody
        :raises minibatch.errors.OptionError: it is none of these

        >>> import minibatch as mb
        >>> stream, seen = mb.stream('docs-group-by'), []
        >>> stream.extend({'user': user} for user in ('ann', 'bob', 'ann'))
        3
        >>> stream.window(size=3).group_by('user').count().to(seen.append).run(blocking=False)
        >>> [(each['key'], each['count']) for each in seen]
        [('ann', 2), ('bob', 1)]
        """
        from minibatch.operators.grouping import GroupBy
        return self._pipeline().then(GroupBy(key))

    def window(self, **options: Any) -> Any:
        """Cut windows, for the aggregates that follow.

        What stands before it stays in the same pass if that makes no difference; else it becomes a pass of its own,
        which writes to a durable stream: see ``explain()``.

        :param options: of :func:`minibatch.streaming`, those that cut windows: ``size``, ``within``, ``interval``,
            ``emitter`` and so on
        :raises minibatch.errors.OptionError: one is not known, or does not go with the others

        >>> import minibatch as mb
        >>> print(mb.stream('docs-window').window(size=10, within=5).count().to(print).explain())
        docs-window
          cut    CountWindow(size=10, within=5)
          pass   count()
          to     print, at least once
        """
        from minibatch.operators.build import windowed
        return windowed(self._pipeline(), options)
