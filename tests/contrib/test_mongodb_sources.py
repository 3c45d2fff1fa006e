"""MongoDB upstream: ids that come late, history that is lost, collections that are dropped."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from bson import ObjectId

import minibatch as mb
from minibatch.contrib.mongodb import MongoReplicasetSource, MongoSource
from minibatch.errors import HistoryLost, OptionError, StoreUnavailable
from tests.support.mongod import Deployment
from tests.support.waiting import wait_until


@pytest.fixture
def numbers(db: Any) -> Callable[[], list[int]]:
    return lambda: [doc['data']['n'] for doc in db.buffer.find({}).sort('_id', 1)]


Numbers = Callable[[], list[int]]


def poll(stream: mb.Stream, collection: Any, **options: Any) -> None:
    stream.attach(MongoSource(collection, delay=0.02, **options))


def made(seconds_ago: float, n: int = 0) -> ObjectId:
    """An ObjectId made some time ago, on another machine."""
    when = int(datetime.now(timezone.utc).timestamp() - seconds_ago)
    return ObjectId(when.to_bytes(4, 'big') + b'other' + n.to_bytes(3, 'big'))


# -- polling


def test_documents_come_as_they_are(stream: mb.Stream, db: Any) -> None:
    docs = [{'_id': n, 'when': datetime(2026, 1, 1), 'deep': {'a': [1, {'b': None}]}} for n in range(3)]
    db['up'].insert_many(docs)
    poll(stream, 'up')
    wait_until(lambda: stream.buffer().count() == 3)
    assert [doc['data'] for doc in db.buffer.find({}).sort('_id', 1)] == docs


@pytest.mark.parametrize('running', [True, False])
@pytest.mark.parametrize('ago', [5, 300])
def test_an_id_that_comes_late_is_not_missed(stream: mb.Stream, db: Any, numbers: Numbers, running: bool,
                                             ago: float) -> None:
    """Its document is inserted when greater ones were read already; also while nobody was reading."""
    db['up'].insert_many([{'_id': made(10, n), 'n': n} for n in range(3)])
    db['up'].insert_one({'n': 3})
    poll(stream, 'up', late=600)
    wait_until(lambda: numbers() == [0, 1, 2, 3])
    if not running:
        stream.stop()
    db['up'].insert_one({'_id': made(ago), 'n': 4})
    if not running:
        poll(stream, 'up', late=600)
    if ago < 60 or running:
        wait_until(lambda: numbers() == [0, 1, 2, 3, 4])
    db['up'].insert_one({'n': 5})
    wait_until(lambda: 5 in numbers())
    stream.stop()
    assert sorted(set(numbers())) == sorted(numbers())


def test_late_ones_that_are_no_object_ids(stream: mb.Stream, db: Any, numbers: Numbers) -> None:
    for n in (10, 20, 30):
        db['up'].insert_one({'_id': n, 'n': n})
    poll(stream, 'up')
    wait_until(lambda: numbers() == [10, 20, 30])
    db['up'].insert_many([{'_id': n, 'n': n} for n in (5, 15, 25)])
    wait_until(lambda: sorted(numbers()) == [5, 10, 15, 20, 25, 30])


def test_one_that_goes_while_another_comes(stream: mb.Stream, db: Any, numbers: Numbers) -> None:
    """Their number is the same as before."""
    db['up'].insert_many([{'_id': n, 'n': n} for n in (1, 2, 4)])
    poll(stream, 'up')
    wait_until(lambda: numbers() == [1, 2, 4])
    with db.client.start_session() as session, session.start_transaction():
        db['up'].delete_one({'_id': 2}, session=session)
        db['up'].insert_one({'_id': 3, 'n': 3}, session=session)
    wait_until(lambda: numbers() == [1, 2, 4, 3])


def test_what_is_older_than_late_is_final(stream: mb.Stream, db: Any, numbers: Numbers) -> None:
    """And needs no memory: of a backlog, only the last ids are remembered."""
    db['up'].insert_many([{'_id': made(1000, n), 'n': n} for n in range(50)])
    poll(stream, 'up', size=10)
    wait_until(lambda: len(numbers()) == 50)
    stream.stop()
    doc = db.source.find_one({})
    assert doc.get('recent', []) == []
    assert db.source.count_documents({}) == 1


def test_a_field_that_is_not_unique(stream: mb.Stream, db: Any, numbers: Numbers) -> None:
    db['up'].create_index('day')
    db['up'].insert_many([{'n': n, 'day': n // 100} for n in range(250)] + [{'n': -1}])
    poll(stream, 'up', idcol='day', size=7)
    wait_until(lambda: len(numbers()) >= 250)
    db['up'].insert_many([{'_id': made(100), 'n': 250, 'day': 0}, {'_id': made(100, 1), 'n': 251, 'day': 2}])
    wait_until(lambda: len(numbers()) >= 252)
    assert sorted(numbers()) == list(range(252)), 'a document without the field is not read'


def test_a_query_and_a_schema(stream: mb.Stream, db: Any, numbers: Numbers) -> None:
    db['up'].insert_many([{'_id': n, 'n': n, 'kind': 'ab'[n % 2]} for n in range(6)] + [{'_id': 9, 'kind': 'a'}])
    schema = {'type': 'object', 'required': ['n']}
    pytest.importorskip('jsonschema')
    poll(stream, 'up', query={'kind': 'a'}, schema=schema)
    wait_until(lambda: numbers() == [0, 2, 4] and len(stream.dead) == 1)


def test_ids_that_are_documents(stream: mb.Stream, db: Any, numbers: Numbers) -> None:
    db['up'].insert_many([{'_id': {'a': n}, 'n': n} for n in range(5)])
    poll(stream, 'up', size=2)
    wait_until(lambda: numbers() == list(range(5)))
    stream.stop()
    db['up'].insert_one({'_id': {'a': -1}, 'n': 5})
    poll(stream, 'up')
    wait_until(lambda: numbers() == list(range(6)))


@pytest.mark.parametrize(('options', 'words'), [
    ({'collection': None}, 'collection is None'), ({'size': 0}, 'size'), ({'idcol': ''}, 'idcol'),
    ({'delay': -1}, 'delay'), ({'late': 'x'}, 'late')])
def test_options_of_polling(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        MongoSource(**{'collection': 'up', **options})


# -- change streams


def watch(stream: mb.Stream, collection: Any, **options: Any) -> Any:
    """Attach, and wait until it watches."""
    source = MongoReplicasetSource(collection, **options)
    thread = stream.attach(source)

    def watches() -> bool:
        try:
            return any(each['position'] for each in stream.store.positions(stream.name))
        except StoreUnavailable:  # asked in the moment in which the server makes its collections
            return False

    wait_until(lambda: watches() or not thread.is_alive())
    return source


def test_only_what_is_inserted_after_the_start(stream: mb.Stream, db: Any, numbers: Numbers) -> None:
    db['up'].insert_one({'n': 0})
    watch(stream, 'up')
    db['up'].insert_one({'n': 1})
    db['up'].update_one({'n': 1}, {'$set': {'x': 1}})
    wait_until(lambda: numbers() == [1])
    stream.stop()
    db['up'].insert_one({'n': 2})
    watch(stream, 'up')
    wait_until(lambda: numbers() == [1, 2])


def test_events(stream: mb.Stream, db: Any) -> None:
    watch(stream, 'up', operations=['insert', 'update', 'delete'], events=True)
    db['up'].insert_one({'_id': 1, 'n': 1})
    db['up'].update_one({'_id': 1}, {'$set': {'n': 2}, '$unset': {'m': 1}})
    db['up'].delete_one({'_id': 1})
    wait_until(lambda: stream.buffer().count() == 3)
    got = [doc['data'] for doc in db.buffer.find({}).sort('_id', 1)]
    assert [(each['operation'], each['key'], each['changes']) for each in got] == [
        ('insert', {'_id': 1}, None), ('update', {'_id': 1}, {'set': {'n': 2}, 'removed': []}),
        ('delete', {'_id': 1}, None)]
    assert abs(got[0]['at'] - datetime.now(timezone.utc).replace(tzinfo=None)) < timedelta(minutes=5)


def test_updates_and_a_query(stream: mb.Stream, db: Any) -> None:
    watch(stream, 'up', operations=('update', 'delete'), query={'documentKey._id': 1})
    for n in (1, 2):
        db['up'].insert_one({'_id': n, 'n': 0})
        db['up'].update_one({'_id': n}, {'$set': {'n': 1}})
        db['up'].delete_one({'_id': n})
    wait_until(lambda: stream.buffer().count() >= 2)
    got = [doc['data'] for doc in db.buffer.find({}).sort('_id', 1)]
    assert [each['_id'] for each in got] == [1, 1]
    assert got[-1] == {'_id': 1}


def test_a_dropped_collection_is_no_end(stream: mb.Stream, db: Any, numbers: Numbers) -> None:
    watch(stream, 'up')
    db['up'].insert_one({'n': 1})
    db['up'].drop()
    db['up'].insert_one({'n': 2})
    wait_until(lambda: numbers() == [1, 2])


def lose_history(db: Any) -> None:
    """The stored place is one that the server's history does not have: a second before the event that it names."""
    token = db.source.find_one({})['position']['token']['_data']
    earlier = f'{token[:2]}{int(token[2:10], 16) - 1:08X}{token[10:]}'
    db.source.update_one({}, {'$set': {'position': {'token': {'_data': earlier}}}})


