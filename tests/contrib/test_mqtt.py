"""MQTT, as far as it is not what all sources and sinks have to do."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import minibatch as mb
from minibatch.errors import (
    AccessRefused,
    DeliveryFailed,
    InvalidMessage,
    MessageTooLarge,
    OptionError,
)
from tests.support import mqtt as other
from tests.support.brokers import Mqtt
from tests.support.consuming import passed, running
from tests.support.gate import Gate
from tests.support.waiting import wait_until
from tests.support.world import World, at

pytest.importorskip('paho.mqtt.client')
from minibatch.contrib.mqtt import MQTTSink, MQTTSource
from minibatch.contrib.mqtt.address import address, filters
from minibatch.contrib.mqtt.source import session_id


@pytest.fixture
def topic() -> str:
    return f'test/{uuid.uuid4().hex[:12]}'


@pytest.fixture
def stream(url: str) -> Iterator[mb.Stream]:
    stream = mb.stream('clicks', url=url)
    yield stream
    stream.stop()


@pytest.fixture
def again(url: str) -> Iterator[Callable[..., mb.Stream]]:
    """Another object of the same stream, as another process would have."""
    opened: list[mb.Stream] = []

    def get(**options: Any) -> mb.Stream:
        opened.append(mb.stream('clicks', url=url, **options))
        return opened[-1]

    yield get
    for each in opened:
        each.stop()


def data(db: Any) -> list[Any]:
    return [doc['data'] for doc in db.buffer.find({'stream': 'clicks'}).sort('_id', 1)]


def ready(db: Any, topics: list[str] | None = None) -> None:
    """Wait until the source has subscribed."""
    def subscribed() -> bool:
        found = db.source.find_one({'stream': 'clicks', 'position.topics': {'$exists': True}})
        return found is not None and (
            topics is None or [each for each, _ in found['position']['topics']] == topics)
    wait_until(subscribed, 20, what='the subscription')


def settled(db: Any, number: int) -> None:
    """Wait until the broker has got the acknowledgements of all, and that is written down."""
    wait_until(lambda: db.source.find_one({'position.settled': number}), 20, what=f'message {number} to be settled')


class Mosquitto(Mqtt):
    """A mosquitto with more lines in its configuration."""

    lines = ''

    def command(self) -> list[str]:
        command = super().command()
        if not self.mosquitto:
            pytest.skip('mosquitto is not installed')
        with (self.path / 'mosquitto.conf').open('a') as file:
            file.write(self.lines)
        return command


def mosquitto(lines: str) -> Mosquitto:
    broker = Mosquitto()
    broker.lines = lines
    return broker


# -- what comes


def test_a_message_has_its_topic_and_more(mqtt: Mqtt, stream: mb.Stream, db: Any, topic: str) -> None:
    other.send(mqtt, f'{topic}/a/x', [b'{"n": 0}'], retain=True)
    stream.attach(MQTTSource(mqtt.url, [f'{topic}/+/x', f'{topic}/b/#']))
    ready(db)
    wait_until(lambda: data(db), what='the retained message')
    other.send(mqtt, f'{topic}/b', [b'[1, 2]'])
    other.send(mqtt, f'{topic}/a/y', [b'{"n": "nobody asked for it"}'])
    other.send(mqtt, f'{topic}/b/c/d', [b'3'], qos=0)
    other.send(mqtt, f'{topic}/a/x', ['"grün"'.encode()], qos=2)
    wait_until(lambda: len(data(db)) == 4)
    assert data(db) == [
        {'topic': f'{topic}/a/x', 'payload': {'n': 0}, 'qos': 1, 'retain': True},
        {'topic': f'{topic}/b', 'payload': [1, 2], 'qos': 1, 'retain': False},
        {'topic': f'{topic}/b/c/d', 'payload': 3, 'qos': 0 if mqtt.mosquitto else 1, 'retain': False},
        {'topic': f'{topic}/a/x', 'payload': 'grün', 'qos': 1, 'retain': False}]


def test_payloads_are_what_codec_and_schema_make_of_them(mqtt: Mqtt, stream: mb.Stream, db: Any, topic: str) -> None:
    stream.attach(MQTTSource(mqtt.url, topic, codec='base64|json', schema={
        'type': 'object', 'required': ['n'], 'properties': {'n': {'type': 'integer'}}}))
    ready(db)
    other.send(mqtt, topic, [b'eyJuIjogMX0=', b'eyJ4IjogMX0=', b'{"n": 1}'])
    wait_until(lambda: len(stream.dead) == 2)
    assert [each['payload'] for each in data(db)] == [{'n': 1}]
    letters = [window.data[0] for window in stream.dead.list()]
    assert {letter['raw'] for letter in letters} == {b'eyJ4IjogMX0=', b'{"n": 1}'}


@pytest.mark.parametrize('protocol', ['5', '3.1.1'])
def test_either_version_of_mqtt(mqtt: Mqtt, db: Any, topic: str, protocol: str, again: Callable[..., mb.Stream],
                                ) -> None:
    if protocol == '5' and not mqtt.mosquitto:
        pytest.skip('this broker speaks MQTT 3.1.1 only')
    for round_ in range(3):
        stream = again()
        stream.attach(MQTTSource(mqtt.url, topic, protocol=protocol))
        if round_ == 0:
            ready(db)
            other.send(mqtt, topic, [b'%d' % n for n in range(100)])
        wait_until(lambda n=round_: len(data(db)) >= 100 * (n + 1), what='the messages')
        stream.stop()
        if round_ < 2:
            other.send(mqtt, topic, [b'%d' % n for n in range(100 * round_ + 100, 100 * round_ + 200)])
    assert [each['payload'] for each in data(db)] == list(range(300))


def test_topics_come_and_go_with_a_name(mqtt: Mqtt, db: Any, topic: str, again: Callable[..., mb.Stream]) -> None:
    one, two, three = (f'{topic}/{n}' for n in range(3))
    stream = again()
    stream.attach(MQTTSource(mqtt.url, [one, two], name='sensors'))
    ready(db, [one, two])
    stream.stop()
    other.send(mqtt, two, [b'"kept"'])
    stream = again()
    stream.attach(MQTTSource(mqtt.url, [two, three], name='sensors'))
    ready(db, [two, three])
    wait_until(lambda: data(db))
    for each in (one, two, three):
        other.send(mqtt, each, [b'"new"'])
    wait_until(lambda: any(each['topic'] == three for each in data(db)))
    found = [(each['topic'], each['payload']) for each in data(db)]
    if not mqtt.mosquitto:  # rumqttd goes on after UNSUBSCRIBE
        found = [each for each in found if each[0] != one]
    assert found == [(two, 'kept'), (two, 'new'), (three, 'new')]


# -- once


@pytest.mark.fault
@pytest.mark.parametrize('point', ['source:inserted', 'source:committed'])
def test_equal_messages_after_a_kill(mqtt: Mqtt, world: World, topic: str, point: str) -> None:
    """Stored or not, and not acknowledged: by their content nobody could tell one from the other."""
    name = session_id(world.dbname, 'clicks', f'mqtt:{topic}')
    other.subscribe(mqtt, name, topic)
    config = {'role': 'source', 'adapter': f'{__name__}:Killed', 'options': {'size': 20},
              'config': {'url': mqtt.url, 'topic': topic}}
    for round_ in range(3):
        other.send(mqtt, topic, [b'"closed"'] * 100)
        child = world._start({**config, 'at': [at(point, nth=2 + round_)]})
        child.wait_killed(60)
    child = world._start({**config, 'at': []})
    wait_until(lambda: world.db.buffer.count_documents({}) >= 300, 30)
    other.send(mqtt, topic, [b'"open"'])
    wait_until(lambda: world.db.buffer.find_one({'data.payload': 'open'}), 30)
    child.kill()
    found = Counter(doc['data']['payload'] for doc in world.db.buffer.find())
    if mqtt.mosquitto:
        assert found == {'closed': 300, 'open': 1}
    else:  # it does not say that it sends something again
        assert found['open'] == 1
        assert found['closed'] >= 300


class Killed:
    """As the children of fault tests make their source."""

    @staticmethod
    def make(config: dict[str, Any], **options: Any) -> MQTTSource:
        return MQTTSource(**config, **options)


def test_what_is_settled_is_not_mistaken_for_what_comes_next(mqtt: Mqtt, db: Any, topic: str,
                                                             again: Callable[..., mb.Stream]) -> None:
    """A sensor that always says the same; each time the source is away, it says it once."""
    for round_ in range(3):
        stream = again()
        stream.attach(MQTTSource(mqtt.url, topic))
        if round_ == 0:
            ready(db)
            other.send(mqtt, topic, [b'"ok"'])
        if mqtt.mosquitto:
            settled(db, round_)
        wait_until(lambda n=round_: len(data(db)) == n + 1)
        stream.stop()
        other.send(mqtt, topic, [b'"ok"'])
    stream = again()
    stream.attach(MQTTSource(mqtt.url, topic))
    other.send(mqtt, topic, [b'"end"'])
    wait_until(lambda: data(db)[-1]['payload'] == 'end', 20)
    assert [each['payload'] for each in data(db)] == ['ok'] * 4 + ['end']


def test_a_connection_that_breaks_in_the_middle(mqtt: Mqtt, stream: mb.Stream, db: Any, topic: str) -> None:
    stream.attach(MQTTSource(mqtt.url, topic, size=50))
    ready(db)
    for round_ in range(5):
        other.send(mqtt, topic, [b'%d' % n for n in range(round_ * 400, round_ * 400 + 400)])
        mqtt.gate.cut()
        wait_until(lambda n=round_: len(data(db)) > 400 * n, 20)
    wait_until(lambda: len(data(db)) >= 2000, 30)
    assert [each['payload'] for each in data(db)] == list(range(2000))


@pytest.mark.parametrize('most', [1, 2])
def test_a_broker_that_sends_few_ahead(db: Any, topic: str, stream: mb.Stream, most: int) -> None:
    """With 3.1.1 the broker decides; one that waits for each acknowledgement gets it."""
    with mosquitto(f'max_inflight_messages {most}\n') as broker:
        stream.attach(MQTTSource(broker.url, topic, protocol='3.1.1', linger=0))
        ready(db)
        other.send(broker, topic, [b'%d' % n for n in range(40)])
        wait_until(lambda: len(data(db)) >= 40, 20)
        assert [each['payload'] for each in data(db)] == list(range(40))
        stream.stop()


# -- bad weather


def interrupted(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if 'was interrupted' in record.getMessage()]


def test_a_full_stream_keeps_the_connection(mqtt: Mqtt, db: Any, topic: str, again: Callable[..., mb.Stream],
                                            caplog: pytest.LogCaptureFixture) -> None:
    """For several times the silence after which a broker closes it."""
    stream = again(max_backlog=10)
    stream.attach(MQTTSource(mqtt.url, topic, size=10, keepalive=1))
    ready(db)
    other.send(mqtt, topic, [b'%d' % n for n in range(200)])
    wait_until(lambda: len(data(db)) == 10)
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 4)
    got: list[int] = []
    with running(again(), lambda window: got.extend(each['payload'] for each in window.data), size=10):
        wait_until(lambda: len(got) >= 200, 30)
    assert got == list(range(200))
    if mqtt.mosquitto:  # rumqttd answers to nothing, not even to a ping, while it waits for acknowledgements
        assert interrupted(caplog) == []


def test_a_broker_that_freezes(mqtt: Mqtt, stream: mb.Stream, db: Any, topic: str, caplog: pytest.LogCaptureFixture,
                               ) -> None:
    stream.attach(MQTTSource(mqtt.url, topic, keepalive=1))
    ready(db)
    other.send(mqtt, topic, [b'%d' % n for n in range(100)])
    wait_until(lambda: len(data(db)) == 100)
    mqtt.freeze()
    wait_until(lambda: interrupted(caplog), 20, what='a word about it')
    mqtt.thaw()
    other.send(mqtt, topic, [b'%d' % n for n in range(100, 200)])
    wait_until(lambda: len(data(db)) >= 200, 30)
    assert [each['payload'] for each in data(db)] == list(range(200))


def test_a_broker_that_forgets(mqtt: Mqtt, stream: mb.Stream, db: Any, topic: str, caplog: pytest.LogCaptureFixture,
                               ) -> None:
    """It says so, subscribes anew, and does not take new messages for old ones that happen to be equal."""
    stream.attach(MQTTSource(mqtt.url, topic))
    ready(db)
    other.send(mqtt, topic, [b'"same"'])
    wait_until(lambda: len(data(db)) == 1)
    mqtt.restart_empty()
    wait_until(lambda: 'does not know the session' in caplog.text, 20)
    other.subscribe(mqtt, 'somebody', topic)  # the broker has the source's subscription by now: it was sent before
    other.send(mqtt, topic, [b'"same"'])
    wait_until(lambda: len(data(db)) == 2, 20)
    stream.stop()
    assert len(data(db)) == 2


def test_a_wrong_password(mqtt: Mqtt, stream: mb.Stream, caplog: pytest.LogCaptureFixture) -> None:
    url = mqtt.url.replace('secret', 'wr0ng')
    sink = MQTTSink(url, 'a')
    if mqtt.mosquitto:
        with pytest.raises(AccessRefused, match=r"refuses user 'ann'.*look at the user and the password"):
            stream.attach(MQTTSource(url, 'a'), background=False)
        with pytest.raises(AccessRefused, match="refuses user 'ann'") as caught:
            sink.put({'n': 1})
        with pytest.raises(AccessRefused, match='refuses a client without a user'):
            MQTTSink(f'mqtt://{mqtt.address}', 'a').put({'n': 1})
    else:  # it hangs up
        stream.attach(MQTTSource(url, 'a'))
        wait_until(lambda: interrupted(caplog))
        assert 'ends the connection without an answer, as some brokers do at a wrong password' in caplog.text
        with pytest.raises(DeliveryFailed, match='without an answer') as caught:  # type: ignore[assignment]
            sink.put({'n': 1})
    assert 'wr0ng' not in str(caught.value) + caplog.text


def test_nobody_there(stream: mb.Stream, caplog: pytest.LogCaptureFixture) -> None:
    with Gate(1) as gate:
        port = gate.port
    stream.attach(MQTTSource(f'mqtt://127.0.0.1:{port}', 'a'))
    wait_until(lambda: interrupted(caplog))
    assert 'refused' in interrupted(caplog)[0]
    with pytest.raises(DeliveryFailed, match=r'refused.*the window is not committed and will be tried again'):
        MQTTSink(f'mqtt://127.0.0.1:{port}', 'a', timeout=1).put({'n': 1})


def test_a_subscription_that_is_refused(stream: mb.Stream, topic: str) -> None:
    with mosquitto('') as broker:
        plugin = secured(broker, subscribe=False)
        with pytest.raises(AccessRefused, match=rf"refuses the subscription to '{topic}' \("):
            stream.attach(MQTTSource(broker.url, topic), background=False)
        assert plugin


def test_a_publication_that_is_refused(topic: str) -> None:
    with mosquitto('') as broker:
        secured(broker, publish=False)
        sink = MQTTSink(broker.url, topic)
        sink.put({'n': 1})
        with pytest.raises(AccessRefused, match=f"does not let this user publish to '{topic}'"):
            sink.flush()
        sink.close()


def secured(broker: Mosquitto, **allowed: bool) -> Path:
    """Restart a mosquitto with its plugin for access control, and one user who may do nothing but what is allowed."""
    import base64
    import hashlib
    import json
    places = [Path(broker.mosquitto or '/').resolve().parent, Path('/usr/lib'), Path('/usr/local/lib')]
    found = [each for place in places for each in place.rglob('mosquitto_dynamic_security.so')]
    if not found:
        pytest.skip('the plugin mosquitto_dynamic_security is not installed')
    salt = os.urandom(12)
    hashed = hashlib.pbkdf2_hmac('sha512', broker.password.encode(), salt, 101)
    rules = broker.path / 'rules.json'
    rules.write_text(json.dumps({
        'defaultACLAccess': {'publishClientSend': allowed.get('publish', True), 'publishClientReceive': True,
                             'subscribe': allowed.get('subscribe', True), 'unsubscribe': True},
        'clients': [{'username': broker.user, 'password': base64.b64encode(hashed).decode(),
                     'salt': base64.b64encode(salt).decode(), 'iterations': 101}]}))
    rules.chmod(0o600)
    broker.stop()
    broker.lines = f'plugin {found[0]}\nplugin_opt_config_file {rules}\n'
    broker.start()
    return found[0]


# -- TLS


@pytest.fixture
def guarded(mqtt: Mqtt, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A port that speaks TLS in front of the broker, and the certificate to trust."""
    if shutil.which('openssl') is None:
        pytest.skip('openssl is not installed')
    key, certificate = tmp_path / 'key.pem', tmp_path / 'certificate.pem'
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
                    '-keyout', str(key), '-out', str(certificate), '-days', '2', '-subj', '/CN=broker',
                    '-addext', 'subjectAltName=IP:127.0.0.1'], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    ended = threading.Event()
    with socket.create_server(('127.0.0.1', 0)) as listener:
        listener.settimeout(0.1)
        thread = threading.Thread(target=let_in, args=(listener, context, mqtt.direct, ended))
        thread.start()
        yield listener.getsockname()[1], certificate
        ended.set()
        thread.join()


