"""What is in a line: JSON, the fields of a CSV record, or text."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minibatch.errors import OptionError, Undecodable, Unencodable, check_choice

FORMATS = ('csv', 'jsonl', 'text', 'tsv')
_SUFFIXES = {'.csv': 'csv', '.tsv': 'tsv', '.jsonl': 'jsonl', '.ndjson': 'jsonl', '.json': 'jsonl', '.txt': 'text',
             '.log': 'text'}
BOM = b'\xef\xbb\xbf'


def format_of(path: Path, given: str | None) -> str:
    """The format of a file: the one given, or what its name ends with.

    >>> format_of(Path('clicks.ndjson'), None), format_of(Path('clicks.dat'), 'csv')
    ('jsonl', 'csv')

    :raises OptionError: it is none that is known
    """
    known = given if given is not None else _SUFFIXES.get(path.suffix.lower())
    if known is None:
        raise OptionError(f'{path.name} does not tell its format: give format=, one of {", ".join(map(repr, FORMATS))}')
    check_choice('format', known, FORMATS)
    return known


class Csv:
    """A codec for one CSV record; the names of its fields come from the file's first line.

    >>> codec = Csv(',', types={'ms': int})
    >>> codec.fields = ['user', 'ms']
    >>> codec.decode(b'"Ann, B.",12')
    {'user': 'Ann, B.', 'ms': 12}
    >>> codec.encode({'user': 'Ann, B.', 'ms': 12})
    b'"Ann, B.",12'

    :param delimiter: between two fields
    :param encoding: of the file
    :param types: what makes a value of a field's text, by field; others stay text
    :ivar fields: the names
    """

    def __init__(self, delimiter: str, encoding: str = 'utf-8',
                 types: Mapping[str, Callable[[str], Any]] | None = None) -> None:
        self.delimiter, self.encoding, self.types = delimiter, encoding, dict(types or {})
        self.fields: Sequence[str] = ()

    def values(self, record: bytes) -> list[str]:
        """The fields of a record, as text."""
        try:
            rows = list(csv.reader(io.StringIO(record.decode(self.encoding), newline=''), delimiter=self.delimiter,
                                   strict=True))
        except UnicodeDecodeError as error:
            raise Undecodable(f'not {self.encoding}: byte {error.start} of the record') from error
        except csv.Error as error:
            raise Undecodable(f'not CSV: {error}') from error
        if len(rows) > 1:
            raise Undecodable('not CSV: a line end outside of quotes')
        return rows[0] if rows else []

    def decode(self, data: bytes) -> dict[str, Any]:
        """The record as a dict."""
        values = self.values(data)
        if len(values) != len(self.fields):
            raise Undecodable(f'the record has {len(values)} fields, and the file {len(self.fields)}')
        record: dict[str, Any] = dict(zip(self.fields, values, strict=True))
        for field, convert in self.types.items():
            if field in record:
                try:
                    record[field] = convert(record[field])
                except Exception as error:
                    raise Undecodable(f'field {field}: {type(error).__name__}: {error}') from error
        return record

    def encode(self, message: Any) -> bytes:
        """The record of a dict; fields it does not have stay empty."""
        if not isinstance(message, Mapping):
            raise Unencodable(f'a CSV record is made of a dict, not of a {type(message).__name__}')
        unknown = [str(field) for field in message if field not in self.fields]
        if unknown:
            raise Unencodable(f'the file has no field {unknown[0]!r}; it has {", ".join(self.fields)}')
        return self.line('' if message.get(field) is None else message[field] for field in self.fields)

    def line(self, values: Iterable[Any]) -> bytes:
        """A record, without the line's end."""
        text = io.StringIO()
        csv.writer(text, delimiter=self.delimiter, lineterminator='').writerow(list(values))
        return text.getvalue().encode(self.encoding)


def lines(chunk: bytes) -> tuple[list[bytes], bytes]:
    """Complete lines, with their ends, and the rest.

    >>> lines(b'one\\ntwo\\r\\nthr')
    ([b'one\\n', b'two\\r\\n'], b'thr')
    """
    *whole, rest = chunk.split(b'\n')
    return [each + b'\n' for each in whole], rest


def records(chunk: bytes, longest: int = 1 << 20) -> tuple[list[bytes], bytes]:
    """Complete CSV records, with their ends, and the rest: a line end inside of quotes does not end a record.

    :param longest: bytes after which an open quote is taken for a mistake, and its line for a record

    >>> records(b'1,"a\\nb"\\n2,c\\n3,"d')
    ([b'1,"a\\nb"\\n', b'2,c\\n'], b'3,"d')
    """
    whole, rest = lines(chunk)
    if b'"' not in chunk:
        return whole, rest
    found: list[bytes] = []
    at = 0
    while at < len(whole):
        upto, quotes, size = at, 0, 0
        while upto < len(whole) and size <= longest:
            quotes += whole[upto].count(b'"')
            size += len(whole[upto])
            upto += 1
            if quotes % 2 == 0:
                break
        if quotes % 2:
            if size + len(rest) <= longest:
                return found, b''.join(whole[at:]) + rest
            upto = at + 1
        found.append(b''.join(whole[at:upto]))
        at = upto
    return found, rest