@pytest.mark.parametrize(('policy', 'wanted'), [('fail', [1]), ('resume', [1, 3]), ('rescan', [1, 1, 2, 3])])
def test_lost_history(stream: mb.Stream, db: Any, numbers: Numbers, policy: str, wanted: list[int],
                      caplog: pytest.LogCaptureFixture) -> None:
    watch(stream, 'up', on_history_lost=policy)
    db['up'].insert_one({'n': 1})
    wait_until(lambda: numbers() == [1])
    stream.stop()
    db['up'].insert_one({'n': 2})
    lose_history(db)
    source = MongoReplicasetSource('up', on_history_lost=policy)
    if policy == 'fail':
        with pytest.raises(HistoryLost, match="on_history_lost='resume' goes on"):
            stream.attach(source, background=False)
        assert numbers() == wanted
        return
    stream.attach(source)
    wait_until(lambda: 'is gone from the history' in caplog.text)
    wait_until(lambda: set(db.source.find_one({})['position']) == {'since'})
    db['up'].insert_one({'n': 3})
    wait_until(lambda: sorted(numbers()) == wanted)


def test_from_a_moment_on(stream: mb.Stream, db: Any, numbers: Numbers) -> None:
    db['up'].insert_one({'n': 1})
    stream.attach(MongoReplicasetSource('up', since=datetime.now(timezone.utc) - timedelta(seconds=30)))
    wait_until(lambda: numbers() == [1])


def test_a_standalone_server_has_no_changes(stream: mb.Stream, alone: Deployment) -> None:
    with pytest.raises(OptionError, match='needs a replica set'):
        stream.attach(MongoReplicasetSource(alone.client['x']['up']), background=False)


def test_a_standalone_server_can_be_polled(stream: mb.Stream, alone: Deployment, numbers: Numbers) -> None:
    alone.client['polled']['up'].insert_many([{'n': n} for n in range(5)])
    poll(stream, alone.client['polled']['up'])
    wait_until(lambda: numbers() == list(range(5)))
    stream.stop()
    alone.client.drop_database('polled')


@pytest.mark.parametrize(('options', 'words'), [
    ({'operations': ['inserts']}, 'did you mean insert'), ({'on_history_lost': 'rescann'}, 'did you mean rescan'),
    ({'since': 'now'}, 'since must be')])
def test_options_of_changes(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        MongoReplicasetSource('up', **options)