def let_in(listener: socket.socket, context: ssl.SSLContext, target: int, ended: threading.Event) -> None:
    """Speak TLS with whoever comes, and forward what is said to another port."""
    threads = []
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            threads.append(threading.Thread(target=forward, args=(listener.accept()[0], context, target, ended)))
            threads[-1].start()
    for each in threads:
        each.join()


def forward(accepted: socket.socket, context: ssl.SSLContext, target: int, ended: threading.Event) -> None:
    accepted.settimeout(5)
    with (contextlib.suppress(OSError), accepted, context.wrap_socket(accepted, server_side=True) as client,
          socket.create_connection(('127.0.0.1', target)) as server):
        while not ended.is_set():
            readable = [client] if client.pending() else select.select([client, server], [], [], 0.1)[0]
            for one, two in ((client, server), (server, client)):
                if one in readable:
                    data = one.recv(1 << 16)
                    if not data:
                        return
                    two.sendall(data)


def test_tls(mqtt: Mqtt, stream: mb.Stream, db: Any, topic: str, guarded: tuple[int, Path]) -> None:
    port, certificate = guarded
    url = f'mqtts://{mqtt.user}:{mqtt.password}@127.0.0.1:{port}'
    stream.attach(MQTTSource(url, topic, ca=str(certificate)))
    ready(db)
    context = ssl.create_default_context(cafile=certificate)
    sink = MQTTSink(url, topic, tls=context)
    sink.put([{'n': n} for n in range(50)])
    sink.flush()
    sink.close()
    wait_until(lambda: len(data(db)) == 50)
    assert [each['payload']['n'] for each in data(db)] == list(range(50))


