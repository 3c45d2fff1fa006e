"""Child processes to kill: consumers and producers that run :mod:`tests.support.child`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from .mongod import die_with_parent
from .nursery import ROOT, Nursling
from .waiting import patience, wait_until

_TAG = 'MINIBATCH_TEST_TAG'


class Child:
    """One process with a role (see :mod:`tests.support.child`), in a session of its own, that dies with pytest.

    :param config: what the child shall do, handed over as JSON
    :param path: directory for its standard error
    """

    def __init__(self, config: dict[str, Any], path: Path, env: dict[str, str] | None = None) -> None:
        self.tag = uuid.uuid4().hex
        self.config = config
        self.errors = path / f'{config["role"]}-{self.tag[:8]}.err'
        self.errors.touch()
        env = {_TAG: self.tag, **(env or {})}
        self.process: subprocess.Popen[bytes] | Nursling
        if not config.get('mutate') and not config.get('clock'):
            self.process = Nursling(config, self.errors, env)
            return
        # What changes modules has to come before their import.
        with self.errors.open('wb') as stderr:
            self.process = subprocess.Popen(
                [sys.executable, '-m', 'tests.support.child', json.dumps(config)],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr,
                env={**os.environ, 'PYTHONPATH': str(ROOT), **env},
                preexec_fn=die_with_parent, start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def stopped(self) -> bool:
        """Whether it is held by SIGSTOP now."""
        with contextlib.suppress(OSError):
            return Path(f'/proc/{self.pid}/stat').read_text().rpartition(')')[2].split()[0] == 'T'
        return False

    @property
    def said(self) -> str:
        """What it has written to its standard error."""
        return self.errors.read_text(errors='replace')

    def send(self, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signum)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.process.wait(10)

    def pause(self) -> None:
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def wait(self, timeout: float = 20) -> int:
        """Wait for its end and return the exit code (minus the signal's number if a signal ended it)."""
        try:
            return self.process.wait(patience(timeout))
        except subprocess.TimeoutExpired:
            raise AssertionError(f'{self.config["role"]} {self.pid} is still there after {timeout} s\n'
                                 f'{self.said[-3000:]}') from None

    def wait_killed(self, timeout: float = 20) -> None:
        """Wait until it has killed itself at the point it was told to."""
        code = self.wait(timeout)
        assert code == -signal.SIGKILL, f'ended with {code}, not killed\n{self.said[-3000:]}'

    def wait_stopped(self, timeout: float = 20) -> None:
        """Wait until it has stopped itself (SIGSTOP) at the point it was told to."""
        def stopped() -> bool:
            assert self.alive, f'ended with {self.process.returncode}\n{self.said[-3000:]}'
            return self.stopped
        wait_until(stopped, timeout, what='SIGSTOP')

    def family(self) -> list[int]:
        """The pids of this process and of all it has started, wherever they moved to, that still run."""
        found = []
        mark = f'{_TAG}={self.tag}'.encode()
        for entry in Path('/proc').iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    state, _, _, session = (entry / 'stat').read_text().rpartition(')')[2].split()[:4]
                    if state != 'Z' and (
                            session == str(self.pid) or mark in (entry / 'environ').read_bytes().split(b'\0')):
                        found.append(int(entry.name))
        return found

    def close(self) -> None:
        """End it and everything it started, by force."""
        for pid in {self.pid, *self.family()}:
            if pid != self.pid or self.alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
