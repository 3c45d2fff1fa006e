"""What the consumer that leads has read of the buffer: which free messages it knows, and the bytes of some of them.

Messages are read in order of their ids, each once. But ids are made by producers: those of one second come in any
order, and an insert that took a while becomes visible after later ones. So what was read is counted again, the last
seconds at each look and all of it now and then, and searched for what is missing only if the count is another one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from minibatch.errors import LeaseLost
from minibatch.store import Store
from minibatch.store.free import Message, id_of, low_id

#: Messages read in one go.
PAGE = 10_000
#: Bytes of messages kept, so that they need not be read again when their window is over.
BUDGET = 64 * 1024 * 1024
#: Seconds before the last message's id in which messages are expected to become visible out of order.
OVERLAP = 3
#: Seconds between two counts of everything, and how many times longer than the count itself that has to be.
RECOUNT, EASE = 5.0, 50.0
#: The latter for counts of the last seconds, which go on for so long after a message came.
RECENT_EASE = 4.0


class Inbox:
    """The free messages of one stream, as far as they have been read.

    :param store: where
    :param stream: the stream's name
    :ivar whole: whether the last look found the end of the buffer
    """

    def __init__(self, store: Store, stream: str) -> None:
        self.store = store
        self.stream = stream
        self.whole = False
        self.last = b''
        self._known: set[bytes] = set()
        self._recent: list[bytes] = []
        self._data: dict[bytes, bytes] = {}
        self._held = 0
        self._recount_at = time.monotonic() + RECOUNT
        self._recent_at = self._quiet_at = 0.0

    def __len__(self) -> int:
        return len(self._known)

    def read(self) -> list[Message]:
        """The next messages, and those that became visible behind the ones before.

        :raises LeaseLost: messages are gone that this consumer has not taken out
        """
        page, self.whole = self.store.page_after(self.stream, id_of(self.last) if self.last else None, PAGE)
        found = self._note(page)
        ids = [each.id for each in found if len(each.id) == 12]
        if ids:
            self.last = max(self.last, ids[-1])
            self._recent += ids
        began = time.monotonic()
        if found:
            self._quiet_at = began + OVERLAP
        if self.last and began >= self._recount_at:
            found += self._missed(recent=False)
            self._recount_at = time.monotonic() + max(RECOUNT, EASE * (time.monotonic() - began))
        elif self.last and self.whole and self._recent_at <= began < self._quiet_at:
            found += self._missed(recent=True)
            self._recent_at = time.monotonic() + RECENT_EASE * (time.monotonic() - began)
        return found

    def _missed(self, *, recent: bool) -> list[Message]:
        low = low_id(self.last, OVERLAP) if recent else b''
        if recent:
            self._recent = [each for each in self._recent if each >= low and each in self._known]
        known = len(self._recent) if recent else len(self._known)
        lowest, highest = id_of(low) if low else None, id_of(self.last)
        if self.store.free_within(self.stream, lowest, highest) == known:
            return []
        there = self.store.ids_within(self.stream, lowest, highest)
        missed = [each for each in there if each not in self._known]
        if len(there) - len(missed) < known:
            raise LeaseLost(f'messages of {self.stream!r} are gone that were free a moment ago')
        found = self._note(self.store.messages_of(self.stream, missed))
        self._recent += [each.id for each in found if each.id >= low and len(each.id) == 12]
        return found

    def _note(self, found: Iterable[Message]) -> list[Message]:
        new = []
        for message in found:
            if message.id not in self._known:
                self._known.add(message.id)
                new.append(message)
                if self._held < BUDGET:
                    self._data[message.id] = message.data
                    self._held += len(message.data)
        return new

    def data(self, ids: Sequence[bytes]) -> list[bytes]:
        """The data of messages that were read, as BSON.

        :raises LeaseLost: one is not there any more
        """
        data = self._data
        lacking = [each for each in ids if each not in data]
        if not lacking:
            return [data[each] for each in ids]
        read = {each.id: each.data for each in self.store.messages_of(self.stream, lacking)}
        if len(read) != len(lacking):
            raise LeaseLost(f'messages of {self.stream!r} are gone that were free a moment ago')
        return [data[each] if each in data else read[each] for each in ids]

    def forget(self, ids: Iterable[bytes]) -> None:
        """These were taken out of the buffer."""
        for each in ids:
            self._known.discard(each)
            data = self._data.pop(each, None)
            if data is not None:
                self._held -= len(data)
