"""``run``: consumers of a file or a module, until Ctrl-C."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import click

from minibatch.cli.codes import INTERRUPTED
from minibatch.cli.keeping import Keeper
from minibatch.cli.loading import members
from minibatch.cli.options import with_url
from minibatch.cli.output import say
from minibatch.connection import connectdb
from minibatch.crew import Crew
from minibatch.errors import OptionError
from minibatch.logs import for_command, writes_json

log = logging.getLogger('minibatch')


@click.command()
@click.argument('targets', nargs=-1, required=True, metavar='FILE.py[:NAME]...')
@click.option('--workers', type=click.IntRange(min=1), help='Windows that run at the same time, for each consumer, '
              'instead of what it says itself.')
@click.option('--once', is_flag=True, help='Run what is there, and end.')
@click.option('--restart', is_flag=True, help='Start again if the process dies, after a while that gets longer.')
@click.option('--reload', 'reload_', is_flag=True, help='Start again when a .py file beside or below it changes.')
@click.option('--loglevel', type=click.Choice(['debug', 'info', 'warning', 'error']), help='What is told on standard '
              'error, by whatever runs here.  [default: what minibatch does, and warnings of others]')
@click.option('--json', 'json_', is_flag=True, help='Tell it in lines of JSON.')
@with_url
def run(targets: tuple[str, ...], workers: int | None, once: bool, restart: bool, reload_: bool, loglevel: str | None,
        json_: bool, url: str | None) -> None:
    """Run consumers: @mb.streaming functions, apps, pipelines.

    FILE.py:NAME is one of them, FILE.py all that are defined where the file is loaded; package.module:NAME goes, too.
    NAME may also be a function that defines consumers when it is called (with url=, if it takes that).

    Ctrl-C and SIGTERM let windows that run finish, and give those back that wait; a second Ctrl-C does not wait. Start
    it as often as you like, on as many machines as you like.
    """
    if restart or reload_:
        if once:
            raise OptionError('--once ends by itself, which does not go with --restart and --reload')
        for_command(loglevel, as_json=json_)
        options = [*(['--loglevel', loglevel] if loglevel else []), *(['--json'] if json_ else []),
                   *(['--workers', str(workers)] if workers else [])]
        if url:  # where others cannot read it
            os.environ['MINIBATCH_MONGO_URL'] = url
        raise SystemExit(Keeper(['run', *options, '--', *targets], targets, restart=restart, reload=reload_).run())
    try:
        if url:
            connectdb(url)
            os.environ['MINIBATCH_MONGO_URL'] = url  # for worker processes, and for what the file itself does
        found = [member for target in targets for member in members(target, url, workers)]
    finally:
        for_command(loglevel, as_json=json_)  # what has been loaded may have set up logging of its own
    crew = Crew('run', found)
    if once:
        for member in found:
            emitter = member.make()
            if member.source is not None:
                emitter.stream.attach(member.source, background=False)
            emitter.run(blocking=False)
        return
    names = [each.name for each in found]
    tell(logging.INFO, f'running {", ".join(names)}; Ctrl-C ends it', consumers=names)
    try:
        crew.run()
    except KeyboardInterrupt:
        tell(logging.WARNING, 'stopped without waiting: windows that ran are run again when their lease is over')
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # at an orderly exit Python would wait for threads, of which one may never end


def tell(level: int, text: str, **fields: Any) -> None:
    """Say it to people; where lines are for programs, as one of these."""
    if writes_json():
        log.log(level, text, extra=fields)
    else:
        say(text, err=True)
