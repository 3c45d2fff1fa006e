"""Events of Celery, by its Redis transport, with a worker in a process of its own.

The conformance suite is not for this source: it asks for what was sent while nobody listened, which events are not for.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import minibatch as mb
from minibatch.errors import AccessRefused, OptionError
from tests.support.brokers import Redis
from tests.support.consuming import passed
from tests.support.scripts import Person
from tests.support.waiting import patience, wait_until

pytest.importorskip('celery', reason="pip install 'minibatch[celery]'")
pytest.importorskip('redis', reason="pip install 'minibatch[redis]'")

from celery import Celery

from minibatch.contrib.celery import CeleryEventSource

TASKS = """
import os
from celery import Celery

app = Celery('shop', broker=os.environ['BROKER'])
app.conf.update(broker_connection_retry_on_startup=True, worker_send_task_events=True)

@app.task(name='add')
def add(a, b):
    return a + b

@app.task(name='fail')
def fail():
    raise ValueError('on purpose')
"""


@pytest.fixture
def app(redis: Redis) -> Iterator[Celery]:
    app = Celery('shop', broker=redis.url, set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def worker(tmp_path: Path, redis: Redis) -> Iterator[Any]:
    """A worker that sends events."""
    person = Person(tmp_path)
    (tmp_path / 'tasks.py').write_text(TASKS)
    # Without gossip it listens once, to what it is told, so that one can tell when the source listens, too.
    started = person.call([sys.executable, '-m', 'celery', '-A', 'tasks', 'worker', '-P', 'solo', '-l', 'INFO',
                           '--without-gossip', '--without-mingle'], 'worker', BROKER=redis.url, C_FORCE_ROOT='1')
    started.wait_until(lambda: 'ready.' in started.err.read_text(errors='replace'))
    yield started
    person.leave()


@pytest.fixture
def send(app: Celery) -> Iterator[Callable[..., None]]:
    """Sends events as workers do."""
    with app.connection_for_write() as connection, app.events.Dispatcher(connection) as dispatcher:
        def send(*types: str, **fields: Any) -> None:
            for each in types:
                dispatcher.send(each, **fields)
        yield send


def data(db: Any) -> list[Any]:
    return [doc['data'] for doc in db.buffer.find({}).sort('_id', 1)]


def listening(redis: Redis, count: int = 1) -> None:
    """Wait until somebody listens: what is sent before that, nobody hears."""
    import redis as library
    with library.Redis(port=redis.direct) as client:
        wait_until(lambda: sum(int(each['sub']) + int(each['psub']) > 0 for each in client.client_list()) >= count, 20,
                   what='somebody to listen')


def test_what_tasks_do(app: Celery, worker: Any, redis: Redis, stream: mb.Stream, db: Any) -> None:
    before = time.time()
    listening(redis)  # the worker itself listens, to what it is told
    stream.attach(CeleryEventSource(app))
    listening(redis, 2)
    sum_, failed = app.send_task('add', (2, 3)), app.send_task('fail')
    wait_until(lambda: {'task-succeeded', 'task-failed'} <= {each['type'] for each in data(db)}, 30)
    of = {id_: [each for each in data(db) if each['uuid'] == id_] for id_ in (sum_.id, failed.id)}
    assert [each['type'] for each in of[sum_.id]] == ['task-received', 'task-started', 'task-succeeded']
    assert [each['type'] for each in of[failed.id]] == ['task-received', 'task-started', 'task-failed']
    received, _, succeeded = of[sum_.id]
    assert received['name'] == 'add'
    assert received['args'] == '(2, 3)'
    assert succeeded['result'] == '5'
    assert before - 1 < succeeded['timestamp'] < time.time() + 1
    assert of[failed.id][2]['exception'] == "ValueError('on purpose')"


def test_only_what_is_wanted(app: Celery, redis: Redis, send: Any, stream: mb.Stream, db: Any) -> None:
    stream.attach(CeleryEventSource(app, ['task-succeeded', 'worker-*']))
    listening(redis)
    send('task-started', 'task-succeeded', 'worker-heartbeat', 'other-one', 'task-failed', 'worker-offline')
    wait_until(lambda: 'worker-offline' in [each['type'] for each in data(db)])
    assert [each['type'] for each in data(db)] == ['task-succeeded', 'worker-heartbeat', 'worker-offline']


def test_all_of_many_in_their_order(app: Celery, redis: Redis, send: Any, stream: mb.Stream, db: Any) -> None:
    stream.attach(CeleryEventSource(app, '*', schema={'required': ['n']}))
    listening(redis)
    for n in range(2000):
        send('task-custom', n=n)
    wait_until(lambda: db.buffer.count_documents({}) >= 2000, 30)
    assert [each['n'] for each in data(db)] == list(range(2000))


def test_the_broker_is_away_at_first_and_later(app: Celery, redis: Redis, send: Any, stream: mb.Stream, db: Any,
                                               caplog: pytest.LogCaptureFixture) -> None:
    """It goes on as soon as it can; what happens meanwhile, it does not learn."""
    def complaints() -> int:
        return caplog.text.count('was interrupted')
    with redis.away():
        thread = stream.attach(CeleryEventSource(app))
        wait_until(complaints, 20)
    listening(redis)
    with redis.away():
        wait_until(lambda: complaints() == 2, 20)
    listening(redis)
    with app.connection_for_write() as connection, app.events.Dispatcher(connection) as dispatcher:
        dispatcher.send('task-custom', n=2)
    wait_until(lambda: data(db), 20)
    assert thread is not None
    assert thread.is_alive()
    assert [each['n'] for each in data(db)] == [2]
    assert complaints() == 2


def test_a_cancel_is_noticed_within_a_second(app: Celery, redis: Redis, send: Any, stream: mb.Stream, db: Any,
                                             caplog: pytest.LogCaptureFixture) -> None:
    """Idle, with a server that does not answer, with none at all, and with a stream that is full."""
    def stopped(thread: Any) -> None:
        began = time.monotonic()
        stream.stop()
        assert time.monotonic() - began < patience(1)
        assert not thread.is_alive()

    thread = stream.attach(CeleryEventSource(app))
    listening(redis)
    stopped(thread)
    thread = stream.attach(CeleryEventSource(app))
    listening(redis)
    redis.gate.hang()
    stopped(thread)
    redis.gate.flow()
    with redis.away():
        thread = stream.attach(CeleryEventSource(app))
        wait_until(lambda: 'was interrupted' in caplog.text, 20)
        stopped(thread)


def test_a_full_stream_holds_it_up_and_a_cancel_keeps_what_it_has(
    app: Celery, redis: Redis, send: Any, url: str, db: Any,
) -> None:
    """Nobody has those events but we, so a cancel stores them whether there is room or not."""
    stream = mb.stream('clicks', url=url, max_backlog=10)
    stream.attach(CeleryEventSource(app, size=5))
    listening(redis)
    for n in range(100):
        send('task-custom', n=n)
    wait_until(lambda: db.buffer.count_documents({}) == 10)
    got: list[int] = []
    while len(got) < 50:
        got += [each['n'] for window in passed(stream, size=10) for each in window]
        assert db.buffer.count_documents({}) <= 10
    assert got == list(range(len(got)))
    wait_until(lambda: db.buffer.count_documents({}) == 10)
    began = time.monotonic()
    stream.stop()
    assert time.monotonic() - began < patience(1)
    assert [each['n'] for each in data(db)] == list(range(len(got), len(got) + db.buffer.count_documents({})))
    assert db.buffer.count_documents({}) > 10


def test_what_is_no_event_stops_nothing(app: Celery, redis: Redis, send: Any, stream: mb.Stream, db: Any) -> None:
    stream.attach(CeleryEventSource(app, '*'))
    listening(redis)
    with app.connection_for_write() as connection:
        exchange = app.events.Receiver(connection).exchange
        producer = app.amqp.Producer(connection)
        for body, options in (({'no': 'type'}, {'serializer': 'json'}), ('[1', {
                'content_type': 'application/json', 'content_encoding': 'utf-8'})):
            producer.publish(body, exchange=exchange, routing_key='task.custom', declare=[exchange], **options)
    send('task-custom', n=1)
    wait_until(lambda: len(stream.dead) == 2 and data(db))
    letters = sorted((each.data[0] for each in stream.dead.list()), key=lambda letter: letter['raw'])
    assert [letter['raw'] for letter in letters] == [b'[1', b"{'no': 'type'}"]
    assert 'Celery cannot decode it' in letters[0]['reason']
    assert "it is no event of Celery (KeyError: 'type')" in letters[1]['reason']
    assert [each['n'] for each in data(db)] == [1]


def test_wrong_credentials(redis: Redis, stream: mb.Stream) -> None:
    app = Celery('shop', broker=redis.url.replace('//', '//:wrong@'), set_as_current=False)
    import redis as library
    with library.Redis(port=redis.direct) as client:
        client.config_set('requirepass', 'secret')
    with pytest.raises(AccessRefused, match='look at broker_url'):
        stream.attach(CeleryEventSource(app), background=False)
    app.close()


@pytest.mark.parametrize('events', ['', [], [None], ['task-*', 5]])
def test_events_that_a_source_refuses(app: Celery, events: Any) -> None:
    with pytest.raises(OptionError, match='events is'):
        CeleryEventSource(app, events)


def test_without_the_library() -> None:
    """In an interpreter of its own, where it cannot be imported."""
    code = """
import sys
sys.modules['kombu'] = None
try:
    import minibatch.contrib.celery
except ImportError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, '-c', code], check=True, timeout=30, capture_output=True, text=True).stdout
    assert said == "celery is not installed; install it with: pip install 'minibatch[celery]'\n"
