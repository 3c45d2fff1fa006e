"""One worker process, seen from the lane that it works for."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from math import ceil
from multiprocessing import Pipe
from multiprocessing.spawn import get_executable

import cloudpickle

from minibatch.errors import WindowTimeout, WorkerDied
from minibatch.outcome import Function, Outcome, thaw
from minibatch.worker import BEGUN, BOOT, HEADER, KEPT

#: Seconds for a new process to say that it is there, and for one that was told to go to be gone.
START, END = 60.0, 5.0


class Shipment:
    """A function on its way to worker processes."""

    def __init__(self, fn: Function) -> None:
        self.fn = fn  # held, so that its id() stays its own
        self.blob = bytes(cloudpickle.dumps(fn, 5))
        self.digest = hashlib.blake2b(self.blob, digest_size=16).hexdigest()


class Process:
    """A worker process: it is told what to run, and what it had done is known even if it dies over it."""

    def __init__(self) -> None:
        ours, theirs = Pipe()
        end, self._alive = os.pipe()
        self._journal = _unnamed_file()
        self._lock = threading.Lock()
        self._shipped: set[str] = set()
        self.dead = False
        fds = theirs.fileno(), end, self._journal
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        try:
            self._popen = subprocess.Popen(
                [get_executable(), *flags, '-c', BOOT, *map(str, fds), 'minibatch-worker'],
                pass_fds=fds, stdin=subprocess.DEVNULL, start_new_session=True)
        except BaseException:
            ours.close()
            os.close(self._alive)
            os.close(self._journal)
            raise
        finally:
            theirs.close()
            os.close(end)
        self.pid = self._popen.pid
        self._lane = ours
        self._poll = select.poll()
        self._poll.register(ours.fileno(), select.POLLIN)

    def greet(self) -> None:
        """Wait until the process is there.

        :raises WorkerDied: it ended at once; why is on its standard error
        """
        path = [entry or os.getcwd() for entry in sys.path]
        self._send((path, sys.argv))
        self._receive(time.monotonic() + START, f'the process was not ready within {START:g} s')

    def load(self, shipment: Shipment, patience: float | None) -> Outcome | None:
        """Send the function, unless it is there already.

        :return: what every batch has for its outcome, if the process cannot load it
        :raises WorkerDied: loading it killed the process
        :raises WindowTimeout: loading it took too long
        """
        if shipment.digest in self._shipped:
            return None
        if len(self._shipped) >= KEPT:
            self._shipped.clear()  # as the worker does
        self._send((shipment.digest, shipment.blob, []))
        until = None if patience is None else time.monotonic() + patience
        trouble = self._receive(until, f'that took longer than {patience} s')
        if trouble:
            return thaw(trouble)
        self._shipped.add(shipment.digest)
        return None

    def run(self, shipment: Shipment, packed: list[bytes], timeout: float | None) -> list[Outcome]:
        """Run the function on the batches.

        :return: the outcomes of all of them or, if the process dies or hangs, up to the one that it was at; none if it
            died before the first
        """
        started = time.monotonic()
        os.ftruncate(self._journal, 0)
        try:
            self._send((shipment.digest, None, packed))
            until = None if timeout is None else started + timeout
            while True:
                try:
                    return [thaw(outcome) for outcome in pickle.loads(self._receive(until, ''))]
                except WindowTimeout:
                    assert timeout is not None
                    _, last = self._done()
                    until = (last or started) + timeout
                    if until <= time.monotonic():
                        return self._stop_late(timeout)
        except WorkerDied as e:
            if not os.fstat(self._journal).st_size:
                return []  # it died before it read them
            done, last = self._done()
            return [*done, Outcome(kind='died', seconds=time.monotonic() - (last or started), error=(
                f'the worker process died while it ran the function: {e}'))]

    def kill(self) -> None:
        """Kill the process and all that the function has started there."""
        with self._lock:  # so that nobody reaps it in between, and the id becomes somebody else's
            if self._popen.returncode is None:
                for kill in os.killpg, os.kill:
                    with suppress(ProcessLookupError, PermissionError):
                        kill(self.pid, signal.SIGKILL)

    def gone(self) -> bool:
        """Whether the process has ended while it was idle."""
        return bool(self._poll.poll(0))

    def end(self) -> None:
        """Tell the process to go, and wait a little until it is gone."""
        with suppress(OSError):
            self._lane.send_bytes(b'')
            self._code(END)

    def bury(self) -> None:
        """Make sure that the process is dead, and release what belongs to it."""
        self._reap()
        self._lane.close()
        os.close(self._alive)
        os.close(self._journal)

    def _reap(self) -> int | None:
        self.kill()
        self.dead = True
        return self._code(END)  # None: in an uninterruptible sleep of the kernel; it dies when it wakes

    def _code(self, within: float) -> int | None:
        """The exit code, negative for a signal; ``None`` if the process lives on."""
        until, pause = time.monotonic() + within, 0.0005
        while True:
            with self._lock:
                if self._popen.poll() is not None or time.monotonic() > until:
                    return self._popen.returncode
            time.sleep(pause)
            pause = min(pause * 2, 0.05)

    def _send(self, message: object) -> None:
        try:
            self._lane.send_bytes(pickle.dumps(message, 5))
        except OSError:
            raise WorkerDied(self._cause()) from None

    def _receive(self, until: float | None, late: str) -> bytes:
        wait = None if until is None else max(0, ceil((until - time.monotonic()) * 1000))
        if not self._poll.poll(wait):
            raise WindowTimeout(late)
        try:
            return self._lane.recv_bytes()
        except (EOFError, OSError):
            raise WorkerDied(self._cause()) from None

    def _stop_late(self, timeout: float) -> list[Outcome]:
        before, _ = self._done()
        self._reap()
        if self._poll.poll(0):
            with suppress(EOFError, OSError):
                return [thaw(outcome) for outcome in pickle.loads(self._lane.recv_bytes())]  # just in time
        done, _ = self._done()
        if len(done) > len(before):
            return done  # the late one was just in time, and nothing says that the next one will be late
        return [*done, Outcome(kind='timeout', seconds=timeout, error=(
            f'the function ran longer than timeout={timeout:g} s; its worker process was killed'))]

    def _done(self) -> tuple[list[Outcome], float | None]:
        """From the journal: the outcomes of the batches that are finished, and when the last of them was."""
        outcomes: list[Outcome] = []
        last = None
        blob = os.pread(self._journal, os.fstat(self._journal).st_size, 0)
        at = len(BEGUN)
        while at + HEADER.size <= len(blob):
            when, size = HEADER.unpack_from(blob, at)
            at += HEADER.size + size
            if at > len(blob):
                break  # it died over this entry
            outcomes.append(thaw(blob[at - size:at]))
            last = when
        return outcomes, last

    def _cause(self) -> str:
        # Killed before it is reaped: as long as it is not, no other process can have its id.
        code = self._reap()
        if code is None:
            return 'it does not answer'
        if code >= 0:
            return f'it exited with code {code}'
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f'signal {-code}'
        hint = ' (by somebody, or by the system for want of memory)' if name == 'SIGKILL' else ''
        return f'it was killed by {name}{hint}'


def _unnamed_file() -> int:
    """A file that nobody else sees, in memory if that can be had; writes go to its end."""
    if hasattr(os, 'memfd_create'):
        fd = os.memfd_create('minibatch')
    else:  # pragma: no cover
        fd, name = tempfile.mkstemp()
        os.unlink(name)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    return fd
