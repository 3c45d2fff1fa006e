"""A shelf with its watermark and progress: one for the stream, or one for each key."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from minibatch.window.event import Event
from minibatch.window.placing import Placing
from minibatch.window.shelf import Mark, Pane, Shelf
from minibatch.window.watermark import Watermark

#: Never, as a time of the clock.
_NEVER = 1 << 62


class Track:
    """One shelf, its watermark, and how far it was cut.

    :param placing: the strategy
    :param mark: the progress that was stored
    :param watermark: likewise
    """

    __slots__ = ('mark', 'shelf', 'slot', 'watermark', 'when')

    def __init__(self, placing: Placing, slot: bytes, mark: Mark = (),
                 watermark: Mapping[str, Any] | None = None) -> None:
        self.slot = slot
        self.mark = mark
        self.shelf: Shelf = placing.shelf(mark)
        self.watermark: Watermark = placing.watermark(watermark)
        self.when = _NEVER

    def next_time(self) -> int:
        """When something is due by the clock if nothing more comes."""
        times = [self.shelf.next_deadline()]
        end = self.shelf.next_due()
        if end is not None:
            times.append(0 if end <= self.watermark.base else self.watermark.reached_at(end))
        return min((each for each in times if each is not None), default=_NEVER)


class Tracks:
    """The tracks of a stream.

    :param placing: the strategy
    :param mark: the progress that was stored
    :param watermark: likewise
    :param keys: the same two for each key that has been cut by itself, by slot
    """

    def __init__(self, placing: Placing, mark: Mark = (), watermark: Mapping[str, Any] | None = None,
                 keys: Mapping[bytes, tuple[Mark, Mapping[str, Any]]] | None = None) -> None:
        self.placing = placing
        self.by_key = placing.by_key
        self._stored = dict(keys or {})
        self._tracks: dict[bytes, Track] = {}
        self._agenda: list[tuple[int, bytes]] = []
        self._whole = False
        self._now = 0
        self._one = Track(placing, b'', mark, watermark)

    def of(self, slot: bytes) -> Track:
        """The track of a key; made when it is asked for."""
        if not self.by_key:
            return self._one
        track = self._tracks.get(slot)
        if track is None:
            mark, watermark = self._stored.get(slot, ((), {}))
            track = self._tracks[slot] = Track(self.placing, slot, mark, watermark)
        return track

    def see(self, events: Iterable[Event]) -> None:
        """Let the watermarks see messages that were added."""
        if not self.by_key:
            top = max(events, default=None)
            if top is not None:
                self._one.watermark.see(top.time, top.created)
            return
        for event in events:
            self.of(event.slot).watermark.see(event.time, event.created)

    def move(self, now: int, *, whole: bool, touched: Iterable[bytes] = ()) -> None:
        """Move the watermarks on.

        :param now: the time at which the buffer was read
        :param whole: whether it was read to its end
        :param touched: keys that got messages
        """
        self._now, self._whole = now, whole
        if not self.by_key:
            self._one.watermark.move(now if whole else None)
            return
        for slot in touched:
            self.of(slot).watermark.move(None)
            self._arrange(self.of(slot))

    def _arrange(self, track: Track) -> None:
        when = track.next_time()
        if when != track.when:
            track.when = when
            if when != _NEVER:
                heapq.heappush(self._agenda, (when, track.slot))

    def due(self) -> Iterator[tuple[Track, Pane]]:
        """The panes that are due; nothing is changed."""
        if not self.by_key:
            for pane in self._one.shelf.due(self._one.watermark.base, self._now):
                yield self._one, pane
            return
        waiting: dict[bytes, int] = {}
        try:
            while self._agenda and self._agenda[0][0] <= self._now:
                when, slot = heapq.heappop(self._agenda)
                track = self._tracks.get(slot)
                if track is None or track.when != when or slot in waiting:
                    continue
                waiting[slot] = when
                base = track.watermark.move(self._now if self._whole else None)
                for pane in track.shelf.due(base, self._now):
                    yield track, pane
        finally:
            for slot, when in waiting.items():
                heapq.heappush(self._agenda, (when, slot))

    def close(self, track: Track, pane: Pane) -> None:
        """A pane was cut."""
        track.shelf.close(pane)
        if pane.mark:
            track.mark = pane.mark
        if self.by_key:
            self._stored[track.slot] = (track.mark, track.watermark.document())
            self._arrange(track)
            if not len(track.shelf) and track.when == _NEVER:
                del self._tracks[track.slot]

    def early(self) -> Iterator[tuple[Track, Pane]]:
        """Panes that have grown, not final."""
        for track in list(self._tracks.values()) if self.by_key else [self._one]:
            for pane in track.shelf.early():
                yield track, pane

    def next_time(self) -> int | None:
        """When something is due by the clock if nothing more comes; ``None``: nothing will be."""
        if not self.by_key:
            when = self._one.next_time()
        else:
            while self._agenda:
                track = self._tracks.get(self._agenda[0][1])
                if track is not None and track.when == self._agenda[0][0]:
                    break
                heapq.heappop(self._agenda)
            when = self._agenda[0][0] if self._agenda else _NEVER
        return None if when == _NEVER else when

    @property
    def watermark(self) -> Watermark:
        """That of the stream."""
        return self._one.watermark
