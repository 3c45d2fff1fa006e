"""The ``minibatch`` command, run as a process of its own for each call, many times a second.

A process that has imported everything forks for each command, since most of a command's time would be imports. The
child has its own standard streams, environment, directory and exit code, as if a shell had started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .mongod import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
#: Seconds after which a command that has not ended is killed.
LIMIT = 60


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, which must be one line of JSON, after an end without error."""
        assert self.code in (0, 1), self
        assert self.out.count('\n') == 1, self
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The sentence of its error."""
        assert self.code != 0, self
        assert 'Traceback' not in self.err.partition('Error: ')[0], self
        return self.err.partition('Error: ')[2].rstrip('\n')


class Shell:
    """Runs commands, one after the other; its end is a context's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.env: dict[str, str] = {}
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'tests.support.shell'], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, 'PYTHONPATH': str(ROOT)}, text=True, preexec_fn=die_with_parent)

    def __call__(self, *args: str, stdin: str | bytes = '', terminal: str | None = None, **env: str) -> Result:
        """``minibatch ARGS``, in the shell's directory.

        :param stdin: what it reads
        :param terminal: where its errors go, instead of to the result
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        given = self.directory / 'stdin'
        given.write_bytes(stdin.encode() if isinstance(stdin, str) else stdin)
        out, err = self.directory / 'stdout', self.directory / 'stderr'
        err.write_bytes(b'')
        request = {'args': args, 'in': str(given), 'out': str(out), 'err': terminal or str(err),
                   'cwd': str(self.directory), 'env': {**self.env, **env}}
        self._process.stdin.write(json.dumps(request) + '\n')
        self._process.stdin.flush()
        code = json.loads(self._process.stdout.readline())
        return Result(code, out.read_text(), err.read_text())

    def start(self, *args: str, terminal: str | None = None, **env: str) -> subprocess.Popen[str]:
        """The same with a process that has to import everything, and that goes on.

        :param terminal: where its output goes, instead of to a pipe
        """
        out = subprocess.PIPE if terminal is None else os.open(terminal, os.O_WRONLY | os.O_NOCTTY)
        return subprocess.Popen([sys.executable, '-m', 'minibatch', *args], cwd=self.directory, text=True,
                                stdout=out, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                env={**os.environ, 'PYTHONPATH': str(ROOT), 'PYTHONUNBUFFERED': '1', **self.env, **env},
                                preexec_fn=die_with_parent, start_new_session=True)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@contextlib.contextmanager
def terminal() -> Iterator[tuple[str, Callable[[], str]]]:
    """A terminal: the name of its file, and what it has shown so far."""
    master, slave = os.openpty()
    shown = bytearray()

    def seen() -> str:
        while select.select([master], [], [], 0)[0]:
            shown.extend(os.read(master, 1 << 16))
        return shown.decode(errors='replace')

    try:
        yield os.ttyname(slave), seen
    finally:
        os.close(master)
        os.close(slave)


def _serve() -> None:
    from minibatch.cli import commands, main
    commands()
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(request, main)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _become(request: dict[str, Any], main: Any) -> None:
    code = 70
    try:
        signal.alarm(LIMIT)
        os.chdir(request['cwd'])
        os.environ.update(request['env'])
        for number, (name, flags) in enumerate((('in', os.O_RDONLY), ('out', os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
                                                ('err', os.O_WRONLY | os.O_CREAT | os.O_TRUNC))):
            os.dup2(os.open(request[name], flags), number)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 -- what is there has read ahead
        main(request['args'])
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = 1 if isinstance(end.code, str) else end.code or 0
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == '__main__':
    _serve()
