"""Writing results into a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minibatch.contrib.base import as_document, spread
from minibatch.contrib.codecs import codec as codec_of
from minibatch.contrib.files.formats import Csv, format_of
from minibatch.errors import OptionError, Unencodable


class FileSink:
    """Append results to a file, a line each; they are on the disk when their window is committed.

    :param path: of the file; it is made if it is not there
    :param format: as of :class:`FileSource`
    :param expand: a list is a line for each of its members (default), or one line
    :param codec: what makes a line of a message, if not the format does
    :param fields: CSV: names of the fields; by default those of the first message, or of the file that is there
    :raises minibatch.errors.OptionError: an option cannot be

    A window that runs again is written again. A line that a crash has left half written is ended first.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), 'totals.csv')
    >>> sink = FileSink(path)
    >>> sink.put([{'user': 'ann', 'ms': 12}, {'user': 'bob', 'ms': 7}])
    >>> sink.flush()
    >>> path.read_text().splitlines()
    ['user,ms', 'ann,12', 'bob,7']
    >>> sink.close()
    """

    def __init__(self, path: str | os.PathLike[str], format: str | None = None, *, expand: bool = True,  # noqa: A002
                 codec: Any = None, fields: Sequence[str] | None = None, encoding: str = 'utf-8') -> None:
        self.path = Path(path)
        self.format = format_of(self.path, None if format is None and codec is None else format or 'text')
        table = self.format in ('csv', 'tsv') and codec is None
        if fields is not None and not table:
            raise OptionError("fields= goes with format='csv'")
        self.expand, self.fields = bool(expand), fields
        self.csv = Csv('\t' if self.format == 'tsv' else ',', encoding) if table else None
        self.codec = codec_of(codec or self.csv or {'jsonl': 'json', 'text': 'text'}[self.format])
        self._file: int | None = None
        self._known = False

    def __repr__(self) -> str:
        return f'FileSink({str(self.path)!r})'

    def put(self, message: Any) -> None:
        """Write a result; :meth:`flush` brings it to the disk.

        :raises minibatch.errors.Unencodable: it cannot be a line of this file; nothing of it was written
        :raises OSError: the file cannot be written
        """
        file = self._opened()
        try:
            self._write(file, list(spread(message, self.expand)))
        except BaseException:
            self._known = False  # there may be half a line, and the fields may not be in the file
            raise

    def _write(self, file: int, messages: list[Any]) -> None:
        head = b''
        if self.csv is not None and not self.csv.fields and messages:
            first = as_document(messages[0])
            self.csv.fields = list(self.fields or first)
            head = self.csv.line(self.csv.fields) + b'\n'
        lines = [self.codec.encode(each) for each in messages]
        if self.csv is None and any(b'\n' in line for line in lines):
            raise Unencodable('a line end in what is to be one line')
        data = head + b''.join(line + b'\n' for line in lines)
        while data:
            data = data[os.write(file, data):]

    def flush(self) -> None:
        """Wait until the disk has it."""
        if self._file is not None:
            os.fsync(self._file)

    def close(self) -> None:
        """Close the file; a later :meth:`put` opens it again."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _opened(self) -> int:
        if self._file is None:
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            self._known = False
        if not self._known:
            self._look(self._file)
            self._known = True
        return self._file

    def _look(self, file: int) -> None:
        """End a half line, and learn which fields the file has."""
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b'\n':
            os.write(file, b'\n')
        if self.csv is not None:
            first = os.pread(file, 1 << 16, 0).partition(b'\n')[0].rstrip(b'\r')
            self.csv.fields = self.csv.values(first) if first else ()
