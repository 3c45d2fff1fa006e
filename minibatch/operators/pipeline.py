"""Pipelines: what shall become of the messages of streams, described first and run later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from minibatch.api import Defined, collected
from minibatch.errors import OptionError
from minibatch.fluent import Operators
from minibatch.models import Stream, check_name
from minibatch.operators.grouping import Aggregate
from minibatch.operators.options import running_options
from minibatch.operators.order import split_at_group
from minibatch.operators.passes import Split
from minibatch.operators.stages import Stage
from minibatch.operators.totals import Totals

if TYPE_CHECKING:
    from minibatch.operators.running import Running
    from minibatch.window.base import WindowEmitter


@dataclass(frozen=True, eq=False)
class Leg:
    """One pass over one durable stream.

    :ivar stream: the stream's name
    :ivar window: the options that cut its windows; ``None``: whatever is there
    :ivar stages: what is done to the messages of a window
    :ivar into: the streams that the results are appended to
    :ivar split: which messages each of them gets; ``None``: all, each
    :ivar sinks: the user's sinks
    :ivar joins: its windows are those of a join, and none that results are summed up over
    """

    stream: str
    window: Mapping[str, Any] | None = None
    stages: tuple[Stage, ...] = ()
    into: tuple[str | Stream, ...] = ()
    split: Split | None = None
    sinks: tuple[Any, ...] = ()
    joins: bool = False

    def same(self, other: Leg) -> bool:
        """Whether it does the same as another one, so that both may share a stream."""
        return self is other or str((self.stream, self.window, *map(str, self.stages), self.into, self.split)) == str(
            (other.stream, other.window, *map(str, other.stages), other.into, other.split))

    @property
    def idle(self) -> bool:
        """Whether it does nothing, so that messages stay in its stream for whoever consumes it."""
        return not (self.stages or self.into or self.sinks or self.window)


def compatible(legs: Sequence[Leg]) -> tuple[Leg, ...]:
    """The passes, if no two of them read one stream.

    :raises minibatch.errors.OptionError: two do, and would compete for its messages
    """
    seen: set[str] = set()
    for leg in legs:
        if leg.stream in seen:
            raise OptionError(f'two passes read stream {leg.stream!r}, and each message would go to one of them only: '
                              'a stream has one group of consumers. Give each a branch of its own: '
                              'one, other = stream.branch(one=True, other=True)')
        seen.add(leg.stream)
    return tuple(legs)


@dataclass(frozen=True, eq=False)
class Pipeline(Operators):
    """What shall become of the messages of a stream, or of several.

    Nothing runs before :meth:`run` or :meth:`start`. A pipeline never changes: each operator answers a new one.

    >>> import minibatch as mb
    >>> stream = mb.stream('docs-pipeline')
    >>> stream.extend({'ms': ms} for ms in (12, 3, 30))
    3
    >>> slow = []
    >>> pipeline = stream.filter(lambda message: message['ms'] > 10).map(lambda message: message['ms']).to(slow.append)
    >>> pipeline.run(blocking=False)
    >>> slow
    [12, 30]

    :ivar root: the stream that it began with
    :ivar before: passes that come before the last one, in order
    :ivar tail: the pass that operators add to
    :ivar running: options for all passes
    """

    root: Stream
    before: tuple[Leg, ...]
    tail: Leg
    running: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, stream: Stream) -> Pipeline:
        """The pipeline that begins with *stream* and does nothing yet."""
        return cls(stream, (), Leg(stream.name))

    def __repr__(self) -> str:
        n = len(self.legs())
        return f'<pipeline on {self.root.name!r}: {n} {"pass" if n == 1 else "passes"}; explain() says what it does>'

    def _pipeline(self) -> Pipeline:
        return self

    # -- building, for the operators

    def then(self, stage: Stage) -> Pipeline:
        """With one more stage in the last pass."""
        self.going_on(str(stage))
        return self._with(stages=(*self.tail.stages, stage))

    def ending(self, *sinks: Any, into: Sequence[str | Stream] = ()) -> Pipeline:
        """With ends."""
        self._without_groups()
        return self._with(sinks=(*self.tail.sinks, *sinks), into=(*self.tail.into, *into))

    def cut(self, window: Mapping[str, Any] | None, stages: tuple[Stage, ...], *, joins: bool = False) -> Pipeline:
        """With a window and other stages in the last pass."""
        return self._with(window=window, stages=stages, joins=joins)

    def on(self, name: str) -> Pipeline:
        """Goes on in the durable stream *name*, to which the last pass writes."""
        (pipeline,) = self.fork([name], None)
        return pipeline

    def fork(self, names: Sequence[str], split: Split | None) -> list[Pipeline]:
        """Goes on in several durable streams, to which the last pass writes."""
        self.going_on('a further stream')
        self._without_groups()
        for name in names:
            check_name(name)
            if name in [each.stream for each in self.legs()]:
                raise OptionError(f'stream {name!r} is one that this pipeline reads, so it would feed itself for ever; '
                                  'choose another name')
        leg = replace(self.tail, into=tuple(names), split=split)
        return [replace(self, before=(*self.before, leg), tail=Leg(name)) for name in names]

    def joined(self, others: Sequence[Pipeline]) -> Pipeline:
        """The passes of several pipelines that have come to the same stream.

        :raises minibatch.errors.OptionError: they are in different databases, or compete for one stream
        """
        before = list(self.before)
        running = dict(self.running)
        for other in others:
            if other.root is not self.root and other.root.store is not self.root.store:
                raise OptionError(f'stream {other.root.name!r} is in another MongoDB than {self.root.name!r}; bring '
                                  'its messages over with .to(stream) first')
            before += [leg for leg in other.before if not any(leg is each for each in before)]
            running = {**other.running, **running}
        return replace(self, before=compatible(before), running=running)

    def auto(self) -> str:
        """A name for a durable stream that nobody has named: the same one whenever the same pipeline is built."""
        return f'{self.tail.stream}/windowed'

    def legs(self) -> tuple[Leg, ...]:
        """All passes, from the beginning to the end."""
        return self.before if self.tail.idle and self.before else (*self.before, self.tail)

    def _with(self, **changes: Any) -> Pipeline:
        return replace(self, tail=replace(self.tail, **changes))

    def going_on(self, what: str) -> None:
        """Refuse to add *what* after the end.

        :raises minibatch.errors.OptionError: the pipeline has ended
        """
        if self.tail.sinks or self.tail.into:
            raise OptionError(f'{what} comes after to(...), which ends a pipeline; put it before, or go on with what '
                              "through('name') has stored")

    def _without_groups(self) -> None:
        """Refuse to leave a pass with groups that nothing has summed up: they would be forgotten."""
        _, group, after = split_at_group(self.tail.stages)
        if group is not None and not any(isinstance(stage, (Aggregate, Totals)) for stage in after):
            raise OptionError(f'{group} is followed by nothing that uses the groups: add count(), aggregate(...) or '
                              'another aggregate to it')

    # -- looking and running

    def options(self, **options: Any) -> Pipeline:
        """With options for running: those of :func:`minibatch.streaming` that do not cut windows.

        ``url``, ``workers``, ``executor``, ``keep``, ``lease``, ``max_attempts``, ``backoff``, ``timeout``,
        ``ordered``, ``queue``, ``source`` (attached to the first stream); ``size`` and ``within`` say how many messages
        (default: 100) a pass without ``window(...)`` takes in one go at the most, and for how many seconds it waits for
        them (default: 0).

        :raises minibatch.errors.OptionError: one is not known, or its value cannot be

        >>> import minibatch as mb
        >>> mb.stream('docs-options').map(dict).options(wokers=2)
        Traceback (most recent call last):
        minibatch.errors.OptionError: there is no option 'wokers' for running a pipeline; did you mean workers?
        """
        return replace(self, running={**self.running, **running_options(options)})

    def explain(self) -> str:
        """What it does, as a text for people: its durable streams, and what is done in one pass over each.

        >>> import minibatch as mb
        >>> print(mb.stream('docs-explain').filter(len).through('docs-full').window(size=10).count().explain())
        docs-explain
          cut    up to 100 messages, as they come
          pass   filter(len)
          to     stream 'docs-full', exactly once
        docs-full
          cut    CountWindow(size=10)
          pass   count()
          to     nowhere: results are dropped; end with .to(sink)
        """
        from minibatch.operators.explain import explained
        return explained(self)

    def defined(self) -> Defined:
        """What :func:`minibatch.api.collecting` gets of it."""
        def made(**more: Any) -> list[WindowEmitter]:
            from minibatch.operators.plan import emitters
            return emitters(self.options(**more), wait=True)

        return Defined(self.root.name, self.root.name, made, self.running.get('source'))

    def start(self, **options: Any) -> Running:
        """Run in the background.

        :param options: as of :meth:`options`
        :return: a handle with ``stop()`` and ``wait()``; as a context manager it stops at the end
        :raises minibatch.errors.OptionError: it cannot be run as it is
        :raises minibatch.errors.ConnectError: no MongoDB there
        """
        from minibatch.operators.running import Running
        return Running(self.options(**options), wait=True).start()

    def run(self, blocking: bool = True, **options: Any) -> None:
        """Run until it is stopped: by Ctrl-C, SIGTERM, or a true value put into ``queue``.

        :param blocking: ``False``: handle what is there, from the first stream to the last, and return
        :param options: as of :meth:`options`
        :raises minibatch.errors.OptionError: it cannot be run as it is
        :raises minibatch.errors.ConnectError: no MongoDB there
        """
        from minibatch.operators.running import Running
        if collected(self.options(**options).defined()):
            return
        running = Running(self.options(**options), wait=blocking)
        if blocking:
            running.start().wait(signals=True)
        else:
            running.once()
