"""The inside of a worker process: it reads calls from its lane, runs them, answers, and dies with its parent.

It is started as ``python -c BOOT``, not by :mod:`multiprocessing`, which would import the user's main module again in
every child: a script without an ``if __name__ == '__main__'`` guard would start itself over and over.

It is the leader of a session of its own. A Ctrl-C or a signal to the consumer's process group does not reach it, nor
what the function itself has started; the consumer drains, or kills the worker's whole group.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import select
import signal
import struct
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from minibatch.outcome import Function, Outcome, failure, flush_output, freeze, invoke
from minibatch.scope import Pending

#: What a worker is started with. Its module search path comes first of all, or it would not find this module.
BOOT = """
import sys
from multiprocessing.connection import Connection
lane = Connection(int(sys.argv[1]))
fds, path, argv = [int(a) for a in sys.argv[2:4]], *lane.recv()
sys.path[:], sys.argv[:] = path, argv
from minibatch.worker import serve
serve(lane, *fds)
"""

#: True in a worker process.
inside = False

#: Functions that a worker keeps loaded; its lane counts along, and ships one again that was forgotten.
KEPT = 8

#: What a call's journal starts with, and what comes before each outcome in it: when it was there (monotonic) and how
#: long it is.
BEGUN, HEADER = b'!', struct.Struct('<dQ')

_QUIET = (signal.SIGINT, signal.SIGTERM)


def serve(lane: Connection, alive: int, journal: int) -> None:
    """Run what comes through *lane* until it says to stop.

    :param alive: read end of a pipe whose other end closes when the parent dies
    :param journal: a file for the outcomes of a call's batches, of which the lane learns what a dead worker had done
    """
    global inside
    inside = True
    for number in _QUIET:
        # A handler that does nothing, and not SIG_IGN: that one would be inherited by the programs the function runs.
        signal.signal(number, lambda *_: None)
    os.register_at_fork(after_in_child=lambda: _leave(lane, alive, journal))
    die_with_parent(alive)
    lane.send_bytes(b'up')
    functions: dict[str, Function] = {}
    while message := lane.recv_bytes():
        digest, blob, batches = pickle.loads(message)
        if blob is not None:
            if len(functions) == KEPT:
                functions.clear()
            fn, trouble = _load(blob)
            if fn is not None:
                functions[digest] = fn
            lane.send_bytes(trouble)
        else:
            lane.send_bytes(pickle.dumps(_run(functions[digest], batches, journal), 5))
        flush_output()


def die_with_parent(alive: int) -> None:
    """Kill this process and all it started when the parent is gone, whatever they are doing then."""
    parent, group = os.getppid(), os.getpid()

    def watch() -> None:
        poll = select.poll()
        poll.register(alive, select.POLLIN)
        # The second look is for a parent that was forked: its copy keeps the pipe open.
        while not poll.poll(1000) and os.getppid() == parent:
            pass
        os.killpg(group, signal.SIGKILL)

    if hasattr(fcntl, 'F_SETSIG'):
        # On Linux the kernel does it, even while a C function (a regular expression gone wild) holds the GIL.
        fcntl.fcntl(alive, fcntl.F_SETOWN, -group)
        fcntl.fcntl(alive, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(alive, fcntl.F_SETFL, fcntl.fcntl(alive, fcntl.F_GETFL) | os.O_ASYNC)
    threading.Thread(target=watch, daemon=True, name='minibatch-parent').start()


def _leave(lane: Connection, alive: int, journal: int) -> None:
    """A child that the function forks is no worker: signals end it, and it must not hold the worker's pipes open."""
    for number in _QUIET:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
    lane.close()
    os.close(alive)
    os.close(journal)


def _load(blob: bytes) -> tuple[Function | None, bytes]:
    try:
        return pickle.loads(blob), b''
    except BaseException as e:  # it may import modules, and those may do anything
        outcome = failure(e, 'pickle')
        outcome.ran = False
        outcome.error = f'the function could not be loaded in its worker process: {outcome.error}'
        return None, freeze(outcome)


def _run(fn: Function, batches: list[bytes], journal: int) -> list[bytes]:
    done: list[bytes] = []
    writable = _write(journal, BEGUN)
    pending = Pending()
    for blob in batches:
        try:
            batch: Any = pickle.loads(blob)
        except BaseException as e:
            batch = failure(e, 'pickle')
            batch.ran = False
            batch.error = f'the batch could not be loaded in the worker process: {batch.error}'
        # An outcome in the place of a batch is one that was known before: the batch could not be sent.
        done.append(freeze(batch if isinstance(batch, Outcome) else invoke(fn, batch, pending=pending)))
        if len(done) < len(batches):
            writable = writable and _write(journal, HEADER.pack(time.monotonic(), len(done[-1])) + done[-1])
    return done


def _write(journal: int, entry: bytes) -> bool:
    try:
        return os.write(journal, entry) == len(entry)
    except OSError:
        return False  # no room: should this worker die now, these batches run once more

