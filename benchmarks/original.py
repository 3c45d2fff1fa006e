"""The original, PyPI's ``minibatch==0.6.0``, in a virtual environment of its own and a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from itertools import count
from pathlib import Path

from benchmarks.engines import ORIGINAL_DB, database_url
from benchmarks.figures import TrialFailed, progress

HERE = Path(__file__).parent
ENVIRONMENT = HERE / '.original'
REQUIREMENT = 'minibatch==0.6.0'
END_LIMIT = 120.0

_trials = count(1)


def python() -> Path:
    """The interpreter of the original's environment, which is made at the first need."""
    folder, name = ('Scripts', 'python.exe') if sys.platform == 'win32' else ('bin', 'python')
    interpreter = ENVIRONMENT / folder / name
    if not (ENVIRONMENT / 'ready').exists():
        progress(f'installing {REQUIREMENT} into an environment of its own')
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        install = [str(interpreter), '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', REQUIREMENT]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TrialFailed(f'pip cannot install {REQUIREMENT}: {done.stderr.strip()[-300:]}')
        (ENVIRONMENT / 'ready').touch()
    return interpreter


def drain(server: str, size: int, total: int, seconds: float) -> float:
    """Messages a second of one consumer on a backlog of *total*, in about *seconds*, from its first window on."""
    stream = f'original_{size}_{next(_trials)}'
    # Not even PYTHONPATH may put the minibatch of this project in the original's place.
    command = [str(python()), '-E', str(HERE / 'original_worker.py'), database_url(server, ORIGINAL_DB), stream,
               str(size), str(total), str(seconds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + END_LIMIT, check=False,
                              cwd=ENVIRONMENT)
    except subprocess.TimeoutExpired as error:
        raise TrialFailed(f'the original did not end within {error.timeout:.0f} s') from None
    lines = [line for line in done.stdout.splitlines() if line.startswith('{')]
    if not lines:
        raise TrialFailed(f'the original said nothing: {done.stderr.strip()[-300:]}')
    return rate([(float(when), int(seen)) for when, seen in json.loads(lines[-1])['events']])


def rate(events: list[tuple[float, int]]) -> float:
    """Its sink is called after its commit: the rate from the first call to the last one.

    >>> rate([(1.0, 10), (2.0, 60), (3.0, 110)])
    50.0
    """
    if len(events) < 2:
        raise TrialFailed(f'the original made {len(events)} windows only')
    return (events[-1][1] - events[0][1]) / (events[-1][0] - events[0][0])
