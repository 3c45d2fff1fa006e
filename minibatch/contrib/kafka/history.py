"""Where to read a partition on, when what is stored and what is there do not fit together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

POLICIES = ('fail', 'resume', 'rescan')


@dataclass(frozen=True, slots=True)
class Log:
    """A partition as it is now.

    :ivar first: offset of its first message
    :ivar end: offset that the next message will have; ``None`` if it is further than where it is to be read on
    :ivar topic_id: of its topic; ``None`` if the broker does not tell
    """

    first: int
    end: int | None
    topic_id: str | None


def lost(position: Mapping[str, Any], log: Log) -> str:
    """What is gone of what was to be read on from *position*; empty if nothing is.

    >>> log = Log(first=100, end=200, topic_id='a')
    >>> lost({'offset': 100, 'topic_id': 'a'}, log)
    ''
    >>> lost({'offset': 40, 'topic_id': 'a'}, log)
    'the messages from offset 40 to 99 are gone'
    >>> lost({'offset': 300, 'topic_id': 'a'}, log)
    'it was read up to offset 300 and now ends at 200'
    >>> lost({'offset': 150, 'topic_id': 'b'}, log)
    'the topic was deleted and made anew since it was read up to offset 150'
    """
    offset, before = position['offset'], position['topic_id']
    if before is not None and log.topic_id is not None and before != log.topic_id:
        return f'the topic was deleted and made anew since it was read up to offset {offset}'
    if offset < log.first:
        return f'the messages from offset {offset} to {log.first - 1} are gone'
    if log.end is not None and offset > log.end:
        return f'it was read up to offset {offset} and now ends at {log.end}'
    return ''


def resumed(position: Mapping[str, Any], log: Log) -> int:
    """The offset of the first message there that may not have been read; in doubt one that has.

    >>> log = Log(first=100, end=200, topic_id='a')
    >>> resumed({'offset': 40, 'topic_id': 'a'}, log), resumed({'offset': 150, 'topic_id': 'b'}, log)
    (100, 100)
    >>> resumed({'offset': 300, 'topic_id': 'a'}, log), resumed({'offset': 300, 'topic_id': None}, log)
    (200, 100)
    """
    same = position['topic_id'] is not None and position['topic_id'] == log.topic_id
    return log.end if same and log.end is not None and position['offset'] > log.end else log.first
