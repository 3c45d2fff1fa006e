"""Reading files into a stream."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from minibatch.contrib.files.formats import BOM, Csv, format_of, lines, records
from minibatch.contrib.files.tail import Opened, find
from minibatch.contrib.inlet import Inlet
from minibatch.contrib.reconnect import persist
from minibatch.errors import OptionError

log = logging.getLogger(__name__)

_CHUNK = 1 << 18
#: Bytes after which a line that does not end is taken for one.
_LONGEST = 16 * 1024 * 1024


class FileSource:
    """Read a file, line by line, into a stream; each line exactly once, whatever happens in between.

    :param path: of the file; with *follow* it need not be there yet
    :param format: ``'jsonl'``, ``'csv'``, ``'tsv'`` or ``'text'``; by default what the name ends with says (``.jsonl``,
        ``.ndjson``, ``.json``, ``.csv``, ``.tsv``, ``.txt``, ``.log``)
    :param follow: go on as the file grows, and when it is rotated (default: end at its end)
    :param name: of the source, if not ``file:`` and the absolute path; its position is stored under this name
    :param codec: what makes a message of a line, if not the format does (:mod:`minibatch.contrib.codecs`)
    :param schema: what a message has to fit (:mod:`minibatch.contrib.schemas`)
    :param fields: CSV: names of the fields, if the file's first line does not have them
    :param types: CSV: what makes a value of a field's text, such as ``{'ms': int}``; others stay text
    :param encoding: CSV: of the file
    :param interval: seconds between two looks at a file that is followed
    :param size: most messages stored at once
    :raises minibatch.errors.OptionError: an option cannot be

    A message is what a line of JSON holds (``{'value': ...}`` if that is no object), a CSV record as a dict, or
    ``{'value': line}`` for text. Empty lines are passed over. A quote in a CSV file that is not closed within 1 MB, or
    before the end of a file that is not followed, is taken for a mistake in its line.
    """

    def __init__(self, path: str | os.PathLike[str], format: str | None = None, *, follow: bool = False,  # noqa: A002
                 name: str | None = None, codec: Any = None, schema: Any = None, fields: Sequence[str] | None = None,
                 types: Mapping[str, Callable[[str], Any]] | None = None, encoding: str = 'utf-8',
                 interval: float = 0.2, size: int = 1000) -> None:
        self.path = Path(path)
        self.format = format_of(self.path, None if format is None and codec is None else format or 'text')
        if format is None and codec is not None and self.path.suffix.lower() in ('.csv', '.tsv'):
            raise OptionError('codec= and the records of a CSV file do not go together; give format= as well')
        if isinstance(interval, bool) or not isinstance(interval, (int, float)) or not 0 < interval < float('inf'):
            raise OptionError(f'interval must be a number of seconds, more than 0, not {interval!r}')
        table = self.format in ('csv', 'tsv')
        if not table and (fields is not None or types is not None):
            raise OptionError(f"fields= and types= go with format='csv', and this is {self.format!r}")
        self.follow, self.name = bool(follow), name or f'file:{self.path.absolute()}'
        self.fields, self.interval, self.size, self.schema = fields, float(interval), size, schema
        self.csv = Csv('\t' if self.format == 'tsv' else ',', encoding, types) if table and codec is None else None
        self.codec = codec or self.csv or {'jsonl': 'json', 'text': 'text'}[self.format]
        self.cancelled = threading.Event()

    def __repr__(self) -> str:
        return f'FileSource({str(self.path)!r})'

    def stream(self, stream: Any) -> None:
        """Read into *stream* until the end, or until :meth:`cancel`.

        :raises OSError: the file cannot be read, and is not followed
        """
        with Inlet(stream, self.name, codec=self.codec, schema=self.schema, size=self.size,
                   cancelled=self.cancelled) as inlet:
            persist(lambda up: self._session(inlet, up), f'{self!r} of stream {stream.name!r}',
                    cancelled=self.cancelled, on=(OSError,) if self.follow else (), longest=1.0)

    def cancel(self) -> None:
        """Stop within a second."""
        self.cancelled.set()

    def _session(self, inlet: Inlet, up: Callable[[], None]) -> None:
        first = find(self.path, inlet.open())
        opened: Opened | None = first
        up()
        try:
            self._begin(first)
            while opened is not None:
                self._read(inlet, opened)
                inlet.durable()
                following = self._next(opened)
                if following is not opened:
                    inlet.flush()  # what is in hand has the fields of this file
                    opened.close()
                    if following is not None:
                        self._begin(following)
                opened = following
        finally:
            if opened is not None:
                opened.close()

    def _begin(self, opened: Opened) -> None:
        """Learn what the file's records are made of."""
        opened.ended = not self.follow
        if self.csv is not None:
            self.csv.fields = self._fields(opened)

    def _next(self, opened: Opened) -> Opened | None:
        """At the end of a file: where reading goes on as soon as there is more; ``None`` if this is all."""
        quiet = not self.follow
        while not self.cancelled.is_set():
            if opened.changed():
                log.warning('%s: %s after it was read up to byte %d; it is read from its beginning', opened.path,
                            opened.changed(), opened.offset)
                return Opened(opened.path, opened.name)
            if opened.grown():
                return opened
            if opened.replaced() and quiet:
                if not opened.held:
                    return opened.following()
                opened.ended = True
                return opened
            if not self.follow:
                return None
            quiet = opened.replaced()  # who writes may do so until it notices, so look once more
            self.cancelled.wait(self.interval)
        return None

    def _read(self, inlet: Inlet, opened: Opened) -> None:
        """Read to the end of a file, or to that of its last whole line."""
        rest = b''
        while not self.cancelled.is_set():
            chunk = opened.read(_CHUNK, len(rest))
            whole, rest = self._split(rest + chunk)
            if rest and (len(rest) > _LONGEST or (opened.ended and not chunk)):
                line, end, rest = rest.partition(b'\n')  # there is an end in it where a quote was left open
                whole.append(line + end)
            if whole:
                self._take(inlet, opened, whole)
            opened.held = len(rest)
            if not chunk and not (opened.ended and rest):
                return

    def _split(self, chunk: bytes) -> tuple[list[bytes], bytes]:
        return lines(chunk) if self.csv is None else records(chunk)

    def _take(self, inlet: Inlet, opened: Opened, whole: Sequence[bytes]) -> None:
        identity = opened.identity()
        ends = list(accumulate(map(len, whole), initial=opened.offset))
        if opened.offset == 0:
            whole = [whole[0].removeprefix(BOM), *whole[1:]]
        raws, positions = [], []
        for line, end in zip(whole, ends[1:], strict=True):
            bare = line.rstrip(b'\r\n')
            if bare:
                raws.append(bare)
                positions.append({'file': identity, 'offset': end})
        if self.csv is not None and not self.csv.fields and raws:
            self.csv.fields = self.csv.values(raws.pop(0))
            del positions[0]
        opened.offset = ends[-1]
        if raws:
            inlet.extend(raws, positions)

    def _fields(self, opened: Opened) -> Sequence[str]:
        """The names of a CSV file's fields; those of its first line, if it was read already."""
        assert self.csv is not None
        if self.fields is not None or not opened.offset:
            return list(self.fields or ())
        first, _ = records(os.pread(opened.file.fileno(), _CHUNK, 0).removeprefix(BOM).lstrip(b'\r\n'))
        return self.csv.values(first[0].rstrip(b'\r\n')) if first else ()
