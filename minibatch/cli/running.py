"""``run``: consumers of a file or a module, until Ctrl-C."""

from __future__ import annotations

import logging
import os
import sys

import click

from minibatch.cli.codes import INTERRUPTED
from minibatch.cli.keeping import Keeper
from minibatch.cli.loading import members
from minibatch.cli.options import with_url
from minibatch.cli.output import say
from minibatch.crew import Crew
from minibatch.errors import OptionError


@click.command()
@click.argument('targets', nargs=-1, required=True, metavar='FILE.py[:NAME]...')
@click.option('--workers', type=click.IntRange(min=1), help='Windows that run at the same time, for each consumer, '
              'instead of what it says itself.')
@click.option('--once', is_flag=True, help='Run what is there, and end.')
@click.option('--restart', is_flag=True, help='Start again if the process dies, after a while that gets longer.')
@click.option('--reload', 'reload_', is_flag=True, help='Start again when a .py file beside or below it changes.')
@click.option('--loglevel', type=click.Choice(['debug', 'info', 'warning', 'error']), default='info', show_default=True,
              help='What is told on standard error.')
@with_url
def run(targets: tuple[str, ...], workers: int | None, once: bool, restart: bool, reload_: bool, loglevel: str,
        url: str | None) -> None:
    """Run consumers: @mb.streaming functions, apps, pipelines.

    FILE.py:NAME is one of them, FILE.py all that are defined where the file is loaded; package.module:NAME goes, too.
    NAME may also be a function that defines consumers when it is called (with url=, if it takes that).

    Ctrl-C and SIGTERM let windows that run finish, and give those back that wait; a second Ctrl-C does not wait. Start
    it as often as you like, on as many machines as you like.
    """
    logging.basicConfig(level=loglevel.upper(), format='%(asctime)s %(levelname)s %(message)s')
    if restart or reload_:
        if once:
            raise OptionError('--once ends by itself, which does not go with --restart and --reload')
        options = ['--loglevel', loglevel, *(['--workers', str(workers)] if workers else [])]
        if url:  # where others cannot read it
            os.environ['MINIBATCH_MONGO_URL'] = url
        raise SystemExit(Keeper(['run', *options, '--', *targets], targets, restart=restart, reload=reload_).run())
    if url:
        os.environ['MINIBATCH_MONGO_URL'] = url  # for worker processes, and for what the file itself does
    found = [member for target in targets for member in members(target, url, workers)]
    crew = Crew('run', found)
    if once:
        for member in found:
            emitter = member.make()
            if member.source is not None:
                emitter.stream.attach(member.source, background=False)
            emitter.run(blocking=False)
        return
    say(f'running {", ".join(each.name for each in found)}; Ctrl-C ends it', err=True)
    try:
        crew.run()
    except KeyboardInterrupt:
        say('stopped without waiting: windows that ran are run again when their lease is over', err=True)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # at an orderly exit Python would wait for threads, of which one may never end


