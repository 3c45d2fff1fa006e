"""``streams``, ``status``, ``peek``, ``tail``, ``windows``: what there is, changing nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from minibatch.cli.codes import NotThere
from minibatch.cli.options import StreamName, existing, stream_argument, with_json, with_url
from minibatch.cli.output import age, as_json, say, say_json, screen, show, shown, table, utc, when
from minibatch.errors import LeaseLost, StoreUnavailable
from minibatch.models import store_for
from minibatch.states import WindowState
from minibatch.status import figures
from minibatch.store import Record, Store

STATES = [each.value for each in WindowState]
_TITLES = ('STREAM', 'BACKLOG', 'LAG', 'READY', 'RUNNING', 'DONE', 'FAILED', 'DEAD', 'PER SECOND', 'CONSUMERS')
#: Members of a dead or a large window that ``windows`` shows, and characters of a message in a line for people.
_WIDEST = 200


@click.command()
@with_url
@with_json
def streams(url: str | None, json_: bool) -> None:
    """List all streams, with what waits in them and who consumes them."""
    store = store_for(url)
    all_ = [figures(store, name) for name in store.names()]
    if json_:
        say_json(all_)
    elif all_:
        show(overview(all_))
    else:
        say('there are no streams yet')


def overview(all_: Sequence[dict[str, Any]]) -> Table:
    """Streams' figures, one in a line."""
    rows = [(each['stream'], each['backlog'], age(each['lag']), each['ready'], each['running'], each['done'],
             each['failed'], each['dead'], each['rate'], len(each['consumers'])) for each in all_]
    return table(_TITLES, rows, right=_TITLES[1:])


@click.command()
@click.argument('stream', required=False, type=StreamName())
@click.option('--watch', '-w', is_flag=True, help='Go on until Ctrl-C.')
@click.option('--every', type=click.FloatRange(min=0.1), default=1.0, show_default=True, help='Seconds between looks.')
@with_url
@with_json
def status(stream: str | None, watch: bool, every: float, url: str | None, json_: bool) -> None:
    """Show what a stream is doing, and its consumers; without STREAM, all streams.

    With --watch and --json it prints a line of JSON for each look.
    """
    store = store_for(url) if stream is None else existing(url, stream)

    def look() -> Any:
        names = store.names() if stream is None else [stream]
        found = [figures(store, name) for name in names]
        return found if stream is None else found[0]

    draw = as_json if json_ else drawn
    if not watch:
        show_or_say(draw(look()))
    elif json_ or not screen().is_terminal:
        _repeat(lambda: show_or_say(draw(look())), every)
    else:
        _live(look, every)


def drawn(found: Any) -> Any:
    """Figures as something that rich can print."""
    return overview(found) if isinstance(found, list) else details(found)


def show_or_say(thing: Any) -> None:
    """Print text or a table, at once."""
    click.echo(thing) if isinstance(thing, str) else show(thing)
    sys.stdout.flush()


def _repeat(step: Callable[[], None], every: float) -> None:
    try:
        while True:
            step()
            time.sleep(every)
    except KeyboardInterrupt:  # which is how it ends
        return


def _live(look: Callable[[], Any], every: float) -> None:
    """A screen that moves; while MongoDB is away it says so, and goes on."""
    with Live(console=screen(), auto_refresh=False) as live:
        def step() -> None:
            try:
                seen = drawn(look())
            except StoreUnavailable as error:
                seen = Text(str(error))
            live.update(Group(seen, Text(f'{time.strftime("%H:%M:%S")}, every {every:g} s, Ctrl-C ends it')),
                        refresh=True)
        _repeat(step, every)


def details(found: dict[str, Any]) -> Group:
    """One stream's figures and consumers."""
    facts = table(('', ''), [
        ('backlog', f'{found["backlog"]:,} messages, {found["waiting"]:,} of them in no window yet'),
        ('lag', f'the oldest has waited for {age(found["lag"])}' if found['backlog'] else '-'),
        ('windows', f'{found["ready"]:,} ready, {found["running"]:,} running, {found["done"]:,} done, '
                    f'{found["dead"]:,} dead; {found["failed"]:,} attempts failed'),
        ('committed', f'{found["committed"]:,} messages, {found["rate"]:,.1f} a second lately'),
        ('last progress', found['last_progress']),
    ])
    facts.show_header = False
    rows = [(each['host'], each['pid'], each['workers'], each['rate'], each['started'], each['beat'])
            for each in found['consumers']]
    consumers: Any = Text('no consumer runs')
    if rows:
        titles = ('CONSUMER', 'PID', 'WORKERS', 'PER SECOND', 'STARTED', 'LAST SIGN OF LIFE')
        consumers = table(titles, [(host, str(pid), *more) for host, pid, *more in rows], right=titles[1:4])
    return Group(Text(f'stream {found["stream"]}'), facts, consumers)


@click.command()
@stream_argument
@click.option('-n', '--number', type=click.IntRange(min=1), default=10, show_default=True, help='How many at the most.')
@with_url
@with_json
def peek(stream: str, number: int, url: str | None, json_: bool) -> None:
    """Show the messages that will be in the next windows, oldest first, without taking them."""
    found = existing(url, stream).messages(stream, number, waiting=True)
    if json_:
        say_json([as_message(doc) for doc in found])
    elif found:
        for doc in found:
            say(line(doc))
    else:
        say(f'no message waits in stream {stream!r}')


