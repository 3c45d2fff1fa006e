"""What happened, as lines in a file: independent of the database that is being broken, and safe against SIGKILL."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Log:
    """Records appended by many processes, each in one write; a torn record never spoils the next.

    :param path: the file; the object can be pickled and used in any process
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)

    def write(self, event: str, **fields: Any) -> None:
        record = json.dumps({'event': event, 'pid': os.getpid(), **fields}, separators=(',', ':'))
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(fd, f'\n{record}'.encode())
        finally:
            os.close(fd)

    def read(self, event: str | None = None) -> Iterator[dict[str, Any]]:
        """The records so far, in the order they were written."""
        try:
            lines = Path(self.path).read_text().split('\n')
        except FileNotFoundError:
            return
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if event is None or record['event'] == event:
                yield record
