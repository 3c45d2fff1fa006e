"""Messages over HTTP: ``POST /streams/<name>`` of a :class:`~minibatch.contrib.apps.StreamingApp`, if switched on.

>>> from minibatch.contrib.apps import StreamingApp
>>> app = StreamingApp(ingest={'token': 'change me', 'create': True})
>>> answer = app.test_client().post('/streams/docs-clicks', json=[{'user': 'ann'}, {'user': 'bob'}],
...                                 headers={'Authorization': 'Bearer change me'})
>>> answer.status, answer.json
('202 ACCEPTED', {'count': 2, 'stream': 'docs-clicks'})
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flask import Response, json, request

import minibatch as mb
from minibatch import tracing
from minibatch.contrib.apps.bodies import Body, Refusal
from minibatch.contrib.apps.guard import authorize, tokens_of
from minibatch.contrib.base import as_document
from minibatch.contrib.once import Once, OtherContent
from minibatch.contrib.schemas import checker
from minibatch.errors import (
    BacklogFull,
    ConnectError,
    InvalidMessage,
    MessageTooLarge,
    OptionError,
    StoreUnavailable,
    did_you_mean,
)

log = logging.getLogger(__name__)

#: Seconds for which a stream's options are good; they may be changed by other programs.
FRESH = 10.0
#: Seconds after which a client whose stream is full, or whose MongoDB is away, may try again.
ROOM, AWAY = 1, 5
#: Seconds between two tries to reach a MongoDB that is away; requests in between are answered at once.
PROBE = 1.0

_KEY = re.compile(r'[\x20-\x7e]{1,255}')


class Ingest:
    """Takes messages over HTTP.

    :param url: of MongoDB
    :param token: one, or several (to change from one to the next), of which a request has to bring one as
        ``Authorization: Bearer``; ``None`` to let everybody in who can reach the app
    :param streams: names of the streams that may be appended to; ``None`` for all there are
    :param create: whether a stream that does not exist is created; otherwise it is answered with 404
    :param schemas: what the messages of a stream have to fit, by its name: a dataclass, a pydantic model or a JSON
        Schema (:mod:`minibatch.contrib.schemas`)
    :param max_bytes: most bytes of a request, once unpacked
    :param max_messages: most messages of a request
    :raises OptionError: an option is not known, or its value cannot be
    """

    def __init__(self, url: str | None, *, token: str | Sequence[str] | None = None,
                 streams: str | Iterable[str] | None = None, create: bool = False,
                 schemas: Mapping[str, Any] | None = None, max_bytes: int = 4 * 1024 * 1024,
                 max_messages: int = 10_000) -> None:
        self._url = url
        self._tokens = tokens_of(token, 'ingest')
        self._allowed = None if streams is None else frozenset([streams] if isinstance(streams, str) else streams)
        if not isinstance(create, bool):
            raise OptionError(f'ingest: create must be True or False, not {create!r}')
        self._create = create
        if schemas is not None and not isinstance(schemas, Mapping):
            raise OptionError("ingest: schemas must be a dict of stream names and schemas, such as {'clicks': Click}")
        self._checks = {name: checker(schema) for name, schema in (schemas or {}).items()}
        for option, value in (('max_bytes', max_bytes), ('max_messages', max_messages)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise OptionError(f'ingest: {option} must be a whole number, 1 or more, not {value!r}')
        self._max_bytes, self._max_messages = max_bytes, max_messages
        self._open: dict[str, tuple[Any, Once, float]] = {}
        self._gate = Gate()

    @property
    def guarded(self) -> bool:
        """Whether a token is asked for."""
        return bool(self._tokens)

    def page(self, name: str) -> Response:
        """The answer to a request.

        :param name: of the stream
        """
        try:
            return self._take(name)
        except Refusal as refusal:
            return _answer(refusal.code, {'error': str(refusal), **refusal.content}, refusal.headers)

    def _take(self, name: str) -> Response:
        self._authorize()
        if self._allowed is not None and name not in self._allowed:
            raise Refusal(404, f'there is no stream {name!r} here')
        key = request.headers.get('Idempotency-Key')
        if key is not None and not _KEY.fullmatch(key):
            raise Refusal(400, 'an Idempotency-Key has 1 to 255 printable ASCII characters')
        body = Body(self._data(), request.mimetype, request.headers.get('Content-Encoding', '').strip().lower(),
                    self._max_bytes, self._max_messages)
        if name in self._checks:
            body.check(self._checks[name])
        # Of this request's span, if there is something that makes one; else of that of whoever sent it.
        came = None if tracing.current() else request.headers.get('traceparent')
        with self._gate.passing(), tracing.inside(came):
            stream, once = self._stream(name)
            new = self._append(stream, once, key, body)
        content = {'stream': name, 'count': len(body.rows)}
        return _answer(202, content) if new else _answer(200, content | {'repeated': True})

    def _authorize(self) -> None:
        if self._tokens:
            authorize(self._tokens)

    def _data(self) -> bytes:
        too_large = Refusal(413, f'the body is larger than {self._max_bytes:,} bytes, the most one request may have')
        if (request.content_length or 0) > self._max_bytes:
            raise too_large
        data = request.stream.read(self._max_bytes + 1)
        if len(data) > self._max_bytes:
            raise too_large
        return data

    def _stream(self, name: str) -> tuple[Any, Once]:
        stream, once, since = self._open.get(name, (None, None, 0.0))
        if stream is None or once is None or time.monotonic() - since > FRESH:
            if stream is None and not self._create and not self._exists(name):
                raise Refusal(404, f'there is no stream {name!r}; a program creates it with mb.stream(name), or the '
                              "app with ingest={'create': True}")
            try:
                stream = mb.stream(name, url=self._url)
            except OptionError as error:
                raise Refusal(400, str(error)) from error
            # Of this object only: an answer says that the stream is full, and nobody waits.
            stream.batchsize, stream.on_full, stream.on_unavailable = 1, 'raise', 'raise'
            once = Once(stream)
            self._open[name] = stream, once, time.monotonic()
        return stream, once

    def _exists(self, name: str) -> bool:
        return mb.connectdb(self._url)['stream'].find_one({'_id': name}, {'_id': 1}) is not None

    def _append(self, stream: Any, once: Once, key: str | None, body: Body) -> bool:
        try:
            if key is not None:
                return once.extend(key, body.rows, body.data)
            stream.extend(body.rows)
        except OtherContent as error:
            raise Refusal(422, 'this Idempotency-Key was used with another body in the last 24 hours; a new body needs '
                          'a new key') from error
        except BacklogFull as error:
            raise Refusal(429, f'stream {stream.name!r} is full ({stream.max_backlog:,} messages wait); nothing was '
                          'stored, send it again later', {'Retry-After': str(ROOM)}) from error
        except InvalidMessage as error:
            raise _wrong(body, error) from error
        return True


class Gate:
    """Lets requests through to MongoDB; while it is away, one a second, so that they do not use up all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._away = False
        self._next = 0.0

    def passing(self) -> Gate:
        """To be entered by who goes through.

        :raises Refusal: MongoDB is away, and somebody else tried just now
        """
        with self._lock:
            if self._away:
                if time.monotonic() < self._next:
                    raise _away('MongoDB is away; nothing was stored')
                self._next = time.monotonic() + PROBE
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if not isinstance(error, (StoreUnavailable, ConnectError)) and not _is_driver(error):
            with self._lock:
                if self._away:
                    log.warning('ingest: MongoDB is back')
                self._away = False
            return
        with self._lock:
            if not self._away:
                log.warning('ingest: MongoDB is away, requests are answered with 503: %s', error)
            self._away, self._next = True, time.monotonic() + PROBE
        raise _away('MongoDB did not confirm in time; the messages may or may not be stored: to send them again '
                    'without doubling them, use an Idempotency-Key') from error


