"""Files, as sources and as sinks."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from minibatch.contrib.files import FileSink, FileSource
from tests.support.waiting import wait_until

from .adapters import SinkAdapter, SourceAdapter


class Lines(SourceAdapter):
    """A growing file of JSON lines."""

    name = 'jsonl'
    can_be_away = False
    suffix = '.jsonl'
    head = b''

    def __init__(self, request: Any) -> None:
        super().__init__(request)
        self.directory = Path(tempfile.mkdtemp())
        self.path = self.directory / f'numbers{self.suffix}'
        self.path.write_bytes(self.head)

    def config(self) -> dict[str, Any]:
        return {'path': str(self.path)}

    @staticmethod
    def make(config: dict[str, Any], **options: Any) -> FileSource:
        return FileSource(config['path'], follow=True, interval=0.02, **options)

    def line(self, number: int) -> bytes:
        return json.dumps({'n': number, 'text': 'mü'}).encode()

    def feed(self, numbers: Iterable[int]) -> None:
        with self.path.open('ab') as file:
            file.writelines(self.line(n) + b'\n' for n in numbers)

    def feed_raw(self, raw: bytes) -> None:
        with self.path.open('ab') as file:
            file.write(raw + b'\n')

    def close(self) -> None:
        shutil.rmtree(self.directory)


class Csv(Lines):
    """A growing CSV file."""

    name = 'csv'
    suffix = '.csv'
    head = b'n,text\n'
    garbage = b'1,2,3'

    def line(self, number: int) -> bytes:
        return b'%d,"a\r\nb, ""c"""' % number


class LinesOut(SinkAdapter):
    """A file of JSON lines."""

    name = 'jsonl'
    can_be_away = False

    def __init__(self, request: Any) -> None:
        super().__init__(request)
        self.directory = Path(tempfile.mkdtemp())
        self.path = self.directory / 'out.jsonl'

    def sink(self, **options: Any) -> FileSink:
        return FileSink(self.path, **options)

    def read(self, count: int) -> Sequence[Any]:
        def lines() -> list[Any]:
            return [json.loads(line) for line in self.path.read_bytes().splitlines()] if self.path.exists() else []
        wait_until(lambda: len(lines()) >= count, 20, what=f'{count} lines')
        return lines()

    def close(self) -> None:
        shutil.rmtree(self.directory)


SOURCES = [Lines, Csv]
SINKS = [LinesOut]
