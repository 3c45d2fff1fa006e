"""``replay`` and ``clear``."""

from __future__ import annotations

from datetime import datetime

import click

from minibatch.cli.options import Moment, ask, existing, stream_argument, with_json, with_url, with_yes
from minibatch.cli.output import count, say, say_json, when
from minibatch.errors import OptionError


@click.command()
@stream_argument
@click.option('--from', 'since', type=Moment(), required=True,
              help='Windows that start at this time (as 2026-01-31T12:00:00, UTC, or as 2h: so long ago) or later.')
@click.option('--to', 'until', type=Moment(), help='And before this one.  [default: now]')
@click.option('--dry-run', is_flag=True, help='Only say how many there are.')
@with_url
@with_json
def replay(stream: str, since: datetime, until: datetime | None, dry_run: bool, url: str | None, json_: bool) -> None:
    """Run kept windows again: those that are done, of consumers with keep=True.

    They are the same windows, with the same ids and messages. A sink that tells windows apart by their id replaces what
    it had from them; one that only adds, and tables that count, take them as more.
    """
    store = existing(url, stream)
    until = until or store.clock.now()
    if since >= until:
        raise OptionError(f'--from {when(since)} is not before --to {when(until)}; nothing was replayed')
    n = store.count_kept(stream, since, until) if dry_run else store.replay(stream, since, until)
    if json_:
        say_json({'stream': stream, 'would_replay' if dry_run else 'replayed': n})
    elif dry_run:
        say(f'{count(n, "kept window")} of stream {stream!r} would be run again')
    else:
        say(f'{count(n, "kept window")} of stream {stream!r} will be run again')


@click.command()
@stream_argument
@with_url
@with_json
@with_yes
def clear(stream: str, url: str | None, json_: bool, yes: bool) -> None:
    """Remove all messages and windows of a stream for good, the dead ones too. Asks. The stream itself stays."""
    store = existing(url, stream)
    found = store.figures(stream)
    windows = sum(each['windows'] for each in found['states'].values())
    dead = found['states'].get('dead', {}).get('windows', 0)
    ask(f'Remove all of stream {stream!r} for good: {count(found["backlog"], "message")} waiting, '
        f'{count(windows, "window")} ({dead:,} dead)?', yes)
    n = store.clear(stream)
    if json_:
        say_json({'stream': stream, 'messages': n, 'windows': windows})
    else:
        say(f'stream {stream!r} is empty: {count(n, "message")} and {count(windows, "window")} removed')