def test_a_certificate_that_nobody_trusts(mqtt: Mqtt, stream: mb.Stream, topic: str, guarded: tuple[int, Path],
                                          caplog: pytest.LogCaptureFixture) -> None:
    port, _ = guarded
    url = f'mqtts://{mqtt.user}:{mqtt.password}@127.0.0.1:{port}'
    stream.attach(MQTTSource(url, topic))
    wait_until(lambda: interrupted(caplog))
    assert 'certificate verify failed' in interrupted(caplog)[0]
    with pytest.raises(DeliveryFailed, match='certificate verify failed'):
        MQTTSink(url, topic).put({})


# -- options


@pytest.mark.parametrize(('url', 'text'), [
    ('broker:1883', 'no URL of an MQTT broker'),
    ('mqtt://', 'there is no host'),
    ('http://broker', "the scheme is 'http', not mqtt or mqtts"),
    ('mqtt://broker/topic', 'something follows the address'),
    ('mqtt://broker:99999', 'Port out of range'),
    ('mqtt://broker:0', 'no port 0'),
    (7, 'url is int'),
])
def test_a_wrong_url(url: Any, text: str) -> None:
    for make in (MQTTSource, MQTTSink):
        with pytest.raises(OptionError, match=text):
            make(url, 'a')


def test_a_password_is_not_shown() -> None:
    with pytest.raises(OptionError) as caught:
        address('mqtt://ann:secret@broker/x')
    assert 'secret' not in str(caught.value)
    for each in (MQTTSource('mqtt://ann:secret@broker', 'a'), MQTTSink('mqtt://ann:secret@broker', 'a')):
        assert 'secret' not in repr(each)
    assert 'secret' not in repr(address('mqtt://ann:secret@broker'))


