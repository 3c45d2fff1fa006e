"""Consumer processes: started, watched and stopped by the benchmark."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
from pymongo import monitoring

from benchmarks.engines import Job, consume
from benchmarks.figures import TrialFailed

_spawn = multiprocessing.get_context('spawn')
START_LIMIT = 60.0
STOP_LIMIT = 60.0


@dataclass
class Report:
    """What a consumer says at its end: each message or count that was put, and each command that it sent."""

    events: list[tuple[float, int]] = field(default_factory=list)
    stamps: list[dict[str, int]] = field(default_factory=list)
    commands: list[tuple[float, str]] = field(default_factory=list)


class Commands(monitoring.CommandListener):
    """Notes each command that any client of this process sends; heartbeats are not commands."""

    def __init__(self, sent: list[tuple[float, str]]) -> None:
        self.sent = sent

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.sent.append((time.monotonic(), event.command_name))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


def _main(job: Job, seen: Any, ready: Any, go: Any, stop: Any, pipe: Any) -> None:
    report = Report()
    if job.listen:
        monitoring.register(Commands(report.commands))
    stopping = threading.Event()

    def put(result: Any) -> None:
        if isinstance(result, dict):
            report.stamps.append(result)
            seen.value += 1
            return
        seen.value += result
        report.events.append((time.monotonic(), result))

    def wait_for_stop() -> None:
        parent = multiprocessing.parent_process()
        while not stop.wait(1.0) and parent is not None and parent.is_alive():
            continue
        stopping.set()

    def is_ready() -> None:
        ready.set()
        while not go.wait(1.0) and not stopping.is_set():
            continue

    threading.Thread(target=wait_for_stop, daemon=True).start()
    consume(job, put, stopping, is_ready)
    with contextlib.suppress(BrokenPipeError):  # the benchmark was killed: nobody wants to know
        pipe.send(report)
    pipe.close()


class Consumer:
    """One consumer process of a job."""

    def __init__(self, job: Job, go: Any, stop: Any) -> None:
        # One writer, and a reader that only looks whether it is done: no lock.
        self._seen = _spawn.Value('q', 0, lock=False)
        self._ready = _spawn.Event()
        self._pipe, theirs = _spawn.Pipe(duplex=False)
        self.process = _spawn.Process(target=_main, args=(job, self._seen, self._ready, go, stop, theirs))
        self.process.start()
        theirs.close()

    @property
    def seen(self) -> int:
        return int(self._seen.value)

    def wait_ready(self) -> None:
        if not self._ready.wait(START_LIMIT):
            raise TrialFailed('a consumer did not start')

    def peak_memory(self) -> float:
        """Peak resident megabytes of the process and its workers, while they live."""
        mine = psutil.Process(self.process.pid)
        # Python's own helper of the "spawn" and "forkserver" methods is no part of a consumer.
        family = [mine, *(p for p in mine.children(recursive=True) if 'resource_tracker' not in ' '.join(p.cmdline()))]
        return sum(_peak_of(p) for p in family)

    def report(self) -> Report:
        if not self._pipe.poll(STOP_LIMIT):
            raise TrialFailed('a consumer did not stop')
        report: Report = self._pipe.recv()
        self.process.join(STOP_LIMIT)
        return report

    def kill(self) -> None:
        """End what is left of it, workers included."""
        if self.process.is_alive() and self.process.pid:
            family = [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]
            for process in family:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
        self.process.join(5)


def _peak_of(process: psutil.Process) -> float:
    status = f'/proc/{process.pid}/status'
    if os.path.exists(status):
        with open(status, encoding='ascii', errors='replace') as lines:
            for line in lines:
                if line.startswith('VmHWM:'):
                    return int(line.split()[1]) / 1024
    return float(process.memory_info().rss) / 2**20


class Group:
    """All consumers of a trial; they begin together at :meth:`go`."""

    def __init__(self, job: Job, count: int) -> None:
        self._go, self._stop = _spawn.Event(), _spawn.Event()
        self.members = [Consumer(job, self._go, self._stop) for _ in range(count)]

    @property
    def seen(self) -> int:
        return sum(member.seen for member in self.members)

    def go(self) -> None:
        for member in self.members:
            member.wait_ready()
        self._go.set()

    def wait(self, done: Callable[[], bool], limit: float) -> None:
        """Wait for a condition, or fail: also when a consumer died."""
        until = time.monotonic() + limit
        while not done():
            if time.monotonic() > until:
                raise TrialFailed(f'{self.seen:,} messages in {limit:.0f} s, and not done')
            if not all(member.process.is_alive() for member in self.members):
                raise TrialFailed('a consumer died')
            time.sleep(0.002)

    def stop(self) -> list[Report]:
        self._stop.set()
        return [member.report() for member in self.members]

    def kill(self) -> None:
        for member in self.members:
            member.kill()


@contextmanager
def consumers(job: Job, count: int = 1) -> Iterator[Group]:
    """*count* consumer processes of a job, ready to go; none of them outlives the block."""
    group = Group(job, count)
    try:
        yield group
    finally:
        group.kill()