@click.command()
@stream_argument
@click.option('-n', '--number', type=click.IntRange(min=0), default=10, show_default=True,
              help='How many of those that are there.')
@click.option('-f', '--follow', is_flag=True, help='Go on with those that come, until Ctrl-C.')
@with_url
@with_json
def tail(stream: str, number: int, follow: bool, url: str | None, json_: bool) -> None:
    """Show the newest messages in the buffer, and with -f those that come in.

    With --json it prints a line of JSON for each message. On a standalone MongoDB, which has no change streams, -f does
    not see messages that are consumed within a quarter of a second.
    """
    store = existing(url, stream)

    def tell(doc: dict[str, Any]) -> None:
        if json_:
            say_json(as_message(doc))
        else:
            say(line(doc))

    if not follow:
        for doc in store.messages(stream, number, newest=True) if number else ():
            tell(doc)
        return
    if not store.transactions:
        say('this MongoDB is no replica set: messages that are consumed within a quarter of a second are not seen here',
            err=True)
    try:
        for coming in store.follow(stream, number):
            if coming is None:
                sys.stdout.flush()
            else:
                tell(coming)
    except KeyboardInterrupt:  # which is how it ends
        return


def as_message(doc: dict[str, Any]) -> dict[str, Any]:
    """A buffer document for programs.

    :return: ``id``, ``created``, ``window`` (the id of the one it is in, or ``None``), ``data``
    """
    return {'id': doc['_id'], 'created': utc(doc.get('created')), 'window': doc.get('window'), 'data': doc.get('data')}


def line(doc: dict[str, Any]) -> str:
    """A buffer document for people: when it came, in which window it is, what is in it."""
    inside = f'  [{doc["window"]}]' if doc.get('window') else ''
    return f'{when(doc.get("created"))}  {short(as_json(doc.get("data")))}{inside}'


def short(text: str) -> str:
    """The text, with its end left out if it is long.

    >>> len(short('x' * 1000))
    200
    """
    return text if len(text) <= _WIDEST else f'{text[:_WIDEST - 3]}...'


@click.command()
@stream_argument
@click.argument('window', required=False)
@click.option('--state', 'states', multiple=True, type=click.Choice(STATES), help='Only these; may be repeated.')
@click.option('-n', '--number', type=click.IntRange(min=1), default=20, show_default=True, help='How many at the most.')
@with_url
@with_json
def windows(stream: str, window: str | None, states: tuple[str, ...], number: int, url: str | None,
            json_: bool) -> None:
    """List the windows of a stream, newest first; with WINDOW, show that one and its messages.

    A window that is done is there for a moment only, unless its consumer has keep=True.
    """
    store = existing(url, stream)
    if window is not None:
        one = found_window(store, stream, window)
        if json_:
            say_json(one)
        else:
            show_window(one)
        return
    found = [as_window(Record.from_document(doc)) for doc in store.list_windows(stream, states, number)]
    if json_:
        say_json(found)
    elif found:
        show(table(('WINDOW', 'STATE', 'MESSAGES', 'ATTEMPTS', 'KEY', 'START', 'END', 'LAST ERROR'), [
            (each['id'], each['state'], each['messages'], each['attempts'], each['key'], when_(each['start']),
             when_(each['end']), short(each['errors'][-1]['error']) if each['errors'] else '') for each in found],
            right=('MESSAGES', 'ATTEMPTS')))
    else:
        say(f'stream {stream!r} has no {" or ".join(states) + " " if states else ""}windows now')


def as_window(record: Record) -> dict[str, Any]:
    """A window for programs, without its messages."""
    return {'id': record.id, 'stream': record.stream, 'state': record.state, 'messages': record.n,
            'attempts': record.attempt, 'key': record.key, 'created': utc(record.created), 'start': utc(record.start),
            'end': utc(record.end), 'keep': record.keep, 'owner': record.owner, 'errors': [*record.errors]}


def found_window(store: Store, stream: str, window: str) -> dict[str, Any]:
    """A window for programs, with its messages.

    :raises NotThere: there is none of that id
    """
    record = store.find_window(stream, window)
    if record is None:
        raise NotThere(f'stream {stream!r} has no window {window!r}: it is not cut yet, or done and not kept')
    data = record.messages()
    if data is None:
        try:
            data = store.load(record)
        except LeaseLost as error:
            raise NotThere(str(error)) from error
    return {**as_window(record), 'data': data}


def show_window(one: dict[str, Any]) -> None:
    """A window for people, with its failures and its messages."""
    names = ('state', 'messages', 'attempts', 'key', 'start', 'end', 'owner')
    facts = [(name, when_(one[name]) if name in ('start', 'end') else shown(one[name])) for name in names
             if one[name] is not None]
    head = table(('', ''), facts)
    head.show_header = False
    say(f'window {one["id"]}')
    show(head)
    for each in one['errors']:
        say(f'\nattempt {each.get("attempt")}, {when(each.get("when"))}: {each.get("error")}')
    last = one['errors'][-1].get('traceback') if one['errors'] else None
    if last:
        say(f'\n{last.rstrip()}')
    say('')
    for message in one['data']:
        say(as_json(message))


def when_(at: Any) -> str:
    """A time that has its zone, for people."""
    return '-' if at is None else when(at.replace(tzinfo=None))
