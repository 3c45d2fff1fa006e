"""What commands have in common: where MongoDB is, JSON, times, questions, names that the shell completes."""

from __future__ import annotations

import os
import re
import sys
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from minibatch import embedded
from minibatch.cli.codes import NotThere
from minibatch.cli.output import safe
from minibatch.connection import connect
from minibatch.errors import MinibatchError, did_you_mean
from minibatch.models import Stream, check_name, store_for
from minibatch.store import Store

if TYPE_CHECKING:
    class NameType(click.ParamType[str]):
        """The type of a name."""

    class TimeType(click.ParamType[datetime]):
        """The type of a time."""
else:  # not generic in earlier versions of click
    NameType = TimeType = click.ParamType

_AGE = re.compile(r'(\d+(?:\.\d+)?)([smhdw])')
_SECONDS = {'s': 1, 'm': 60, 'h': 3600, 'd': 86_400, 'w': 7 * 86_400}
#: Seconds that the shell waits for the names of streams.
PATIENCE = 1.0

with_url = click.option('--url', metavar='URL', help='The MongoDB, instead of that of MINIBATCH_MONGO_URL or MONGO_URL '
                        '(where a password is better kept: others can read the arguments of a process).')
with_json = click.option('--json', 'json_', is_flag=True, help='For programs.')
with_yes = click.option('--yes', '-y', is_flag=True, help='Do not ask.')


class StreamName(NameType):
    """The name of a stream."""

    name = 'stream'

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what cannot be one."""
        try:
            check_name(value)
        except MinibatchError as error:
            self.fail(str(error), param, ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The streams there are, if that can be told at once; no server is started for it."""
        url = ctx.params.get('url')
        try:
            if not any((url, os.environ.get('MINIBATCH_MONGO_URL'), os.environ.get('MONGO_URL'),
                        embedded.status()['running'])):
                return []
            connect(url, timeout=PATIENCE)
            return [CompletionItem(name) for name in store_for(url).names() if name.startswith(incomplete)]
        except MinibatchError:
            return []


stream_argument = click.argument('stream', type=StreamName())


class Moment(TimeType):
    """A time: ISO 8601 (UTC, if it names no zone), or how long ago it was.

    >>> Moment().convert('2026-01-31T12:00:00+01:00', None, None)
    datetime.datetime(2026, 1, 31, 11, 0)
    """

    name = 'time'

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The time, naive, in UTC."""
        if isinstance(value, datetime):
            return value
        ago = _AGE.fullmatch(value)
        if ago:
            now = datetime.now(timezone.utc).replace(tzinfo=None)
            try:
                return now - timedelta(seconds=float(ago[1]) * _SECONDS[ago[2]])
            except OverflowError:
                self.fail(f'{value!r} is before the beginning of time', param, ctx)
        try:
            at = datetime.fromisoformat(value.removesuffix('Z') + ('+00:00' if value.endswith('Z') else ''))
            return at if at.tzinfo is None else at.astimezone(timezone.utc).replace(tzinfo=None)
        except (ValueError, OverflowError):
            self.fail(f'{value!r} is no time: write it as 2026-01-31T12:00:00 (UTC, unless it names its offset), '
                      'or as 15m, 2h, 7d: so long ago', param, ctx)


def existing(url: str | None, stream: str) -> Store:
    """The store, in which there is this stream.

    :raises NotThere: there is none of that name; none was made
    """
    store = store_for(url)
    if not store.exists(stream):
        raise NotThere(f'there is no stream {stream!r}{did_you_mean(stream, store.names())} '
                       '(minibatch streams lists those there are)')
    return store


def opened(url: str | None, stream: str) -> Stream:
    """The stream, which has to be there."""
    existing(url, stream)
    return Stream.get_or_create(stream, url=url)


def ask(question: str, yes: bool) -> None:
    """Ask before something is removed for good.

    :param yes: it was answered on the command line
    :raises click.ClickException: the answer is no, or nobody is there to answer; nothing was removed
    """
    if yes:
        return
    # Not click.confirm, which prints a part of its question to standard output, where others read JSON.
    while True:
        click.echo(f'{safe(question)} [y/N]: ', nl=False, err=True)
        answer = sys.stdin.readline()
        if not answer:
            click.echo(err=True)
            raise click.ClickException('nobody answered, so nothing was removed; --yes does it without asking')
        if answer.strip().lower() in ('y', 'yes'):
            return
        if answer.strip().lower() in ('', 'n', 'no'):
            raise click.ClickException('nothing was removed')
