"""An embedded MongoDB: a real ``mongod`` on loopback, shared by all processes of a user, there while it is used.

``embedded:///path/to/dir`` names its directory, ``embedded:`` the user's own one. The first process that asks starts
the server, the others find it. It stops a moment after its last client has gone, however that one went, and leaves
no process behind (:mod:`minibatch.supervisor`). It is meant for trying things out, for tests and for small machines;
it listens on 127.0.0.1 only, has no passwords, and is no replacement for a MongoDB that somebody looks after.

Environment: ``MINIBATCH_HOME`` is where the user's own directory is made (else ``XDG_DATA_HOME``, else
``~/.local/share``), ``MINIBATCH_MONGOD`` the server program to use, ``MINIBATCH_LINGER`` how many seconds the server
stays after its last client (2).
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import math
import os
import selectors
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from minibatch.errors import EmbeddedError, MinibatchError, OptionError

try:
    import fcntl
except ImportError:  # Windows: everything else of minibatch works there, with a MongoDB by URL
    fcntl = None  # type: ignore[assignment]

SCHEME = 'embedded'
LINGER = 2.0
WAIT = 90.0  # seconds for a server to start, recovery after a crash included
NO_MONGOD = (
    "no MongoDB to use: install the embedded one with: pip install 'minibatch[embedded]', "
    'or set MINIBATCH_MONGO_URL to the URL of a MongoDB (MINIBATCH_MONGOD names a mongod program of your own)'
)

_clients: dict[Path, int] = {}  # the locks that say: this process is a client
_guard = threading.Lock()


def ensure(url: str = 'embedded:') -> str:
    """Make this process a client of the server that *url* names, start it if needed, and say where it is.

    :param url: ``embedded:``, or ``embedded:///path/to/dir``
    :return: the server's ``mongodb://`` URL, good while this process lives
    :raises EmbeddedError: no ``mongod`` was found, or it does not start
    """
    home = directory(url)
    try:
        _attach(home)
        with _starting(home):
            return str((_running(home, wait=True) or _start(home))['url'])
    except MinibatchError:
        raise
    except OSError as exc:
        problem = exc.strerror or str(exc)
    raise EmbeddedError(f'cannot keep a database in {home} ({problem}): set MINIBATCH_HOME to a directory of your own')


def release(url: str = 'embedded:') -> None:
    """Be no client of that server any more; the last one's release stops it."""
    with _guard:
        lock = _clients.pop(directory(url), None)
    if lock is not None:
        os.close(lock)


def leave(timeout: float = 10.0) -> None:
    """Be no client of any server, and wait for those to stop of which we were the last one."""
    for url in attached():
        home = directory(url)
        release(url)
        if not _client_pids(home) and not (home / 'pinned').exists():
            _until(functools.partial(_left, home), timeout)


def revive(url: str = 'embedded:') -> None:
    """Start the server again if its supervisor was killed, but not if somebody stopped it on purpose."""
    home = directory(url)
    if home in _clients and not (home / 'stopped').exists():
        ensure(url)


def attached() -> list[str]:
    """The ``embedded:`` URLs of the directories whose server this process is a client of."""
    with _guard:
        return [url_of(home) for home in _clients]


def start(path: str | Path | None = None) -> dict[str, Any]:
    """Start the server of *path* and keep it until :func:`stop`, with clients or without.

    :param path: the directory, or its ``embedded:`` URL; by default the user's own
    :return: as :func:`status`
    """
    home = directory(path)
    known = home in _clients
    ensure(url_of(home))
    (home / 'pinned').touch()
    if not known:
        release(url_of(home))
    return status(home)


def stop(path: str | Path | None = None) -> bool:
    """Stop the server of *path*, whoever uses it.

    :param path: the directory, or its ``embedded:`` URL; by default the user's own
    :return: whether there was a server to stop
    """
    home = directory(path)
    if not home.is_dir():
        return False
    with _starting(home):  # one that is just being started is stopped, too
        if not _supervised(home):
            (home / 'stopped').touch()  # it may have been killed: its clients shall not revive it
            return False
        (home / 'stop').touch()
    if not _until(lambda: not _supervised(home), WAIT):
        raise EmbeddedError(f'the embedded MongoDB in {home} does not stop; see {home / "mongod.log"}')
    return True


def status(path: str | Path | None = None) -> dict[str, Any]:
    """What is known of the server of *path*, ready for JSON.

    :param path: the directory, or its ``embedded:`` URL; by default the user's own
    :return: ``running``, ``path``, ``url``, ``port``, ``pid``, ``supervisor``, ``started``, ``mongod``, ``pinned``
        and ``clients``: process ids, or None where the system does not tell

    >>> status('/no/such/directory')['running']
    False
    """
    home = directory(path)
    state = (_running(home) if home.is_dir() else None) or {}
    facts = {key: state.get(key) for key in ('url', 'port', 'pid', 'supervisor', 'started', 'mongod')}
    pinned = bool(state) and (home / 'pinned').exists()
    return {'running': bool(state), 'path': str(home), **facts, 'pinned': pinned, 'clients': _client_pids(home)}


def directory(url: str | Path | None = None) -> Path:
    """The directory that an ``embedded:`` URL, or a path, names.

    >>> directory('embedded:///srv/my%20data')
    PosixPath('/srv/my data')
    """
    text = str(url) if url is not None else f'{SCHEME}:'
    if not text.startswith(f'{SCHEME}:'):
        return Path(text).expanduser().resolve()
    parts = urlsplit(text)
    if parts.netloc or (parts.path and not parts.path.startswith('/')):
        raise OptionError(f'{text!r} names no directory: write embedded:///absolute/path (three slashes), or embedded:')
    if parts.path.strip('/'):
        return Path(unquote(parts.path)).resolve()
    base = os.environ.get('MINIBATCH_HOME')
    if base:
        return (Path(base).expanduser() / 'mongodb').resolve()
    data = os.environ.get('XDG_DATA_HOME') or Path.home() / '.local' / 'share'
    return (Path(data) / 'minibatch' / 'mongodb').resolve()


