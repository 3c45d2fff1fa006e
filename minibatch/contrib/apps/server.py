"""A WSGI server for an app, in the foreground or in a thread, that can be stopped from anywhere."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import waitress
import waitress.wasyncore

from minibatch.errors import OptionError


class Server:
    """waitress, listening from the moment of creation.

    :param app: the WSGI app
    :param host: where to listen
    :param port: 0 for any free one
    :param on_stop: called when it stops, to end answers that would go on for ever
    :param options: of waitress, such as ``threads``
    """

    def __init__(self, app: Any, host: str, port: int, on_stop: Callable[[], None] | None = None,
                 **options: Any) -> None:
        self._on_stop = on_stop
        self._sockets: dict[int, Any] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        try:
            self._server = waitress.create_server(app, map=self._sockets, host=host, port=port, **options)
        except OSError as error:
            waitress.wasyncore.close_all(self._sockets, ignore_all=True)
            raise OptionError(f'cannot listen on {host}:{port} ({error.strerror or error}); choose another with '
                              'run(host=..., port=...)') from error
        except ValueError as error:
            raise OptionError(f'the server does not take these options: {error}') from error
        listening = getattr(self._server, 'effective_listen', None) or [
            (self._server.effective_host, self._server.effective_port)]
        self.host, self.port = str(listening[0][0]), int(listening[0][1])

    @property
    def url(self) -> str:
        """Where it can be reached from this machine."""
        host = {'0.0.0.0': '127.0.0.1', '::': '::1'}.get(self.host, self.host)
        return f'http://[{host}]:{self.port}' if ':' in host else f'http://{host}:{self.port}'

    def run(self) -> None:
        """Serve until :meth:`stop`; requests under way are answered."""
        try:
            while not self._stopped.is_set():
                waitress.wasyncore.loop(timeout=1.0, map=self._sockets, count=1)
        finally:
            if self._on_stop is not None:
                self._on_stop()
            self._server.task_dispatcher.shutdown(timeout=2)
            waitress.wasyncore.loop(timeout=0.01, map=self._sockets, count=2)  # send what was answered last
            waitress.wasyncore.close_all(self._sockets, ignore_all=True)

    def start(self) -> None:
        """Serve in a thread."""
        self._thread = threading.Thread(target=self.run, name='minibatch-http', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Make :meth:`run` return; may be called in a signal handler, and more than once."""
        self._stopped.set()
        for dispatcher in list(self._sockets.values()):
            if hasattr(dispatcher, 'pull_trigger'):
                with contextlib.suppress(OSError):  # it stopped just now
                    dispatcher.pull_trigger()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
