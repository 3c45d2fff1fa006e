"""The files in ``examples/``, run as the Dockerfile runs them."""

from __future__ import annotations

import json
import os
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.support.brokers import Kafka, Mqtt, Redis
from tests.support.mongod import free_port
from tests.support.scripts import Person, get
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


def test_the_app_counts_each_visit_once(tmp_path: Path, url: str) -> None:
    """As in the container: address from the environment, health check, SIGTERM at the end."""
    port = str(free_port())
    person = Person(tmp_path, url)
    try:
        app = person.start('app.py', (ROOT / 'examples/app.py').read_text(encoding='utf-8'), PORT=port)
        page = f'http://127.0.0.1:{port}'
        app.wait_until(lambda: get(f'{page}/health')[0] == 200)
        for user in ('ann', 'bob', 'cid'):
            assert get(f'{page}/visit/{user}') == (200, f'hello {user}\n')
        app.wait_until(lambda: json.loads(get(f'{page}/')[1]) == {'visits': 3})
        os.kill(app.process.pid, signal.SIGTERM)
        app.end()
        wait_until(lambda: not person.processes(), 60, what='the consumer to end')
    finally:
        person.leave()


def test_kafka_to_kafka(tmp_path: Path, url: str, kafka: Kafka) -> None:
    """Topics of the names in the example; whoever reads the other one finds every visit, once."""
    source = (ROOT / 'examples/kafka_to_kafka.py').read_text(encoding='utf-8')
    assert len(source.splitlines()) < 30
    visits, counts = kafka.topic(2), kafka.topic(2)
    for name, topic in (("KafkaSource('visits'", f'KafkaSource({visits!r}'), ("'visits-per-page'", repr(counts))):
        assert name in source
        source = source.replace(name, topic)
    pages = ['/', '/shop', '/', '/about'] * 10
    kafka.send(visits, [json.dumps({'page': page}).encode() for page in pages])
    person = Person(tmp_path, url)
    try:
        example = person.start('kafka_to_kafka.py', source, KAFKA=kafka.url)

        def counted() -> int:
            return sum(json.loads(record.value)['visits'] for record in kafka.read(counts, 0))
        example.wait_until(lambda: counted() == len(pages))
        records = [json.loads(record.value) for record in kafka.read(counts, 1)]
        assert {page: sum(r['visits'] for r in records if r['page'] == page) for page in pages} == {
            '/': 20, '/shop': 10, '/about': 10}
        os.kill(example.process.pid, signal.SIGTERM)
        example.end()
    finally:
        person.leave()


def test_changes_to_redis(tmp_path: Path, url: str, redis: Redis, db: Any) -> None:
    """Each paid order once; in any order, since windows are worked on at the same time."""
    client = pytest.importorskip('redis').Redis(port=redis.direct)
    source = (ROOT / 'examples/changes_to_redis.py').read_text(encoding='utf-8')
    assert len(source.splitlines()) < 30
    person = Person(tmp_path, url)
    try:
        example = person.start('changes_to_redis.py', source, REDIS=redis.url)
        example.wait_until(lambda: db.source.find_one({'name': {'$regex': '^changes:'}, 'position': {'$ne': None}}))
        for n in range(25):
            db.shop_orders.insert_one({'_id': n, 'items': ['tea'] * n, 'paid': n != 7})
        example.wait_until(lambda: client.xlen('shipping') >= 24)
        entries = [json.loads(fields[b'data']) for _, fields in client.xrange('shipping')]
        assert sorted(entries, key=lambda entry: len(entry['items'])) == [
            {'order': str(n), 'items': ['tea'] * n} for n in range(25) if n != 7]
        os.kill(example.process.pid, signal.SIGTERM)
        example.end()
    finally:
        person.leave()
        client.close()


def test_mqtt_to_mongodb(tmp_path: Path, url: str, mqtt: Mqtt, db: Any) -> None:
    """A topic of the test's own; each reading is in one of the means."""
    pytest.importorskip('paho.mqtt.client')
    from tests.support import mqtt as other
    source = (ROOT / 'examples/mqtt_to_mongodb.py').read_text(encoding='utf-8')
    assert len(source.splitlines()) < 30
    top = f'sensors-{uuid.uuid4().hex}'
    assert "'sensors/+/climate'" in source
    person = Person(tmp_path, url)
    try:
        example = person.start('mqtt_to_mongodb.py', source.replace('sensors/', f'{top}/'), MQTT=mqtt.url)
        example.wait_until(lambda: db.source.find_one({'position.topics': [[f'{top}/+/climate', 1]]}))
        for n in range(25):
            other.send(mqtt, f'{top}/{"hall" if n % 5 else "attic"}/climate', [b'{"celsius": %d}' % n])
        example.wait_until(lambda: sum(mean['of'] for mean in db.climate_means.find()) == 25)
        for sensor, numbers in (('hall', [n for n in range(25) if n % 5]), ('attic', range(0, 25, 5))):
            means = list(db.climate_means.find({'sensor': sensor}))
            assert sum(mean['of'] for mean in means) == len(numbers)
            assert round(sum(mean['celsius'] * mean['of'] for mean in means)) == sum(numbers)
        os.kill(example.process.pid, signal.SIGTERM)
        example.end()
    finally:
        person.leave()