@pytest.mark.parametrize('topic', ['', 'a/#/b', 'a+', 'a/b#', 'a\0', [], ['a', ''], [7], 'x' * 70_000, '\ud800'])
def test_what_cannot_be_subscribed_to(topic: Any) -> None:
    with pytest.raises(OptionError, match='topic'):
        filters(topic)


@pytest.mark.parametrize(('options', 'text'), [
    ({'qos': 2}, 'with qos=1 each comes exactly once'), ({'qos': 3}, 'qos must be'), ({'qos': True}, 'qos must be'),
    ({'protocol': 5}, "protocol is 5; give '5'"), ({'keepalive': 0}, 'keepalive must be'),
    ({'window': 70_000}, 'window must be'), ({'session_expiry': 0}, 'session_expiry must be'),
    ({'size': 0}, 'size must be'), ({'client_id': ''}, 'client_id is'), ({'codec': 'jsn'}, 'json'),
    ({'ca': '/nowhere'}, r'go with mqtts://'),
])
def test_a_wrong_option_of_a_source(options: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError, match=text):
        MQTTSource('mqtt://broker', 'a', **options)


@pytest.mark.parametrize(('options', 'text'), [
    ({'qos': 3}, 'qos must be'), ({'timeout': 0}, 'timeout must be'), ({'protocol': '4'}, "protocol is '4'"),
    ({'topic': 'a/#'}, 'it has wildcards'), ({'topic': ''}, 'it is empty'), ({'topic': None}, 'topic is None'),
    ({'topic': 'a/{x'}, 'topic is'), ({'topic': 'a/{0}'}, 'no name of a field'), ({'client_id': 5}, 'client_id is'),
    ({'keepalive': 70_000}, 'keepalive must be'),
])
def test_a_wrong_option_of_a_sink(options: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError, match=text):
        MQTTSink('mqtt://broker', **{'topic': 'a', **options})


