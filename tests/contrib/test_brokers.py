"""The brokers of the tests do what the tests rely on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support import brokers
from tests.support.gate import Gate
from tests.support.nursery import ROOT
from tests.support.waiting import wait_until


@pytest.fixture(params=['kafka', 'mqtt', 'redis'])
def broker(request: pytest.FixtureRequest) -> brokers.Broker:
    found: brokers.Broker = request.getfixturevalue(request.param)
    return found


def reachable(broker: brokers.Broker) -> bool:
    try:
        with socket.create_connection(('127.0.0.1', broker.port), timeout=2) as client:
            client.settimeout(0.2)
            try:
                return client.recv(1) != b''
            except TimeoutError:
                return True
    except OSError:
        return False


@pytest.mark.fault
def test_a_broker_can_be_away_stopped_killed_and_comes_back_at_its_port(broker: brokers.Broker) -> None:
    port = broker.port
    assert reachable(broker)
    with broker.away():
        assert not reachable(broker)
        assert broker.alive
    assert reachable(broker)
    for end in (broker.stop, broker.kill):
        end()
        assert not broker.alive
        assert not reachable(broker)
        broker.start()
        assert broker.port == port
        assert reachable(broker)


def test_a_broker_ends_with_the_process_that_started_it() -> None:
    source = ('import sys\nfrom tests.support import brokers\n'
              'b = brokers.redis(); b.start(); print(b.process.pid, flush=True)\nsys.stdin.read()\n')
    if brokers._redis() is None:
        pytest.skip(f'no Redis: {brokers.Redis.missing}')
    parent = subprocess.Popen([sys.executable, '-c', source], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert parent.stdout is not None
    assert parent.stdin is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    parent.stdout.close()
    parent.stdin.close()
    wait_until(lambda: not running(pid), what='the broker to end')


def running(pid: int) -> bool:
    try:
        with open(f'/proc/{pid}/stat') as stat:
            return stat.read().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def test_kafka_keeps_messages_behind_a_shut_gate_and_loses_them_with_its_process(kafka: brokers.Kafka) -> None:
    topic = kafka.topic(partitions=2)
    kafka.send(topic, [b'a', b'b'], partition=1, key=b'k', headers=[('h', b'1')])
    with kafka.away():
        pass
    records = kafka.read(topic, 2)
    assert [(r.partition, r.value, r.key, r.headers) for r in records] == [
        (1, b'a', b'k', [('h', b'1')]), (1, b'b', b'k', [('h', b'1')])]
    kafka.restart_empty()
    kafka.topic(name=topic)
    kafka.send(topic, [b'c'])
    assert [(r.offset, r.value) for r in kafka.read(topic, 1)] == [(0, b'c')]


def test_a_locked_kafka_lets_nobody_in(locked_kafka: brokers.Kafka) -> None:
    from minibatch.contrib.kafka.client import KafkaConsumer, Link, connect
    from minibatch.errors import AccessRefused
    with pytest.raises(AccessRefused):
        connect(KafkaConsumer, Link(), [locked_kafka.url], {
            'security_protocol': 'SASL_PLAINTEXT', 'sasl_mechanism': 'SCRAM-SHA-512', 'sasl_plain_username': 'ann',
            'sasl_plain_password': 'wrong', 'bootstrap_timeout_ms': 2000})


def test_redis_keeps_what_it_has_over_a_kill(redis: brokers.Redis) -> None:
    client = pytest.importorskip('redis').Redis(port=redis.port)
    client.set('a', 1)
    client.close()
    redis.kill()
    redis.start()
    assert client.get('a') == b'1'
    redis.restart_empty()
    assert client.get('a') is None
    client.close()


@pytest.fixture
def client(mqtt: brokers.Mqtt) -> Iterator[Callable[..., Any]]:
    """Connect a client with a session that is kept, which acknowledges nothing by itself."""
    paho = pytest.importorskip('paho.mqtt.client')
    made: list[Any] = []

    def connect(name: str, seen: list[Any] | None = None) -> Any:
        connected: list[bool] = []
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name, clean_session=False, manual_ack=True)
        client.username_pw_set(mqtt.user, mqtt.password)
        client.on_connect = lambda c, u, flags, *rest: connected.append(flags.session_present)
        if seen is not None:
            client.on_message = lambda c, u, message: seen.append(message)
        client.connect('127.0.0.1', mqtt.port)
        client.loop_start()
        made.append(client)
        wait_until(lambda: connected, what='the connection')
        client.session_present = connected[0]
        return client
    yield connect
    for each in made:
        each.disconnect()
        each.loop_stop()


def test_mqtt_delivers_again_what_was_not_acknowledged(mqtt: brokers.Mqtt, client: Callable[..., Any]) -> None:
    me, you, topic = (f'{name}-{uuid.uuid4().hex[:8]}' for name in ('me', 'you', 'topic'))
    subscribed: list[Any] = []
    seen: list[Any] = []
    reader = client(me, seen)
    reader.on_subscribe = lambda *args: subscribed.append(args)
    reader.subscribe(f'{topic}/#', 1)
    wait_until(lambda: subscribed, what='the subscription')
    writer = client(you)

    def publish(*numbers: int) -> None:
        for number in numbers:
            writer.publish(f'{topic}/a', str(number), qos=1).wait_for_publish(10)
    publish(0, 1, 2)
    wait_until(lambda: len(seen) == 3)
    reader.ack(seen[0].mid, seen[0].qos)
    reader.disconnect()
    reader.loop_stop()
    publish(3, 4)
    again: list[Any] = []
    assert client(me, again).session_present
    wait_until(lambda: len(again) == 4)
    assert [m.payload for m in again] == [b'1', b'2', b'3', b'4']


def test_mqtt_refuses_a_wrong_password(mqtt: brokers.Mqtt) -> None:
    paho = pytest.importorskip('paho.mqtt.client')
    codes: list[Any] = []
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id='stranger', reconnect_on_failure=False)
    client.username_pw_set(mqtt.user, 'wrong')
    client.on_connect = lambda c, u, flags, code, *rest: codes.append(code)
    client.on_disconnect = lambda c, u, flags, code, *rest: codes.append(code)
    client.connect('127.0.0.1', mqtt.port)
    client.loop_start()
    try:
        wait_until(lambda: codes, what='an answer')
    finally:
        client.loop_stop()
    assert codes[0].is_failure


def test_a_gate_can_be_cut_hung_and_shut() -> None:
    with socket.create_server(('127.0.0.1', 0)) as server, Gate(server.getsockname()[1]) as gate:
        port = gate.port
        with socket.create_connection(('127.0.0.1', port), timeout=5) as one:
            other, _ = server.accept()
            one.sendall(b'a')
            assert other.recv(1) == b'a'
            gate.hang()
            one.sendall(b'b')
            other.settimeout(0.1)
            with pytest.raises(TimeoutError):
                other.recv(1)
            gate.flow()
            other.settimeout(5)
            assert other.recv(1) == b'b'
            gate.cut()
            assert one.recv(1) == b''
            other.close()
        gate.shut()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(('127.0.0.1', port), timeout=5)
        gate.open()
        assert gate.port == port
        socket.create_connection(('127.0.0.1', port), timeout=5).close()
