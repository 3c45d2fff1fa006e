"""The small process that keeps the embedded MongoDB: starts it, restarts it, and stops it when nobody is left.

It is run as a program, by :mod:`minibatch.embedded` and for it alone, and imports nothing of this package, so that
it starts in an instant and stays small. ``mongod`` is its child and dies with it, whatever kills it.

Nobody here trusts a process id that was written down some time ago. Who is alive is said by file locks, which the
system takes back at the very moment their holder dies, and across reboots:

==================  =====================================================================================
``supervisor.lock``  held alone by the supervisor, as long as it lives
``clients.lock``     held, shared, by every client process; that the supervisor gets it alone means: no client
``start.lock``       held by whoever finds out whether a server runs, and starts one
==================  =====================================================================================

The other files: ``server.json`` (where the server is, while it may be used), ``port`` (the last one, taken again if
it is free), ``pinned`` (stay without clients), ``stop`` (stop now), ``stopped`` (it was, on purpose), ``rs-*`` (the
database, named as its replica set), ``mongod.log``.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

TICK = 0.1  # seconds between two looks at the child and at the clients
START_TIMEOUT = 60.0  # recovery after a crash may have a long journal to read
STOP_TIMEOUT = 20.0
MAX_RESTART_DELAY = 10.0
LOG_LIMIT = 20 << 20
ADDRESS_IN_USE = 48  # mongod's exit code
NOT_YET_INITIALIZED = 94  # its error code


class StartFailed(Exception):
    """mongod did not come up; the text says why."""


class Supervisor:
    """One run of the server of one directory.

    :param home: the directory
    :param mongod: the program to run
    :param linger: seconds to stay after the last client has gone
    """

    def __init__(self, home: Path, mongod: str, linger: float) -> None:
        self.home = home
        self.mongod = mongod
        self.linger = linger
        self.dbpath = _database(home)
        self.port = 0
        self.started = 0.0
        self.lock = -1
        self.stopping = False
        self.idle_since: float | None = None
        self.child: subprocess.Popen[bytes] | None = None
        self.failures = 0
        self.spawned_at = 0.0

    def run(self, ready: Callable[[dict[str, Any]], None]) -> None:
        """Start the server, tell *ready* where it is, and stay until it is not wanted any more."""
        self.lock = os.open(self.home / 'supervisor.lock', os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + STOP_TIMEOUT
        while not _taken(self.lock):
            if other := self._other():  # its client was killed before this one could learn of it
                ready(other)
                return
            if time.monotonic() > deadline:
                raise StartFailed('another one is there, and does not say where its server is')
            time.sleep(0.01)
        for name in ('server.json', 'stop', 'stopped', 'pinned'):
            self._remove(name)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        clients = os.open(self.home / 'clients.lock', os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _end_orphan(self.dbpath)
            self._start()
            ready(self._publish())
            while not self._done(clients):
                self._keep_alive()
                time.sleep(TICK)
        finally:
            if self.stopping or (self.home / 'stop').exists():  # clients that are there shall not start it again
                with contextlib.suppress(OSError):
                    (self.home / 'stopped').touch()
            # first the notice comes down, then the server: who arrives now waits for our lock and starts anew
            self._remove('server.json')
            self._stop()
            self._remove('stop')
            self._remove('pinned')

    def _other(self) -> dict[str, Any] | None:
        """Where the server of the supervisor is that was quicker, once it says so."""
        with contextlib.suppress(OSError, ValueError):
            state: dict[str, Any] = json.loads((self.home / 'server.json').read_text())
            if not (self.home / 'stop').exists():
                os.kill(state['supervisor'], 0)  # else it is what one has left that was killed
                return state
        return None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            if not self._dispossessed():
                (self.home / name).unlink()

    def _dispossessed(self) -> bool:
        """Whether our directory was deleted under us; another one of its name is not ours."""
        try:
            return (self.home / 'supervisor.lock').stat().st_ino != os.fstat(self.lock).st_ino
        except FileNotFoundError:
            return True

    # -- who is there

    def _done(self, clients: int) -> bool:
        if self.stopping or (self.home / 'stop').exists() or self._dispossessed():
            return True
        if (self.home / 'pinned').exists() or not _taken(clients):
            self.idle_since = None
            return False
        try:
            now = time.monotonic()
            if self.idle_since is None:
                self.idle_since = now
            # a client that came and went between two looks has touched the file
            touched = abs(time.time() - os.fstat(clients).st_mtime)
            if now - self.idle_since < self.linger or touched < self.linger:
                return False
            # taken down while no client can come in: who comes later finds no notice, and waits for our end
            self._remove('server.json')
            return True
        finally:
            fcntl.flock(clients, fcntl.LOCK_UN)

    # -- the server

    def _start(self) -> None:
        """First start: with a port of its own and its replica set configured, or :class:`StartFailed`."""
        for _ in range(5):
            self.port = _free_port(self._last_port())
            self._spawn()
            with contextlib.suppress(PortTaken):
                self._wait_until_up()
                self._configure()
                break
        else:
            raise StartFailed('every port it tried was taken')
        _write(self.home / 'port', str(self.port))
        self.started = time.time()

    def _last_port(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return int((self.home / 'port').read_text())
        return 0

    def _spawn(self) -> None:
        log = self.home / 'mongod.log'
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix('.log.1'))
        with open(self.home / 'mongod.out', 'wb') as output:
            self.child = subprocess.Popen(
                command(self.mongod, self.dbpath, self.port, log), cwd=self.home, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True, preexec_fn=_die_with_parent(),
            )
        self.spawned_at = time.monotonic()

    def _wait_until_up(self) -> None:
        assert self.child is not None
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and not self.stopping:
            code = self.child.poll()
            if code == ADDRESS_IN_USE:
                raise PortTaken
            if code is not None:
                raise StartFailed(f'{self.mongod} ended with code {code}: {self._reason()}')
            with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', self.port), timeout=1):
                return
            time.sleep(0.01)
        raise StartFailed(f'it did not answer within {START_TIMEOUT:.0f} s')

    def _configure(self) -> None:
        """Make the server the primary of its set of one, whatever port it had before."""
        from pymongo import MongoClient
        from pymongo.errors import OperationFailure, PyMongoError

        set_name, host = self.dbpath.name, f'127.0.0.1:{self.port}'
        deadline = time.monotonic() + START_TIMEOUT
        with MongoClient[dict[str, Any]](
            '127.0.0.1', self.port, directConnection=True, serverSelectionTimeoutMS=10_000
        ) as client:
            while time.monotonic() < deadline and not self.stopping:
                if client.admin.command('hello').get('isWritablePrimary'):
                    return
                with contextlib.suppress(PyMongoError):  # not yet in a state to be told: ask again
                    try:
                        config = client.admin.command('replSetGetConfig')['config']
                    except OperationFailure as exc:
                        if exc.code == NOT_YET_INITIALIZED:
                            first = {'_id': set_name, 'members': [{'_id': 0, 'host': host}]}
                            client.admin.command('replSetInitiate', first)
                        continue
                    if config['members'][0]['host'] != host:
                        config['members'][0]['host'] = host
                        config['version'] += 1
                        client.admin.command('replSetReconfig', config, force=True)
                time.sleep(0.01)
        raise StartFailed('its replica set of one did not elect it')

    def _reason(self) -> str:
        """The last thing that mongod complained of."""
        with contextlib.suppress(OSError):
            for line in reversed((self.home / 'mongod.log').read_text(errors='replace').splitlines()[-200:]):
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    if entry['s'] in 'EF':
                        attr = entry.get('attr', {})
                        detail = attr.get('error') or attr.get('reason') or ''
                        return f'{entry["msg"]} {detail}'.strip()
        with contextlib.suppress(OSError):
            lines = (self.home / 'mongod.out').read_text(errors='replace').strip().splitlines()
            return lines[-1] if lines else 'without a word'
        return 'without a word'

    def _publish(self) -> dict[str, Any]:
        assert self.child is not None
        state = {
            'url': f'mongodb://127.0.0.1:{self.port}/?replicaSet={self.dbpath.name}', 'port': self.port,
            'pid': self.child.pid, 'supervisor': os.getpid(), 'started': self.started, 'mongod': self.mongod,
        }
        _write(self.home / 'server.json', json.dumps(state))
        return state

    def _keep_alive(self) -> None:
        """A server that died under its clients comes back at the same port, so that they find it again."""
        assert self.child is not None
        now = time.monotonic()
        if self.child.poll() is None:
            if now - self.spawned_at > 3 * MAX_RESTART_DELAY:
                self.failures = 0
            return
        delay = 0.0 if not self.failures else min(0.25 * 2**self.failures, MAX_RESTART_DELAY)
        if now - self.spawned_at >= delay:
            print(f'mongod ended with code {self.child.returncode}: starting it again', file=sys.stderr, flush=True)
            self.failures += 1
            self._spawn()
            self._publish()

    def _stop(self) -> None:
        if self.child is None or self.child.poll() is not None:
            return
        self.child.terminate()
        try:
            self.child.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class PortTaken(Exception):
    """Somebody took the port between our look and mongod's."""


