"""Messages at the door: what users append becomes documents of the buffer, or one clear error and nothing stored.

Most messages are flat dicts of strings and numbers. They are checked many at a time, in C: the types of all
values of a group as one set, all its strings as one joined string, the least and the greatest of its integers.
That takes a third of a microsecond a message; only a group with something else in it is converted one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

from minibatch import tracing
from minibatch.convert import INT_MAX, INT_MIN, MAX_BYTES, MAX_DEPTH, SIMPLE, WIDEST, Converter
from minibatch.errors import InvalidMessage, MessageTooLarge
from minibatch.ids import ids
from minibatch.refused import Refused

Message = dict[str, Any]
Document = dict[str, Any]

_PLAIN = SIMPLE | {str, int, bytes, datetime}
_NESTED = _PLAIN | {dict, list}
_FEW = 3  # messages for which setting up the check of a group costs more than converting them
_GROUP = 512  # messages checked at once: one that is not plain slows down only its group
_VALUES = 200_000  # values in a group: more than so many (or so few that are many times the same) go one by one


def documents(stream: str, rows: Iterable[Any], now: datetime) -> list[Document]:
    """Make the buffer's documents of *rows*; all of them, or none and an error.

    >>> [doc] = documents('clicks', [{'user': 'ann'}], datetime(2026, 1, 1))
    >>> doc['data'], doc['stream'], doc['processed']
    ({'user': 'ann'}, 'clicks', False)

    :param stream: the name of the stream
    :param rows: mappings, or objects with fields; they are copied and never changed
    :param now: the current time (naive, UTC), best the database server's
    :raises InvalidMessage: for the first of *rows* that cannot be stored
    """
    messages, _ = convert(stream, rows)
    return wrap(stream, messages, now)


def wrap(stream: str, messages: Sequence[Message], now: datetime, trace: str | None = None) -> list[Document]:
    """Give converted messages their ids and what else the buffer keeps of them.

    :param trace: the span that they are appended in, if not that in which this code runs; the store notes it elsewhere
    """
    docs = [
        {'_id': id_, 'stream': stream, 'created': now, 'data': data, 'processed': False, 'window': None}
        for id_, data in zip(ids.take(len(messages), now), messages, strict=True)
    ]
    trace = trace or tracing.current()
    if trace is not None:
        for doc in docs:
            doc['trace'] = trace
    return docs


def convert(
    stream: str, rows: Iterable[Any], *, before: int = 0, stored: int = 0, keep: bool = True,
) -> tuple[list[Message], int]:
    """What to store of *rows*, and no less than the bytes that it takes.

    :param stream: the name of the stream
    :param rows: mappings, or objects with fields
    :param before: how many messages of the same call came before these, for the error message
    :param stored: how many of those are stored already
    :param keep: ``False`` to check only, and answer no messages
    :raises InvalidMessage: for the first of *rows* that cannot be stored
    """
    given = rows if isinstance(rows, list) else list(rows)
    messages: list[Message] = []
    total = 0
    for start in range(0, len(given), _GROUP):
        group = given[start:start + _GROUP]
        size, nested = _plain(group) if len(group) > _FEW else (0, False)
        if size:
            if keep:
                messages += map(_copy, group) if nested else map(dict, group)
            total += size
            continue
        converter = Converter()
        for index, row in enumerate(group, start):
            try:
                message = converter.message(row)
            except Refused as exc:
                raise _invalid(stream, exc, before + index, stored, single=before + len(given) == 1) from exc
            if keep:
                messages.append(message)
            total += converter.bytes
    return messages, total


def sift(rows: list[Any]) -> tuple[list[Message | Refused], int]:
    """What to store of each of *rows*, or why it cannot be stored, and about the bytes that it takes.

    Unlike :func:`convert` it may keep what it was given, so the rows must not be changed afterwards.

    >>> sift([{'n': 1}, {'n': object()}])[0]
    [{'n': 1}, Refused('data.n is a value of type object, which MongoDB cannot store; make it ... first')]

    :param rows: mappings, or objects with fields
    """
    messages: list[Message | Refused] = []
    total = 0
    for start in range(0, len(rows), _GROUP):
        group = rows[start:start + _GROUP]
        size, _ = _plain(group) if len(group) > _FEW else (0, False)
        if size:
            messages += group
            total += size
            continue
        converter = Converter()
        for row in group:
            try:
                messages.append(converter.message(row))
                total += converter.bytes
            except Refused as refused:
                messages.append(refused)
    return messages, total


def _plain(group: list[Any]) -> tuple[int, bool]:
    """The most bytes that *group* can take and whether it nests, if all in it is plain; (0, False) otherwise."""
    dicts: list[Any] = group
    lists: list[Any] = []
    nested, size, seen = False, 0, 0
    for _ in range(MAX_DEPTH):
        if set(map(type, dicts)) - {dict}:
            return 0, False
        try:
            keys = ''.join(chain.from_iterable(dicts))
        except TypeError:  # a key that is no str
            return 0, False
        values = list(chain(chain.from_iterable(map(dict.values, dicts)), chain.from_iterable(lists)))
        seen += len(values)
        kinds = set(map(type, values))
        if not kinds <= _NESTED or seen > _VALUES or not keys.isascii() or '\0' in keys:
            return 0, False
        size += len(keys) + WIDEST * len(values) + 10 * (len(dicts) + len(lists))
        if str in kinds:
            text = ''.join([value for value in values if type(value) is str])
            size += len(text) if text.isascii() else 4 * len(text)
            if not text.isascii() and not _is_text(text):
                return 0, False
        if int in kinds:
            numbers = [value for value in values if type(value) is int]
            if min(numbers) < INT_MIN or max(numbers) > INT_MAX:
                return 0, False
        if bytes in kinds:
            size += sum([len(value) for value in values if type(value) is bytes])
        if datetime in kinds and any(
                type(value) is datetime and value.tzinfo is not None for value in values):
            return 0, False
        if size > MAX_BYTES:  # one of them could be too large: measure them one by one
            return 0, False
        if not (dict in kinds or list in kinds):
            return max(size, 1), nested
        nested = True
        dicts = [value for value in values if type(value) is dict]
        lists = [value for value in values if type(value) is list]
    return 0, False


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _copy(value: Any) -> Any:
    # The user may go on with what was appended while it waits for its batch.
    if type(value) is dict:
        return {key: _copy(item) if type(item) is dict or type(item) is list else item for key, item in value.items()}
    return [_copy(item) if type(item) is dict or type(item) is list else item for item in value]


def _invalid(stream: str, refused: Refused, index: int, stored: int, *, single: bool) -> InvalidMessage:
    which = 'a message' if single else f'message {index} (counted from 0)'
    kept = f'of this call, the first {stored:,} messages were stored' if stored else 'nothing was stored'
    kind = MessageTooLarge if refused.size else InvalidMessage
    return kind(f'stream {stream!r} cannot take {which}: {refused.path} {refused.what}; {kept}; {refused.fix}',
                path=refused.path)
