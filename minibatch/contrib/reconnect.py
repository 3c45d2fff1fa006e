"""Going on after an outage: what every source does when the server at its other end is away.

>>> import threading
>>> tries = []
>>> def session(up):
...     tries.append(len(tries))
...     if len(tries) < 3:
...         raise ConnectionError('refused')
...     up()
>>> persist(session, 'a source', cancelled=threading.Event(), on=(ConnectionError,), shortest=0.01)
>>> tries
[0, 1, 2]
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from minibatch.errors import PositionMoved, StoreUnavailable

log = logging.getLogger(__name__)

#: Seconds between two tries, at first and at the most.
SHORTEST, LONGEST = 0.1, 5.0


#: Seconds that the end of a cancelled source waits for what it is doing; then, for what it has in hand.
GRACE = 0.4


class Stopped(Exception):
    """Somebody has cancelled the source while it was waiting; :func:`persist` ends quietly at this."""


def persist(session: Callable[[Callable[[], None]], None], who: str, *, cancelled: threading.Event,
            on: tuple[type[Exception], ...], shortest: float = SHORTEST, longest: float = LONGEST) -> None:
    """Run *session* again and again until it returns, or *cancelled* is set.

    Between two tries it waits, 0.1 s at first and twice as long each time, up to 5 s, with half of it left to chance.
    An outage is logged once when it begins and once when it is over, however many tries it takes.

    :param session: one connection from beginning to end. It is given ``up``, which it calls as soon as it is
        connected: then the outage is over, and the next wait is the shortest again. It returns when the source is at
        its end or was cancelled, and raises one of *on* when the connection is lost.
    :param who: names the source in the log, for example ``"KafkaSource 'clicks' of stream 'clicks'"``
    :param cancelled: ends the waiting at once
    :param on: the errors that pass by themselves; any other one is raised. That MongoDB is away, or that another
        process has taken over (:class:`~minibatch.errors.PositionMoved`), always counts as one that passes.
    :param shortest: seconds before the second try
    :param longest: seconds between two tries at the most
    :raises Exception: what *session* raised and is not in *on*
    """
    delay, since = shortest, 0.0
    passing: tuple[type[Exception], ...] = (*on, PositionMoved, StoreUnavailable)

    def up() -> None:
        nonlocal delay, since
        if since:
            log.info('%s is connected again after %.1f s', who, time.monotonic() - since)
        delay, since = shortest, 0.0

    while not cancelled.is_set():
        try:
            session(up)
            return
        except Stopped:
            return
        except passing as error:
            if cancelled.is_set():
                return
            if not since:
                since = time.monotonic()
                log.warning('%s was interrupted (%s: %s); it tries again until it can go on where it was',
                            who, type(error).__name__, error)
        cancelled.wait(delay * random.uniform(0.5, 1.0))
        delay = min(delay * 2, longest)


def detached(call: Callable[[], None], cancelled: threading.Event) -> None:
    """Call something that may not notice a cancel, such as a generator, or a driver that waits for its server.

    It runs in a thread of its own. When *cancelled* is set it has 0.4 s to come to its end; then it is left alone, and
    ends with the process, or when it tries to add something.

    :raises Exception: what *call* raises

    >>> detached(lambda: threading.Event().wait(0.01) and None, threading.Event())
    """
    ended = threading.Event()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except Stopped:
            pass
        except BaseException as error:
            raised.append(error)
        finally:
            ended.set()

    threading.Thread(target=run, name='minibatch-source', daemon=True).start()
    while not ended.wait(0.05):
        if cancelled.is_set():
            ended.wait(GRACE)
            break
    if raised and not cancelled.is_set():
        raise raised[0]