def command(mongod: str, dbpath: Path, port: int, log: Path) -> list[str]:
    """The command line of the server: on loopback only, small on disk and in memory."""
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30)
    # below half a gigabyte a transaction of a few large windows does not fit; the memory is used only when needed
    cache = min(max(memory / 4, 0.5), 2.0)
    options = [
        '--dbpath', str(dbpath), '--port', str(port), '--bind_ip', '127.0.0.1', '--nounixsocket',
        '--networkMessageCompressors', 'disabled', '--replSet', dbpath.name, '--oplogSize', '512',
        '--wiredTigerCacheSizeGB', f'{cache:.2f}',
        # 17 MB on disk to start with instead of 300
        '--wiredTigerEngineConfigString', 'log=(file_max=32MB,prealloc=false)',
        '--logpath', str(log), '--logappend', '--quiet', '--slowms', '1000',
        # deleted keys kept for old snapshots make polling of a drained stream slow
        '--setParameter', 'minSnapshotHistoryWindowInSeconds=0',
        '--setParameter', 'diagnosticDataCollectionEnabled=false',
    ]  # fmt: skip
    return [mongod, *options]


def _database(home: Path) -> Path:
    """The database's directory, made if there is none.

    It has the name of the replica set, which is different for each directory: a client whose server has gone can
    never take another directory's server at the same port for its own.
    """
    found = sorted(home.glob('rs-*'))
    if found:
        return found[0]
    path = home / f'rs-{uuid.uuid4().hex[:8]}'
    path.mkdir(mode=0o700)
    return path


