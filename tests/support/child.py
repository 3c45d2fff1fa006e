"""The program of a child process: ``python -m tests.support.child '{"role": "consumer", ...}'``.

Roles: ``consumer`` runs ``mb.streaming``, ``producer`` appends, ``source`` attaches a bridge, ``pipeline`` runs a
pipeline. At a point named in ``at`` the process kills, stops or delays itself, so that a fault happens after exactly
that step. Options:

* ``url``, ``stream``, ``log``: where
* ``at``: ``[{"point": name, "do": "kill" | "stop" | "exit" | "sleep", "nth": 1, "seconds": 1}]``
* ``clock``: seconds by which this process' clock is wrong
* ``mutate``: names of guards to remove (:mod:`tests.support.mutations`)
* consumer: ``options`` for ``mb.streaming``, ``function`` (see :mod:`tests.support.functions`), ``sink``:
  ``plain``, ``exactly_once``, or a plain one that fails: ``{"fail": ...}``
* producer: ``name``, ``count``, ``batch``, ``pause``, ``options`` for ``mb.stream``
* source: ``adapter`` (``module:class``), whose ``make`` gets ``config`` and ``options``
* pipeline: ``build``, the name of a function of :mod:`tests.support.chains`, and ``options`` for its ``run``
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from .log import Log


class Trigger:
    """Acts at named points of the protocol; installed as ``minibatch.points.on_point``."""

    def __init__(self, actions: list[dict[str, Any]], log: Log, trace: bool) -> None:
        self.actions = actions
        self.log = log
        self.trace = trace
        self.count: Counter[str] = Counter()
        self.pid = os.getpid()

    def __call__(self, name: str) -> None:
        if os.getpid() != self.pid:
            return
        self.count[name] += 1
        if self.trace and self.count[name] == 1:
            self.log.write('point', name=name)
        for action in self.actions:
            if action['point'] == name and action.get('nth', 1) == self.count[name]:
                self.log.write('fault', name=name, do=action['do'])
                self.act(action)

    def act(self, action: dict[str, Any]) -> None:
        what = action['do']
        if what == 'kill':
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        elif what == 'stop':
            # to this very thread: else it may run on for a while, until the main thread has taken the signal
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        elif what == 'exit':
            os._exit(7)
        elif what == 'sleep':
            time.sleep(action['seconds'])
        elif what in ('SIGTERM', 'SIGINT'):
            os.kill(os.getpid(), getattr(signal, what))
        else:
            raise ValueError(f'unknown action {what}')


def consumer(config: dict[str, Any], log: Log) -> None:
    import minibatch as mb

    from . import functions

    function = functions.make(config.get('function') or {}, log, config['url'])
    options = dict(config.get('options') or {})
    sink = config.get('sink', 'plain')
    if sink == 'exactly_once':
        from minibatch.contrib.mongodb import MongoSink
        db = mb.connectdb(url=config['url'])
        options['sink'] = MongoSink(db['effects'], exactly_once=True)
    elif sink is not None:
        options['sink'] = functions.Sink(log, **(sink if isinstance(sink, dict) else {}))
    log.write('started', stream=config['stream'])
    mb.streaming(config['stream'], function, url=config['url'], **options)
    log.write('ended')


def producer(config: dict[str, Any], log: Log) -> None:
    import minibatch as mb

    stream = mb.stream(config['stream'], url=config['url'], **(config.get('options') or {}))
    name, batch, count = config['name'], config.get('batch', 1), config.get('count')
    pad = 'x' * config.get('size', 0)
    n = 0
    while count is None or n < count:
        size = batch if count is None else min(batch, count - n)
        rows = [{'id': f'{name}:{n + i}', 'pad': pad} for i in range(size)]
        n += size
        try:
            if batch == 1:
                stream.append(rows[0])
            else:
                stream.extend(rows)
            log.write('ack', ids=[r['id'] for r in rows])
        except (mb.errors.StoreUnavailable, mb.errors.ConnectError) as exc:
            # They may be stored or not, as an append that raises says; it goes on with new ones.
            log.write('refused', ids=[r['id'] for r in rows], error=repr(exc))
            time.sleep(0.1)
        if config.get('pause'):
            time.sleep(config['pause'])
    stream.flush()
    log.write('produced', name=name)


def source(config: dict[str, Any], log: Log) -> None:
    import importlib

    import minibatch as mb

    module, _, name = config['adapter'].partition(':')
    adapter: Any = importlib.import_module(module)
    for each in name.split('.'):
        adapter = getattr(adapter, each)
    stream = mb.stream(config['stream'], url=config['url'])
    made = adapter.make(config['config'], **(config.get('options') or {}))
    log.write('started', stream=config['stream'])
    stream.attach(made, background=False)
    log.write('ended')


def pipeline(config: dict[str, Any], log: Log) -> None:
    import minibatch as mb

    from . import chains

    built = getattr(chains, config['build'])(mb.stream(config['stream'], url=config['url']))
    log.write('started', stream=config['stream'])
    built.run(**config['options'])
    log.write('ended')


ROLES: dict[str, Callable[[dict[str, Any], Log], None]] = {
    'consumer': consumer, 'producer': producer, 'source': source, 'pipeline': pipeline}


def main(config: dict[str, Any]) -> None:
    if config.get('clock'):
        from .clocks import shift
        shift(config['clock'])
    if config.get('mutate'):
        from .mutations import mutate
        mutate(*config['mutate'])
    import logging

    import minibatch.points as points
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(process)d %(threadName)s %(name)s %(message)s')
    logging.getLogger('pymongo').setLevel(logging.WARNING)
    log = Log(config['log'])
    points.on_point = Trigger(config.get('at') or [], log, bool(config.get('trace')))
    ROLES[config['role']](config, log)


if __name__ == '__main__':
    main(json.loads(sys.argv[1]))
