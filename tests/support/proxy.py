"""A TCP proxy that understands where a MongoDB message begins and ends, and breaks connections there.

>>> with Proxy(27017) as proxy:                                           # doctest: +SKIP
...     client = MongoClient(proxy.url())
...     proxy.rule('insert', 'middle')         # the next insert is cut in the middle of its bytes
...     proxy.rule('commitTransaction', 'after')   # it is executed, but nobody hears of it
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Literal

Where = Literal['before', 'middle', 'after']
_OP_MSG = 2013


@dataclass
class Rule:
    """Cut the connection at the next *times* requests of a command.

    :ivar where: ``before`` the server sees it, in the ``middle`` of its bytes, or ``after`` the server has answered,
        with the answer swallowed
    :ivar skip: let this many requests of the command pass first
    """

    command: str
    where: Where
    times: int = 1
    skip: int = 0
    hits: int = 0

    def matches(self, command: str) -> bool:
        if command != self.command or self.hits >= self.times:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.hits += 1
        return True


class Proxy:
    """Forward a loopback port to another one, until told to break it."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._links: set[_Link] = set()
        self._flow = threading.Event()
        self._flow.set()
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.port: int = self._listener.getsockname()[1]
        self._refuse = False
        self._thread = threading.Thread(target=self._accept, name='proxy', daemon=True)
        self._thread.start()

    def url(self, dbname: str = '') -> str:
        """A connection string through this proxy (and only through it)."""
        return f'mongodb://127.0.0.1:{self.port}/{dbname}?directConnection=true'

    def rule(self, command: str, where: Where, *, times: int = 1, skip: int = 0) -> Rule:
        """Add a rule; its ``hits`` tell how often it has cut."""
        rule = Rule(command, where, times, skip)
        with self._lock:
            self._rules.append(rule)
        return rule

    def cut(self) -> None:
        """Close every open connection."""
        with self._lock:
            links, self._links = self._links, set()
        for link in links:
            link.close()

    def down(self) -> None:
        """As if the server were gone: close everything, and close whatever comes."""
        self._refuse = True
        self.cut()

    def up(self) -> None:
        self._refuse = False

    def hang(self) -> None:
        """As if a cable were cut: connections stay open and nothing passes."""
        self._flow.clear()

    def flow(self) -> None:
        self._flow.set()

    def close(self) -> None:
        self._refuse = True
        self._flow.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refuse:
                client.close()
                continue
            try:
                server = socket.create_connection(('127.0.0.1', self.target), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = _Link(self, client, server)
            with self._lock:
                self._links.add(link)
            link.start()

    def _decide(self, command: str) -> Rule | None:
        with self._lock:
            return next((r for r in self._rules if r.matches(command)), None)


class _Link:
    """One client's connection and the one to the server that stands for it."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.swallow = False

    def start(self) -> None:
        threading.Thread(target=self._requests, name='proxy-requests', daemon=True).start()
        threading.Thread(target=self._replies, name='proxy-replies', daemon=True).start()

    def close(self) -> None:
        for sock in (self.client, self.server):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        with self.proxy._lock:
            self.proxy._links.discard(self)

    def _requests(self) -> None:
        try:
            while True:
                head = _read(self.client, 16)
                size, _, _, opcode = struct.unpack('<iiii', head)
                message = head + _read(self.client, size - 16)
                self.proxy._flow.wait()
                rule = self.proxy._decide(_command(message) if opcode == _OP_MSG else '')
                if rule is not None and rule.where == 'before':
                    return
                if rule is not None and rule.where == 'middle':
                    self.server.sendall(message[:size // 2])
                    return
                if rule is not None:
                    self.swallow = True
                self.server.sendall(message)
        except OSError:
            pass
        finally:
            if not self.swallow:
                self.close()

    def _replies(self) -> None:
        try:
            while True:
                chunk = self.server.recv(1 << 16)
                if not chunk or self.swallow:
                    return
                self.proxy._flow.wait()
                self.client.sendall(chunk)
        except OSError:
            pass
        finally:
            self.close()


def _read(sock: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = sock.recv(min(size, 1 << 20))
        if not part:
            raise OSError('closed')
        parts.append(part)
        size -= len(part)
    return b''.join(parts)


def _command(message: bytes) -> str:
    """The name of the command in an OP_MSG: the first key of the document in its section of kind 0."""
    at = 20
    while at < len(message):
        kind = message[at]
        if kind == 0:
            start = at + 6  # the kind, the document's length, the type of its first element
            return message[start:message.index(b'\0', start)].decode()
        at += 1 + struct.unpack_from('<i', message, at + 1)[0]
    return ''
