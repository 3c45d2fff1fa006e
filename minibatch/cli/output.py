"""What the commands print: tables and sentences for people, JSON for programs; nothing that a message could forge."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from minibatch.contrib.codecs import Json
from minibatch.errors import Unencodable

_JSON = Json()
#: Columns where there is no terminal: lines are as long as they are.
_ENDLESS = 10_000


def as_json(value: Any) -> str:
    """The value as JSON in one line; what JSON has no notation for is written as the codec ``json`` does.

    >>> as_json({'at': datetime(2026, 1, 31, 12), 'ratio': float('nan')})
    '{"at":"2026-01-31T12:00:00Z","ratio":null}'
    """
    try:
        return _JSON.encode(value).decode()
    except Unencodable:  # what only MongoDB knows: for people, its name will do
        return json.dumps(value, default=_otherwise, ensure_ascii=False, allow_nan=False, separators=(',', ':'))


def _otherwise(value: Any) -> Any:
    try:
        return json.loads(_JSON.encode(value))
    except Unencodable:
        return str(value)


def say_json(value: Any) -> None:
    """Print the value as JSON, in a line of its own."""
    click.echo(as_json(value))


def safe(text: str) -> str:
    """The text without what would make a terminal do things: other control characters than line ends and tabs.

    >>> safe('a\\x1b[2Jb')
    'a\\\\x1b[2Jb'
    """
    return ''.join(c if c.isprintable() or c in '\n\t' else c.encode('unicode_escape').decode() for c in text)


def say(text: str, *, err: bool = False) -> None:
    """Print a sentence."""
    click.echo(safe(text), err=err)


def table(titles: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()) -> Table:
    """A table of plain columns.

    :param right: titles of the columns that are flushed right
    """
    made = Table(box=None, pad_edge=False, header_style='bold', padding=(0, 2, 0, 0))
    for title in titles:
        made.add_column(title, justify='right' if title in right else 'left', overflow='fold')
    for row in rows:
        made.add_row(*(Text(safe(shown(cell)).replace('\n', ' ')) for cell in row))
    return made


def show(thing: Any) -> None:
    """Print a table (or anything that rich can); without a terminal in lines as long as they are, without colours."""
    console = screen()
    if console.is_terminal:
        console.print(thing)
        return
    with console.capture() as held:
        console.print(thing)
    click.echo('\n'.join(line.rstrip() for line in held.get().splitlines()))


def screen() -> Console:
    """Standard output."""
    there = Console(highlight=False, emoji=False)
    return there if there.is_terminal else Console(highlight=False, emoji=False, width=_ENDLESS)


def shown(value: Any) -> str:
    """A cell of a table.

    >>> shown(None), shown(1234567), shown('x'), shown(0.25)
    ('-', '1,234,567', 'x', '0.2')
    """
    if value is None or value == '':
        return '-'
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, int):
        return f'{value:,}'
    if isinstance(value, float):
        return f'{value:,.1f}'
    if isinstance(value, datetime):
        return when(value)
    return str(value)


def when(at: datetime | None) -> str:
    """A time, in UTC.

    >>> when(datetime(2026, 1, 31, 12, 0, 0, 250_000))
    '2026-01-31 12:00:00.250'
    """
    return '-' if at is None else at.isoformat(sep=' ', timespec='milliseconds')


def utc(at: datetime | None) -> datetime | None:
    """A stored time with its zone, for JSON."""
    return None if at is None else at.replace(tzinfo=timezone.utc)


def age(seconds: float) -> str:
    """A duration, short.

    >>> [age(each) for each in (0, 0.25, 59, 90, 7200, 200_000)]
    ['0 s', '0.2 s', '59 s', '90 s', '2.0 h', '2.3 d']
    """
    for size, name in ((86_400.0, 'd'), (3600.0, 'h')):
        if seconds >= size:
            return f'{seconds / size:.1f} {name}'
    return f'{seconds:.1f} s' if 0 < seconds < 10 else f'{math.floor(seconds)} s'


def count(n: int, what: str) -> str:
    """A number of things.

    >>> count(1, 'message'), count(2000, 'window')
    ('1 message', '2,000 windows')
    """
    return f'{n:,} {what}{"" if n == 1 else "s"}'
