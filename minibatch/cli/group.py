"""The group of all commands, and what becomes of errors."""

from __future__ import annotations

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
from minibatch.urls import masked

_URL = re.compile(r'\b(?:mongodb(?:\+srv)?|embedded):\S+')


def without_secrets(text: str) -> str:
    """The text with the passwords of URLs in it masked: wrong use quotes what was written.

    >>> without_secrets('unexpected argument (mongodb://ann:s3cret@db/shop)')
    'unexpected argument (mongodb://ann:***@db/shop)'
    """
    return _URL.sub(lambda found: masked(found[0]), text)


class _Failed(click.ClickException):
    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.exit_code = code


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
            failed = _Failed(safe(without_secrets(str(error))), code_of(error))
        except click.ClickException as error:
            _retell(error)
        except BrokenPipeError:  # whoever read what it prints has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except KeyboardInterrupt:
            click.echo(err=True)
            ctx.exit(INTERRUPTED)
        raise failed


def _retell(error: click.ClickException) -> NoReturn:
    error.message = without_secrets(error.message)
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


for _command in (run, streams, status, append, peek, tail, windows, dead, replay, clear, bench, demo, server, doctor,
                 completion):
    group.add_command(_command)
