"""The body of a request as messages: a JSON object, an array of them, or one a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from minibatch.contrib.codecs import Gzip, codec
from minibatch.errors import Undecodable, Unfit

_JSON = codec('json')
_LINES = ('application/x-ndjson', 'application/ndjson', 'application/jsonl', 'application/x-jsonlines')
TYPES = ('application/json', *_LINES)


class Refusal(Exception):
    """A request that is not taken.

    :ivar code: of HTTP
    :ivar content: of the answer, besides the text: which line or message and which field
    :ivar headers: of the answer
    """

    def __init__(self, code: int, text: str, headers: Mapping[str, str] | None = None, **content: Any) -> None:
        super().__init__(text)
        self.code, self.content, self.headers = code, content, dict(headers or {})


class Body:
    """Messages, and where in the request each of them is.

    :param data: as sent
    :param mimetype: says whether it is JSON or JSON lines
    :param encoding: ``gzip``, or nothing
    :param max_bytes: of *data* once it is unpacked
    :param max_messages: in it
    :raises Refusal: it is too large, or not what it says it is
    :ivar data: unpacked
    :ivar rows: the messages
    """

    def __init__(self, data: bytes, mimetype: str, encoding: str, max_bytes: int, max_messages: int) -> None:
        if mimetype not in TYPES:
            given = f'{mimetype!r} is not taken' if mimetype else 'there is no Content-Type'
            raise Refusal(415, f'{given}; send application/json (an object or an array) or application/x-ndjson (an '
                          'object a line)', {'Accept': ', '.join(TYPES[:2])})
        self.data = _unpacked(data, encoding, max_bytes)
        self._lines: list[int] = []
        self.rows = self._read_lines() if mimetype in _LINES else self._read_json()
        if len(self.rows) > max_messages:
            raise Refusal(413, f'{len(self.rows):,} messages, of which one request takes {max_messages:,}; send more '
                          'requests')

    def check(self, check: Callable[[Any], Any]) -> None:
        """Let *check* replace each message.

        :raises Refusal: for the first one that it does not take
        """
        for index, row in enumerate(self.rows):
            try:
                self.rows[index] = check(row)
            except Unfit as error:
                raise self.refusal(index, str(error), error.field) from error

    def refusal(self, index: int, text: str, field: str = '') -> Refusal:
        """What to answer if message *index* is wrong."""
        content: dict[str, Any] = {'field': field} if field else {}
        if self._lines:
            content['line'] = self._lines[index]
        elif self._many:
            content['message'] = index
        return Refusal(400, text, **content)

    def _read_json(self) -> list[Any]:
        try:
            value = _JSON.decode(self.data)
        except Undecodable as error:
            raise Refusal(400, error.reason) from error
        self._many = isinstance(value, list)
        rows = value if self._many else [value]
        for index, row in enumerate(rows):
            self._mapping(index, row)
        return list(rows)

    def _read_lines(self) -> list[Any]:
        self._many = True
        rows: list[Any] = []
        for number, line in enumerate(self.data.split(b'\n'), 1):
            if line.strip():
                self._lines.append(number)
                try:
                    rows.append(_JSON.decode(line))
                except Undecodable as error:
                    raise self.refusal(-1, error.reason) from error
                self._mapping(-1, rows[-1])
        return rows

    def _mapping(self, index: int, row: Any) -> None:
        if not isinstance(row, dict):
            kind = {list: 'an array', str: 'a string', bool: 'a boolean', type(None): 'null'}.get(type(row), 'a number')
            raise self.refusal(index, f'a message is a JSON object, and this is {kind}')


def _unpacked(data: bytes, encoding: str, max_bytes: int) -> bytes:
    if encoding in ('', 'identity'):
        return data
    if encoding != 'gzip':
        raise Refusal(415, f'Content-Encoding {encoding!r} is not taken; send gzip, or without', {
            'Accept-Encoding': 'gzip'})
    try:
        return Gzip(max_bytes).decode(data)
    except Undecodable as error:
        raise Refusal(413 if 'limit' in error.reason else 400, error.reason) from error
