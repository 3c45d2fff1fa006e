"""``run --restart`` and ``--reload``: a process that keeps another one running."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from minibatch.cli.codes import DONE, FAILED, NO_MONGODB, NOT_THERE, WRONG_USE
from minibatch.cli.loading import file_of
from minibatch.signals import handled_by

log = logging.getLogger('minibatch')

#: Seconds before the first new start, and at the most; one that ran for STEADY seconds starts with the first again.
FIRST, MOST, STEADY = 0.5, 30.0, 30.0
#: Seconds between two looks at the files.
LOOK = 0.5
#: Exit codes of a process that would end the same way again.
FINAL = (DONE, WRONG_USE, NOT_THERE)
#: Directories in which nobody edits code.
_SKIPPED = {'__pycache__', 'node_modules', 'site-packages'}


class Keeper:
    """Keeps a command running.

    :param command: arguments of ``minibatch``
    :param targets: what it runs, to know which files to look at
    :param restart: start again if it dies
    :param reload: start again if a file changes
    """

    def __init__(self, command: list[str], targets: Iterable[str], *, restart: bool, reload: bool) -> None:
        self.command, self.restart, self.reload = command, restart, reload
        tops = {path.parent if path else Path.cwd() for path in map(file_of, targets)}
        self.tops = sorted(top for top in tops if not any(other in top.parents for other in tops))
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0
        self._wake = threading.Event()

    def run(self) -> int:
        """Run until Ctrl-C or SIGTERM, or until there is nothing to keep.

        :return: the exit code
        """
        with handled_by(self._ask):
            delay = FIRST
            while not self.asked():
                files, since = self._files(), time.monotonic()
                code = self._once(files)
                if self.asked():
                    return code if code is not None and code > 0 else DONE
                if code is None:  # a file changed
                    delay = FIRST
                    continue
                if not self.restart or code in FINAL:
                    if not self.reload or code == DONE:
                        return code if code >= 0 else FAILED
                    log.info('it ended (%s); it is started again when a file changes', _reason(code))
                    self._wait_for_change(files)
                    continue
                delay = FIRST if time.monotonic() - since > STEADY else delay
                pause, delay = delay * random.uniform(0.5, 1.0), min(delay * 2, MOST)
                log.error('it died (%s); it is started again in %.1f s, and what it had is run again', _reason(code),
                          pause)
                self._wake.wait(pause)
        return DONE

    def asked(self) -> bool:
        """Whether it is to end."""
        return self._asked > 0

    def _ask(self, number: int, frame: object) -> None:
        # Only flags and a signal: this may come in the middle of anything. The first time lets windows finish.
        self._asked += 1
        self._wake.set()
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM if self._asked == 1 else signal.SIGINT)

    def _once(self, files: dict[Path, tuple[int, int]]) -> int | None:
        """Run it once: its exit code, or ``None`` if it was ended since a file changed."""
        reading, writing = os.pipe()
        try:
            # A session of its own: a Ctrl-C in the terminal is ours. The pipe says, by its end, that we are gone.
            self._process = process = subprocess.Popen(
                [sys.executable, '-m', 'minibatch.cli.kept', str(reading), *self.command], pass_fds=[reading],
                start_new_session=True)
        finally:
            os.close(reading)
        try:
            if self.asked():
                process.terminate()
            while True:
                try:
                    return process.wait(LOOK)
                except subprocess.TimeoutExpired:
                    if self.reload and not self._asked and self._files() != files:
                        log.info('a file has changed: starting again')
                        process.terminate()
                        process.wait()
                        return process.returncode if self._asked else None
        finally:
            os.close(writing)

    def _wait_for_change(self, files: dict[Path, tuple[int, int]]) -> None:
        while not self._asked and self._files() == files:
            self._wake.wait(LOOK)

    def _files(self) -> dict[Path, tuple[int, int]]:
        if not self.reload:
            return {}
        found = {}
        for top in self.tops:
            for path in _python_files(top):
                try:
                    stat = path.stat()
                except OSError:
                    continue
                found[path] = stat.st_mtime_ns, stat.st_size
        return found


def _python_files(top: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(top):
        names[:] = [name for name in names if name not in _SKIPPED and not name.startswith('.')
                    and not Path(directory, name, 'pyvenv.cfg').exists()]
        yield from (Path(directory, file) for file in files if file.endswith('.py'))


def _reason(code: int) -> str:
    if code < 0:
        return f'killed by {signal.Signals(-code).name}'
    return 'MongoDB cannot be used' if code == NO_MONGODB else f'exit code {code}'
