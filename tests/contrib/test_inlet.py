"""The inlet: what sources rely on, whichever they are."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument

import minibatch as mb
from minibatch.connection import disconnect
from minibatch.contrib.inlet import Inlet, Stopped
from minibatch.contrib.reconnect import detached, persist
from minibatch.errors import OptionError, PositionMoved
from tests.support.mongod import Deployment
from tests.support.proxy import Proxy
from tests.support.waiting import patience, wait_until

Open = Callable[..., mb.Stream]


@pytest.fixture
def proxy(server: Deployment) -> Iterator[Proxy]:
    with Proxy(server.nodes[0].port) as proxy:
        yield proxy


@pytest.fixture
def far(proxy: Proxy, url: str, dbname: str, server: Deployment) -> Iterator[mb.Stream]:
    """The stream by a way that can be broken."""
    far = proxy.url(dbname)
    stream = mb.stream('clicks', url=far)
    yield stream
    proxy.up()
    proxy.flow()
    stream.stop()
    # Else one that comes through just now begins a transaction, which holds its locks for a minute.
    wait_until(lambda: not any(each.name.startswith('minibatch-inlet') for each in threading.enumerate()), 20)
    disconnect(far)
    server.client.admin.command('killAllSessions', [])  # of who was cut off in a transaction, as a successor would


def data(db: Any) -> list[Any]:
    return [doc['data'] for doc in db.buffer.find({}).sort('_id', 1)]


def letters(stream: mb.Stream) -> list[dict[str, Any]]:
    return [window.data[0] for window in stream.dead.list()]


def test_positions_and_tokens_come_back_when_they_are_durable(stream: mb.Stream, db: Any) -> None:
    with Inlet(stream, 'queue', codec='json') as inlet:
        assert inlet.open() is None
        inlet.add(b'{"n": 1}', 10, token='one')
        inlet.extend([b'{"n": 2}', b'oops', b'3'], [20, 30, 40], tokens=['two', None, 'three'])
        assert inlet.flush()
        done = inlet.durable()
        assert [(each.positions, each.tokens) for each in done] == [({'': 40}, ['one', 'two', 'three'])]
        assert inlet.durable() == []
    assert data(db) == [{'n': 1}, {'n': 2}, {'value': 3}]
    assert [(each['raw'], each['position'], each['source']) for each in letters(stream)] == [(b'oops', 30, 'queue')]
    with Inlet(stream, 'queue') as inlet:
        assert inlet.open() == 40


def test_a_message_waits_for_others_no_longer_than_linger(stream: mb.Stream, db: Any) -> None:
    with Inlet(stream, 'queue', linger=0.01) as inlet:
        inlet.open()
        inlet.add({'n': 1}, 1)
        assert inlet.durable(10)[0].positions == {'': 1}
        assert data(db) == [{'n': 1}]


def test_shape_makes_the_message_of_what_was_decoded(stream: mb.Stream, db: Any) -> None:
    with Inlet(stream, 'queue', codec='json', shape=lambda value, meta: {'topic': meta, 'payload': value}) as inlet:
        inlet.open()
        inlet.add(b'[1]', 1, meta='a/b')
    assert data(db) == [{'topic': 'a/b', 'payload': [1]}]


@dataclass
class Click:
    user: str
    ms: float = 0.0


def test_a_schema_is_checked_before_the_shape(stream: mb.Stream, db: Any) -> None:
    with Inlet(stream, 'queue', codec='json', schema=Click) as inlet:
        inlet.open()
        inlet.extend([b'{"user": "ann"}', b'{"ms": 5}', b'{"user": "bob", "ms": 7}'], [1, 2, 3])
    assert data(db) == [{'user': 'ann', 'ms': 0.0}, {'user': 'bob', 'ms': 7.0}]
    assert letters(stream)[0]['raw'] == b'{"ms": 5}'
    assert 'user' in letters(stream)[0]['reason']


def test_whatever_a_codec_raises_is_a_dead_letter(stream: mb.Stream, db: Any) -> None:
    class Odd:
        def decode(self, raw: bytes) -> Any:
            if raw == b'1':
                raise KeyError('odd')
            return {'n': int(raw)}

        def encode(self, message: Any) -> bytes:
            return b''

    with Inlet(stream, 'queue', codec=Odd()) as inlet:
        inlet.open()
        inlet.extend([b'0', b'1', b'2', b'x'], [1, 2, 3, 4])
    assert data(db) == [{'n': 0}, {'n': 2}]
    assert ['odd' in letters(stream)[0]['reason'], 'ValueError' in letters(stream)[1]['reason']] == [True, True]


def test_what_mongodb_cannot_store_is_a_dead_letter(stream: mb.Stream, db: Any) -> None:
    deep: Any = {'n': 1}
    for _ in range(150):
        deep = {'d': deep}
    rows = [{'n': 0}, RawBSONDocument(bson.encode(deep)), {'huge': 'x' * (17 << 20)}, {'o': object()},
            {'n': 1 << 70}, {'n': 4}]
    with Inlet(stream, 'queue') as inlet:
        inlet.open()
        inlet.extend(rows, list(range(6)))
        assert inlet.flush()
        assert inlet.durable()[-1].positions == {'': 5}
    assert data(db) == [{'n': 0}, {'n': 4}]
    reasons = [letter['reason'] for letter in letters(stream)]
    assert len(reasons) == 4
    for words in ('nested more than', 'takes more than', 'type object', '64 bits'):
        assert any(words in each for each in reasons), reasons
    assert max(len(letter['raw']) for letter in letters(stream)) == 8 << 20, 'of what is too much, the beginning'


def test_what_the_server_refuses_is_a_dead_letter(stream: mb.Stream, db: Any) -> None:
    """For example by a rule of its administrator's; the others of its batch are stored."""
    db.command('collMod', 'buffer', validator={'data.n': {'$ne': 3}})
    with Inlet(stream, 'queue') as inlet:
        inlet.open()
        inlet.extend([{'n': n} for n in range(6)], list(range(6)))
        assert inlet.flush()
    assert [each['n'] for each in data(db)] == [0, 1, 2, 4, 5]
    assert 'MongoDB refused it' in letters(stream)[0]['reason']


