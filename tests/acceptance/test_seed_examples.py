"""What users of other libraries begin with, in our terms: the files in ``examples/``, run by a person at a terminal."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import minibatch as mb
from tests.support.brokers import Kafka, Redis
from tests.support.scripts import Person, Script

EXAMPLES = Path(__file__).resolve().parents[2] / 'examples'


def saved(person: Person, name: str, **changes: str) -> str:
    """Save an example, with changes, which must be in it; the file's name."""
    source = (EXAMPLES / name).read_text(encoding='utf-8')
    for old, new in changes.items():
        assert old in source
        source = source.replace(old, new)
    path = person.home / Path(name).name
    path.write_text(source, encoding='utf-8')
    return path.name


def started(person: Person, file: str, *args: str, **env: str) -> Script:
    return person.call([sys.executable, file, *args], 'example', **env)


def ended(script: Script) -> None:
    os.kill(script.process.pid, signal.SIGTERM)
    script.end()


def data(db: Any, stream: str) -> list[Any]:
    return [doc['data'] for doc in db.buffer.find({'stream': stream}, sort=[('_id', 1)])]


@pytest.mark.parametrize('path', sorted(EXAMPLES.rglob('*.py')), ids=lambda path: path.stem)
def test_an_example_is_short_and_says_what_it_does(path: Path) -> None:
    text = path.read_text(encoding='utf-8')
    assert text.startswith('"""')
    assert len(text.splitlines()) <= 60


def test_fausts_first_app(person: Person, kafka: Kafka) -> None:
    topic = kafka.topic()
    file = saved(person, 'faust/hello.py', example_kafka_topic=topic)
    kafka.send(topic, [b'{"n": 1}', b'{"n": 2}'])
    app = started(person, file, 'worker', KAFKA=kafka.url)
    app.wait_until(lambda: len(app.lines) == 2)
    assert app.lines == ["{'n': 1}", "{'n': 2}"]
    ended(app)


def test_fausts_filter(person: Person, db: Any) -> None:
    file = saved(person, 'faust/filter.py')
    person.call([sys.executable, file, 'send', 'clickevents', *(f'{{"number": {n}}}' for n in range(98, 103))],
                'send').end()
    app = started(person, file, 'worker')
    app.wait_until(lambda: len(data(db, 'popular_uris')) == 3)
    ended(app)
    assert data(db, 'popular_uris') == [{'number': 100}, {'number': 101}, {'number': 102}]
    assert data(db, 'clickevents') == []


def test_fausts_processors(person: Person, db: Any, url: str) -> None:
    mb.stream('records', url=url).extend({'uri': uri} for uri in 'abc')
    script = started(person, saved(person, 'faust/processors.py'))
    script.wait_until(lambda: len(data(db, 'scored')) == 3)
    ended(script)
    assert [record['uri'] for record in data(db, 'scored')] == ['a', 'b', 'c']
    assert all(record['grade'] == ('B' if record['score'] < 0.5 else 'A') for record in data(db, 'scored'))
    assert 'map([add_score, add_grade])' in script.printed


def test_fausts_take(person: Person, url: str) -> None:
    file = saved(person, 'faust/take.py', **{'within=10, sinks': 'within=0.5, sinks'})
    mb.stream('readings', url=url).extend({'celsius': n % 2} for n in range(103))
    app = started(person, file, 'worker')
    app.wait_until(lambda: len(app.lines) == 2)
    ended(app)
    assert app.lines == ['100 readings, 0.5 degrees', '3 readings, 0.3 degrees']


def test_fausts_records_and_codecs(person: Person, kafka: Kafka, db: Any) -> None:
    purchases, sanitized = kafka.topic(), kafka.topic()
    file = saved(person, 'faust/records.py', **{"KafkaSource('purchases'": f'KafkaSource({purchases!r}',
                                                "'sanitized'": repr(sanitized)})
    kafka.send(purchases, [base64.b64encode(json.dumps(each).encode()) for each in (
        {'username': 'ann', 'currency': 'EUR', 'amount': 3}, {'username': 'bob', 'currency': 7},
        {'username': 'cid', 'currency': 'USD'})])
    app = started(person, file, 'worker', KAFKA=kafka.url)
    records = kafka.read(sanitized, 2, timeout=60)
    app.wait_until(lambda: not db.buffer.find_one())
    ended(app)
    assert [(record.key, json.loads(base64.b64decode(record.value))) for record in records] == [
        (b'EUR', {'currency': 'EUR', 'amount': 3}), (b'USD', {'currency': 'USD', 'amount': 0})]
    (dead,) = db.window.find({'state': 'dead'})
    assert 'currency is an int' in dead['errors'][0]['error']


