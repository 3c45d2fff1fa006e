"""Worker processes: each lane has one of its own, replaces it when it dies or hangs, and knows what it had done by then.

Why not :class:`concurrent.futures.ProcessPoolExecutor`: there one death breaks all workers and every call in flight,
a hanging call cannot be told from the others, and a script without a main guard starts itself in every child.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from math import ceil
from multiprocessing import Pipe
from multiprocessing.spawn import get_executable
from typing import Any

import cloudpickle

from minibatch.errors import OptionError, WindowTimeout, WorkerDied
from minibatch.lanes import Job, LaneExecutor
from minibatch.outcome import Function, Outcome, failure, pack, thaw
from minibatch.worker import BOOT, HEADER, KEPT

#: Seconds for a new process to say that it is there, and for one that was told to go to be gone.
START, END = 60.0, 5.0

#: Seconds before a lane starts a process after two deaths in a row, and after very many.
PAUSE, LONGEST_PAUSE = 0.1, 5.0

#: Seconds that loading a function may take where there is a timeout, for it imports what the function needs.
LOADING = 60.0


class ProcessExecutor(LaneExecutor):
    """Runs the function in processes of its own, so that neither the GIL, nor a crash, nor a hang reaches the consumer.

    The function travels once to each process, by value if it is of the main module, and so do the batches. A function
    that runs longer than *timeout* is killed with its process, and so is whatever it has started; the batches
    before and after it in the same call are not harmed.
    """

    keeps_timeout = True

    def __init__(self, workers: int) -> None:
        if os.name != 'posix':
            raise OptionError("worker processes need Linux or macOS; use executor='thread'")
        super().__init__(workers)
        self._processes: set[Process] = set()
        self._functions: dict[int, Shipment] = {}

    def check(self, fn: Function, timeout: float | None = None) -> None:
        super().check(fn, timeout)
        try:
            cloudpickle.dumps(fn, 5)
        except Exception as e:
            name = getattr(fn, '__qualname__', repr(fn))
            raise OptionError(f'{name} cannot be sent to a worker process{_culprits(fn)}: {e}; '
                              "make that inside of the function, or use executor='thread'") from e

    def pids(self) -> list[int]:
        with self._lock:
            return [process.pid for process in self._processes]

    def _drive(self) -> None:
        lane = Lane(self)
        try:
            while (job := self._next()) is not None:
                lane.work(job)
                job.resolve()
        finally:
            lane.replace(end=True)

    def _kill(self) -> list[Job]:
        for process in self._processes:
            process.kill()
        return []  # their lanes notice
