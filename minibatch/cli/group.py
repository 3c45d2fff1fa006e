"""The group of all commands, and what becomes of errors."""

from __future__ import annotations

import logging
import os
import re
import sys
from typing import Any, NoReturn

import click

from minibatch import embedded
from minibatch.cli.bench import bench
from minibatch.cli.changing import clear, replay
from minibatch.cli.codes import INTERRUPTED, code_of
from minibatch.cli.completion import completion
from minibatch.cli.dead import dead
from minibatch.cli.doctor import doctor
from minibatch.cli.feeding import append
from minibatch.cli.looking import peek, status, streams, tail, windows
from minibatch.cli.output import safe
from minibatch.cli.running import run
from minibatch.cli.serving import demo, server
from minibatch.errors import MinibatchError
from minibatch.logs import hidden, writes_json
from minibatch.urls import masked

log = logging.getLogger('minibatch')

#: From a URL's scheme to the last @ of all: a password may hold anything.
_URL = re.compile(r'\b[a-z][a-z0-9+.-]*://(?:.*@)?\S*', re.DOTALL | re.IGNORECASE)


def without_secrets(text: str) -> str:
    """The text with the passwords of URLs in it masked: wrong use quotes what was written.

    >>> without_secrets('unexpected argument (mongodb://ann:s3cret@db/shop)')
    'unexpected argument (mongodb://ann:***@db/shop)'
    """
    return _URL.sub(lambda found: masked(found[0]), text)


class Commands(click.Group):
    """Errors of ours are sentences for people and an exit code for programs: no traceback, and no password."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run it, and end the process."""
        try:
            return super().main(*args, **options)
        finally:
            sys.stderr.flush()

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """As usual; what click says of wrong use shows no password."""
        try:
            return super().make_context(*args, **options)
        except click.ClickException as error:
            _retell(error)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except MinibatchError as error:
            if writes_json():
                log.error('%s', error, extra={'code': code_of(error)})
            else:
                click.echo(f'Error: {safe(hidden(str(error)))}', err=True)
            ctx.exit(code_of(error))
        except click.ClickException as error:
            _retell(error)
        except BrokenPipeError:  # whoever read what it prints has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except KeyboardInterrupt:
            click.echo(err=True)
            ctx.exit(INTERRUPTED)


def _retell(error: click.ClickException) -> NoReturn:
    object.__setattr__(error, 'message', without_secrets(error.message))  # declared final, but only for mypy
    raise error


@click.group(cls=Commands, context_settings={'help_option_names': ['-h', '--help'], 'max_content_width': 100},
             epilog='The database is that of --url, else of MINIBATCH_MONGO_URL or MONGO_URL, else the embedded one. '
             'Exit codes: 0 done, 1 failed or no, 2 wrong use, 3 no such stream or window, 4 MongoDB cannot be used, '
             '130 Ctrl-C.')
@click.version_option(package_name='minibatch')
@click.pass_context
def group(ctx: click.Context) -> None:
    """Stream processing for Python, on MongoDB."""
    # A command is over in a moment: the embedded server that it alone has started need not outlive it for long.
    ctx.call_on_close(_leave)


def _leave() -> None:
    if os.environ.get('MINIBATCH_LINGER') == '0':
        embedded.leave()


#: What the list of commands says of each, where the first sentence of its own help is too long for a line.
_SHORT = {
    run: 'Run consumers, until Ctrl-C.', streams: 'List all streams.', status: 'Show what streams are doing.',
    append: 'Append messages to a stream.', peek: 'Show the messages that wait.', tail: 'Show the newest messages.',
    windows: 'List windows, or show one.', dead: 'List, show, redrive and drop dead windows.',
    replay: 'Run kept windows again.', clear: 'Empty a stream; asks.', bench: 'Measure appends and a consumer.',
    demo: "Stream this machine's own metrics.", server: 'Start and stop the embedded MongoDB.',
    doctor: 'Say what is wrong, and how to mend it.', completion: 'Print a script for completion.',
}
for _command, _text in _SHORT.items():
    _command.short_help = _text
    group.add_command(_command)
