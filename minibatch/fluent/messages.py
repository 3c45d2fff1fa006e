"""Operators on single messages: filter, map, flat_map, peek, and what groups and cuts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minibatch.fluent.base import Fluent, operators

if TYPE_CHECKING:
    from minibatch.operators.pipeline import Pipeline


@operators
class Messages(Fluent):
    """Operators that take one message after another."""

    def filter(self, fn: Any, *, as_: str | None = None) -> Pipeline:
        """Only the messages for which a function returns something true.

        :param fn: a function of the message, a coroutine function, or a list of these, of which all must agree
        :param as_: ``'pandas'``, ``'polars'`` or ``'arrow'``: the function gets the messages of a window as such a
            frame, and returns one true or false value for each row
        :raises minibatch.errors.OptionError: it is no function

        >>> import minibatch as mb
        >>> print(mb.stream('docs-filter').filter(len).to(print).explain().splitlines()[2])
          pass   filter(len)
        """
        from minibatch.operators import stages, tabular
        return self._pipeline().then(stages.Filter(fn) if as_ is None else tabular.FilterFrame(fn, as_))

    def map(self, fn: Any, *, as_: str | None = None) -> Pipeline:
        """What a function returns, in place of each message.

        :param fn: a function of the message, a coroutine function, or a list of these (a *processor*), which are
            applied in order. It must not return ``None``
        :param as_: ``'pandas'``, ``'polars'`` or ``'arrow'``: the function gets the messages of a window as such a
            frame, and returns a frame, whose rows go on as dicts
        :raises minibatch.errors.OptionError: it is no function

        >>> import minibatch as mb
        >>> print(mb.stream('docs-map').map([dict, sorted]).to(print).explain().splitlines()[2])
          pass   map([dict, sorted])
        """
        from minibatch.operators import stages, tabular
        return self._pipeline().then(stages.Map(fn) if as_ is None else tabular.MapFrame(fn, as_))

    def flat_map(self, fn: Any) -> Pipeline:
        """All that a function returns or yields, in place of each message.

        :param fn: a function of the message that returns an iterable, or ``None`` for nothing; generators,
            coroutine functions and asynchronous generators too. Of a list of functions, the last one does
        :raises minibatch.errors.OptionError: it is no function

        >>> import minibatch as mb
        >>> stream, words = mb.stream('docs-flat-map'), []
        >>> stream.append({'line': 'to be or'})
        >>> split = stream.flat_map(lambda message: message['line'].split())
        >>> split.to(words.append).run(blocking=False, executor='inline')
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

    def group_by(self, key: Any, *, table: str | None = None) -> Pipeline:
        """One result for each key, of the aggregate that follows.

        After ``window(...)``, the messages of each window are grouped. Before it, each key has windows of its own:
        ``group_by('user').window(size=10)`` waits for ten messages of one user. With no window at all,
        ``group_by('user').count()`` goes on for ever: see :meth:`aggregate`.

        :param key: a dotted path, a list of paths, or a function of the message. A message without the field fails its
            window, with an error that names the field; ``filter`` such messages out before, or let the window go to the
            dead letters, where it stops nobody
        :param table: the name of the table that keeps the state of an aggregate that goes on for ever (default: made of
            the stream's name; ``explain()`` says it)
        :raises minibatch.errors.OptionError: it is none of these

        >>> import minibatch as mb
        >>> stream, seen = mb.stream('docs-group-by'), []
        >>> stream.extend({'user': user} for user in ('ann', 'bob', 'ann'))
        3
        >>> stream.window(size=3).group_by('user').count().to(seen.append).run(blocking=False, executor='inline')
        >>> [(each['key'], each['count']) for each in seen]
        [('ann', 2), ('bob', 1)]
        """
        from minibatch.operators.grouping import GroupBy
        return self._pipeline().then(GroupBy(key, table))

    def distinct(self, key: Any = None, *, within: float | None = None) -> Pipeline:
        """Only the first message with each key: of the last *within* seconds, or of the window.

        :param key: a dotted path, a list of paths, or a function of the message (default, in a window: the message)
        :param within: seconds for which a key is remembered, in a table that changes in the transaction that commits
            the messages. They count from the first message with the key, by the server's clock
        :raises minibatch.errors.OptionError: neither *within* is given, nor is there a window

        >>> import minibatch as mb
        >>> stream, seen = mb.stream('docs-distinct'), []
        >>> stream.extend({'id': id} for id in (1, 2, 1))
        3
        >>> stream.distinct('id', within=3600).to(seen.append).run(blocking=False, executor='inline')
        >>> seen
        [{'id': 1}, {'id': 2}]
        """
        from minibatch.operators.build import distinct
        return distinct(self._pipeline(), key, within)

    def lookup(self, source: Any, on: Any, *, key: str = '_id', name: str | None = None,
               how: str = 'left') -> Pipeline:
        """Add to each message what a table or a collection has for its key, with one query for each window.

        :param source: a table (:func:`minibatch.table`), or the name of a collection in the stream's database
        :param on: the key: a dotted path, or a function of the message
        :param key: the field of the collection's documents that is the key; if it is not ``_id``, give it an index
        :param name: the field that is added: the table's value, or the document (default: the source's name)
        :param how: ``'left'``: it is ``None`` where there is nothing; ``'inner'``: such messages are left out
        :raises minibatch.errors.OptionError: *source* or *how* is something else

        >>> import minibatch as mb
        >>> stream, seen = mb.stream('docs-lookup'), []
        >>> ages = mb.table('docs-ages')
        >>> ages['ann'] = 36
        >>> stream.append({'user': 'ann'})
        >>> stream.lookup(ages, on='user', name='age').to(seen.append).run(blocking=False, executor='inline')
        >>> seen
        [{'user': 'ann', 'age': 36}]
        """
        from minibatch.operators.lookup import Lookup
        return self._pipeline().then(Lookup(source, on, key=key, name=name, how=how))

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