def _taken(lock: int) -> bool:
    """Take *lock* for us alone; False if somebody holds it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _free_port(wanted: int) -> int:
    """A port to listen at, *wanted* if that is possible.

    The others are from below the range that outgoing connections take theirs from, so that it is still free the next
    time: to move costs a mongod up to 30 s, if somebody listens at its old port and says nothing.
    """
    for port in ([wanted] if wanted else []) + random.sample(range(20_000, 30_000), 20) + [0]:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(('127.0.0.1', port))
            return int(probe.getsockname()[1])
    raise StartFailed('there is no free port on 127.0.0.1')


def _write(path: Path, text: str) -> None:
    """All or nothing, for readers at any moment."""
    new = path.with_name(path.name + '.new')
    new.write_text(text)
    new.replace(path)


def _die_with_parent() -> Callable[[], None] | None:
    """What mongod's process does before it becomes mongod: ask Linux to kill it when we die."""
    if not sys.platform.startswith('linux'):
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def ask() -> None:
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # too late: it has died already
            os._exit(1)

    return ask


def _end_orphan(dbpath: Path) -> None:
    """End a server that a killed supervisor left on our database, where the system did not do it."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((dbpath / 'mongod.lock').read_text())
        deadline = time.monotonic() + STOP_TIMEOUT
        while str(dbpath) in _command_line(pid):
            os.kill(pid, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
            time.sleep(TICK)


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f'/proc/{pid}/cmdline').read_bytes().replace(b'\0', b' ').decode(errors='replace')
    if Path('/proc/self').exists():
        return ''
    return subprocess.run(['ps', '-o', 'command=', '-p', str(pid)], capture_output=True, text=True).stdout


def main(home: str, mongod: str, linger: str) -> None:
    """Leave the terminal and the process that started us, then supervise; report once, as a line of JSON."""
    if os.fork():
        os._exit(0)
    report = os.fdopen(os.dup(1), 'w')
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)

    def tell(message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError, ValueError):  # who started us may be gone, or has been told
            report.write(json.dumps(message) + '\n')
            report.close()

    try:
        Supervisor(Path(home), mongod, float(linger)).run(tell)
    except (StartFailed, OSError) as exc:
        print(f'the end: {exc}', file=sys.stderr, flush=True)
        tell({'error': str(exc)})


if __name__ == '__main__':
    sys.path.pop(0)  # this package's own directory, whose modules are not top-level ones
    main(*sys.argv[1:])