def test_certificates_that_are_not_there() -> None:
    with pytest.raises(OptionError, match="ca: '/nowhere' cannot be read"):
        MQTTSource('mqtts://broker', 'a', ca='/nowhere')
    with pytest.raises(OptionError, match='do not go together'):
        MQTTSink('mqtts://broker', 'a', ca='/nowhere', tls=ssl.create_default_context())


def test_without_the_driver() -> None:
    program = 'import sys; sys.modules["paho"] = None; import minibatch.contrib.mqtt'
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=False)
    assert "MissingExtra: paho-mqtt is not installed; install it with: pip install 'minibatch[mqtt]'" in done.stderr


# -- the sink


@pytest.fixture
def reader(mqtt: Mqtt, topic: str) -> Iterator[other.Client]:
    client = other.Client(mqtt)
    client.subscribed(f'{topic}/#')
    client.topic = f'{topic}/mark'
    yield client
    client.close()


def test_each_result_has_its_topic(mqtt: Mqtt, stream: mb.Stream, topic: str, reader: other.Client) -> None:
    stream.extend({'n': n} for n in range(4))
    passed(stream, lambda window: list(window.data), size=2, sink=MQTTSink(mqtt.url, f'{topic}/of/{{n}}'))
    stream.extend({'n': n} for n in range(4, 6))
    passed(stream, lambda window: list(window.data), size=2,
           sink=MQTTSink(mqtt.url, lambda result: f'{topic}/by/{result["n"]}', qos=2))
    assert len(reader.read(6)) == 6
    found = {each.topic: each.payload for each in reader.messages}
    assert {f'{topic}/of/{n}': b'{"n":%d}' % n for n in range(4)}.items() <= found.items()
    assert {f'{topic}/by/{n}': b'{"n":%d}' % n for n in range(4, 6)}.items() <= found.items()