def url_of(path: Path) -> str:
    """The ``embedded:`` URL of a directory.

    >>> url_of(Path('/srv/data'))
    'embedded:///srv/data'
    """
    return path.resolve().as_uri().replace('file:', f'{SCHEME}:', 1)


def find_mongod() -> str:
    """The server program: ``$MINIBATCH_MONGOD``, else on the ``PATH``, else in the wheel of the extra ``embedded``."""
    named = os.environ.get('MINIBATCH_MONGOD')
    if named:
        path = shutil.which(named)
        if path is None:
            raise EmbeddedError(f'MINIBATCH_MONGOD is {named}, which is no program that can be run')
        return path
    found = shutil.which('mongod')
    if found:
        return found
    spec = importlib.util.find_spec('fiftyone')  # the name alone: importing that package is not needed
    for place in (spec.submodule_search_locations or []) if spec else []:
        wheel = Path(place, 'db', 'bin', 'mongod')
        if wheel.is_file():
            return str(wheel)
    raise EmbeddedError(NO_MONGOD)


# -- processes and locks


def _attach(home: Path) -> None:
    """Hold the clients' lock, which the system gives back when this process ends, however it ends."""
    if fcntl is None:
        raise EmbeddedError(f'there is no embedded MongoDB for this system; {NO_MONGOD.partition(": ")[2]}')
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _guard:
        if home not in _clients:
            lock = os.open(home / 'clients.lock', os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(lock, fcntl.LOCK_SH)
            _clients[home] = lock
        os.utime(_clients[home])


def _after_fork() -> None:
    # A child is no client until it asks to be: a worker that outlives its parent must not keep the server.
    global _guard
    _guard = threading.Lock()
    for lock in _clients.values():
        with contextlib.suppress(OSError):
            os.close(lock)
    _clients.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork)


@contextlib.contextmanager
def _starting(home: Path) -> Iterator[None]:
    """Alone in finding out whether a server runs."""
    lock = os.open(home / 'start.lock', os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _until(lambda: _try(lock), WAIT):
            raise EmbeddedError(f'another process has been starting the embedded MongoDB in {home} for {WAIT:.0f} s')
        yield
    finally:
        os.close(lock)


def _try(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _supervised(home: Path) -> bool:
    """Whether a supervisor lives: its lock says so, not a process id that another process may have by now."""
    lock = os.open(home / 'supervisor.lock', os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _left(home: Path) -> bool:
    return not _supervised(home) or bool(_client_pids(home))


def _running(home: Path, wait: bool = False) -> dict[str, Any] | None:
    """Where the server is, if there is one; one that is just stopping is waited for, if *wait*."""
    deadline = time.monotonic() + WAIT
    while _supervised(home):
        with contextlib.suppress(OSError, ValueError):
            state: dict[str, Any] = json.loads((home / 'server.json').read_text())
            if not (home / 'stop').exists():
                return state
        if not wait or time.monotonic() > deadline:
            return None
        time.sleep(0.01)
    return None


def _start(home: Path) -> dict[str, Any]:
    mongod = _runnable(find_mongod(), home)
    program = Path(__file__).with_name('supervisor.py')
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    with open(home / 'supervisor.log', 'wb') as log:
        process = subprocess.Popen(
            [sys.executable, str(program), str(home), mongod, str(_linger())], cwd=home,
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
        )
    process.wait()  # it leaves a child of its own, which is nobody's, and ends
    assert process.stdout is not None
    with process.stdout as report, selectors.DefaultSelector() as ready:
        ready.register(report, selectors.EVENT_READ)
        line = report.readline() if ready.select(WAIT) else b''
    try:
        message: dict[str, Any] = json.loads(line)
    except ValueError:
        message = {'error': 'it ended without a word' if not line else 'it answered nonsense'}
    if 'error' in message:
        raise EmbeddedError(
            f'the embedded MongoDB in {home} does not start: {message["error"]}; see {home / "mongod.log"} '
            'and supervisor.log beside it, or set MINIBATCH_MONGO_URL to the URL of another MongoDB'
        )
    return message


def _runnable(mongod: str, home: Path) -> str:
    """A wheel does not keep the permission to execute: give it, here or to a copy."""
    if os.access(mongod, os.X_OK):
        return mongod
    with contextlib.suppress(OSError):
        os.chmod(mongod, 0o755)
        return mongod
    copy = home / 'mongod'
    if not copy.exists() or copy.stat().st_size != os.stat(mongod).st_size:
        new = copy.with_name('mongod.new')
        shutil.copyfile(mongod, new)
        new.chmod(0o755)
        new.replace(copy)
    return str(copy)


def _linger() -> float:
    text = os.environ.get('MINIBATCH_LINGER') or str(LINGER)
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < math.inf:
            return float(text)
    raise OptionError(f'MINIBATCH_LINGER is {text!r}: write a number of seconds')


def _client_pids(home: Path) -> list[int] | None:
    """Who holds the clients' lock, as far as the system tells."""
    try:
        inode = (home / 'clients.lock').stat().st_ino
        rows = [line.split() for line in Path('/proc/locks').read_text().splitlines()]
    except OSError:
        return None
    return sorted({int(row[4]) for row in rows if row[1] == 'FLOCK' and row[5].rpartition(':')[2] == str(inode)})
