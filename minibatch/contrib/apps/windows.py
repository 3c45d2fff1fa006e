"""Windows as the live page shows them: what is in the store now, as plain data, and not too much of it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from minibatch.states import WindowState

#: Windows in a list, messages of one window, and characters of one message.
MOST_RECENT, MOST_DEAD, MOST_MESSAGES, MOST_TEXT = 25, 50, 100, 10_000

_FIELDS = ('id', 'stream', 'seq', 'state', 'n', 'created', 'start', 'end', 'key', 'attempt', 'owner', 'late')
#: All of them: with the states named, the newest come out of the index in order.
_STATES = [each.value for each in WindowState if each is not WindowState.VOID]


class NotThere(LookupError):
    """There is no such window, or no more."""


def recent(stream: Any, *, data: bool = True) -> dict[str, Any]:
    """The newest windows that are in the store, and the newest dead ones.

    :param data: whether to tell the errors and tracebacks of dead ones, and keys
    :return: ``windows`` and ``dead``, newest first, each with ``id``, ``state``, ``n`` and so on
    """
    newest = stream.window(state__in=_STATES).order_by('-seq').only(*_FIELDS).limit(MOST_RECENT).as_pymongo()
    dead = stream.window(state='dead').order_by('-seq').only(*_FIELDS, 'errors').limit(MOST_DEAD).as_pymongo()
    return {'stream': stream.name, 'windows': [_facts(doc, data) for doc in newest],
            'dead': [_facts(doc, data) for doc in dead]}


def show(stream: Any, window: str) -> dict[str, Any]:
    """One window with its data.

    :param window: its id
    :return: as in :func:`recent`, and ``messages``: the first ones, each as JSON; they are text so that numbers
        stay as they are, however large
    :raises NotThere: it is not in the store: it is committed, and was not kept
    """
    doc = stream.window(id=window).fields(slice__data=MOST_MESSAGES).as_pymongo().first()
    if doc is None:
        raise NotThere(f'window {window!r} is not there (any more); once committed, a window is removed, unless its '
                       'consumer has keep=True')
    data = doc.get('data')
    if data is None:
        found = stream.buffer(window=window).order_by('id').limit(MOST_MESSAGES).as_pymongo()
        data = [each.get('data') for each in found]
    return {**_facts(doc, True), 'messages': [text(each) for each in data]}


def _facts(doc: dict[str, Any], data: bool) -> dict[str, Any]:
    errors = doc.get('errors') or []
    last = errors[-1] if errors else {}
    facts: dict[str, Any] = {
        'id': str(doc['_id']), 'state': doc.get('state'), 'n': doc.get('n', 0), 'attempt': doc.get('attempt', 0),
        'late': bool(doc.get('late')), 'owner': doc.get('owner'),
        **{name: _iso(doc.get(name)) for name in ('created', 'start', 'end')}}
    if data:
        facts['key'] = None if doc.get('key') is None else text(doc['key'])
        facts['error'] = last.get('error')
        facts['traceback'] = last.get('traceback')
        facts['failed'] = _iso(last.get('when'))
    return facts


def text(value: Any) -> str:
    """A message, or a part of it, as JSON for people; what JSON has no form for is shown as Python would.

    >>> text({'at': datetime(2026, 1, 2), 'n': 2 ** 70, 'raw': b'x', 'nan': float('nan')})
    '{"at": "2026-01-02T00:00:00", "n": 1180591620717411303424, "raw": "b\\'x\\'", "nan": NaN}'
    """
    try:
        written = json.dumps(value, ensure_ascii=False, default=_other)
    except (TypeError, ValueError, RecursionError):  # keys that are no texts, or too deep
        written = repr(value)
    written = written.encode(errors='replace').decode()
    return written if len(written) <= MOST_TEXT else f'{written[:MOST_TEXT]} ... ({len(written):,} characters)'


def _other(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _iso(at: Any) -> str | None:
    return at.isoformat(timespec='milliseconds') + 'Z' if isinstance(at, datetime) else None
