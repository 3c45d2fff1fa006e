"""One consumer of an app: its process, watched, started again when it dies, and stopped.

::

    starting ──► running ──► waiting (back-off) ──► starting ...
        └───────────┴──────────┴──── stop() ──► stopped
"""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import cloudpickle

from minibatch.contrib.apps.worker import BOOT
from minibatch.errors import OptionError

State = Literal['starting', 'running', 'waiting', 'stopped']

#: A process counts as running once it has done so for this long; one that falls over at once never does.
SETTLE = 1.0
#: One that ran for this long starts again with the first, short delay.
STEADY = 30.0

log = logging.getLogger(__name__)


class Consumer:
    """A function that runs in a process of its own until :meth:`stop`, whatever happens to it.

    :param function: what to run; it should not return before it is told to stop
    :param kwargs: what to call it with
    :param name: what to call it in reports
    :param backoff: seconds before it is started again after it has died; doubled each time, with jitter, up to *cap*
    :param grace: seconds that a stopped process has to finish what it is at, before it is killed
    """

    def __init__(self, function: Callable[..., Any], kwargs: Mapping[str, Any], *, name: str = '',
                 backoff: float = 0.5, cap: float = 30.0, grace: float = 10.0) -> None:
        self.name = name or getattr(function, '__name__', type(function).__name__)
        self.backoff, self.cap, self.grace = backoff, cap, grace
        self.restarts = 0
        #: Why the process before this one ended; ``None`` if there was none.
        self.error: str | None = None
        self._blob = _packed(function, dict(kwargs), self.name)
        self._process: subprocess.Popen[bytes] | None = None
        self._since = time.monotonic()
        self._phase: State = 'starting'
        self._told: str | None = None
        self._stop = threading.Event()
        self._asked = 0.0
        self._lock = threading.RLock()  # a signal handler may come in while it is held
        self._thread = threading.Thread(target=self._supervise, name=f'minibatch-consumer-{self.name}', daemon=True)
        self._owner = os.getpid()

    def start(self) -> None:
        """Start the process, and the thread that watches it."""
        self._thread.start()

    @property
    def state(self) -> State:
        """Where it is in the picture above."""
        if self._phase == 'running' and time.monotonic() - self._since < SETTLE:
            return 'starting'
        return self._phase

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def report(self) -> dict[str, Any]:
        """What ``/status`` says about it."""
        return {'name': self.name, 'state': self.state, 'pid': self.pid, 'restarts': self.restarts,
                'seconds': round(time.monotonic() - self._since, 1), 'error': self.error}

    def trouble(self) -> str | None:
        """Why this consumer is not consuming, in a sentence; ``None`` if it is."""
        state = self.state
        if state == 'running':
            return None
        why = f' after {self.restarts} restart(s); the last time it ended with: {self.error}' if self.error else ''
        return f'consumer {self.name} is {state}{why}'

    def ask_to_stop(self) -> None:
        """Tell the process to finish what it is at (SIGTERM); it is not started again."""
        if self._ours() and not self._stop.is_set():
            self._asked = time.monotonic()
            self._stop.set()
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once; the windows that it was at run again when their lease is over."""
        if self._ours():
            self._stop.set()
            self._signal(signal.SIGKILL)

    def stop(self, grace: float | None = None) -> None:
        """Ask the process to finish, wait, kill it if it takes too long; return when it is gone.

        :param grace: seconds to wait before it is killed, if not those given to the constructor
        """
        self.ask_to_stop()
        if self._ours() and self._thread.ident:
            asked = time.monotonic() - self._asked
            self._thread.join(max(0.0, (self.grace if grace is None else grace) - asked))
            if self._thread.is_alive():
                log.warning('consumer %s did not stop in time and is killed; what it was at runs again', self.name,
                            extra={'consumer': self.name})
                self.kill()
                self._thread.join()

    def _ours(self) -> bool:
        return os.getpid() == self._owner  # in a fork of the app, the process is somebody else's

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            process = self._process
            if process is not None and process.poll() is None:
                process.send_signal(number)

    def _supervise(self) -> None:
        delay = self.backoff
        while not self._stop.is_set():
            self._set('starting')
            code = self._run_once()
            lived = time.monotonic() - self._since
            if self._stop.is_set():
                break
            self.error = self._told or _reason(code)
            delay = self.backoff if lived > STEADY else delay
            pause = delay * random.uniform(0.5, 1.0)
            delay = min(delay * 2, self.cap)
            log.error('consumer %s died (%s); it is started again in %.1f s', self.name, self.error, pause,
                      extra={'consumer': self.name, 'error': self.error, 'restarts': self.restarts})
            self._set('waiting')
            if not self._stop.wait(pause):
                self.restarts += 1
        self._set('stopped')

    def _run_once(self) -> int:
        self._told = None
        reading, writing = os.pipe()
        try:
            with self._lock:
                if self._stop.is_set():
                    os.close(reading)
                    return 0
                # A session of its own: a Ctrl-C in the terminal is the app's, which then stops its consumers in order.
                self._process = process = subprocess.Popen(
                    [sys.executable, '-c', BOOT], stdin=subprocess.PIPE, pass_fds=[writing], start_new_session=True)
        finally:
            os.close(writing)
        listener = threading.Thread(target=self._listen, args=(reading,), daemon=True)
        listener.start()
        assert process.stdin is not None
        try:
            # Standard input stays open as long as this process lives: the other side waits for its end.
            process.stdin.write(pickle.dumps((sys.path, sys.argv)) + pickle.dumps((writing, self.grace, self._blob)))
            process.stdin.flush()
        except OSError:
            pass  # it died at once; its exit code says more
        code = process.wait()
        _kill_group(process.pid)
        listener.join(5)
        with contextlib.suppress(OSError):
            process.stdin.close()
        return code

    def _listen(self, reading: int) -> None:
        with os.fdopen(reading, 'rb') as reports:
            for line in reports:
                report = json.loads(line)
                if report['event'] == 'running':
                    self._set('running')
                else:
                    self._told = report['error']

    def _set(self, state: State) -> None:
        self._phase, self._since = state, time.monotonic()


def _packed(function: Callable[..., Any], kwargs: dict[str, Any], name: str) -> bytes:
    """Pickle the call, or say why it cannot be made in another process."""
    try:
        inspect.signature(function).bind(**kwargs)
    except TypeError as error:
        raise OptionError(f'{name} cannot be called with what start_streaming was given ({error}); '
                          'name its arguments: start_streaming(consumer, topic=...)') from error
    try:
        return bytes(cloudpickle.dumps((function, kwargs)))
    except Exception as error:
        raise OptionError(f'{name} cannot be sent to its own process ({type(error).__name__}: {error}); create '
                          'connections, locks and the like inside of it') from error


def _kill_group(group: int) -> None:
    """Kill what a dead consumer has left behind in its process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _reason(code: int) -> str:
    if code < 0:
        return f'killed by {signal.Signals(-code).name}'
    if code == 0:
        return 'it returned, but a consumer runs until it is stopped'
    return f'exit code {code}'
