"""Whether another process of this machine still runs: what a consumer that starts again can know about itself."""

from __future__ import annotations

import os
import socket
from pathlib import Path

_PROC = Path('/proc')


def mark() -> str | None:
    """What tells this process from all others, for :func:`gone`.

    That is the machine's name and its boot, the namespace of process numbers (each container has one of its own), the
    number, and the time of the start, since numbers are used again (``proc_pid_stat(5)``).

    :return: ``None`` where there is no such ``/proc``: on other systems than Linux
    """
    number = os.getpid()
    started = _started(number)
    here = _here()
    return None if here is None or started is None else f'{here} {number} {started}'


def gone(other: str | None) -> bool:
    """Whether the process with this mark has ended for certain.

    :return: ``False`` also if that cannot be known: it is on another machine or in another container, or has no mark

    >>> gone(mark()), gone(None), gone('elsewhere 1 2 3 4')
    (False, False, False)
    """
    here = _here()
    if other is None or here is None:
        return False
    there, number, started = other.rsplit(' ', 2)
    if there != here:
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it is somebody else's, who may hide its state from us
        return False
    now = _started(int(number))
    return now is not None and now != started


def _here() -> str | None:
    """The machine, its boot and the namespace, if ``/proc`` is that of our own namespace."""
    try:
        if os.readlink(_PROC / 'self') != str(os.getpid()):
            return None
        boot = (_PROC / 'sys/kernel/random/boot_id').read_text().strip()
        return f'{socket.gethostname()} {boot} {os.stat(_PROC / "self/ns/pid").st_ino}'
    except OSError:
        return None


def _started(number: int) -> str | None:
    """When a process started, in the kernel's ticks; something else for one that has ended and is not reaped."""
    try:
        # The second field is the program's name in brackets, in which there may be anything.
        state, *fields = (_PROC / str(number) / 'stat').read_text(errors='replace').rpartition(')')[2].split()
        if state in 'ZX' and len(list((_PROC / str(number) / 'task').iterdir())) <= 1:
            return 'ended'
    except OSError:
        return None
    return fields[18]