def test_a_topic_that_a_result_cannot_have(mqtt: Mqtt, topic: str) -> None:
    sink = MQTTSink(mqtt.url, f'{topic}/{{sensor}}')
    with pytest.raises(InvalidMessage, match=r"no field 'sensor', which its topic .* needs"):
        sink.put({'n': 1})
    with pytest.raises(InvalidMessage, match='it has wildcards'):
        sink.put({'sensor': '#'})
    with pytest.raises(InvalidMessage, match='no field'):
        sink.put(7)


def test_messages_say_which_window_they_are_from(mqtt: Mqtt, stream: mb.Stream, topic: str) -> None:
    if not mqtt.mosquitto:
        pytest.skip('user properties need MQTT 5')
    from paho.mqtt import client as paho
    client = other.Client(mqtt, protocol=paho.MQTTv5)
    client.subscribed(topic)
    stream.extend({'n': n} for n in range(3))
    windows = []

    def work(window: Any) -> Any:
        windows.append(str(window.id))
        return list(window.data)

    passed(stream, work, size=3, sink=MQTTSink(mqtt.url, topic))
    client.read(3)
    found = [dict(each.properties.UserProperty) for each in client.messages[:3]]
    assert found == [{'minibatch-window': windows[0], 'minibatch-index': str(n)} for n in range(3)]
    client.close()


