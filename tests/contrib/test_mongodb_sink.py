"""MongoSink: what is in the collection afterwards, and what is refused before anything is."""

from __future__ import annotations

import copy
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from bson import Decimal128
from pymongo import MongoClient, WriteConcern
from pymongo.errors import BulkWriteError

import minibatch as mb
from minibatch.contrib.mongodb import MongoSink
from minibatch.errors import InvalidMessage, OptionError
from tests.support.mongod import Deployment

WINDOW = SimpleNamespace(id='clicks:1', attempt=1)


def stored(db: Any, name: str = 'out') -> list[dict[str, Any]]:
    return list(db[name].find({}, {'_id': False}))


def test_a_dict_or_a_list_of_dicts_is_inserted_and_left_as_it_was(db: Any) -> None:
    sink = MongoSink(db['out'])
    one, many = {'n': 1, 'in': {'a': [1]}}, [{'n': 2}, {'n': 3}]
    before = copy.deepcopy((one, many))
    sink.put(one)
    sink.put(many)
    sink.put([])
    assert stored(db) == [{'n': 1, 'in': {'a': [1]}}, {'n': 2}, {'n': 3}]
    assert (one, many) == before, "the user's dicts were changed"


def test_the_same_dict_may_be_written_twice(db: Any) -> None:
    sink, message = MongoSink(db['out']), {'n': 1}
    sink.put(message)
    sink.put(message)
    assert stored(db) == [{'n': 1}, {'n': 1}]


def test_writes_wait_for_the_majority(db: Any) -> None:
    sink = MongoSink(db['out'].with_options(write_concern=WriteConcern(0)))
    with pytest.raises(BulkWriteError):  # with w=0 nobody would have been told
        sink.put([{'_id': 1}, {'_id': 1}])


def test_values_are_converted_as_append_does(db: Any) -> None:
    MongoSink(db['out']).put({'sum': Decimal('1.5'), 'pair': (1, 2)})
    assert stored(db) == [{'sum': Decimal128('1.5'), 'pair': [1, 2]}]


@pytest.mark.parametrize('message', [3, 'text', [{'n': 1}, None], {'n': object()}])
def test_what_cannot_be_stored_is_refused_whole(db: Any, message: Any) -> None:
    with pytest.raises(InvalidMessage, match='the sink got something it cannot store: data'):
        MongoSink(db['out']).put(message)
    assert stored(db) == []


def test_a_name_is_a_collection_of_the_streams_database(db: Any) -> None:
    sink = MongoSink('out')
    with pytest.raises(OptionError, match='does not know its database yet'):
        sink.put({'n': 1})
    sink.bind(db)
    sink.put({'n': 1})
    assert stored(db) == [{'n': 1}]


def test_upsert_replaces_by_key_so_that_repeats_are_harmless(db: Any) -> None:
    sink = MongoSink(db['out'], 'upsert', key='user')
    for _ in range(2):
        sink.put([{'user': 'ann', 'n': 1}, {'user': 'bob', 'n': 2}, {'user': 'ann', 'n': 3}])
    assert sorted(stored(db), key=lambda d: d['user']) == [{'user': 'ann', 'n': 3}, {'user': 'bob', 'n': 2}]
    assert db['out'].index_information()['user_1']['unique'], 'two consumers could both insert the same key'


def test_upsert_by_several_fields_and_by_id(db: Any) -> None:
    by_place = MongoSink(db['out'], 'upsert', key=['at.room', 'day'])
    for n in range(2):
        by_place.put({'at': {'room': 'attic'}, 'day': 1, 'n': n})
    assert stored(db) == [{'at': {'room': 'attic'}, 'day': 1, 'n': 1}]
    by_id = MongoSink(db['other'], 'upsert', key='_id')
    for n in range(2):
        by_id.put({'_id': f'{WINDOW.id}:0', 'n': n})
    assert list(db['other'].find()) == [{'_id': 'clicks:1:0', 'n': 1}]


def test_upsert_without_its_key_is_refused(db: Any) -> None:
    sink = MongoSink(db['out'], 'upsert', key='user')
    with pytest.raises(InvalidMessage, match="no field 'user'"):
        sink.put([{'user': 'ann'}, {'n': 1}])
    assert stored(db) == []


def test_upsert_into_doubles_is_refused(db: Any) -> None:
    db['out'].insert_many([{'user': 'ann'}, {'user': 'ann'}])
    with pytest.raises(OptionError, match='more than one document with the same user'):
        MongoSink(db['out'], 'upsert', key='user')


