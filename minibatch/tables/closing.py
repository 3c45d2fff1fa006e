"""The end of a windowed table's windows: who calls ``on_window_close``, when, and why a crash loses no call.

A window has expired when the table's time is ``expires`` seconds past its end. That time is the latest of any message,
plus what has passed since that one was appended; of both it counts only what was before the oldest message that waits,
or is being worked on, in the streams that messages come from. So windows come to their end when traffic stops; a
backlog is no reason to close the windows that it belongs to, nor is a consumer that is ahead of another one, or of one
that died.

Then the table is marked as closed up to there, which stops later changes of these windows: they count as late. After
that the function is called for each key, and the key's removal is one transaction with what the function changed in
tables. Who is killed in between leaves the key, and the next one calls again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from minibatch.clock import micros, moment
from minibatch.errors import MinibatchError
from minibatch.models import store_for
from minibatch.outcome import Outcome, close_loop, invoke
from minibatch.points import reached
from minibatch.scope import Changes, Entry, Id, Write
from minibatch.store import Store, keys
from minibatch.tables.place import Place
from minibatch.tables.windowed import WindowedTable, expiring
from minibatch.window.base import Batch

log = logging.getLogger('minibatch')

#: Seconds between two looks for windows that have expired.
EVERY = 0.5
#: How often a call is repeated at once because what it read has changed.
_TRIES = 5


class Closer:
    """Closes the windows of all tables of this process that are in one database.

    :param store: the database
    :param lease: seconds after which another one closes them, if this one dies
    """

    def __init__(self, store: Store, lease: float = 15.0) -> None:
        self.store = store
        self.lease = lease
        self.owner = uuid.uuid4().hex
        self.session = store.session() if store.transactions else None

    def once(self) -> int:
        """Close what has expired now; how many keys that were."""
        closed = 0
        for table in list(expiring):
            try:
                if table.url is None or store_for(table.url) is self.store:
                    closed += self.close(table)
            except MinibatchError as error:
                log.warning('%r: its windows cannot be closed now, and will be later: %s', table, error)
        return closed

    def close(self, table: WindowedTable) -> int:
        """Close the expired windows of one table."""
        rows = Place(table.name, None, self.store)
        horizon = self.horizon(table)
        if horizon is None or not self._due(rows, table, horizon):
            return 0
        lsid = dict(self.session.session_id) if self.session is not None else None
        if not self.store.claim_closing(table.name, self.owner, self.lease, lsid):
            return 0
        try:
            if not self._mark(Place(table.marks.name, None, self.store), horizon):
                return 0
            reached('close:marked')
            closed = 0
            for each, entry in rows.scan():
                start, key = keys.key_of(each)
                if micros(start) + table.spans.size > horizon:
                    break
                closed += self._end(table, rows, each, entry, start, key)
                self.store.claim_closing(table.name, self.owner, self.lease, lsid)
            return closed
        finally:
            with contextlib.suppress(MinibatchError):
                self.store.release_closing(table.name, self.owner)

    def horizon(self, table: WindowedTable) -> int | None:
        """The time up to which windows have expired."""
        mark = self.store.table_time(table.name)
        if mark is None or table.expires is None:
            return None
        now = micros(self.store.clock.now())
        waits = min((at for at in map(self.store.oldest_unfinished, mark['streams']) if at is not None), default=None)
        times = [int(each['t']) + max(0, (now if waits is None else waits) - int(each['c']))
                 for each in mark['marks'] if waits is None or each['c'] < waits]
        return max(times) - table.expires if times else None

    @staticmethod
    def _due(rows: Place, table: WindowedTable, horizon: int) -> bool:
        for each, _ in rows.scan():
            return micros(keys.key_of(each)[0]) + table.spans.size <= horizon
        return False

    @staticmethod
    def _mark(marks: Place, horizon: int) -> bool:
        each = keys.identity(marks.name, 'closed')
        entry = marks.look(each)
        if entry.version is not None and entry.value >= horizon:
            return True
        return marks.write_if(each, entry.version, Write('set', horizon))

    def _end(self, table: WindowedTable, rows: Place, each: Id, entry: Entry, start: datetime, key: Any) -> bool:
        """Call the function for one key of a window, and remove the key."""
        for _ in range(_TRIES):
            changes: Changes | None = None
            if table.on_window_close is not None:
                outcome = self._call(table, start, key, entry.value)
                if outcome.kind != 'ok':
                    log.error('%r: on_window_close failed for key %r of the window at %s (%s); the key is kept, and it '
                              'is called again\n%s', table, key, start, outcome.error, outcome.traceback or '')
                    return False
                reached('close:called')
                changes = outcome.changes
            changes = changes or Changes()
            changes.reads[each] = entry.version
            changes.writes[each] = Write('delete', log=table.rows.changelog is not None)
            if self.store.commit_changes(self.session, changes):
                reached('close:done')
                self.store.table_seen(changes.marks, None)
                return True
            entry = rows.look(each)
            if entry.version is None:
                return False  # another one was faster
        return False

    def _call(self, table: WindowedTable, start: datetime, key: Any, value: Any) -> Outcome:
        end = moment(micros(start) + table.spans.size)
        batch = Batch(f'{table.name}:{start.isoformat()}', table.name, [], start=start, end=end, key=key,
                      url=self.store.connection.url)
        function = table.on_window_close
        assert function is not None
        return invoke(lambda _: function(key, value, start, end), batch)

    def end(self) -> None:
        """Release what is held."""
        if self.session is not None:
            self.session.end_session()


@contextlib.contextmanager
def closing(store: Store, lease: float, *, blocking: bool) -> Iterator[None]:
    """While this lasts, the windows of this process's tables are closed when they have expired.

    :param lease: as of :class:`Closer`
    :param blocking: by a thread, beside what goes on meanwhile; else once, after it
    """
    closer, over = Closer(store, lease), threading.Event()

    def run() -> None:
        pause = EVERY
        while not over.wait(pause):
            try:
                closer.once()
            except Exception:
                log.exception('windows of tables could not be closed; it is tried again')
        close_loop()

    thread = threading.Thread(target=run, name='minibatch-tables', daemon=True)
    try:
        if blocking:
            thread.start()
        yield
        if not blocking:
            closer.once()
    finally:
        over.set()
        if blocking:
            thread.join(timeout=10)
        closer.end()


def close_expired(table: WindowedTable) -> int:
    """Close the windows of *table* that have expired now."""
    closer = Closer(table.rows.place.store)
    try:
        return closer.close(table)
    finally:
        closer.end()