def test_large_messages_go_in_several_transactions(stream: mb.Stream, db: Any) -> None:
    with Inlet(stream, 'queue') as inlet:
        inlet.open()
        inlet.extend([{'n': n, 'pad': 'x' * (1 << 20)} for n in range(20)], list(range(20)))
        assert inlet.flush()
        assert len(inlet.durable()) > 3
    assert [each['n'] for each in data(db)] == list(range(20))


def test_keys_of_recent_messages_are_stored_with_them(stream: mb.Stream) -> None:
    with Inlet(stream, 'queue', recents=3) as inlet:
        inlet.open()
        inlet.add({'n': 1}, key=(1, 'x'))
        assert inlet.seen((1, 'x')), 'also what is in hand'
        assert not inlet.seen((2, 'x'))
    with Inlet(stream, 'queue', recents=3) as inlet:
        assert inlet.open() is None
        assert inlet.seen((1, 'x'))
        for n in range(2, 5):
            inlet.add({'n': n}, key=(n, 'x'))
        assert not inlet.seen((1, 'x'))
        assert inlet.keys() == [(2, 'x'), (3, 'x'), (4, 'x')]


def test_many_keys_go_into_pages_and_old_pages_go(stream: mb.Stream, db: Any) -> None:
    with Inlet(stream, 'queue', recents=2500, size=500) as inlet:
        inlet.open()
        for at in range(0, 10_000, 500):
            inlet.extend([{'n': n} for n in range(at, at + 500)], range(at, at + 500), keys=range(at, at + 500))
        inlet.flush()
        assert db.source.count_documents({'keys': {'$exists': True}}) <= 4
    with Inlet(stream, 'queue', recents=2500) as inlet:
        assert inlet.open() == 9999
        assert inlet.keys() == list(range(7500, 10_000))
    assert stream.store.forget_source('clicks', 'queue') == 1
    assert db.source.count_documents({}) == 0


