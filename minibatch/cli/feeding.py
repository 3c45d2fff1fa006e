"""``append``: messages from arguments, a file or standard input."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from minibatch.app.command import TOGETHER, groups, parsed
from minibatch.cli.codes import INTERRUPTED
from minibatch.cli.options import opened, with_json, with_url
from minibatch.cli.output import count, say, say_json
from minibatch.contrib.base import as_document
from minibatch.contrib.once import Once, OtherContent
from minibatch.errors import InvalidMessage, MinibatchError, OptionError
from minibatch.models import Stream, check_name

#: Messages that are stored together, each with words for what it is called in errors.
Batch = list[tuple[str, dict[str, Any]]]


@click.command()
@click.argument('stream')
@click.argument('messages', nargs=-1)
@click.option('--file', '-f', 'path', type=click.Path(exists=True, dir_okay=False, allow_dash=True),
              help='A file of JSON objects, one in a line, or of one JSON array of them; - is standard input.')
@click.option('--create', is_flag=True, help='Make the stream if it is new.')
@click.option('--once', 'key', metavar='KEY', help='Store each message once, however often the same command is '
              'repeated with this KEY, for a day: what to do if it was interrupted.')
@with_url
@with_json
def append(stream: str, messages: tuple[str, ...], path: str | None, create: bool, key: str | None, url: str | None,
           json_: bool) -> None:
    """Append messages to a stream.

    MESSAGES are JSON objects, such as '{"n": 1}'. Without any, and without --file, they are read from standard input.
    What was told to be appended is durable. At the first message that cannot be stored it stops, and says how many
    before that one were appended.
    """
    check_name(stream)
    if messages and path:
        raise OptionError('give messages or --file, not both; nothing was appended')
    target = Stream.get_or_create(stream, url=url) if create else opened(url, stream)
    totals = Totals(target, key)
    if messages:
        batch = [(f'message {n}', parsed(text, f'message {n}')) for n, text in enumerate(messages, 1)]
        totals.add([batch], lambda n: None)
    else:
        with _text(path) as text, _bar(read := Messages(text)) as tell:
            totals.add(read, tell)
    target.stop()
    if json_:
        say_json({'stream': stream, 'appended': totals.appended, 'already': totals.already})
    else:
        there = f' ({totals.already:,} were there already)' if totals.already else ''
        say(f'appended {count(totals.appended, "message")} to stream {stream!r}{there}')


class Totals:
    """Appends batches to a stream, and counts.

    :param key: of :class:`~minibatch.contrib.once.Once`, for all of them; ``None``: they are appended anyway
    :ivar appended: messages stored
    :ivar already: messages that an earlier command has stored with the same key
    """

    def __init__(self, stream: Stream, key: str | None) -> None:
        self.appended = self.already = 0
        self._stream, self._key = stream, key
        self._once = None if key is None else Once(stream)

    def add(self, batches: Iterable[Batch], tell: Callable[[int], None]) -> None:
        """Append them all.

        :param tell: told how many there are so far
        :raises minibatch.errors.MinibatchError: one was refused; it says how many were appended before
        """
        try:
            for number, batch in enumerate(batches):
                self._add(number, batch)
                tell(self.appended + self.already)
        except MinibatchError as error:
            if not self.appended + self.already:
                raise
            text = f'{str(error).rstrip(".")}; the {count(self.appended + self.already, "message")} before are in ' \
                   'the stream, and no more'
            kind = InvalidMessage if isinstance(error, InvalidMessage) else type(error)
            raise kind(text) from error
        except KeyboardInterrupt:
            more = '' if self._key is None else '; the same command with the same key goes on'
            say(f'\ninterrupted: at least {count(self.appended, "message")} appended to stream '
                f'{self._stream.name!r}{more}', err=True)
            raise SystemExit(INTERRUPTED) from None

    def _add(self, number: int, batch: Batch) -> None:
        rows = [row for _, row in batch]
        try:
            if self._once is None:
                self._stream.extend(rows)
            elif not self._once.extend(f'{self._key}/{number}', rows, json.dumps(rows, sort_keys=True).encode()):
                self.already += len(rows)
                return
        except InvalidMessage as error:
            raise _which(batch, error) from error
        except OtherContent:
            raise OptionError(f'--once {self._key}: the key was used for other messages in the last day; new messages '
                              'need a new key, and nothing of these was appended') from None
        self.appended += len(rows)


def _which(batch: Batch, error: InvalidMessage) -> InvalidMessage:
    """The error with words for which of the messages it is."""
    for which, row in batch:
        try:
            as_document(row)
        except InvalidMessage as found:
            return InvalidMessage(f'{which}: {found}; nothing of it or of those stored together with it was stored')
    return error


class Messages:
    """Batches of messages, from lines of JSON or from one array.

    :param text: where they are read
    """

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._array: list[Any] | None = None
        self._bytes = 0
        with suppress(OSError):  # no file at all
            about = os.fstat(text.fileno())
            self._bytes = about.st_size if stat.S_ISREG(about.st_mode) else 0

    def share(self, n: int) -> float | None:
        """The part of all that has been read when *n* messages are stored; ``None`` if nobody knows the end."""
        if self._array is not None:
            return n / len(self._array)
        return self._text.buffer.tell() / self._bytes if self._bytes else None

    def __iter__(self) -> Iterator[Batch]:
        lines = iter(self._text)
        skipped, first = next(((n, line) for n, line in enumerate(lines) if line.strip()), (0, ''))
        if not first.lstrip().startswith('['):
            for group in groups(chain([first], lines)):
                batch: Batch = []
                for n, line in group:
                    which = f'line {n + skipped}'
                    try:
                        batch.append((which, parsed(line, which)))
                    except InvalidMessage:
                        if batch:
                            yield batch
                        raise
                yield batch
            return
        try:
            self._array = array = json.loads(first + ''.join(lines))
        except (ValueError, RecursionError) as error:
            raise InvalidMessage(f'it begins with [, but is no JSON array: {error}; nothing was appended') from None
        for n in range(0, len(array), TOGETHER):
            yield [(f'item {at}', _object(row, at)) for at, row in enumerate(array[n:n + TOGETHER], n + 1)]


def _object(row: Any, at: int) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InvalidMessage(f'item {at} of the array is not a JSON object')
    return row


@contextmanager
def _text(path: str | None) -> Iterator[TextIO]:
    """The file, or standard input, as UTF-8; what is not is refused with its message."""
    if path in (None, '-'):
        if sys.stdin.isatty():
            say('reading JSON objects, one in a line; Ctrl-D ends', err=True)
        sys.stdin.reconfigure(encoding='utf-8-sig', errors='surrogateescape')  # type: ignore[union-attr]
        yield sys.stdin
        return
    try:
        with Path(str(path)).open(encoding='utf-8-sig', errors='surrogateescape') as text:
            yield text
    except OSError as error:
        raise OptionError(f'--file {path}: {error.strerror or error}') from None


@contextmanager
def _bar(given: Messages) -> Iterator[Callable[[int], None]]:
    """A bar on standard error that shows how many messages are stored, if that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda n: None
        return
    columns: Iterable[Any] = (TextColumn('appended {task.fields[n]:,}'), BarColumn(), TaskProgressColumn(),
                              TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task('appended', total=None, n=0)

        def tell(n: int) -> None:
            share = given.share(n)
            progress.update(task, n=n, completed=share or 0, total=None if share is None else 1)
        yield tell
