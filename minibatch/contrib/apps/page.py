"""The live page of a :class:`~minibatch.contrib.apps.StreamingApp`, and what it asks for.

At ``/`` (if the app has no page of its own there) and ``/live/``; beside it, under ``/live/``: ``state`` and ``events``
(figures), ``windows`` and ``window`` (what is in the store), and, for those who have the token, ``redrive`` and
``drop``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from flask import Flask, Response, json, request

import minibatch as mb
from minibatch.contrib.apps.board import Board
from minibatch.contrib.apps.bodies import Refusal
from minibatch.contrib.apps.guard import authorize, tokens_of
from minibatch.contrib.apps.windows import NotThere, recent, show
from minibatch.errors import ConnectError, OptionError, StoreUnavailable, did_you_mean

log = logging.getLogger(__name__)

PREFIX = '/live/'
#: Windows that one request may act on, and bytes that it may have.
MOST_WINDOWS, MOST_BYTES = 1_000, 256 * 1024

_ASSETS = {'live.css': 'text/css', 'live.js': 'text/javascript', 'charts.js': 'text/javascript',
           'uplot.css': 'text/css', 'uplot.js': 'text/javascript', 'uplot.LICENSE': 'text/plain'}
#: Nothing from elsewhere, nothing in line, in nobody's frame.
_POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
           "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")


class Page:
    """The live page.

    :param url: of MongoDB
    :param consumers: tells how the app's own consumers are
    :param token: what a request has to bring to redrive or drop dead windows: one, or several; with ``None`` the page
        is for reading only
    :param data: whether the page shows the data of messages and the tracebacks of dead windows
    :raises OptionError: an option has a value that cannot be
    """

    def __init__(self, url: str | None, consumers: Callable[[], list[dict[str, Any]]], *, token: Any = None,
                 data: bool = True) -> None:
        if not isinstance(data, bool):
            raise OptionError(f'page: data must be True or False, not {data!r}')
        #: Whether the page shows what is in messages.
        self.tells = data
        self.url = url
        self._tokens = tokens_of(token, 'page')
        self.board = Board(url, consumers)

    def add_to(self, app: Flask) -> None:
        """Give *app* the routes that it has not got; ``/`` only if it has no page of its own there."""
        taken = {rule.rule for rule in app.url_map.iter_rules()}
        for rule, view, method in (
                ('/', self._front, 'GET'), (PREFIX, self._page, 'GET'), (PREFIX + '<name>', self._asset, 'GET'),
                (PREFIX + 'state', self._state, 'GET'), (PREFIX + 'events', self._events, 'GET'),
                (PREFIX + 'windows', self._windows, 'GET'), (PREFIX + 'window', self._window, 'GET'),
                (PREFIX + 'redrive', self._redrive, 'POST'), (PREFIX + 'drop', self._drop, 'POST')):
            if rule not in taken:
                app.add_url_rule(rule, f'minibatch_page{view.__name__}', _answering(view), methods=[method])

    # -- the page itself

    def _front(self) -> Response:
        return self._html('live/')

    def _page(self) -> Response:
        return self._html('')

    def _html(self, at: str) -> Response:
        self.board.start()
        answer = Response(_read('live.html').replace(b'{{at}}', at.encode()), mimetype='text/html')
        answer.headers['Content-Security-Policy'] = _POLICY
        answer.headers['X-Content-Type-Options'] = 'nosniff'
        answer.headers['Referrer-Policy'] = 'no-referrer'
        answer.headers['Cache-Control'] = 'no-store'
        return answer

    def _asset(self, name: str) -> Response:
        if name not in _ASSETS:
            raise Refusal(404, f'there is no {name!r} here')
        answer = Response(_read(name), mimetype=_ASSETS[name])
        answer.headers['Cache-Control'] = 'no-cache'  # ask each time; it is not sent again if it is the same
        answer.headers['X-Content-Type-Options'] = 'nosniff'
        answer.add_etag()
        answer.make_conditional(request)
        return answer

    # -- figures

    def _state(self) -> Response:
        return _json({**self.board.state(), 'acts': bool(self._tokens), 'data': self.tells})

    def _events(self) -> Response:
        headers = {'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no'}
        if request.method == 'HEAD':
            return Response(headers=headers, mimetype='text/event-stream')
        listener = self.board.listen()
        if listener is None:
            raise Refusal(503, f'{self.board.most} pages listen already; ask for state instead', {'Retry-After': '15'})
        return Response(listener, headers=headers, mimetype='text/event-stream')

    # -- windows

    def _windows(self) -> Response:
        return _json(recent(self._stream(request.args.get('stream')), data=self.tells))

    def _window(self) -> Response:
        if not self.tells:
            raise Refusal(403, "the data of messages is not shown here: the app has page={'data': False}")
        return _json(show(self._stream(request.args.get('stream')), _text(request.args.get('id'), 'id')))

    def _redrive(self) -> Response:
        stream, windows = self._chosen()
        count = stream.dead.redrive(windows)
        log.warning('live page: %d dead window(s) of stream %r redriven', count, stream.name)
        return _json({'stream': stream.name, 'redriven': count})

    def _drop(self) -> Response:
        stream, windows = self._chosen()
        count = stream.dead.drop(windows)
        log.warning('live page: %d dead window(s) of stream %r dropped, with their messages', count, stream.name)
        return _json({'stream': stream.name, 'dropped': count})

    def _chosen(self) -> tuple[Any, list[str]]:
        """The stream and the windows that a request names, if it may act on them."""
        if not self._tokens:
            raise Refusal(403, "this page is for reading only; the app lets it act with page={'token': ...}")
        authorize(self._tokens)
        if request.mimetype != 'application/json':
            raise Refusal(415, 'send application/json', {'Accept': 'application/json'})
        if (request.content_length or 0) > MOST_BYTES:
            raise Refusal(413, f'the body is larger than {MOST_BYTES:,} bytes')
        raw = request.stream.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise Refusal(413, f'the body is larger than {MOST_BYTES:,} bytes')
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise Refusal(400, f'the body is not JSON: {type(error).__name__}') from error
        if not isinstance(body, dict) or set(body) != {'stream', 'windows'}:
            raise Refusal(400, 'send {"stream": NAME, "windows": [ID, ...]}')
        windows = body['windows']
        if not isinstance(windows, list) or not 1 <= len(windows) <= MOST_WINDOWS:
            raise Refusal(400, f'windows must be a list of 1 to {MOST_WINDOWS:,} ids')
        return self._stream(body['stream']), [_text(each, 'windows') for each in windows]

    def _stream(self, name: Any) -> Any:
        """The stream of that name; a request creates none."""
        name = _text(name, 'stream')
        if mb.connectdb(self.url)['stream'].find_one({'_id': name}, {'_id': 1}) is None:
            raise Refusal(404, f'there is no stream {name!r}')
        return mb.stream(name, url=self.url)


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 1_000:
        raise Refusal(400, f'{field}: a text of 1 to 1,000 characters is wanted', field=field)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Refusal(400, f'{field}: this is no text ({error.reason})', field=field) from error
    return value


def _answering(view: Callable[..., Response]) -> Callable[..., Response]:
    """Let refusals, and a MongoDB that is away, be answers."""
    def answer(**values: str) -> Response:
        try:
            return view(**values)
        except Refusal as refusal:
            return _json({'error': str(refusal), **refusal.content}, refusal.code, refusal.headers)
        except NotThere as error:
            return _json({'error': str(error)}, 404)
        except OptionError as error:
            return _json({'error': str(error)}, 400)
        except Exception as error:
            if not isinstance(error, (StoreUnavailable, ConnectError)) and (
                    type(error).__module__.partition('.')[0] not in ('pymongo', 'mongoengine')):
                raise
            log.info('live page: MongoDB is away: %s', error)
            return _json({'error': 'MongoDB did not answer; nothing is known to have changed'}, 503, {
                'Retry-After': '5'})
    return answer


def _json(content: Any, code: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    answer = Response(json.dumps(content) + '\n', code, headers, mimetype='application/json')
    answer.headers['Cache-Control'] = 'no-store'
    answer.headers['X-Content-Type-Options'] = 'nosniff'
    return answer


def _read(name: str) -> bytes:
    return files('minibatch.contrib.apps').joinpath('assets').joinpath(name).read_bytes()


def page_of(url: str | None, given: Any, consumers: Callable[[], list[dict[str, Any]]]) -> Page | None:
    """The :class:`Page` that an app's option asks for.

    :param url: of MongoDB
    :param given: ``True``, ``False``, or a dict of options
    :param consumers: tells how the app's own consumers are
    :raises OptionError: it is something else, or has an option that is not known
    """
    if given is False or given is None:
        return None
    if given is not True and not isinstance(given, Mapping):
        raise OptionError(f"page must be True, False or a dict of options such as {{'token': ...}}, not {given!r}")
    options = {} if given is True else dict(given)
    for option in options:
        if option not in ('token', 'data'):
            raise OptionError(f'page does not take {option!r}{did_you_mean(str(option), ("token", "data"))}')
    return Page(url, consumers, **options)
