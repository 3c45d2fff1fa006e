"""``dead list|show|redrive|drop``: windows that are out of attempts."""

from __future__ import annotations

from typing import Any

import click

from minibatch.cli.codes import NotThere
from minibatch.cli.looking import as_window, found_window, short, show_window, when_
from minibatch.cli.options import StreamName, ask, existing, stream_argument, with_json, with_url, with_yes
from minibatch.cli.output import count, say, say_json, show, table
from minibatch.models import store_for
from minibatch.states import WindowState
from minibatch.store import Record, Store

DEAD = WindowState.DEAD.value


@click.group()
def dead() -> None:
    """Windows whose attempts have all failed: kept, with their messages, until redriven or dropped."""


@dead.command('list')
@click.argument('stream', required=False, type=StreamName())
@with_url
@with_json
def list_(stream: str | None, url: str | None, json_: bool) -> None:
    """List dead windows, of STREAM or of all streams, first ones first."""
    store = store_for(url) if stream is None else existing(url, stream)
    names = store.names() if stream is None else [stream]
    found = [as_window(Record.from_document(doc)) for name in names
             for doc in reversed(store.list_windows(name, [DEAD]))]
    if json_:
        say_json(found)
    elif found:
        show(table(('STREAM', 'WINDOW', 'MESSAGES', 'ATTEMPTS', 'DIED', 'ERROR'), [
            (each['stream'], each['id'], each['messages'], each['attempts'], when_(_last(each).get('when')),
             short(str(_last(each).get('error', '')))) for each in found], right=('MESSAGES', 'ATTEMPTS')))
    else:
        say('no window is dead' if stream is None else f'no window of stream {stream!r} is dead')


@dead.command('show')
@stream_argument
@click.argument('window')
@with_url
@with_json
def show_(stream: str, window: str, url: str | None, json_: bool) -> None:
    """Show a dead window: its errors, the last traceback, its messages."""
    store = existing(url, stream)
    _check(store, stream, (window,))
    one = found_window(store, stream, window)
    if json_:
        say_json(one)
    else:
        show_window(one)


@dead.command()
@stream_argument
@click.argument('windows', nargs=-1)
@with_url
@with_json
def redrive(stream: str, windows: tuple[str, ...], url: str | None, json_: bool) -> None:
    """Run dead windows again, with all their attempts; all of the stream, unless WINDOWS are named.

    They are the same windows, with the same ids and messages, and wait until there is a consumer.
    """
    store = existing(url, stream)
    _check(store, stream, windows)
    n = store.redrive(stream, windows or None)
    if json_:
        say_json({'stream': stream, 'redriven': n})
    else:
        say(f'{count(n, "dead window")} of stream {stream!r} will be run again')


@dead.command()
@stream_argument
@click.argument('windows', nargs=-1)
@with_url
@with_json
@with_yes
def drop(stream: str, windows: tuple[str, ...], url: str | None, json_: bool, yes: bool) -> None:
    """Remove dead windows and their messages for good; all of the stream, unless WINDOWS are named. Asks."""
    store = existing(url, stream)
    _check(store, stream, windows)
    docs = [doc for doc in store.list_windows(stream, [DEAD]) if not windows or doc['_id'] in windows]
    ids, messages = [doc['_id'] for doc in docs], sum(doc['n'] for doc in docs)
    if ids:
        ask(f'Remove {count(len(ids), "dead window")} of stream {stream!r} and {count(messages, "message")} for good?',
            yes)
    n = store.drop(stream, ids) if ids else 0
    if json_:
        say_json({'stream': stream, 'dropped': n})
    else:
        say(f'{count(n, "dead window")} of stream {stream!r} dropped')


def _check(store: Store, stream: str, windows: tuple[str, ...]) -> None:
    """Refuse ids that are of no dead window, before anything is done."""
    found = {doc['_id'] for doc in store.list_windows(stream, [DEAD])} if windows else set()
    for window in windows:
        if window not in found:
            raise NotThere(f'stream {stream!r} has no dead window {window!r}; nothing was done '
                           f'(minibatch dead list shows those it has)')


def _last(one: dict[str, Any]) -> dict[str, Any]:
    return dict(one['errors'][-1]) if one['errors'] else {}
