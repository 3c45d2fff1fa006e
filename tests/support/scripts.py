"""A person at a terminal: saves an example as a file, runs it, reads what it prints, presses Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .mongod import die_with_parent
from .waiting import patience, wait_until

ROOT = Path(__file__).resolve().parents[2]
_TAG = 'MINIBATCH_TEST_TAG'


class Script:
    """One running example."""

    def __init__(self, command: list[str], cwd: Path, env: dict[str, str], name: str) -> None:
        self.name = name
        self.out, self.err = cwd / f'{name}.out', cwd / f'{name}.err'
        with self.out.open('wb') as out, self.err.open('wb') as err:
            self.process = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                            preexec_fn=die_with_parent, start_new_session=True)

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self.out.read_text(errors='replace')

    @property
    def lines(self) -> list[str]:
        """The complete lines of it."""
        return [line.rstrip('\n') for line in self.printed.splitlines(keepends=True) if line.endswith('\n')]

    def wait_until(self, condition: Callable[[], Any], timeout: float = 60) -> Any:
        """Wait for a condition while the script runs; its end, or the time-out, shows what it said."""
        def still_there() -> Any:
            met = condition()
            assert met or self.process.poll() is None, f'{self.name} ended too early\n{self.said}'
            return met
        try:
            return wait_until(still_there, timeout, what=f'{self.name}')
        except AssertionError as error:
            raise AssertionError(f'{error}\n{self.said}') from None

    @property
    def said(self) -> str:
        """Everything it said, for a failure's message."""
        return f'--- printed\n{self.printed[-3000:]}\n--- errors\n{self.err.read_text(errors="replace")[-5000:]}'

    def interrupt(self) -> None:
        """Ctrl-C: the terminal sends it to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self, timeout: float = 60, *, code: int = 0) -> str:
        """Wait for its end, which must be an orderly one, and return what it printed."""
        try:
            ended = self.process.wait(patience(timeout))
        except subprocess.TimeoutExpired:
            raise AssertionError(f'{self.name} is still there after {timeout:g} s\n{self.said}') from None
        assert ended == code, f'{self.name} ended with code {ended}\n{self.said}'
        return self.printed


class Person:
    """Somebody with a home directory of their own and nothing set up.

    :param home: a new directory; scripts are saved and run there
    :param url: value of ``MINIBATCH_MONGO_URL``; without it the embedded server of that home is used
    """

    def __init__(self, home: Path, url: str | None = None) -> None:
        self.home = home
        self.tag = uuid.uuid4().hex
        self.env = {'PATH': os.environ['PATH'], 'HOME': str(home), 'PYTHONPATH': str(ROOT), 'PYTHONUNBUFFERED': '1',
                    'LANG': 'C.UTF-8', _TAG: self.tag}
        for name in ('MINIBATCH_MONGOD', 'TMPDIR'):
            if name in os.environ:
                self.env[name] = os.environ[name]
        if url:
            self.env['MINIBATCH_MONGO_URL'] = url
        self.scripts: list[Script] = []

    def start(self, name: str, source: str, **env: str) -> Script:
        """Save *source* as *name* and run it."""
        (self.home / name).write_text(source, encoding='utf-8')
        return self.call([sys.executable, name], name, **env)

    def call(self, command: list[str], name: str, **env: str) -> Script:
        """Run any command, in the home directory."""
        script = Script(command, self.home, self.env | env, name)
        self.scripts.append(script)
        return script

    def run(self, name: str, source: str, timeout: float = 60) -> str:
        """Save, run, wait for an orderly end; what it printed."""
        return self.start(name, source).end(timeout)

    def processes(self) -> list[int]:
        """Whatever this person has started, directly or not, and still runs."""
        found = []
        mark = f'{_TAG}={self.tag}'.encode()
        for entry in Path('/proc').iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    state = (entry / 'stat').read_text().rpartition(')')[2].split()[0]
                    if state != 'Z' and mark in (entry / 'environ').read_bytes().split(b'\0'):
                        found.append(int(entry.name))
        return found

    def leave(self) -> None:
        """End everything by force, scripts first."""
        for pid in [each.process.pid for each in self.scripts if each.process.poll() is None] + self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for script in self.scripts:
            script.process.wait(10)
        wait_until(lambda: not self.processes(), what='all processes to end')


def get(url: str) -> tuple[int, str]:
    """Status and body of a page; 0 while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ''


def need_port(port: int, timeout: float = 20) -> None:
    """Wait until a server could listen on a port of this machine, and skip the test if none can.

    It is tried as servers do, since a mere connection of somebody else's may hold a port as well as a server.
    """
    def free() -> bool:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(('127.0.0.1', port))
                sock.listen()
            except OSError:
                return False
        return True
    try:
        wait_until(free, timeout)
    except AssertionError:
        pytest.skip(f'port {port}, which the example uses, is taken on this machine')