def _is_driver(error: BaseException | None) -> bool:
    return error is not None and type(error).__module__.partition('.')[0] == 'pymongo'


def _away(text: str) -> Refusal:
    return Refusal(503, text, {'Retry-After': str(AWAY)})


def _wrong(body: Body, error: InvalidMessage) -> Refusal:
    """Which of the messages it is, and which field."""
    for index, row in enumerate(body.rows):
        try:
            as_document(row)
        except InvalidMessage as found:
            field = found.path.removeprefix('data').removeprefix('.')
            return body.refusal(index, str(found.__cause__ or found), field)
    return Refusal(413 if isinstance(error, MessageTooLarge) else 400, str(error))


def _answer(code: int, content: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    answer = Response(json.dumps(content) + '\n', code, headers, mimetype='application/json')
    answer.headers['Cache-Control'] = 'no-store'
    return answer


def ingest(url: str | None, given: Any) -> Ingest | None:
    """The :class:`Ingest` that an app's option asks for.

    :param url: of MongoDB
    :param given: ``False``, ``True``, or a dict of options
    :raises OptionError: it is something else, or has an option that is not known
    """
    if given is False or given is None:
        return None
    if given is not True and not isinstance(given, Mapping):
        raise OptionError(f"ingest must be True, False or a dict of options such as {{'token': ...}}, not {given!r}")
    options = {} if given is True else dict(given)
    known = ('token', 'streams', 'create', 'schemas', 'max_bytes', 'max_messages')
    for option in options:
        if option not in known:
            raise OptionError(f'ingest does not take {option!r}{did_you_mean(str(option), known)}')
    return Ingest(url, **options)
