"""The inside of a consumer's process, as :class:`minibatch.contrib.apps.consumer.Consumer` starts it.

The function comes through standard input, pickled by value where it lives in the main script; so that script is not
imported a second time, whether it has an ``if __name__ == '__main__'`` or not. Standard input then stays open and
never says anything again: when it ends, the app is gone, and this process ends too, even if the app was killed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from minibatch.logs import from_environment, hidden

#: What a consumer is started with. Its module search path comes first of all, or it would not find this module.
BOOT = """
import pickle, sys
source = sys.stdin.buffer
sys.path[:], sys.argv[:] = pickle.load(source)
from minibatch.contrib.apps.worker import main
main(source)
"""

#: Set in a consumer and in all it starts: an app that is imported there must not start consumers again.
INSIDE = 'MINIBATCH_INSIDE_CONSUMER'

log = logging.getLogger(__name__)


def inside() -> bool:
    """Whether this process is a consumer of an app, or was started by one."""
    return INSIDE in os.environ


def main(source: BinaryIO) -> None:
    """Take the function from *source*, run it until it ends or is stopped, and tell the app what became of it.

    :param source: standard input
    """
    os.environ[INSIDE] = str(os.getpid())
    from_environment()
    reports, grace, blob = pickle.load(source)
    os.set_inheritable(reports, False)
    _die_with_parent(source.fileno(), grace)
    try:
        function, kwargs = pickle.loads(blob)
        _tell(reports, event='running')
        running = _stoppable(function(**kwargs))
        if running:
            _wait_for_stop(running)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        last = hidden(traceback.format_exception_only(error)[-1].strip())
        _tell(reports, event='failed', error=last[:500])
        sys.stderr.write(hidden(traceback.format_exc()))
        sys.stderr.flush()
        raise SystemExit(1) from None


def _tell(reports: int, **event: Any) -> None:
    with contextlib.suppress(OSError):  # if the app is gone, this process is about to learn of it
        os.write(reports, json.dumps(event).encode() + b'\n')


def _die_with_parent(lifeline: int, grace: float) -> None:
    parent = os.getppid()

    def watch() -> None:
        # The second look is for an app that was forked after it started us: its copy keeps the pipe open.
        while not select.select([lifeline], [], [], 1.0)[0] and os.getppid() == parent:
            pass
        log.warning('the app is gone: stopping its consumer')
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(grace)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, name='minibatch-app', daemon=True).start()


def _stoppable(result: Any) -> list[Callable[[], Any]]:
    """What to call at the end if a consumer returned its emitters, running in the background, and did not block."""
    each = result if isinstance(result, Iterable) and not isinstance(result, (str, bytes, dict)) else [result]
    return [one.stop for one in each if callable(getattr(one, 'stop', None))]


def _wait_for_stop(stops: Iterable[Callable[[], Any]]) -> None:
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()
    for stop in stops:
        stop()
