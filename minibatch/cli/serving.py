"""``demo`` and ``server start|stop|status``."""

from __future__ import annotations

import os
import time
from importlib import import_module
from typing import Any

import click

from minibatch import embedded
from minibatch.cli.codes import DONE, FAILED
from minibatch.cli.options import with_json
from minibatch.cli.output import say, say_json


@click.command()
@click.option('--seconds', type=click.FloatRange(min=0, min_open=True), help='End after so long; else on Ctrl-C.')
@click.option('--plain', is_flag=True, help='Plain lines, also on a terminal.')
@with_json
def demo(seconds: float | None, plain: bool, json_: bool) -> None:
    """Stream this machine's own metrics through two consumers, with a live page to look at.

    In the end it counts whether every message is where it should be; with --json it prints that, and nothing else.
    """
    # when the command is over, so is everything that it started
    os.environ.setdefault('MINIBATCH_LINGER', '0')
    try:
        result = import_module('minibatch.demo').run(seconds=seconds, plain=plain, as_json=json_)
    finally:
        embedded.leave()
    raise SystemExit(result if isinstance(result, int) else DONE)


@click.group()
def server() -> None:
    """The embedded MongoDB, shared by your processes."""


where = click.option('--path', help='Its directory, or embedded: URL.  [default: your own]')


@server.command()
@where
@with_json
def start(path: str | None, json_: bool) -> None:
    """Start it, and keep it until `minibatch server stop`."""
    tell(embedded.start(path), json_)


@server.command()
@where
@with_json
def stop(path: str | None, json_: bool) -> None:
    """Stop it, whoever uses it."""
    stopped = embedded.stop(path)
    if json_:
        say_json({'stopped': stopped, 'path': str(embedded.directory(path))})
    else:
        say('stopped' if stopped else f'nothing runs in {embedded.directory(path)}')


@server.command()
@where
@with_json
def status(path: str | None, json_: bool) -> None:
    """Say whether it runs, and where; the exit code is 0 if it does, 1 if not."""
    facts = embedded.status(path)
    tell(facts, json_)
    raise SystemExit(DONE if facts['running'] else FAILED)


def tell(facts: dict[str, Any], json_: bool) -> None:
    """Print the status of an embedded server."""
    if json_:
        say_json(facts)
    else:
        say(described(facts))


def described(facts: dict[str, Any]) -> str:
    """The status of an embedded server, for people.

    >>> described({'running': False, 'path': '/srv/data'})
    'nothing runs in /srv/data'
    """
    if not facts['running']:
        return f'nothing runs in {facts["path"]}'
    clients = facts['clients']
    used = '' if clients is None else f', used by {len(clients)} process{"" if len(clients) == 1 else "es"}'
    pids = f' ({", ".join(map(str, clients))})' if clients else ''
    stays = 'until `minibatch server stop`' if facts['pinned'] else 'while it is used'
    minutes, seconds = divmod(int(time.time() - facts['started']), 60)
    return '\n'.join([
        f'running at {facts["url"]}',
        f'directory  {facts["path"]}',
        f'process    {facts["pid"]}, up {minutes} min {seconds} s{used}{pids}',
        f'stays      {stays}',
    ])
