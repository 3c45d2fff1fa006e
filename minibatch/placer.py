"""The cutter's side of strategies that look into messages: reads the buffer, keeps the shelf, cuts what is due."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from minibatch.clock import SECOND, micros
from minibatch.errors import LeaseLost, OptionError
from minibatch.inbox import Inbox
from minibatch.letters import Letters
from minibatch.order import Claim, Part, Progress
from minibatch.store.free import Message
from minibatch.store.panes import EARLY, NameTaken
from minibatch.store.schema import MAX_GROUP, MAX_INLINE, Document
from minibatch.window.event import Event, Unplaceable
from minibatch.window.placing import Placing
from minibatch.window.shelf import Pane
from minibatch.window.tracks import Track, Tracks

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

    from minibatch.window.base import WindowEmitter

log = logging.getLogger('minibatch')

#: Longest time between two writes of a watermark that nothing else stores, in seconds.
NOTE = 5.0
#: Seconds until something is looked at again that is due and could not be cut.
HELD_UP = 0.05
#: Bytes that a window document has beside its data, roughly.
BESIDE = 500

Due = tuple[Track, Pane]


class Placer:
    """Places one stream's messages while its consumer leads.

    Whatever goes wrong, it forgets what it knows and begins again with what is in the buffer.

    :param emitter: whose strategy says how
    :param session: in which windows are cut; ``None``: there are no transactions
    """

    def __init__(self, emitter: WindowEmitter, session: ClientSession | None) -> None:
        assert emitter.placing is not None
        if emitter.placing.late == 'update' and session is None:
            raise OptionError("late='update' needs transactions, and so a replica set, which this MongoDB is not. "
                              "late='dead' keeps late messages, to be redriven")
        self.emitter = emitter
        self.placing: Placing = emitter.placing
        self.store = emitter.stream.store
        self.stream = emitter.stream_name
        self.busy = False  # messages are coming in
        self._session = session
        self._fresh = True  # everything is to be read anew
        self._idle = False  # nothing could be done at the last look
        self._note_at = self._early_at = 0.0

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
        watermark = stored.get('watermark') or {}
        self._id: str = stored['id']
        self._tracks = Tracks(self.placing, tuple(stored.get('mark') or ()), watermark, stored['keys'])
        self._inbox = Inbox(self.store, self.stream)
        # The watermark is that of who had read up to here: before that nothing can be known to be complete.
        self._read_up_to = bytes(watermark.get('read') or b'')
        self._unseen: list[tuple[bytes, list[Event]]] = []
        self._letters = Letters(self.placing, self.stream, self._inbox)
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
        self._fresh = True  # whatever is raised: the buffer knows better than this
        due = self._due(most)
        read = 0
        if len(due) < most:
            read = self._read()
            due = self._due(most)
        docs = self._cut(due, claim)
        early = self._hand_out_early(most - len(due), claim)
        revised = self._revise(claim)
        if not docs and self._inbox.whole:
            self._note_now_and_then()
        self._fresh, self.busy = False, bool(read)
        self._idle = not (docs or due or early or revised) and self._inbox.whole
        return docs + early, not self._idle

    def ask_in(self) -> float | None:
        """Seconds until something will be due if no message comes; ``None``: nothing will."""
        if self._fresh:
            return None
        when = self._tracks.next_time()
        wait = None if when is None else (when - micros(self.store.clock.now())) / SECOND + 0.001
        if self.placing.early is not None:
            early = max(0.0, self._early_at - time.monotonic())
            wait = early if wait is None else min(early, wait)
        if wait is not None and wait <= 0:
            return HELD_UP if self._idle else 0.0
        return wait

    def _due(self, most: int) -> list[Due]:
        """The next panes, as many as may be cut, and as fit into one transaction."""
        if self._inbox.last < self._read_up_to and not self._inbox.whole:
            return []
        chosen: list[Due] = []
        n = size = windows = 0
        for track, pane in itertools.islice(self._tracks.due(), MAX_GROUP):
            n += len(pane.events) + len(pane.gone)
            size += sum([event.size for event in pane.events]) + BESIDE
            windows += is_window(pane)
            if windows > most or (chosen and (n > 2 * MAX_GROUP or size > MAX_INLINE)):
                break
            chosen.append((track, pane))
        return self._without_running_early(chosen) if self.placing.early is not None else chosen

    # -- reading

    def _read(self) -> int:
        """Read on, place what was read, and move the watermark; the number of messages read."""
        now = micros(self.store.clock.now())
        found = self._inbox.read()
        events = self._place(found)
        whole = self._inbox.whole
        touched = {event.slot for event in events} if self.placing.by_key else ()
        self._see(events, whole)
        self._tracks.move(now, whole=whole, touched=touched)
        return len(found)

    def _place(self, found: Sequence[Message]) -> list[Event]:
        """Put messages on the shelf; what does not belong there becomes a letter."""
        placing = self.placing
        events: list[Event] = []
        read: Iterable[Any] = Message.unpack(found) if placing.reads else itertools.repeat(None)
        for message, data in zip(found, read):  # noqa: B905 (one of them may have no end)
            try:
                event = placing.event(message.id, message.created, len(message.data), data, message.held)
            except Unplaceable as reason:
                self._letters.unusable(str(reason), message)
                continue
            if self._add(event):
                events.append(event)
        return events

    def _add(self, event: Event) -> bool:
        track = self._tracks.of(event.slot)
        if track.shelf.add(event):
            return True
        if self.placing.time is None and not event.held and track.mark:
            # An append is never late: it goes where things are put now.
            event = event._replace(time=max(event.time, track.mark[0]))
            if track.shelf.add(event):
                return True
        self._letters.late(event, track.shelf.missed(event))
        return False

    def _see(self, events: list[Event], whole: bool) -> None:
        """Let the watermark see them; what came in the last second only once that second has been read whole.

        Within a second ids say nothing of the order in which several producers appended.
        """
        second = self._inbox.last[:4]  # none of these messages has a later one
        self._unseen.append((second, events))
        if whole or not second:
            ready, self._unseen = self._unseen, []
        elif self._unseen[0][0] == second:
            return
        else:
            ready = [one for one in self._unseen if one[0] < second]
            self._unseen = [one for one in self._unseen if one[0] == second]
        for _, each in ready:
            self._tracks.see(each)

    # -- cutting

    def _cut(self, due: Sequence[Due], claim: Claim) -> list[Document]:
        for track, pane in due:
            for event in pane.late:
                self._letters.late(event, track.shelf.missed(event))
        again = {event.id for _, pane in due for event in pane.late} if self.placing.time is None else set()
        letters, dropped = self._letters.take(again)
        if not due and not letters and not dropped:
            return []
        windows = [pane for _, pane in due if is_window(pane)]
        parts = letters + [self._part(pane) for pane in windows]
        members = {each for part in parts for each in (part.ids if part.marks is None else part.marks)}
        leaving = itertools.chain((event.id for _, pane in due for event in pane.gone), dropped)
        bare = [each for each in dict.fromkeys(leaving) if each not in members and each not in again]
        progress = self._progress(due, gone=[*members, *bare], bare=bare, late=self._letters.counted)
        marks = [None] * len(letters) + [pane.mark or None for pane in windows]
        docs = self._store(parts, marks, claim, progress)
        for track, pane in due:
            self._tracks.close(track, pane)
            for event in pane.late:
                if event.id in again:
                    self._add(event)
        self._inbox.forget(progress.gone)
        return docs

    def _progress(self, due: Sequence[Due], **more: Any) -> Progress:
        watermark = self._tracks.watermark.document() | {'read': max(self._inbox.last, self._read_up_to)}
        marked = [(track, pane.mark) for track, pane in due if pane.mark]
        keys: dict[bytes, Any] = {}
        if self.placing.by_key:
            keys = {track.slot: (mark, track.watermark.document()) for track, mark in marked}
        early = [f'{self.stream}:{pane.name}{EARLY}' for _, pane in due] if self.placing.early is not None else []
        mark = marked[-1][1] if marked and not keys else None
        return Progress(id=self._id, mark=mark, watermark=watermark, keys=keys,
                        held=[event.id for _, pane in due for event in pane.held], early=early, **more)

    def _store(self, parts: Sequence[Part], marks: Sequence[Any], claim: Claim, progress: Progress) -> list[Document]:
        if self._session is None or self.emitter.keep or any(part.blobs is None for part in parts):
            return self.store.place_by_marks(self.stream, parts, marks, claim, progress, keep=self.emitter.keep)
        try:
            return self.store.place(self._session, self.stream, parts, claim, progress)
        except NameTaken:
            return self.store.place(self._session, self.stream, parts, claim, progress, numbered=True)

    def _part(self, pane: Pane) -> Part:
        ids = [event.id for event in pane.events]
        part = Part(start=pane.start, end=pane.end, name=pane.name, key=pane.key, slot=pane.slot, ids=ids,
                    times=[event.created for event in pane.events], blobs=None, final=pane.final,
                    keeps=self.placing.late == 'update' and pane.final,
                    marks=None if pane.gone is pane.events else self._marks(pane))
        if sum([event.size for event in pane.events]) <= MAX_INLINE:
            return part.with_data(self._inbox.data(ids))
        if part.marks is None:
            return part  # its data stay in the buffer
        return part.without_others(
            'it has more data than a window document can hold (12 MB), and shares messages with other windows, so they '
            'cannot stay in the buffer for it; here are those of them that no later window needs', 'too large')

    @staticmethod
    def _marks(pane: Pane) -> list[bytes] | None:
        """Which of its members are the pane's own; ``None``: all."""
        gone = {event.id for event in pane.gone}
        marks = [event.id for event in pane.events if event.id in gone]
        return None if len(marks) == len(pane.events) else marks

    # -- windows that come several times

    def _without_running_early(self, due: list[Due]) -> list[Due]:
        """Those before the first one of which an early version runs just now: the final one comes after it."""
        states = self.store.states_of([f'{self.stream}:{pane.name}{EARLY}' for _, pane in due]) if due else {}
        for at, (_, pane) in enumerate(due):
            if states.get(f'{self.stream}:{pane.name}{EARLY}', 'dead') not in ('ready', 'dead'):
                return due[:at]
        return due

    def _hand_out_early(self, most: int, claim: Claim) -> list[Document]:
        """Hand out windows that have grown, now and then."""
        if self.placing.early is None or most <= 0 or not self._inbox.whole or time.monotonic() < self._early_at:
            return []
        grown = [(track, pane) for track, pane in itertools.islice(self._tracks.early(), most)
                 if sum([event.size for event in pane.events]) <= MAX_INLINE]
        there = self.store.states_of([f'{self.stream}:{pane.name}{EARLY}' for _, pane in grown]) if grown else {}
        grown = [(track, pane) for track, pane in grown if f'{self.stream}:{pane.name}{EARLY}' not in there]
        size = 0
        fit: list[Due] = []
        for track, pane in grown:
            size += sum([event.size for event in pane.events]) + BESIDE
            if fit and size > MAX_INLINE:
                break
            fit.append((track, pane))
        if len(fit) == len(grown) < most:
            self._early_at = time.monotonic() + self.placing.early / SECOND
        if not fit:
            return []
        parts = [self._part(pane) for _, pane in fit]
        docs = self._store(parts, [None] * len(parts), claim, Progress(
            id=self._id, watermark=self._progress(()).watermark))
        for track, pane in fit:
            self._tracks.close(track, pane)
        return docs

    def _revise(self, claim: Claim) -> int:
        """Bring windows again that messages came late for, with them; those that run just now later."""
        revised = 0
        for name, (_, events) in list(self._letters.updates.items()):
            doc = self.store.window(f'{self.stream}:{name}')
            state = doc['state'] if doc is not None else None
            if state in ('ready', 'running', 'cutting'):
                continue
            part = self._letters.revised(name, doc)
            del self._letters.updates[name]
            progress = self._progress((), gone=[event.id for event in events])
            if doc is not None and part.dead is None:
                assert self._session is not None
                if not self.store.revise(self._session, self.stream, doc, part, claim, progress,
                                         keep=self.emitter.keep):
                    raise LeaseLost(f'window {doc["_id"]} is not done any more')
            else:
                self._store([part], [None], claim, progress)
            self._inbox.forget(progress.gone)
            revised += 1
        return revised

    def _note_now_and_then(self) -> None:
        """Store the watermark of a quiet stream."""
        progress = self._progress(())
        if progress.watermark != self._noted and time.monotonic() >= self._note_at:
            self._note_at = time.monotonic() + NOTE
            self.store.note_watermark(self.stream, progress)
            self._noted = progress.watermark


def is_window(pane: Pane) -> bool:
    """Whether a pane is a window, and not only tells what leaves the buffer; a window may be empty."""
    return bool(pane.events) or pane.name is not None


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