def test_what_is_retained_comes_to_those_who_are_late(mqtt: Mqtt, topic: str) -> None:
    sink = MQTTSink(mqtt.url, topic, retain=True)
    sink.put([{'n': 1}, {'n': 2}])
    sink.flush()
    sink.close()
    client = other.Client(mqtt)
    client.subscribed(topic)
    wait_until(lambda: client.messages)
    assert [(each.payload, each.retain) for each in client.messages] == [(b'{"n":2}', True)]
    client.close()


def test_many_results(mqtt: Mqtt, topic: str, reader: other.Client) -> None:
    """More than go ahead of their acknowledgement, and with QoS 0, where there is none."""
    for qos in (1, 0):
        sink = MQTTSink(mqtt.url, f'{topic}/{qos}', qos=qos)
        sink.put([{'n': n} for n in range(1200)])
        sink.flush()
        sink.close()
    assert len(reader.read(2400)) == 2400


def test_the_connection_stays(mqtt: Mqtt, topic: str) -> None:
    sink = MQTTSink(mqtt.url, topic)
    sink.put({'n': 1})
    sink.flush()
    first = connections()
    assert len(first) == 1
    with mqtt.away():
        wait_until(lambda: not connections())
    sink.put({'n': 2})  # lost while there was nothing to do: nobody has to hear of it
    sink.flush()
    second = connections()
    assert len(second) == 1
    assert second != first
    sink.put({'n': 3})
    sink.flush()
    assert connections() == second
    sink.close()


def connections() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith('minibatch-mqtt-')]


def test_a_broker_that_does_not_acknowledge(mqtt: Mqtt, topic: str) -> None:
    sink = MQTTSink(mqtt.url, topic, timeout=1)
    sink.put({'n': 1})
    sink.flush()
    mqtt.freeze()
    sink.put([{'n': 2}, {'n': 3}])
    with pytest.raises(DeliveryFailed, match='2 of 2 messages were not acknowledged within 1 s'):
        sink.flush()
    mqtt.thaw()
    sink.put([{'n': 2}, {'n': 3}])
    sink.flush()
    sink.close()


def test_a_message_that_is_too_large(mqtt: Mqtt, topic: str, reader: other.Client) -> None:
    with mosquitto('max_packet_size 20000\n') as broker:
        sink = MQTTSink(broker.url, topic)
        with pytest.raises(MessageTooLarge, match='and the broker takes 20,000 at the most'):
            sink.put({'x': 'x' * 20_000})
        sink.put({'x': 'x'})
        sink.flush()
        sink.close()


def test_a_message_that_the_broker_hangs_up_at(topic: str, mqtt: Mqtt) -> None:
    """Without MQTT 5 it does not say beforehand what is too large."""
    if mqtt.mosquitto:
        pytest.skip('mosquitto takes large messages')
    sink = MQTTSink(mqtt.url, topic, timeout=5)

    def deliver() -> None:
        sink.put({'x': 'x' * 3_000_000})
        sink.flush()

    with pytest.raises(DeliveryFailed, match=r'the largest message takes 3,000,\d+ bytes'):
        deliver()
    sink.put({'x': 'x'})
    sink.flush()
    sink.close()


def test_the_log_has_no_password(mqtt: Mqtt, stream: mb.Stream, db: Any, topic: str,
                                 caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with mqtt.away():
        stream.attach(MQTTSource(mqtt.url, topic))
        wait_until(lambda: interrupted(caplog))
    ready(db)
    assert mqtt.password not in caplog.text
