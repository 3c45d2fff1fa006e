"""StreamingApp: a Flask app that looks after its consumers."""

from __future__ import annotations

import atexit
import inspect
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from flask import Flask, Response

from minibatch.contrib.apps.board import MOST_PAGES
from minibatch.contrib.apps.consumer import Consumer
from minibatch.contrib.apps.health import Probe, judge
from minibatch.contrib.apps.ingest import ingest as ingest_of
from minibatch.contrib.apps.metrics import Metrics
from minibatch.contrib.apps.page import page_of
from minibatch.contrib.apps.server import Server
from minibatch.contrib.apps.worker import inside
from minibatch.errors import OptionError
from minibatch.logs import from_environment
from minibatch.signals import handled_by

log = logging.getLogger(__name__)


class StreamingApp(Flask):
    """A Flask app whose consumers run beside it, each in its own process.

    It has a live page at ``/`` (and at ``/live/``, if ``/`` is yours), which shows what the streams do
    (:mod:`minibatch.contrib.apps.page`). ``/status`` says in JSON whether all is well, if not why, and for each stream
    its backlog, lag, windows, rate and consumers; ``/health`` says the first part of it, with code 503 when it is not
    well, for whatever watches over the app. Both answer within about a second, also when MongoDB does not. ``/metrics``
    has the figures of all streams in the database for Prometheus, with metrics of your own, if you have any.

    :param import_name: as for Flask; by default the module that creates the app
    :param url: of MongoDB; by default as :func:`minibatch.connectdb` finds it
    :param streams: names of streams to report on besides those that the consumers read
    :param ingest: take messages at ``POST /streams/<name>``: ``True``, or a dict of options of
        :class:`minibatch.contrib.apps.ingest.Ingest` such as ``{'token': 'secret'}``; by default there is no such page
    :param page: the live page: ``True``, for reading only; ``False``, for none; or a dict of options of
        :class:`minibatch.contrib.apps.page.Page`: with ``{'token': 'secret'}`` whoever has the token may redrive and
        drop dead windows there, with ``{'data': False}`` it shows no data of messages
    :param options: of Flask

    >>> app = StreamingApp()
    >>> @app.route('/hello')
    ... def hello():
    ...     return 'hello'
    >>> app.test_client().get('/hello').text
    'hello'
    """

    def __init__(self, import_name: str | None = None, *, url: str | None = None, streams: Sequence[str] = (),
                 ingest: bool | Mapping[str, Any] = False, page: bool | Mapping[str, Any] = True,
                 **options: Any) -> None:
        if import_name is None:
            import_name = str(sys._getframe(1).f_globals.get('__name__', '__main__'))
        super().__init__(import_name, **options)
        self.url = url or os.environ.get('MINIBATCH_MONGO_URL') or os.environ.get('MONGO_URL')
        self.streams = (streams,) if isinstance(streams, str) else tuple(streams)
        #: What :meth:`start_streaming` has started and :meth:`stop_streaming` has not stopped.
        self.consumers: list[Consumer] = []
        self._probe = Probe(self.url)
        self.add_url_rule('/status', 'minibatch_status', self._status_page)
        self.add_url_rule('/health', 'minibatch_health', self._health_page)
        self.add_url_rule('/metrics', 'minibatch_metrics', Metrics(self.url).page)
        self._ingest = ingest_of(self.url, ingest)
        if self._ingest is not None:
            self.add_url_rule('/streams/<path:name>', 'minibatch_ingest', self._ingest.page, methods=['POST'])
        self._page = page_of(self.url, page, lambda: [consumer.report() for consumer in tuple(self.consumers)])
        self._paged = threading.Lock()
        atexit.register(self.stop_streaming)

    def wsgi_app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, as WSGI has it. Before the first one the live page takes what routes are free."""
        self._add_page()
        return super().wsgi_app(environ, start_response)

    def _add_page(self) -> None:
        with self._paged:
            page = self._page
            if page is not None and not self._got_first_request and 'minibatch_page_page' not in self.view_functions:
                page.add_to(self)

    def start_streaming(self, consumer: Callable[..., Any], *, backoff: float = 0.5, max_backoff: float = 30.0,
                        grace: float = 10.0, **kwargs: Any) -> Consumer | None:
        """Run *consumer* in a process of its own, and start it again whenever it ends.

        It is called there with *kwargs*, and with the ``url`` of this app if it takes one. It should block, as
        ``@streaming`` does; or return an emitter, or a list of them, that run in the background. The process ends
        with :meth:`stop_streaming`, and with the app, however that ends.

        :param consumer: a function; closures and functions of the main script will do
        :param backoff: seconds until the first restart; doubled with each, with jitter
        :param max_backoff: most seconds between two restarts
        :param grace: seconds that :meth:`stop_streaming` gives it to finish the windows it is at
        :return: the consumer's supervisor; ``None`` inside of a consumer, which starts no others
        :raises OptionError: *consumer* cannot be called like this, or not be sent to another process
        """
        if inside():  # the consumer's module was imported over there, and starts what it always starts
            return None
        if not callable(consumer):
            raise OptionError(f'start_streaming takes a function, not {consumer!r}')
        seconds: dict[str, object] = {'backoff': backoff, 'max_backoff': max_backoff, 'grace': grace}
        for option, value in seconds.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
                raise OptionError(f'{option} must be a number of seconds, more than 0, not {value!r}')
        if 'url' not in kwargs and _takes_url(consumer):
            kwargs['url'] = self.url
        supervisor = Consumer(consumer, kwargs, backoff=backoff, cap=max_backoff, grace=grace)
        self.consumers.append(supervisor)
        supervisor.start()
        return supervisor

    def stop_streaming(self, grace: float | None = None) -> None:
        """Stop all consumers: each finishes the windows it is at, and is killed if it takes too long.

        :param grace: seconds to wait; by default what each was started with
        """
        consumers = tuple(self.consumers)
        for consumer in consumers:
            consumer.ask_to_stop()
        for consumer in consumers:
            consumer.stop(grace)
            if consumer in self.consumers:
                self.consumers.remove(consumer)

    def status(self) -> dict[str, Any]:
        """What ``/status`` says."""
        pids = [pid for consumer in self.consumers if (pid := consumer.pid)]
        return judge(self._probe.look(self.streams, pids), self.consumers)

    def serve(self, host: str = '127.0.0.1', port: int = 5000, **options: Any) -> Server:
        """Serve in a thread, and return the server, which has a ``url`` and a ``stop()``.

        :param host: where to listen
        :param port: 0 for any free one
        :param options: of waitress, such as ``threads``
        """
        server = self._server(host, port, options)
        server.start()
        return server

    def run(self, host: str | None = None, port: int | None = None, debug: bool | None = None,
            load_dotenv: bool = True, **options: Any) -> None:
        """Serve until Ctrl-C or SIGTERM, then stop the consumers. A second Ctrl-C kills them.

        With ``MINIBATCH_LOG=json`` in the environment, this process and its consumers log lines of JSON
        (:mod:`minibatch.logs`).

        :param host: where to listen; only this machine (127.0.0.1) unless told otherwise
        :param port: 5000 by default; 0 for any free one
        :param debug: show tracebacks on error pages; there is no reloader, which would start the consumers twice
        :param load_dotenv: there because Flask has it; nothing is loaded
        :param options: of waitress, such as ``threads``
        :raises OptionError: the address is taken, or an option is not one of waitress
        """
        if inside():
            return
        from_environment()
        if debug is not None:
            self.debug = bool(debug)
        try:
            server = self._server(host or '127.0.0.1', 5000 if port is None else port, options)
            look = 'status' if self._page is None else 'live page'
            where = 'status' if self._page is None else 'live/'
            print(f' * {self.name} at {server.url}, its {look} at {server.url}/{where}; Ctrl-C stops it',  # noqa: T201
                  file=sys.stderr, flush=True)
            with self._signals(server):
                server.run()
                self.stop_streaming()
        finally:
            self.stop_streaming()

    def _server(self, host: str, port: int, given: dict[str, Any]) -> Server:
        options = given
        if self._ingest is not None:
            options = {'threads': 16, **options}  # they wait for MongoDB, and /health must not wait for them
        if self._page is not None:
            # Each page that is open keeps a thread; what is left is for everything else.
            options = {**options, 'threads': given.get('threads', options.get('threads', 4) + MOST_PAGES)}
            if isinstance(options['threads'], int):
                self._page.board.most = max(0, min(MOST_PAGES, options['threads'] - 2))
        server = Server(self, host, port, self._page.board.stop if self._page is not None else None, **options)
        if self._page is not None:
            self._page.board.start()
            if self._page.tells and server.host not in ('127.0.0.1', '::1'):
                log.warning('whoever can reach %s:%d may read messages on the live page: put a proxy that asks for a '
                            "password before it, or give StreamingApp page={'data': False}", server.host, server.port)
        if self._ingest is not None and not self._ingest.guarded and server.host not in ('127.0.0.1', '::1'):
            log.warning('whoever can reach %s:%d may append to the streams: give ingest a token', server.host,
                        server.port)
        return server

    def _signals(self, server: Server) -> AbstractContextManager[None]:
        """Let Ctrl-C and SIGTERM stop *server*, once; the second time, kill the consumers too."""
        seen: list[int] = []

        def stop(number: int, frame: object) -> None:
            seen.append(number)
            server.stop()
            if len(seen) > 1:
                for consumer in tuple(self.consumers):
                    consumer.kill()

        return handled_by(stop)

    def _status_page(self) -> Response:
        return _json(self.status())

    def _health_page(self) -> Response:
        status = self.status()
        short = {name: status[name] for name in ('healthy', 'status', 'reasons')}
        return _json(short, 200 if status['healthy'] else 503)


def _takes_url(consumer: Callable[..., Any]) -> bool:
    parameters = inspect.signature(consumer).parameters.values()
    return any(each.name == 'url' or each.kind is each.VAR_KEYWORD for each in parameters)


def _json(content: Any, code: int = 200) -> Response:
    answer = Response(json.dumps(content, indent=2, default=str) + '\n', code, mimetype='application/json')
    answer.headers['Cache-Control'] = 'no-store'
    return answer