def test_order_is_kept_by_a_successor_within_the_same_second(stream: mb.Stream, db: Any) -> None:
    from minibatch.ids import ids
    for n in range(6):
        ids.renew()  # as another process
        with Inlet(stream, 'queue') as inlet:
            inlet.open()
            inlet.add({'n': n}, n)
    assert [each['n'] for each in data(db)] == list(range(6))


def test_who_was_replaced_hears_of_it_and_can_begin_anew(stream: mb.Stream, db: Any) -> None:
    with Inlet(stream, 'queue') as old, Inlet(stream, 'queue') as new:
        old.open()
        new.open()
        new.add({'n': 1}, 1)
        assert new.flush()
        old.add({'n': 1}, 1)
        with pytest.raises(PositionMoved):
            old.flush()
        with pytest.raises(OptionError, match='not open'):
            old.add({'n': 1}, 1)
        assert old.open() == 1
        old.add({'n': 2}, 2)
        assert old.flush()
    assert data(db) == [{'n': 1}, {'n': 2}]


def test_a_part_has_to_be_opened(stream: mb.Stream) -> None:
    with Inlet(stream, 'queue') as inlet, pytest.raises(OptionError, match=r"call open\('a'\) first"):
        inlet.add({'n': 1}, 1, part='a')
    with Inlet(stream, None) as inlet, pytest.raises(OptionError, match='without a name'):
        inlet.open()


@pytest.mark.parametrize(('option', 'value'), [
    ('name', ''), ('name', 5), ('name', 'a' * 201), ('size', 0), ('size', True), ('linger', -1), ('linger', 'x'),
    ('recents', -1), ('codec', 'jsn')])
def test_options_that_cannot_be(stream: mb.Stream, option: str, value: Any) -> None:
    with pytest.raises(OptionError):
        Inlet(stream, **{'name': 'queue', option: value})


# -- bad weather at the stream's MongoDB


@pytest.mark.parametrize('command', ['update', 'insert', 'commitTransaction'])
@pytest.mark.parametrize('where', ['before', 'middle', 'after'])
def test_a_cut_connection_neither_loses_nor_doubles(far: mb.Stream, proxy: Proxy, db: Any, command: str,
                                                    where: Any) -> None:
    with Inlet(far, 'queue', size=10) as inlet:
        inlet.open()
        inlet.add({'n': 0}, 0)
        inlet.flush()
        rule = proxy.rule(command, where, times=2)
        inlet.extend([{'n': n} for n in range(1, 50)], range(1, 50))
        assert inlet.flush()
        assert rule.hits == 2
        assert inlet.durable()[-1].positions == {'': 49}
    assert [each['n'] for each in data(db)] == list(range(50))


def test_it_waits_for_mongodb(far: mb.Stream, proxy: Proxy, db: Any, caplog: pytest.LogCaptureFixture) -> None:
    with Inlet(far, 'queue', linger=0.01) as inlet:
        inlet.open()
        proxy.down()
        inlet.add({'n': 1}, 1)
        wait_until(lambda: 'waits for MongoDB' in caplog.text, 20)
        assert not inlet.flush(0.1)
        proxy.up()
        assert inlet.flush(30)
    assert data(db) == [{'n': 1}]
    assert caplog.text.count('waits for MongoDB') == 1


