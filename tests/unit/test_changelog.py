"""Changelogs of tables: each change is there with its note, or neither is; and a table can be made anew from them."""

from __future__ import annotations

import random
import threading
from datetime import timedelta
from typing import Any

import pytest

import minibatch as mb
from minibatch import points
from minibatch.errors import OptionError, TableError
from minibatch.table import Table


@pytest.fixture
def stock(url: str) -> Table:
    return mb.table('stock', default=int, url=url, changelog=True)


def noted(table: Table, *of: Any) -> list[tuple[Any, int, Any]]:
    assert table.changelog is not None
    changes = table.changelog.of(*of) if of else table.changelog
    return [(each.key, each.number, 'gone' if each.gone else each.value) for each in changes]


def consume(url: str, function: Any, n: int, **options: Any) -> None:
    stream = mb.stream('orders', url=url)
    stream.extend({'n': each} for each in range(n))
    mb.streaming('orders', function, url=url, blocking=False, **{'executor': 'inline', 'size': 1, **options})


def test_each_change_is_noted_in_order(stock: Table) -> None:
    stock['pen'] = 5
    stock['pen'] += 2
    stock.add('pen', 3)
    stock.change('pen', lambda n: n * 2)
    stock.update({('ink', 1): 1, None: 2})
    del stock[None]
    assert stock.pop(('ink', 1)) == 1
    assert noted(stock, 'pen') == [('pen', 1, 5), ('pen', 2, 7), ('pen', 3, 10), ('pen', 4, 20)]
    assert noted(stock, ('ink', 1)) == [(('ink', 1), 1, 1), (('ink', 1), 2, 'gone')]
    assert len(noted(stock)) == 8
    assert dict(stock) == {'pen': 20}, 'the notes are no keys of the table'
    stock.clear()
    assert noted(stock, 'pen')[-1] == ('pen', 5, 'gone')


def test_nothing_is_noted_of_what_was_not_there(stock: Table) -> None:
    stock.pop('pen', None)
    stock.clear()
    assert noted(stock) == []


@pytest.mark.parametrize('executor', ['inline', 'process'])
def test_windows_note_what_they_have_made_of_a_key(stock: Table, url: str, executor: str) -> None:
    def take(window: Any) -> None:
        for message in window:
            stock[message['n'] % 2] += 1
            stock.add('all')
        stock['come and gone'] = 1
        del stock['come and gone']

    consume(url, take, 20, size=5, executor=executor)
    values = [value for _, _, value in noted(stock, 'all')]
    assert values == sorted({*values, 20}), 'windows that commit together make one note'
    assert noted(stock, 0)[-1][2] == 10
    assert noted(stock, 'come and gone') == []


def test_a_window_that_fails_notes_nothing(stock: Table, url: str) -> None:
    def fail(window: Any) -> None:
        stock['pen'] = 1
        raise ValueError('no')

    consume(url, fail, 1, max_attempts=1)
    assert noted(stock) == []


def test_it_is_made_anew(stock: Table, db: Any) -> None:
    for n in range(50):
        stock[n] = n
        stock[n] += 100
    for n in range(10):
        del stock[n]
    wanted = dict(stock)
    mb.table('stock', url=stock.place.url)['other'] = 1  # not noted
    db.table.delete_many({'_id.t': 'stock', '_id.k': {'$gte': 40, '$lt': 50}})
    db.table.update_many({'_id.t': 'stock', '_id.k': {'$gte': 30, '$lt': 40}}, {'$set': {'value': 'rubbish'}})
    db.table.update_many({'_id.t': 'stock', '_id.k': {'$gte': 20, '$lt': 30}}, {'$unset': {'value': 1}})
    db.table.insert_one({'_id': {'t': 'stock', 'k': 3}, 'value': 1, 'version': b'x'})
    assert dict(stock) != wanted
    assert stock.changelog.rebuild() == 31
    assert dict(stock) == {**wanted, 'other': 1}
    assert stock.changelog.rebuild() == 0
    stock[49] += 1
    assert noted(stock, 49)[-1] == (49, 3, 150), 'changes go on from there'


def test_what_has_expired_does_not_come_back(url: str, db: Any) -> None:
    short = mb.table('short', url=url, ttl=30, changelog=True)
    short['pen'] = 1
    short['ink'] = 1
    change, = short.changelog.of('pen')
    assert change.expires is not None
    db.table.delete_many({'_id.t': 'short'})
    db.table.update_one({'_id.t': ':log', '_id.k.1': 'ink'}, {'$set': {'value.expires': change.expires
                                                                       - timedelta(seconds=31)}})
    short.changelog.rebuild()
    assert dict(short) == {'pen': 1}
    assert abs(db.table.find_one({'_id.t': 'short'})['expires'] - change.expires) < timedelta(seconds=1)


def test_only_the_last_change_of_each_key_is_kept(stock: Table) -> None:
    for n in range(4):
        stock['pen'] += n
        stock['ink'] += n
    del stock['ink']
    assert stock.changelog.compact() == 8
    assert noted(stock) == [('pen', 4, 6)]
    stock['pen'] += 1
    stock['ink'] += 1
    assert noted(stock) == [('ink', 1, 1), ('pen', 4, 6), ('pen', 5, 7)]


def test_many_write_while_it_is_made_anew(stock: Table, db: Any) -> None:
    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            stock[chance.randrange(3)] += 1

    for key in range(3):
        stock[key] = 0
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for each in threads:
        each.start()
    while any(each.is_alive() for each in threads):
        assert stock.changelog.rebuild() == 0, 'nothing is broken, so nothing is mended'
    assert sum(stock.values()) == 180
    assert [number for _, number, _ in noted(stock, 0)] == list(range(1, len(noted(stock, 0)) + 1))
    assert {key: noted(stock, key)[-1][2] for key in range(3)} == dict(stock)


def test_killed_between_a_change_and_its_note_neither_is_there(
        stock: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(name: str) -> None:
        if name == 'change:written':
            raise KeyboardInterrupt

    stock['pen'] = 1
    monkeypatch.setattr(points, 'on_point', killed)
    with pytest.raises(KeyboardInterrupt):
        stock['pen'] = 2
    monkeypatch.setattr(points, 'on_point', None)
    assert stock['pen'] == 1
    assert noted(stock) == [('pen', 1, 1)]


def test_tables_by_windows_of_time_note_theirs(stock: Table) -> None:
    by_minute = stock.tumbling(60, expires=0)
    by_minute['pen'] += 1
    (when, key, value), = by_minute.windows()
    assert (key, value) == ('pen', 1)
    assert [change.value for change in by_minute.rows.changelog.of((when, 'pen'))] == [1]
    assert noted(stock) == []


def test_a_window_function_cannot_make_it_anew(stock: Table, url: str) -> None:
    errors: list[BaseException] = []

    def work(window: Any) -> None:
        for call in (stock.changelog.rebuild, stock.changelog.compact):
            with pytest.raises(TableError, match='cannot be used for that in a window function') as info:
                call()
            errors.append(info.value)

    consume(url, work, 1)
    assert len(errors) == 2


def test_a_standalone_server_keeps_none(alone: Any, dbname: str) -> None:
    table = mb.table('stock', url=alone.url(dbname), changelog=True)
    with pytest.raises(OptionError, match='replica set'):
        table['pen'] = 1
    assert dict(table) == {}
    alone.client.drop_database(dbname)
