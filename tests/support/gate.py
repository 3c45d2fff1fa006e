"""A way to a server that can be shut, hung and opened again, while the server behind it knows nothing of it.

>>> with Gate(6379) as gate:                                              # doctest: +SKIP
...     client = redis.Redis(port=gate.port)
...     gate.shut()        # every connection is closed, and new ones are refused
...     gate.open()
"""

from __future__ import annotations

import contextlib
import socket
import threading


class Gate:
    """Forward one loopback port to another.

    Unlike a server that was killed, one behind a shut gate keeps what it has in memory. That is how a broker without a
    disk can be away and come back with its data.

    :param target: the server's port
    :param port: the port to listen at; any free one unless given
    :ivar port: where clients connect; it stays the same when the gate is shut and opened
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self.target = target
        self.port = port
        self._lock = threading.Lock()
        self._links: set[tuple[socket.socket, socket.socket]] = set()
        self._flow = threading.Event()
        self._flow.set()
        self._listener: socket.socket | None = None
        self.open()

    def open(self) -> None:
        """Let connections in."""
        self._flow.set()
        with self._lock:
            if self._listener is not None:
                return
            listener = socket.create_server(('127.0.0.1', self.port), backlog=128)
            self._listener, self.port = listener, int(listener.getsockname()[1])
        threading.Thread(target=self._accept, args=(listener,), name='gate', daemon=True).start()

    def shut(self) -> None:
        """Close every connection and refuse new ones, as if the server were gone."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def cut(self) -> None:
        """Close every open connection; new ones are let in."""
        with self._lock:
            links, self._links = self._links, set()
        for link in links:
            _close(*link)

    def hang(self) -> None:
        """As if a cable were pulled: connections stay open and nothing passes."""
        self._flow.clear()

    def flow(self) -> None:
        """The cable is back; what was sent meanwhile arrives."""
        self._flow.set()

    def close(self) -> None:
        self.shut()
        self._flow.set()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(('127.0.0.1', self.target), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                late = self._listener is not listener
                if not late:
                    self._links.add((client, server))
            if late:
                _close(client, server)
                return
            for link in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=link, name='gate-link', daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._flow.wait()
                target.sendall(data)
        with self._lock:
            self._links.discard((source, target))
            self._links.discard((target, source))
        _close(source, target)


def _close(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
