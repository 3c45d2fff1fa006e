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
LIMIT = 90.0
WARM_UP = 0.1

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


def drain(server: str, size: int, total: int) -> float:
    """Messages a second of one drain by one consumer, after the same warm-up as everybody's."""
    stream = f'original_{size}_{next(_trials)}'
    command = [str(python()), str(HERE / 'original_worker.py'), database_url(server, ORIGINAL_DB), stream,
               str(size), str(total), str(LIMIT)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT + 60, check=False, cwd=HERE / '.original')
    except subprocess.TimeoutExpired as error:
        raise TrialFailed(f'the original did not end within {error.timeout:.0f} s') from None
    lines = [line for line in done.stdout.splitlines() if line.startswith('{')]
    if not lines:
        raise TrialFailed(f'the original said nothing: {done.stderr.strip()[-300:]}')
    return _rate([(float(when), int(seen)) for when, seen in json.loads(lines[-1])['events']], total)


def _rate(events: list[tuple[float, int]], total: int) -> float:
    """Its sink is called after its commit, so the last call is the end.

    >>> _rate([(1.0, 10), (2.0, 60), (3.0, 110)], 110)
    50.0
    """
    warm = next(((when, seen) for when, seen in events if seen >= total * WARM_UP), None)
    if warm is None or events[-1][1] < total or warm[0] == events[-1][0]:
        raise TrialFailed(f'the original delivered {events[-1][1] if events else 0:,} of {total:,} messages')
    return (events[-1][1] - warm[1]) / (events[-1][0] - warm[0])
