"""A window as the engine carries it from the cut to the commit: a frozen record with the token of its claim."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from minibatch.clock import EPOCH, moment
from minibatch.states import WindowState
from minibatch.store.raw import Packed
from minibatch.store.schema import Document

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One window document, claimed or not.

    :ivar token: the fence: every later write carries it, and counts only while the document still has it
    :ivar data: the messages' data in order, or ``None`` where they are packed, or still in the buffer
    :ivar packed: the messages' data, not decoded yet
    :ivar moved: the messages are in this document only, no longer in the buffer
    :ivar shared: later windows may have some of its messages, too; they stay in this document, whatever happens
    :ivar shown: the id that the user sees, if it is another one
    :ivar final: whether the window will not come again
    :ivar revision: how often it came before, since messages came late
    :ivar late: its messages came too late for their window
    """

    id: str
    stream: str
    seq: int
    n: int
    state: str
    attempt: int = 0
    token: str | None = None
    owner: str | None = None
    lsid: Any = None
    data: list[Any] | None = None
    packed: Packed | None = None
    members: bytes = b''
    times: bytes = b''
    start: datetime | None = None
    end: datetime | None = None
    created: datetime | None = None
    key: Any = None
    query: Any = None
    keep: bool = False
    moved: bool = False
    shared: bool = False
    shown: str | None = None
    final: bool = True
    revision: int = 0
    late: bool = False
    errors: Sequence[Document] = ()

    @classmethod
    def from_document(cls, doc: Document) -> Record:
        """Read a window document; what it does not have gets the default."""
        fields = {name: doc[name] for name in _FIELDS if name in doc}
        span = doc.get('span')
        if span is not None:  # in microseconds, which MongoDB's times do not have
            fields['start'], fields['end'] = moment(span[0]), moment(span[1])
        if isinstance(doc.get('key'), list):
            fields['key'] = tuple(doc['key'])
        return cls(id=doc['_id'], **fields)

    def messages(self) -> list[Any] | None:
        """The messages' data in order, or ``None`` where they are still in the buffer."""
        return self.packed.unpack() if self.packed is not None else self.data

    def waited(self, now: int) -> int:
        """Microseconds since its last message came; 0 if it has none.

        :param now: of :func:`milliseconds`
        """
        return max(0, now - int.from_bytes(self.times[-8:], sys.byteorder, signed=True)) * 1000 if self.times else 0

    def ids(self) -> list[Any]:
        """The members' ``_id`` in order."""
        return unpack_ids(self.members)


_FIELDS = [name for name in Record.__dataclass_fields__ if name != 'id']


def pack_ids(ids: Iterable[Any]) -> Any:
    """Member ids as small as can be: 12 bytes each if all are ObjectIds, else the plain list."""
    listed = list(ids)
    if all(type(each) is ObjectId for each in listed):
        return b''.join([each.binary for each in listed])
    return listed


def unpack_ids(packed: Any) -> list[Any]:
    """The reverse of :func:`pack_ids`."""
    if isinstance(packed, (bytes, bytearray)):
        return [ObjectId(bytes(packed[at:at + 12])) for at in range(0, len(packed), 12)]
    return list(packed)


def pack_times(times: Iterable[datetime]) -> bytes:
    """Times as 8 bytes each, in milliseconds since the epoch (the resolution that MongoDB keeps)."""
    return array('q', map(milliseconds, times)).tobytes()


def milliseconds(at: datetime) -> int:
    """A time as it is packed: since the epoch.

    >>> milliseconds(datetime(1970, 1, 1, 0, 0, 1, 234_567))
    1234
    """
    return (at - EPOCH) // _MILLISECOND


def unpack_times(packed: bytes) -> list[datetime]:
    """The reverse of :func:`pack_times`."""
    numbers = array('q')
    numbers.frombytes(packed)
    return [EPOCH + each * _MILLISECOND for each in numbers]


def document(stream: str, seq: int, part: Sequence[Document], *, state: WindowState, now: datetime,
             **more: Any) -> Document:
    """A new window document for the messages in *part*.

    :param part: buffer documents with ``_id`` and ``created``, and ``data`` if the window carries its data
    :param more: further fields; those that are ``None`` are left out
    """
    doc: Document = {
        '_id': f'{stream}:{seq}', 'stream': stream, 'seq': seq, 'state': state.value, 'n': len(part),
        'processed': False, 'attempt': 0, 'created': now,
        'members': pack_ids(each['_id'] for each in part), 'times': pack_times(each['created'] for each in part),
        'start': part[0]['created'] if part else now, 'end': part[-1]['created'] if part else now,
    }
    doc.update((name, value) for name, value in more.items() if value is not None)
    return doc
