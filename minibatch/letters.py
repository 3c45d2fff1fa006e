"""What the cutter has read and cannot put into a window: messages that came too late, or have no time or key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from minibatch.clock import micros
from minibatch.inbox import Inbox
from minibatch.order import Part
from minibatch.store.free import Message, id_bytes
from minibatch.store.record import Record, unpack_times
from minibatch.store.schema import MAX_GROUP, MAX_INLINE, Document
from minibatch.window.event import Event, span_name
from minibatch.window.placing import Placing
from minibatch.window.spans import Span


class Letters:
    """Collects such messages until the next cut, which takes them out of the buffer.

    :param placing: says what becomes of late ones
    :param stream: the stream's name
    :param inbox: which has their data
    :ivar updates: with ``late='update'``, spans and late messages by the name of their window
    :ivar counted: how many of those that are to be dropped count as late
    """

    def __init__(self, placing: Placing, stream: str, inbox: Inbox) -> None:
        self.placing = placing
        self.stream = stream
        self.updates: dict[str, tuple[Span, list[Event]]] = {}
        self.counted = 0
        self._inbox = inbox
        self._unusable: dict[str, list[Message]] = defaultdict(list)
        self._late: dict[tuple[Span, bytes], list[Event]] = defaultdict(list)
        self._stale: list[bytes] = []

    def unusable(self, reason: str, message: Message) -> None:
        """A message that belongs to no window."""
        self._unusable[reason].append(message)

    def late(self, event: Event, span: Span) -> None:
        """A message whose window was cut: from when to when that was."""
        if event.held:
            self._stale.append(event.id)  # it was in its window, and no other one needs it
        elif self.placing.late == 'update':
            self.updates.setdefault(span_name(span[0], event.key, event.slot), (span, []))[1].append(event)
        else:
            self._late[span, event.slot].append(event)

    def take(self, but: Collection[bytes] = ()) -> tuple[list[Part], list[bytes]]:
        """What is to be written, and the ids of what is to be dropped.

        :param but: ids of messages that stay in the buffer after all
        """
        unusable, self._unusable = self._unusable, defaultdict(list)
        late, self._late = self._late, defaultdict(list)
        dropped, self._stale = self._stale, []
        parts = [part for reason, found in unusable.items() for part in self._dead(reason, found)]
        self.counted = 0
        for (span, _), events in late.items():
            rest = sorted(event for event in events if event.id not in but)
            if self.placing.late == 'drop':
                dropped += [event.id for event in rest]
                self.counted += len(rest)
                continue
            parts += [self._letter(span, rest[at]) for at in _sliced([event.size for event in rest])]
        return parts, dropped

    def _dead(self, reason: str, found: Sequence[Message]) -> list[Part]:
        parts = []
        for at in _sliced([len(each.data) for each in found]):
            some = found[at]
            created = [each.created for each in some]
            parts.append(Part(
                start=min(created), end=max(created), name=f'unplaced:{some[0].id.hex()}', times=created,
                ids=[each.id for each in some], blobs=[each.data for each in some],
                dead=(f'it belongs to no window: {reason}', 'unplaced')))
        return parts

    def _letter(self, span: Span, events: Sequence[Event]) -> Part:
        first = events[0]
        ids = [event.id for event in events]
        dead = None
        if not callable(self.placing.late):
            dead = (f'{len(ids)} message(s) came when their window had been cut; redrive it to run on them', 'late')
        return Part(start=span[0], end=span[1], key=first.key, slot=first.slot, ids=ids, late=True, dead=dead,
                    name=f'{span_name(span[0], first.key, first.slot)}:late:{first.id.hex()}',
                    times=[event.created for event in events], blobs=self._inbox.data(ids))

    def revised(self, name: str, doc: Document | None) -> Part:
        """A window with the messages that came late for it; a letter with these, if it cannot be brought again.

        :param doc: as it is; ``None``: there is none, since it had no messages, or it has been removed
        """
        span, late = self.updates[name]
        events = sorted(late)
        blobs = dict(zip((event.id for event in events), self._inbox.data([event.id for event in events]), strict=True))
        if doc is not None:
            if doc['state'] == 'dead' or doc.get('data') is None:
                return self._letter(span, events)
            record = Record.from_document(doc)
            for id_, at, data in zip(record.ids(), unpack_times(record.times), doc['data'], strict=True):
                event = self.placing.event(id_bytes(id_), micros(at), 0, data)
                events.append(event)
                blobs[event.id] = Message.pack(data)
            events.sort()
        if sum(map(len, blobs.values())) > MAX_INLINE:
            return self._letter(span, sorted(late))
        return Part(start=span[0], end=span[1], name=name, key=events[0].key, slot=events[0].slot, keeps=True,
                    ids=[event.id for event in events], times=[event.created for event in events],
                    blobs=[blobs[event.id] for event in events])


def _sliced(sizes: Sequence[int]) -> list[slice]:
    """Slices of a list of messages that fit into a document each."""
    slices, since, size = [], 0, 0
    for at, each in enumerate(sizes):
        if at > since and (size + each > MAX_INLINE or at - since >= MAX_GROUP):
            slices.append(slice(since, at))
            since, size = at, 0
        size += each
    return [*slices, slice(since, len(sizes))] if sizes else []
