"""Which of the messages that a broker sends again are in the stream already.

When a session goes on after an interruption, the broker sends again what was not acknowledged, in the order in which it
was sent first, and then goes on. What is in the stream is known: the keys of recent messages are stored with them. So
what comes first is the end of what is stored, and the question is how much of it, since messages may be equal.

Two rules answer it. Messages are acknowledged in the order in which they came; and the last one that is stored is not
acknowledged until another is (or until nothing came for a while, which is written down before and after, see
``released`` and ``settled`` in :mod:`.session`). So whatever is sent again begins with a piece of the end of what is
stored, of one message at least.

* A broker as the standard wants it sends it with the DUP flag and with the packet id it had. No two messages on their
  way have the same id, so the latest message stored with that id and that content is the one.
* Other brokers (rumqttd, for one) use neither. There the piece is found by content. If more than one fits, since
  messages are equal, the shortest is taken: then some may come twice, and none is lost.

>>> def key(number, mid, payload):
...     return Key(number, mid, fingerprint('t', payload))
>>> def sorted_out(stored, *arrived, marks=False):
...     sorter = Sorter([key(n, *each) for n, each in enumerate(stored)], marks)
...     found = [each for mid, dup, payload in arrived
...              for each in sorter.sort(Arrived('t', payload, 1, False, mid, dup))]
...     return [(again, arrived.payload) for arrived, again in found]

As the standard has it, with an id that is in use again, and a message that is equal to another one:

>>> sorted_out([(5, b'x'), (6, b'x')], (6, True, b'x'), (5, True, b'x'), (7, False, b'x'))
[(True, b'x'), (False, b'x'), (False, b'x')]

And not:

>>> sorted_out([(5, b'x'), (6, b'y'), (7, b'z')], (1, False, b'y'), (2, False, b'z'), (3, False, b'x'))
[(True, b'y'), (True, b'z'), (False, b'x')]
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

_KEY = struct.Struct('>QH12s')


class Arrived(NamedTuple):
    """A message as it came from the broker.

    :ivar mid: its packet id
    :ivar dup: whether the broker says that it may have sent it before
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    mid: int
    dup: bool


class Key(NamedTuple):
    """What is remembered of a message that is in the stream.

    :ivar number: of the message, counted from the source's first one
    :ivar mid: the packet id that it had
    :ivar print: what it said
    """

    number: int
    mid: int
    print: bytes

    def packed(self) -> bytes:
        """As it is stored.

        >>> Key.unpacked(Key(1, 2, b'abcdefghijkl').packed())
        Key(number=1, mid=2, print=b'abcdefghijkl')
        """
        return _KEY.pack(*self)

    @staticmethod
    def unpacked(raw: bytes) -> Key:
        """The opposite."""
        return Key(*_KEY.unpack(raw))


def fingerprint(topic: str, payload: bytes) -> bytes:
    """12 bytes that tell messages from each other."""
    digest = hashlib.blake2b(payload, digest_size=12)
    digest.update(b'\0' + topic.encode(errors='surrogatepass'))
    return digest.digest()


class Sorter:
    """Tells, at the beginning of a session that goes on, what is in the stream already.

    :param stored: keys of the messages in the stream that the broker may send again, oldest first
    :param marks: whether this broker is known to set the DUP flag
    :param anchored: whether the last of them was not acknowledged, for sure, so that it will be sent again
    :ivar over: whether everything is new from now on
    """

    def __init__(self, stored: Sequence[Key], marks: bool, anchored: bool = True) -> None:
        self._stored = list(stored)
        self.marks, self._anchored = marks, anchored
        self._next: int | None = None
        self._held: list[tuple[Arrived, bytes]] = []
        self._candidates: list[int] = []
        self.over = not stored

    @property
    def holds(self) -> bool:
        """Whether there are messages of which it cannot be told yet."""
        return bool(self._held)

    def sort(self, arrived: Arrived) -> list[tuple[Arrived, bool]]:
        """Take the next message with an id.

        :return: messages of which it is clear now whether they are in the stream, in order; none, if the next ones
            have to be seen first
        """
        if self.over:
            return [(arrived, False)]
        mark = fingerprint(arrived.topic, arrived.payload)
        if self._held:
            return self._by_content(arrived, mark)
        at = self._marked(arrived, mark) if arrived.dup else None
        if at is not None:
            self.marks, self._next = True, at + 1
            self.over = self._next == len(self._stored)
            return [(arrived, True)]
        if self._next is None and not self.marks and self._anchored:
            return self._by_content(arrived, mark)
        self.over = not arrived.dup or self._next is None
        return [(arrived, False)]

    def give_up(self) -> list[tuple[Arrived, bool]]:
        """What is held, as new: better twice than never."""
        held, self._held, self.over = self._held, [], True
        return [(arrived, False) for arrived, _ in held]

    def _marked(self, arrived: Arrived, mark: bytes) -> int | None:
        for at in range(len(self._stored) - 1, (self._next or 0) - 1, -1):
            if self._stored[at].mid == arrived.mid and self._stored[at].print == mark:
                return at
        return None

    def _by_content(self, arrived: Arrived, mark: bytes) -> list[tuple[Arrived, bool]]:
        stored, at = self._stored, len(self._held)
        lengths: Sequence[int] = self._candidates if at else range(1, len(stored) + 1)
        self._candidates = [length for length in lengths if stored[at - length].print == mark]
        self._held.append((arrived, mark))
        if self._candidates and self._candidates[0] > len(self._held):
            return []
        again = self._candidates[0] if self._candidates else 0
        held = self.give_up()
        return [(each, n < again) for n, (each, _) in enumerate(held)]