@pytest.mark.parametrize('weather', ['down', 'hang'])
def test_a_cancel_is_noticed_while_mongodb_is_away(far: mb.Stream, proxy: Proxy, weather: str) -> None:
    cancelled = threading.Event()
    with Inlet(far, 'queue', linger=0.0, cancelled=cancelled) as inlet:
        inlet.open()
        getattr(proxy, weather)()
        inlet.add({'n': 1}, 1)
        wait_until(lambda: inlet._busy)
        began = time.monotonic()
        cancelled.set()
        assert not inlet.flush()
    assert time.monotonic() - began < patience(1.0)


def test_a_cancel_is_noticed_while_it_opens(far: mb.Stream, proxy: Proxy) -> None:
    cancelled = threading.Event()
    with Inlet(far, 'queue', cancelled=cancelled) as inlet:
        proxy.hang()
        threading.Timer(0.1, cancelled.set).start()
        began = time.monotonic()
        with pytest.raises(Stopped):
            inlet.open()
    assert time.monotonic() - began < patience(1.5)


def test_a_full_inlet_holds_up_who_adds_and_says_so(stream: mb.Stream) -> None:
    full = mb.stream('clicks', url=stream.store.connection.url, max_backlog=5)
    cancelled = threading.Event()
    with Inlet(full, 'queue', size=5, linger=0.0, cancelled=cancelled) as inlet:
        inlet.open()
        for n in range(5):
            inlet.add({'n': n}, n)
        inlet.flush()
        inlet.extend([{'n': n} for n in range(5, 20)], range(5, 20))
        wait_until(lambda: inlet.full)
        threading.Timer(0.1, inlet.cancel).start()
        with pytest.raises(Stopped):
            inlet.add({'n': 20}, 20)
        assert not inlet.flush()
    with Inlet(mb.stream('clicks', url=stream.store.connection.url, max_backlog=100), 'queue') as inlet:
        assert inlet.open() == 4


# -- outages of upstream


def test_persist_raises_what_does_not_pass() -> None:
    def session(up: Callable[[], None]) -> None:
        raise PermissionError('wrong password')

    with pytest.raises(PermissionError):
        persist(session, 'a source', cancelled=threading.Event(), on=(ConnectionError,))


def test_persist_says_once_when_it_begins_and_once_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level('INFO')
    tries = []

    def session(up: Callable[[], None]) -> None:
        tries.append(1)
        if len(tries) in (4, 8):
            up()
        if len(tries) < 8:
            raise ConnectionError('refused')

    persist(session, 'a source', cancelled=threading.Event(), on=(ConnectionError,), shortest=0.001)
    said = [record.getMessage() for record in caplog.records if record.name.endswith('reconnect')]
    assert [('was interrupted' in each, 'connected again' in each) for each in said] == [
        (True, False), (False, True), (True, False), (False, True)]


def test_what_does_not_notice_a_cancel_is_left_alone() -> None:
    cancelled, end = threading.Event(), threading.Event()
    threading.Timer(0.1, cancelled.set).start()
    began = time.monotonic()
    detached(lambda: end.wait(60) and None, cancelled)
    assert 0.5 < time.monotonic() - began < patience(1.5)
    end.set()


def test_letters_can_be_redriven_and_dropped(stream: mb.Stream, db: Any) -> None:
    with Inlet(stream, 'queue', codec='json') as inlet:
        inlet.open()
        inlet.extend([b'{', b'[', b'"'], [1, 2, 3])
    assert len(stream.dead) == 3
    first = stream.dead.list()[0]
    assert stream.dead.show(first.id).data[0]['raw'] == b'{'
    assert stream.dead.drop(first.id) == 1
    assert stream.dead.redrive() == 2
    got: list[Any] = []

    def mend(window: Any) -> Any:
        got.extend(each['raw'] for each in window.data)
        if len(got) == 1:
            raise ValueError('once more')
        return json.dumps({'mended': True})

    stream.streaming(mend, size=10, executor='inline', blocking=False, backoff=0, max_attempts=3)
    assert sorted(got) == [b'"', b'[', b'[']
    assert (len(stream.dead), db.window.count_documents({}), db.buffer.count_documents({})) == (0, 0, 0)
