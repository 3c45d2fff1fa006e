"""One stream, the processes that work on it, and the oracle: what a fault test is written with."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pymongo.errors import PyMongoError

from . import oracle
from .log import Log
from .mongod import Deployment
from .processes import Child
from .waiting import wait_until

#: seconds after which a dead consumer's work goes to another one; short, so that the tests are
LEASE = 0.7
#: what the children call themselves, so that commands can be made to fail for them only
APP = 'child'


class World:
    """Children on one stream of one deployment, and what they wrote down.

    :param deployment: the servers under test
    :param dbname: a database of this test's own
    :param path: a directory of this test's own
    :param url: how the children connect, if not by the deployment's own URL (through a proxy, say)
    """

    def __init__(self, deployment: Deployment, dbname: str, path: Path, url: str | None = None) -> None:
        self.deployment = deployment
        self.dbname = dbname
        self.path = path
        self.url = url or deployment.url(dbname, appName=APP)
        self.stream = 'clicks'
        self.log = Log(path / 'log.jsonl')
        self.children: list[Child] = []
        self.sink: str | None = 'plain'
        self.keep = False

    @property
    def db(self) -> Any:
        """The database, by the tests' own client."""
        return self.deployment.client[self.dbname]

    # -- processes ----------------------------------------------------------------------------------------

    def consumer(
        self, *, at: Sequence[dict[str, Any]] = (), function: dict[str, Any] | None = None, sink: Any = None,
        clock: float = 0, mutate: Sequence[str] = (), trace: bool = False, **options: Any,
    ) -> Child:
        """Start a consumer; *options* are those of ``mb.streaming``."""
        options = {'size': 10, 'lease': LEASE, 'backoff': 0.05, 'executor': 'inline', **options}
        if self.keep:
            options['keep'] = True
        options = {name: value for name, value in options.items() if value is not None}
        return self._start({'role': 'consumer', 'options': options, 'function': function or {}, 'trace': trace,
                            'sink': sink or self.sink, 'at': list(at), 'clock': clock, 'mutate': list(mutate)})

    def producer(
        self, name: str = 'p', count: int | None = None, *, batch: int = 1, pause: float = 0.0, size: int = 0,
        at: Sequence[dict[str, Any]] = (),  clock: float = 0, **options: Any,
    ) -> Child:
        """Start a producer of *count* messages (None: until it is ended); *options* are those of ``mb.stream``."""
        return self._start({'role': 'producer', 'name': name, 'count': count, 'batch': batch, 'pause': pause,
                            'size': size, 'at': list(at), 'options': options, 'clock': clock})

    def pipeline(self, build: str, *, at: Sequence[dict[str, Any]] = (), **options: Any) -> Child:
        """Start a pipeline of :mod:`tests.support.chains`; *options* are those of its ``run``."""
        options = {'size': 10, 'lease': LEASE, 'backoff': 0.05, 'executor': 'inline', **options}
        return self._start({'role': 'pipeline', 'build': build, 'options': options, 'at': list(at)})

    def _start(self, config: dict[str, Any]) -> Child:
        child = Child({'url': self.url, 'stream': self.stream, 'log': self.log.path, **config}, self.path)
        self.children.append(child)
        return child

    def append(self, count: int, name: str = 't') -> list[str]:
        """Append *count* messages from this process, in bulk."""
        import minibatch as mb
        ids = [f'{name}:{n}' for n in range(count)]
        mb.stream(self.stream, url=self.url).extend([{'id': i} for i in ids])
        self.log.write('ack', ids=ids)
        return ids

    # -- what there is ------------------------------------------------------------------------------------

    def acknowledged(self) -> int:
        return sum(len(r['ids']) for r in self.log.read('ack'))

    def effects(self) -> int:
        """How many messages reached the sink so far."""
        if self.sink == 'exactly_once':
            return int(self.db.effects.count_documents({}))
        return sum(len(r['ids']) for r in self.log.read('put'))

    def free(self) -> set[str]:
        """Ids of the messages that are in no window."""
        return {d['data']['id'] for d in self.db.buffer.find({'stream': self.stream, 'processed': False})}

    def left(self) -> int:
        """Documents of the stream that are not finished: claimed messages, windows on their way, free messages."""
        of = {'stream': self.stream}
        messages: dict[str, Any] = {'processed': {'$ne': True}} if self.keep else {}
        ended = ['void', 'dead', *(['done'] if self.keep else [])]
        return int(self.db.buffer.count_documents({**of, **messages})
                   + self.db.window.count_documents({**of, 'state': {'$nin': ended}}))

    def waiting(self) -> int:
        """As :meth:`left`, but for copies: who is killed while it puts back a window may leave some, in no window."""
        copies = self.db.buffer.count_documents({'stream': self.stream, 'copied': True})
        return self.left() - int(copies)

    def wait_effects(self, count: int, timeout: float = 20) -> None:
        """Wait until *count* messages reached the sink."""
        self.patiently(lambda: self.effects() >= count, timeout, f'{count} effects')

    def wait_drained(self, timeout: float = 20, rest: int = 0) -> None:
        """Wait until nothing is left of the stream but at most *rest* messages, which do not fill a window."""
        def drained() -> bool:
            free = len(self.free()) if rest else 0
            return free <= rest and self.left() == free
        self.patiently(drained, timeout, 'the stream to be drained')

    def patiently(self, condition: Any, timeout: float, what: str) -> None:
        def holds() -> bool:
            with contextlib.suppress(PyMongoError):
                return bool(condition())
            return False
        try:
            wait_until(holds, timeout, what=what, every=0.03)
        except AssertionError as exc:
            raise AssertionError(f'{exc}\n{self.describe()}') from None

    def faults(self) -> list[str]:
        """The names of the points where a child has done what it was told to."""
        return [r['name'] for r in self.log.read('fault')]

    def describe(self) -> str:
        """Where things stand, for the message of a failed test."""
        lines = [f'acknowledged {self.acknowledged()}, faults {self.faults()}']
        with contextlib.suppress(PyMongoError):
            lines.append(f'effects {self.effects()}, left {self.left()}')
            lines += [f'stream {s}' for s in self.db.stream.find({})]
            lines.append(f'buffer {self.db.buffer.count_documents({})}: '
                         f'{list(self.db.buffer.find({}, {"data": 0}).limit(3))}')
            lines.append(f'windows {self.db.window.count_documents({})}: '
                         f'{list(self.db.window.find({}, {"data": 0, "members": 0, "times": 0}).limit(5))}')
        for child in self.children:
            lines.append(f'-- {child.config["role"]} {child.pid}, code {child.process.poll()}: {child.said[-1500:]}')
        return '\n'.join(lines)

    # -- the end ------------------------------------------------------------------------------------------

    def verdict(self, wanted: Sequence[str] | None = None, rest: int = 0) -> oracle.Verdict:
        """What the oracle counts now, without passing judgement."""
        exactly_once = None
        if self.sink == 'exactly_once':
            exactly_once = [d.get('id') or d['data']['id'] for d in self.db.effects.find({})]
        committed = []
        if self.keep:
            committed = [[m['id'] for m in w.get('data') or []]
                         for w in self.db.window.find({'stream': self.stream, 'state': 'done'})]
        return oracle.judge(self.log, exactly_once=exactly_once, committed=committed,
                            left=max(0, self.left() - rest), wanted=wanted)

    def judge(self, wanted: Sequence[str] | None = None, rest: int = 0) -> oracle.Verdict:
        """Assert that nothing is lost, in two windows, changed, doubled, missing or left; count it all."""
        verdict = self.verdict(wanted, rest)
        oracle.add(verdict)
        assert not verdict.wrongs, f'{verdict.wrongs}\n{verdict}\n{self.describe()}'
        assert verdict.acknowledged, 'nothing was acknowledged, so nothing was tested'
        return verdict

    def judge_finished(self, size: int = 10) -> oracle.Verdict:
        """Judge all but the messages that wait, fewer than a window's *size*, for others to fill it."""
        rest = self.free()
        assert len(rest) < size, f'{len(rest)} messages are not cut\n{self.describe()}'
        return self.judge(sorted({i for r in self.log.read('ack') for i in r['ids']} - rest), rest=len(rest))

    def close(self) -> None:
        for child in self.children:
            child.close()
        with contextlib.suppress(ImportError, AttributeError):
            from minibatch.connection import disconnect
            disconnect(self.url)
        with contextlib.suppress(PyMongoError):
            # a child that was killed in a transaction holds its locks for a minute
            self.deployment.client.admin.command('killAllSessions', [])
        with contextlib.suppress(PyMongoError):
            self.deployment.client.drop_database(self.dbname)


def at(point: str, do: str = 'kill', nth: int = 1, **more: Any) -> dict[str, Any]:
    """What a child shall *do* to itself when it reaches *point* for the *nth* time."""
    return {'point': point, 'do': do, 'nth': nth, **more}
