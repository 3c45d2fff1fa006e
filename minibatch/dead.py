"""Dead windows in Python: list, show, redrive and drop them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from minibatch.errors import OptionError
from minibatch.store import Record, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadWindow:
    """A window whose attempts all failed; its messages are kept.

    :ivar error: what the last attempt raised, in one line
    :ivar traceback: the last attempt's traceback, if there is one
    :ivar errors: the last ten failures, oldest first: ``attempt``, ``error``, ``traceback``, ``when``
    :ivar key: the key that its messages share, if its strategy groups by one
    """

    id: str
    stream: str
    data: list[Any]
    attempts: int
    error: str
    traceback: str | None
    errors: list[dict[str, Any]]
    created: datetime | None
    start: datetime | None
    end: datetime | None
    key: Any = None


class DeadWindows:
    """The dead windows of one stream.

    :param store: where
    :param stream: the stream's name
    """

    def __init__(self, store: Store, stream: str) -> None:
        self._store = store
        self._stream = stream

    def __len__(self) -> int:
        return len(self._store.dead(self._stream))

    def __call__(self) -> list[DeadWindow]:
        return self.list()

    def list(self, limit: int = 0) -> list[DeadWindow]:
        """The dead windows, first ones first; at most *limit* of them (0: all)."""
        return [self._window(doc) for doc in self._store.dead(self._stream, limit=limit)]

    def show(self, window: str) -> DeadWindow:
        """One dead window.

        :param window: its id
        :raises minibatch.errors.OptionError: there is no dead window of that id
        """
        docs = self._store.dead(self._stream, [window])
        if not docs:
            raise OptionError(f'stream {self._stream!r} has no dead window {window!r}; list() shows those it has')
        return self._window(docs[0])

    def redrive(self, windows: str | Iterable[str] | None = None) -> int:
        """Run dead windows again, with all their attempts, as soon as there is a consumer.

        :param windows: an id, or several (default: all)
        :return: how many were dead and are ready now
        """
        return self._store.redrive(self._stream, _ids(windows))

    def drop(self, windows: str | Iterable[str] | None = None) -> int:
        """Remove dead windows and their messages for good.

        :param windows: an id, or several (default: all)
        :return: how many were removed
        """
        return self._store.drop(self._stream, _ids(windows))

    def _window(self, doc: dict[str, Any]) -> DeadWindow:
        record = Record.from_document(doc)
        errors = [dict(each) for each in record.errors]
        last = errors[-1] if errors else {}
        data = record.data if record.data is not None else self._store.load(record)
        return DeadWindow(id=record.id, stream=record.stream, data=data, attempts=record.attempt,
                          error=str(last.get('error', '')), traceback=last.get('traceback'), errors=errors,
                          created=record.created, start=record.start, end=record.end, key=record.key)


def _ids(windows: str | Iterable[str] | None) -> list[str] | None:
    if windows is None:
        return None
    return [windows] if isinstance(windows, str) else [*windows]