@pytest.mark.parametrize(('options', 'words'), [
    ({'mode': 'inserts'}, 'did you mean insert'),
    ({'mode': 'upsert'}, 'needs key='),
    ({'key': 'user'}, "goes with mode='upsert'"),
    ({'mode': 'upsert', 'key': ['user', '']}, 'the name of a field'),
])
def test_options_that_cannot_be(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        MongoSink('out', **options)


def test_a_collection_is_needed() -> None:
    with pytest.raises(OptionError, match='give a pymongo Collection'):
        MongoSink(None)  # type: ignore[arg-type]


# -- inside the commit's transaction


def test_put_in_lives_and_dies_with_the_transaction(db: Any) -> None:
    sink = MongoSink('out', exactly_once=True)
    sink.bind(db)
    assert 'out' in db.list_collection_names(), 'it has to be there before the transaction'
    sink.bind(db)  # the next consumer finds it there
    with db.client.start_session() as session:
        session.start_transaction()
        sink.put_in(session, {'n': 1}, WINDOW)
        session.abort_transaction()
        assert stored(db) == []
        with session.start_transaction():
            sink.put_in(session, [{'n': 1}, {'n': 2}], WINDOW)
            assert stored(db) == []
    assert stored(db) == [{'n': 1}, {'n': 2}]


def test_a_collection_of_another_client_of_the_same_mongodb_will_do(db: Any, server: Deployment, url: str) -> None:
    own: MongoClient[Any] = MongoClient(url)
    try:
        sink = MongoSink(own[db.name]['out'], exactly_once=True)
        sink.bind(db)
        with db.client.start_session() as session, session.start_transaction():
            sink.put_in(session, {'n': 1}, WINDOW)
        assert stored(db) == [{'n': 1}]
    finally:
        own.close()


def test_a_standalone_server_has_no_exactly_once(alone: Deployment) -> None:
    sink = MongoSink('out', exactly_once=True)
    with pytest.raises(OptionError, match='standalone'):
        sink.bind(alone.client['exactly_once'])


def test_a_collection_in_another_mongodb_is_refused(db: Any, alone: Deployment) -> None:
    sink = MongoSink(alone.client['elsewhere']['out'], exactly_once=True)
    with pytest.raises(OptionError, match='in another'):
        sink.bind(db)


# -- with the engine


def total(window: Any) -> dict[str, Any]:
    return {'window': window.id, 'sum': sum(message['n'] for message in window.data)}


@pytest.mark.parametrize('exactly_once', [False, True])
def test_results_of_windows_reach_the_collection(db: Any, url: str, stream_name: str, exactly_once: bool) -> None:
    mb.stream(stream_name, url=url).extend({'n': n} for n in range(10))
    mb.streaming(stream_name, total, url=url, size=2, executor='inline', blocking=False,
                 sink=MongoSink('totals', exactly_once=exactly_once))
    assert sorted(each['sum'] for each in db['totals'].find()) == [1, 5, 9, 13, 17]
    assert mb.stream(stream_name, url=url).buffer().count() == 0


def test_no_result_means_the_data_of_the_window(db: Any, url: str, stream_name: str) -> None:
    mb.stream(stream_name, url=url).extend({'n': n} for n in range(4))
    mb.streaming(stream_name, lambda window: None, url=url, size=2, executor='inline', blocking=False,
                 sink=MongoSink('copies', exactly_once=True))
    assert [each['n'] for each in db['copies'].find(sort=[('n', 1)])] == [0, 1, 2, 3]


def test_a_result_that_cannot_be_stored_fails_the_window_and_loses_nothing(db: Any, url: str, stream_name: str) -> None:
    stream = mb.stream(stream_name, url=url)
    stream.extend({'n': n} for n in range(2))
    mb.streaming(stream_name, lambda window: 3, url=url, size=2, executor='inline', blocking=False, max_attempts=1,
                 sink=MongoSink('totals', exactly_once=True))
    dead = stream.dead.list()
    assert len(dead) == 1
    assert 'the sink got something it cannot store' in str(dead[0])
    assert stored(db, 'totals') == []


def test_exactly_once_elsewhere_is_refused_before_anything_runs(
        url: str, stream_name: str, alone: Deployment) -> None:
    mb.stream(stream_name, url=url).append({'n': 1})
    with pytest.raises(OptionError, match='in another'):
        mb.streaming(stream_name, total, url=url, size=1, executor='inline', blocking=False,
                     sink=MongoSink(alone.client['elsewhere']['out'], exactly_once=True))
    assert mb.stream(stream_name, url=url).buffer(processed=False).count() == 1
