"""A file as it is now: where reading it goes on, and whether it is still the same one."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any, BinaryIO

log = logging.getLogger(__name__)

#: Bytes at a file's beginning by which it is told from another one that has its name and its number.
_HEAD = 256


class Opened:
    """One open file, and which one it is.

    :param path: of the file
    :param name: where the current file is, if this is an older one
    :ivar offset: the byte that is read next
    :ivar held: bytes after it that are the beginning of a line
    :ivar ended: whether nothing will be added, so that a line without an end is one
    """

    def __init__(self, path: Path, name: Path | None = None) -> None:
        self.path = path
        self.name = name or path
        self.held = 0
        self.ended = False
        self.file: BinaryIO = path.open('rb', buffering=0)
        status = os.fstat(self.file.fileno())
        self.number = status.st_ino
        self.offset = 0
        self._head: tuple[int, str] = (0, '')

    def close(self) -> None:
        """Close it."""
        self.file.close()

    def identity(self) -> dict[str, Any]:
        """What tells this file from others: its number, and a fingerprint of its first bytes."""
        if self._head[0] < _HEAD:
            self._head = self._fingerprint(_HEAD)
        return {'inode': self.number, 'head': self._head[0], 'print': self._head[1]}

    def is_one(self, identity: dict[str, Any]) -> bool:
        """Whether it begins as the file of this identity did."""
        return self._fingerprint(int(identity['head'])) == (identity['head'], identity['print'])

    def _fingerprint(self, most: int) -> tuple[int, str]:
        head = os.pread(self.file.fileno(), most, 0)
        return len(head), hashlib.blake2b(head, digest_size=16).hexdigest()

    @property
    def size(self) -> int:
        """How many bytes it has now."""
        return os.fstat(self.file.fileno()).st_size

    def changed(self) -> str:
        """Why what was read is not what is there any more; empty if all is well."""
        if self.size < self.offset:
            return 'it was truncated'
        if self._head[0] and not self.is_one({'head': self._head[0], 'print': self._head[1]}):
            return 'it was written anew'
        return ''

    def grown(self) -> bool:
        """Whether there is more to read."""
        return self.size > self.offset + self.held

    def replaced(self) -> bool:
        """Whether there is another file of that name now."""
        try:
            return os.stat(self.name).st_ino != self.number
        except FileNotFoundError:
            return False  # renamed, and the next one is not there yet

    def following(self) -> Opened:
        """Open the file after this one: the next older one that was renamed meanwhile, or the current one.

        :raises OSError: it cannot be opened
        """
        mine = os.fstat(self.file.fileno()).st_mtime_ns
        later = sorted((each.stat().st_mtime_ns, each) for each in _siblings(self.name)
                       if each.stat().st_ino != self.number and each.stat().st_mtime_ns >= mine)
        return Opened(later[0][1], self.name) if later else Opened(self.name)

    def read(self, most: int, ahead: int = 0) -> bytes:
        """The next bytes, *ahead* bytes later; empty at the end."""
        return os.pread(self.file.fileno(), most, self.offset + ahead)


def find(path: Path, position: dict[str, Any] | None) -> Opened:
    """Open the file in which reading goes on: the one at *path*, or, after a rotation, the one it was before.

    :param position: as stored: ``file``, its identity, and ``offset``
    :raises OSError: it cannot be opened
    """
    current = Opened(path)
    if position is None:
        return current
    identity, offset = position['file'], int(position['offset'])
    if _fits(current, identity, offset):
        current.offset = offset
        return current
    for each in _siblings(path):
        if each != path and each.stat().st_ino == identity['inode']:
            old = Opened(each, path)
            if _fits(old, identity, offset):
                current.close()
                old.offset = offset
                return old
            old.close()
    log.warning('%s is not the file any more that was read up to byte %d (rotated, truncated or written anew); it is '
                'read from its beginning', path, offset)
    return current


def _fits(opened: Opened, identity: dict[str, Any], offset: int) -> bool:
    return opened.size >= offset and opened.is_one(identity)


def _siblings(path: Path) -> list[Path]:
    """The file and those that were renamed as rotation does: by something after the name."""
    return [each for each in path.parent.iterdir()
            if each.name.startswith(path.name) and each.suffix not in ('.gz', '.bz2', '.xz', '.zst') and each.is_file()]
