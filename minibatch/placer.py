"""The cutter's side of strategies that look into messages: reads the buffer, keeps the shelf, cuts what is due."""

from __future__ import annotations

import itertools
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from minibatch.clock import SECOND, micros
from minibatch.errors import OptionError
from minibatch.inbox import Inbox
from minibatch.order import Claim, Part, Progress
from minibatch.store.panes import Message
from minibatch.store.schema import MAX_GROUP, MAX_INLINE, Document
from minibatch.window.event import Event, Unplaceable, span_name
from minibatch.window.placing import Placing
from minibatch.window.shelf import Mark, Pane, Shelf

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

    from minibatch.window.base import WindowEmitter

log = logging.getLogger('minibatch')

#: Longest time between two writes of a watermark that nothing else stores, in seconds.
NOTE = 5.0


class Placer:
    """Places one stream's messages while its consumer leads.

    :param emitter: whose strategy says how
    :param session: in which windows are cut; ``None``: there are no transactions
    """

    def __init__(self, emitter: WindowEmitter, session: ClientSession | None) -> None:
        assert emitter.placing is not None
        self.emitter = emitter
        self.placing: Placing = emitter.placing
        self.store = emitter.stream.store
        self.stream = emitter.stream_name
        self._session = session
        self.busy = False  # messages are coming in
        self._fresh = True  # everything is to be read anew
        self._note_at = 0.0

    def reset(self) -> None:
        """Forget everything: another consumer may have cut meanwhile, or a cut may or may not have been made."""
        self._fresh = True

    def _begin(self, claim: Claim) -> None:
        """Take up the stream where it was left.

        :raises LeaseLost: somebody else leads
        :raises OptionError: the stream has been cut by another strategy
        """
        numbers = dict(self.placing.numbers)
        stored = self.store.open_placed(self.stream, claim.owner, numbers)
        refuse_another(self.stream, stored, numbers)
        self._id: str = stored['id']
        self._mark: Mark = tuple(stored.get('mark') or ())
        self._shelf: Shelf = self.placing.shelf(self._mark)
        self._watermark = self.placing.watermark(stored.get('watermark'))
        self._now = 0
        self._inbox = Inbox(self.store, self.stream)
        self._unseen: list[Event] = []
        self._letters: list[Part] = []
        self._dropped: list[bytes] = []
        self._noted: Any = None
        self._fresh = False

    # -- one look

    def step(self, claim: Claim, most: int) -> tuple[list[Document], bool]:
        """Read on, and cut what is due.

        :param claim: for whom
        :param most: how many windows may be cut
        :return: the window documents, and whether there may be more to do right now
        """
        if self._fresh:
            self._begin(claim)
        fresh, self._fresh = self._fresh, True  # whatever is raised, the buffer knows better than this
        panes = self._due(most)
        read = 0
        if len(panes) < most:
            read = self._read()
            panes = self._due(most)
        docs = self._cut(panes, claim)
        if not docs and self._inbox.whole:
            self._note_now_and_then()
        self._fresh = fresh
        self.busy = bool(read)
        return docs, bool(docs or panes) or not self._inbox.whole

    def ask_in(self) -> float | None:
        """Seconds until something will be due if no message comes; ``None``: nothing will."""
        if self._fresh:
            return None
        times = [self._shelf.next_deadline()]
        end = self._shelf.next_due()
        if end is not None:
            times.append(self._watermark.reached_at(end))
        now = micros(self.store.clock.now())
        return min((max(0.0, (each - now) / SECOND) + 0.001 for each in times if each is not None), default=None)

    def _due(self, most: int) -> list[Pane]:
        """The next panes, as many as may be cut, and as fit into one transaction."""
        panes: list[Pane] = []
        n = size = 0
        for pane in itertools.islice(self._shelf.due(self._watermark.base, self._now), most):
            n += len(pane.events)
            size += sum([event.size for event in pane.events]) + 500
            if panes and (n > MAX_GROUP or size > MAX_INLINE):
                break
            panes.append(pane)
        return panes

    # -- reading

    def _read(self) -> int:
        """Read on, place what was read, and move the watermark; the number of messages read."""
        now = micros(self.store.clock.now())
        found = self._inbox.read()
        events = self._place(found)
        whole = self._inbox.whole
        self._see(events, whole)
        self._watermark.move(now if whole else None)
        self._now = now
        return len(found)

    def _place(self, found: Sequence[Message]) -> list[Event]:
        """Put messages on the shelf; what does not belong there becomes a letter."""
        placing, add = self.placing, self._shelf.add
        events: list[Event] = []
        late: list[Event] = []
        rubbish: dict[str, list[Message]] = defaultdict(list)
        read: Iterable[Any] = Message.unpack(found) if placing.reads else itertools.repeat(None)
        for message, data in zip(found, read):  # noqa: B905 (one of them may have no end)
            try:
                event = placing.event(message.id, message.created, len(message.data), data)
            except Unplaceable as reason:
                rubbish[str(reason)].append(message)
                continue
            if placing.time is None and self._mark and placing.timed:
                event = event._replace(time=max(event.time, self._mark[0]))  # an append is never late
            if add(event):
                events.append(event)
            else:
                late.append(event)
        self._letters += [self._rubbish(reason, messages) for reason, messages in rubbish.items()]
        self._letters += self._late(late)
        return events

    def _see(self, events: list[Event], whole: bool) -> None:
        """Let the watermark see them; what came in the last second only once that second has been read whole.

        Within a second ids say nothing of the order in which several producers appended.
        """
        if not whole and self._inbox.last:
            second = self._inbox.last[:4]
            events = self._unseen + events
            self._unseen = [each for each in events if each.id[:4] >= second]
            events = [each for each in events if each.id[:4] < second]
        elif self._unseen:
            events, self._unseen = self._unseen + events, []
        see = self._watermark.see
        if events:
            top = max(events)
            see(top.time, top.created)

    def _rubbish(self, reason: str, found: Sequence[Message]) -> Part:
        created = [each.created for each in found]
        return Part(start=min(created), end=max(created), name=f'unplaced:{found[0].id.hex()}',
                    ids=[each.id for each in found], times=created, blobs=[each.data for each in found],
                    dead=(f'it belongs to no window: {reason}', 'unplaced'))

    def _late(self, late: Sequence[Event]) -> list[Part]:
        """What becomes of messages whose window was cut: a letter for each window, or nothing but a number."""
        windows: dict[tuple[tuple[int, int], bytes], list[Event]] = defaultdict(list)
        for event in sorted(late):
            windows[self._shelf.missed(event), event.slot].append(event)
        parts = []
        for ((start, end), slot), events in windows.items():
            ids = [event.id for event in events]
            if self.placing.late == 'drop':
                self._dropped += ids
                continue
            key, dead = events[0].key, None
            if self.placing.late == 'dead':
                dead = (f'{len(ids)} message(s) came when their window had been cut; redrive it to run on them', 'late')
            parts.append(Part(
                start=start, end=end, name=f'{span_name(start, key, slot)}:late:{ids[0].hex()}', key=key, slot=slot,
                ids=ids, times=[event.created for event in events], blobs=self._inbox.data(ids), late=True, dead=dead))
        return parts

    # -- cutting

    def _cut(self, panes: Sequence[Pane], claim: Claim) -> list[Document]:
        letters, self._letters = self._letters, []
        dropped, self._dropped = self._dropped, []
        if not panes and not letters and not dropped:
            return []
        parts = letters + [self._part(pane) for pane in panes]
        mark = panes[-1].mark if panes and panes[-1].mark else None
        progress = Progress(id=self._id, mark=mark, watermark=self._watermark.document(), late=dropped)
        if self._session is not None and not self.emitter.keep and all(each.blobs is not None for each in parts):
            docs = self.store.place(self._session, self.stream, parts, claim, progress)
        else:
            marks = [None] * len(letters) + [pane.mark or None for pane in panes]
            docs = self.store.place_by_marks(self.stream, parts, marks, claim, progress, keep=self.emitter.keep)
        for pane in panes:
            self._shelf.close(pane)
        for part in parts:
            self._inbox.forget(part.leaving)
        self._inbox.forget(dropped)
        self._mark = mark or self._mark
        return docs

    def _part(self, pane: Pane) -> Part:
        ids = [event.id for event in pane.events]
        small = sum([event.size for event in pane.events]) <= MAX_INLINE and len(ids) <= MAX_GROUP
        return Part(start=pane.start, end=pane.end, name=pane.name, key=pane.key, slot=pane.slot, ids=ids,
                    times=[event.created for event in pane.events], final=pane.final,
                    blobs=self._inbox.data(ids) if small else None,
                    gone=None if pane.gone is pane.events else [event.id for event in pane.gone])

    def _note_now_and_then(self) -> None:
        """Store the watermark of a quiet stream."""
        document = self._watermark.document()
        if document != self._noted and time.monotonic() >= self._note_at:
            self._note_at = time.monotonic() + NOTE
            self.store.note_watermark(self.stream, Progress(id=self._id, watermark=document))
            self._noted = document


def refuse_another(stream: str, stored: Document, numbers: Document) -> None:
    """Refuse a strategy that is not the one by which a stream has been cut so far.

    :param stored: what :meth:`~minibatch.store.panes.Panes.placed` says
    :raises OptionError: it is another one
    """
    before = stored['strategy']
    if before == numbers:
        return
    changed = {name: value for name, value in numbers.items() if before.get(name) != value}
    was = {name: before.get(name) for name in [*changed, *(name for name in before if name not in numbers)]}
    raise OptionError(
        f'stream {stream!r} has open windows, or has been cut, with {was}, and now it would be {changed}: nothing was '
        'changed. Consume it as before, or give reset=True to forget how far it was cut; the messages in the buffer '
        'are then placed anew')