def test_fausts_windowed_tables(person: Person, url: str, db: Any) -> None:
    at = datetime.now(timezone.utc).timestamp() // 300 * 300 - 1200
    mb.stream('clickevents', url=url).extend({'page': '/', 'at': at + seconds} for seconds in (10, 100, 310))
    app = started(person, saved(person, 'faust/tables.py'), 'worker')
    app.wait_until(lambda: len(app.lines) == 3)
    ended(app)
    assert app.lines == ['/: 1 in these 5 minutes, 0 in those before, 1 lately',
                         '/: 2 in these 5 minutes, 0 in those before, 2 lately',
                         '/: 1 in these 5 minutes, 2 in those before, 2 lately']


def test_snapstreams_iterable(person: Person) -> None:
    assert person.run('iterable.py', (EXAMPLES / 'snapstream/iterable.py').read_text(encoding='utf-8')) == ''.join(
        f'Hello {n}\n' for n in range(5))


def test_snapstreams_topic_and_cache(person: Person, db: Any) -> None:
    app = started(person, saved(person, 'snapstream/topic_and_cache.py'))
    app.wait_until(lambda: len(app.lines) == 5)
    ended(app)
    assert app.lines == [f'Look at this emoji: {emoji}' for emoji in '🏆📞🐟👌🎩']
    assert db.table.count_documents({}) == 5


def test_the_simple_stream_processors_chain(person: Person, kafka: Kafka, redis: Redis) -> None:
    """From Kafka by two agents to Kafka and Redis."""
    client = pytest.importorskip('redis').Redis(port=redis.direct)
    measurements, alarms = kafka.topic(), kafka.topic()
    file = saved(person, 'simple_stream_processor.py', **{
        "KafkaSource('measurements'": f'KafkaSource({measurements!r}', "KafkaSink('alarms'": f'KafkaSink({alarms!r}',
        'within=2': 'within=0.5'})
    kafka.send(measurements, [json.dumps({'sensor': f's{n}', 'celsius': n}).encode() for n in range(40)])
    app = started(person, file, KAFKA=kafka.url, REDIS=redis.url)
    app.wait_until(lambda: len(client.keys('alarm-of:*')) == 14)
    ended(app)
    hot = [*range(5), *range(31, 40)]
    assert [json.loads(record.value)['celsius'] for record in kafka.read(alarms, 14)] == hot
    assert {key.decode(): json.loads(client.get(key))['text'] for key in client.keys('alarm-of:*')} == {
        f'alarm-of:s{n}': f'{n} degrees' for n in hot}
    client.close()


def test_filter(person: Person, db: Any, url: str) -> None:
    mb.stream('readings', url=url).extend({'celsius': celsius} for celsius in (20, 31, 30, 45))
    script = started(person, saved(person, 'filter.py'))
    script.wait_until(lambda: len(data(db, 'alarms')) == 2 and len(script.lines) == 2)
    ended(script)
    assert data(db, 'alarms') == [{'celsius': 31}, {'celsius': 45}]
    assert script.lines == ["{'celsius': 31}", "{'celsius': 45}"]


def test_word_count(person: Person, url: str) -> None:
    lines = mb.stream('lines', url=url)
    lines.append({'text': 'To be, or not to be'})
    script = started(person, saved(person, 'word_count.py'))
    script.wait_until(lambda: sorted(script.lines) == ['be 2', 'not 1', 'or 1', 'to 2'])
    lines.append({'text': 'that is to say'})
    script.wait_until(lambda: len(script.lines) == 8)
    ended(script)
    assert sorted(script.lines[4:]) == ['is 1', 'say 1', 'that 1', 'to 3']


def test_join(person: Person, db: Any, url: str) -> None:
    mb.stream('orders', url=url).extend({'order': n, 'price': 10 * n} for n in (1, 2, 3))
    mb.stream('payments', url=url).extend([{'order': 2, 'amount': 20}, {'order': 1, 'amount': 9}])
    script = started(person, saved(person, 'join.py', **{'within=3600': 'within=1'}))
    script.wait_until(lambda: len(data(db, 'settled')) == 3 and len(script.lines) == 3)
    ended(script)
    assert sorted(data(db, 'settled'), key=lambda each: each['order']) == [
        {'order': 1, 'paid': False}, {'order': 2, 'paid': True}, {'order': 3, 'paid': False}]


def test_sliding_window(person: Person, url: str) -> None:
    """Also the trade that came in the wrong order, where it belongs."""
    at = datetime.now(timezone.utc) - timedelta(minutes=20)
    mb.stream('trades', url=url).extend({'share': share, 'price': price, 'at': at + timedelta(seconds=seconds)}
                                        for share, price, seconds in (
        ('A', 10, 0), ('B', 7, 1), ('A', 14, 50), ('A', 12, 40), ('A', 19, 70), ('B', 9, 200)))
    script = started(person, saved(person, 'sliding_window.py', **{'lateness=2': 'lateness=0.1'}))
    script.wait_until(lambda: len(script.lines) >= 6)
    ended(script)
    assert sorted(script.lines) == [
        'A 10 10.0 1', 'A 12 11.0 2', 'A 14 12.0 3', 'A 19 15.0 3', 'B 7 7.0 1', 'B 9 9.0 1']
