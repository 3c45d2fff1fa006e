"""A process that has imported everything, and forks children on demand: they start in milliseconds.

Most of the time of a child process would go into imports otherwise. The nursery has no connection and no thread of
its own, so what it forks is as good as new. It reads one request a line from a socket, and tells of each end.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from .mongod import die_with_parent

ROOT = Path(__file__).resolve().parents[2]


class Nursery:
    """The test's end: starts the process with the first child, and knows the exit codes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._rest = b''
        self._started: list[int] = []
        self._ended: dict[int, int] = {}

    def start(self, config: dict[str, Any], errors: Path, env: dict[str, str]) -> int:
        """Fork a child of this configuration; its pid."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._open()
            assert self._socket is not None
            request = {'config': config, 'errors': str(errors), 'env': env}
            self._socket.sendall(json.dumps(request).encode() + b'\n')
            while not self._started:
                self._read(5)
            return self._started.pop()

    def code(self, pid: int) -> int | None:
        """The exit code of a child (minus the signal's number, if a signal ended it); None while it lives."""
        with self._lock:
            self._read(0)
            return self._ended.get(pid)

    def _open(self) -> None:
        mine, its = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'tests.support.nursery', str(its.fileno())], cwd=ROOT, pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL, env={**os.environ, 'PYTHONPATH': str(ROOT)},
            preexec_fn=die_with_parent, start_new_session=True,
        )
        its.close()
        self._socket, self._rest = mine, b''

    def _read(self, timeout: float) -> None:
        if self._socket is None or not select.select([self._socket], [], [], timeout)[0]:
            return
        data = self._socket.recv(1 << 16)
        if not data:
            raise RuntimeError('the nursery has ended')
        *lines, self._rest = (self._rest + data).split(b'\n')
        for line in lines:
            news = json.loads(line)
            if 'code' in news:
                self._ended[news['pid']] = news['code']
            else:
                self._ended.pop(news['pid'], None)  # of a former one: numbers come around again
                self._started.append(news['pid'])


#: the one of this session; it ends with it
nursery = Nursery()


class Nursling:
    """A forked child, with as much of ``subprocess.Popen`` as the tests use."""

    def __init__(self, config: dict[str, Any], errors: Path, env: dict[str, str]) -> None:
        self.args = config
        self.pid = nursery.start(config, errors, env)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = nursery.code(self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.args), timeout)
            time.sleep(0.01)
        return code


def _serve(channel: socket.socket) -> None:
    import minibatch
    import minibatch.contrib.mongodb  # noqa: F401 -- imported once, for all children
    from tests.support import child

    waker, wake = socket.socketpair()
    for each in (waker, wake):
        each.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    rest = b''
    while True:
        ready, _, _ = select.select([channel, waker], [], [])
        if waker in ready:
            with contextlib.suppress(BlockingIOError):
                waker.recv(4096)
            _report(channel)
        if channel in ready:
            data = channel.recv(1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b'\n')
            for line in lines:
                request = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for each in (channel, waker, wake):
                        each.close()
                    _become(request, child.main)
                channel.sendall(json.dumps({'pid': pid}).encode() + b'\n')


def _report(channel: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        channel.sendall(json.dumps({'pid': pid, 'code': os.waitstatus_to_exitcode(status)}).encode() + b'\n')


def _become(request: dict[str, Any], main: Any) -> None:
    """Turn this fork into a child; never returns."""
    os.setsid()
    die_with_parent()
    os.environ.update(request['env'])
    fd = os.open(request['errors'], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    # As the end of any script: threads are waited for, and exit functions run.
    code = 0
    try:
        main(request['config'])
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.exit(code)


if __name__ == '__main__':
    _serve(socket.socket(fileno=int(sys.argv[1])))
