"""Redis: what the conformance suites do not ask, since no other bridge has it."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import minibatch as mb
from minibatch.errors import AccessRefused, DeliveryFailed, HistoryLost, InvalidMessage, OptionError, Unencodable
from tests.support.brokers import Redis
from tests.support.consuming import passed
from tests.support.waiting import patience, wait_until
from tests.support.world import World, at

pytest.importorskip('redis', reason="pip install 'minibatch[redis]'")

from minibatch.contrib.redis import RedisSink, RedisSource

ADAPTER = 'tests.contrib.conformance.bridge_redis:Stream'
Source = Callable[..., RedisSource]


@pytest.fixture
def upstream(redis: Redis) -> Iterator[Any]:
    """A client of the server's own port, which no gate cuts off."""
    import redis as library
    client = library.Redis(port=redis.direct)
    yield client
    client.close()


@pytest.fixture
def source(redis: Redis) -> Source:
    def make(**options: Any) -> RedisSource:
        return RedisSource('numbers', redis.url, **options)
    return make


def feed(upstream: Any, numbers: range) -> list[str]:
    """Add an entry for each number; their ids."""
    return [upstream.xadd('numbers', {'data': b'{"n": %d}' % n}).decode() for n in numbers]


def data(db: Any) -> list[Any]:
    return [doc['data'] for doc in db.buffer.find({}).sort('_id', 1)]


def numbers(db: Any) -> list[int]:
    return [each['n'] for each in data(db)]


def holds(db: Any, count: int) -> None:
    wait_until(lambda: db.buffer.count_documents({}) >= count, 30, what=f'{count} messages in the stream')


def groups(upstream: Any) -> list[Any]:
    return list(upstream.xinfo_groups('numbers')) if upstream.exists('numbers') else []


def pending(upstream: Any) -> int:
    return sum(each['pending'] for each in groups(upstream))


def settled(upstream: Any) -> None:
    wait_until(lambda: pending(upstream) == 0, what='all entries to be acknowledged')


# -- what a message is


def test_one_field_is_the_message_or_all_are(redis: Redis, upstream: Any, url: str, db: Any) -> None:
    upstream.xadd('numbers', {'data': b'{"n": 1}', 'by': b'ann', 'raw': b'\xff'}, id='7-1')
    for name, options in (('one', {}), ('other', {'field': 'by', 'codec': 'text'}), ('all', {'field': None}),
                          ('whole', {'envelope': True}), ('raw', {'field': None, 'codec': 'raw', 'envelope': True})):
        stream = mb.stream(name, url=url)
        stream.attach(RedisSource('numbers', redis.url, **options))
        wait_until(lambda name=name: db.buffer.count_documents({'stream': name}), what=name)
        stream.stop()
    got = {doc['stream']: doc['data'] for doc in db.buffer.find({})}
    assert got == {
        'one': {'n': 1}, 'other': {'value': 'ann'}, 'all': {'data': '{"n": 1}', 'by': 'ann', 'raw': b'\xff'},
        'whole': {'key': 'numbers', 'id': '7-1', 'value': {'n': 1}},
        'raw': {'key': 'numbers', 'id': '7-1', 'value': {'data': b'{"n": 1}', 'by': b'ann', 'raw': b'\xff'}}}


def test_entries_that_are_no_messages(upstream: Any, db: Any, stream: mb.Stream, source: Source) -> None:
    bad = upstream.xadd('numbers', {'other': b'1'}).decode()
    upstream.xadd('numbers', {'data': b'{"n": "two"}'})
    feed(upstream, range(3, 4))
    stream.attach(source(schema={'properties': {'n': {'type': 'integer'}}}))
    wait_until(lambda: len(stream.dead) == 2)
    settled(upstream)
    missing, unfit = sorted((each.data[0] for each in stream.dead.list()), key=lambda letter: letter['position'])
    assert missing['reason'] == "the entry has no field 'data'; it has 'other' (field=None takes them all)"
    assert missing['raw'] == b"{b'other': b'1'}"
    assert missing['position'] == bad
    assert 'integer' in unfit['reason']
    assert unfit['raw'] == b'{"n": "two"}'
    assert data(db) == [{'n': 3}]


def test_where_a_new_group_begins(upstream: Any, db: Any, stream: mb.Stream, source: Source) -> None:
    feed(upstream, range(3))
    stream.attach(source(start='latest'))
    wait_until(lambda: groups(upstream))
    feed(upstream, range(3, 5))
    holds(db, 2)
    assert numbers(db) == [3, 4]


def test_a_group_that_is_there_goes_on_where_it_was(upstream: Any, db: Any, stream: mb.Stream, source: Source) -> None:
    """Also with what somebody else, who was no source of ours, has left unfinished in it."""
    feed(upstream, range(6))
    upstream.xgroup_create('numbers', 'workers', '0')
    ((_, entries),) = upstream.xreadgroup('workers', 'somebody', {'numbers': '>'}, count=4)
    upstream.xack('numbers', 'workers', entries[0][0], entries[1][0])
    stream.attach(source(group='workers', claim_after=0.3))
    holds(db, 4)
    settled(upstream)
    assert sorted(numbers(db)) == [2, 3, 4, 5]


# -- several, killed, slow


def test_several_share_the_work(redis: Redis, upstream: Any, url: str, db: Any) -> None:
    streams = [mb.stream('clicks', url=url) for _ in range(3)]
    for stream in streams:
        stream.attach(RedisSource('numbers', redis.url, size=10))
    wait_until(lambda: len(upstream.xinfo_consumers('numbers', groups(upstream)[0]['name'])) == 3
               if groups(upstream) else False)
    fed = 0

    def shared() -> bool:
        nonlocal fed
        feed(upstream, range(fed, fed + 100))
        fed += 100
        parts = [each for each in db.source.find({'name': 'redis:numbers'}) if each['part'] and each['position']]
        return len(parts) == 3
    wait_until(shared, 20, what='each to have stored something')
    holds(db, fed)
    settled(upstream)
    for stream in streams:
        stream.stop()
    assert sorted(numbers(db)) == list(range(fed))


def test_what_was_stored_and_not_acknowledged_is_not_stored_again(
    redis: Redis, upstream: Any, world: World, db: Any, stream: mb.Stream, source: Source,
) -> None:
    feed(upstream, range(250))
    child = start(world, redis, at('source:committed', nth=3))  # the first one is the beginning of the group
    child.wait_killed(30)
    assert len(numbers(db)) == 200
    assert pending(upstream) > 0
    stream.attach(source())
    holds(db, 250)
    settled(upstream)
    stream.stop()
    assert numbers(db) == list(range(250))
    assert len(upstream.xinfo_consumers('numbers', groups(upstream)[0]['name'])) == 1, 'the name is used again'


@pytest.mark.fault
@pytest.mark.parametrize('point', ['source:moved', 'source:inserted', 'source:committed'])
def test_one_that_was_only_slow_does_not_double(
    redis: Redis, upstream: Any, world: World, db: Any, stream: mb.Stream, source: Source, point: str,
) -> None:
    """Its entries are taken over while it stands still; then it goes on, with all of them in hand."""
    feed(upstream, range(500))
    child = start(world, redis, at(point, do='stop', nth=3))
    wait_until(lambda: world.faults() == [point], 20)
    stream.attach(source(claim_after=0.5))
    holds(db, 500)
    settled(upstream)
    feed(upstream, range(500, 600))
    os.kill(child.pid, signal.SIGCONT)
    holds(db, 600)
    consumers = {part['part'] for part in db.source.find({'name': 'redis:numbers'}) if part['part']}
    stream.stop()
    feed(upstream, range(600, 700))
    holds(db, 700)
    settled(upstream)
    child.kill()
    assert sorted(numbers(db)) == list(range(700))
    assert len(consumers) >= 2


@pytest.mark.fault
@pytest.mark.slow
def test_several_are_killed_and_others_take_over(redis: Redis, upstream: Any, world: World, db: Any) -> None:
    """Three at a time, of which one after another is killed at some step; those that live take over, and new ones."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    points = ['source:moved', 'source:inserted', 'source:committed']
    children = [start(world, redis) for _ in range(2)]
    for round_ in range(6):
        doomed = start(world, redis, at(rng.choice(points), nth=rng.randrange(1, 4)))
        hundreds = iter(range(round_ * 1000, round_ * 1000 + 1000, 100))

        def dead(doomed: Any = doomed, hundreds: Iterator[int] = hundreds) -> bool:
            for n in itertools.islice(hundreds, 1):
                feed(upstream, range(n, n + 100))
            return doomed.process.poll() is not None
        with contextlib.suppress(AssertionError):  # the others may have left too little for it
            wait_until(dead, 5)
        for n in hundreds:
            feed(upstream, range(n, n + 100))
        doomed.kill()
        if round_ % 2:
            children.pop(0).kill()
            children.append(start(world, redis))
    world.patiently(lambda: db.buffer.count_documents({}) >= 6000, 60, f'all messages (seed {seed})')
    settled(upstream)
    for child in children:
        child.kill()
    assert sorted(numbers(db)) == list(range(6000)), f'seed {seed}'
    assert world.faults(), 'nobody was killed'


def start(world: World, redis: Redis, *actions: dict[str, Any]) -> Any:
    """A source in another process, which stores 100 messages at a time."""
    return world._start({'role': 'source', 'adapter': ADAPTER, 'at': list(actions), 'options': {'size': 100},
                         'config': {'key': 'numbers', 'url': redis.url}})


def test_nothing_is_acknowledged_before_it_is_stored(
    upstream: Any, db: Any, url: str, source: Source, caplog: pytest.LogCaptureFixture,
) -> None:
    """A full stream: it takes no more than it can hold, is not taken for dead, and what it holds stays pending."""
    caplog.set_level(logging.INFO, 'minibatch')
    feed(upstream, range(200))
    dead_after = patience(1.5)
    streams = [mb.stream('clicks', url=url, max_backlog=20) for _ in range(2)]
    streams[0].attach(source(size=10, claim_after=dead_after))
    holds(db, 20)
    wait_until(lambda: pending(upstream) >= 20)
    group = groups(upstream)[0]['name']
    streams[1].attach(source(size=10, claim_after=dead_after))
    wait_until(lambda: len(upstream.xinfo_consumers('numbers', group)) == 2)
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > dead_after + 0.5)
    assert pending(upstream) <= 80
    got: list[int] = []
    while len(got) < 200:
        got += [each['n'] for window in passed(streams[0], size=10) for each in window]
    assert sorted(got) == list(range(200))
    settled(upstream)
    for each in streams:
        each.stop()
    assert 'takes over' not in caplog.text


# -- bad weather


def attached(stream: mb.Stream, source: RedisSource) -> list[BaseException]:
    """Attach in a thread of the test's own; what it raised, as soon as it has."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            stream.attach(source, background=False)
        except Exception as error:
            raised.append(error)
    threading.Thread(target=run, daemon=True).start()
    return raised


def test_wrong_credentials(redis: Redis, upstream: Any, stream: mb.Stream, db: Any) -> None:
    upstream.config_set('requirepass', 'secret')
    feed_as = redis.url.replace('//', '//:secret@')
    for url, said in ((redis.url, 'a connection without a password'),
                      (redis.url.replace('//', '//:wrong@'), 'refuses the password'),
                      (redis.url.replace('//', '//eve:secret@'), 'refuses eve')):
        with pytest.raises(AccessRefused, match=said) as refused:
            stream.attach(RedisSource('numbers', url), background=False)
        assert 'secret' not in str(refused.value)
        sink = RedisSink('results', url)
        sink.put({'n': 1})
        with pytest.raises(AccessRefused, match=said):
            sink.flush()
    feed(upstream, range(2))
    stream.attach(RedisSource('numbers', feed_as))
    holds(db, 2)


def test_credentials_that_were_right_before(redis: Redis, upstream: Any, stream: mb.Stream, db: Any,
                                            caplog: pytest.LogCaptureFixture) -> None:
    """Then it is an outage like any other: they are right again when the server is as it was."""
    feed(upstream, range(2))
    thread = stream.attach(RedisSource('numbers', redis.url))
    holds(db, 2)
    upstream.config_set('requirepass', 'secret')
    redis.gate.cut()
    wait_until(lambda: 'was interrupted' in caplog.text)
    feed(upstream, range(2, 4))
    upstream.config_set('requirepass', '')
    holds(db, 4)
    assert thread is not None
    assert thread.is_alive()
    assert numbers(db) == [0, 1, 2, 3]


def test_what_is_no_stream(upstream: Any, stream: mb.Stream, source: Source) -> None:
    upstream.rpush('numbers', 'x')
    with pytest.raises(OptionError, match="at 'numbers' is no stream"):
        stream.attach(source(), background=False)


def test_a_server_that_does_not_answer(redis: Redis, upstream: Any, stream: mb.Stream, source: Source,
                                       db: Any) -> None:
    feed(upstream, range(2))
    thread = stream.attach(source())
    holds(db, 2)
    redis.gate.hang()
    feed(upstream, range(2, 4))
    began = time.monotonic()
    stream.stop()
    assert time.monotonic() - began < patience(1)
    assert thread is not None
    assert not thread.is_alive()
    redis.gate.flow()
    stream.attach(source())
    holds(db, 4)
    settled(upstream)
    assert numbers(db) == [0, 1, 2, 3]


def test_a_server_that_loses_all(redis: Redis, upstream: Any, stream: mb.Stream, source: Source, db: Any) -> None:
    """Emptied while it runs: by default that is the end, and nobody has to guess what is missing."""
    feed(upstream, range(2))
    raised = attached(stream, source())
    holds(db, 2)
    upstream.flushall()
    wait_until(lambda: raised, what='an error')
    assert isinstance(raised[0], HistoryLost)
    assert 'is gone' in str(raised[0])
    assert 'on_history_lost=' in str(raised[0])
    with pytest.raises(HistoryLost):  # and nobody forgets it
        stream.attach(source(), background=False)
    assert numbers(db) == [0, 1]


@pytest.mark.parametrize('policy', ['resume', 'rescan'])
def test_a_server_that_loses_all_and_is_filled_again(
    redis: Redis, upstream: Any, stream: mb.Stream, source: Source, db: Any, caplog: pytest.LogCaptureFixture,
    policy: str,
) -> None:
    feed(upstream, range(2))
    stream.attach(source(on_history_lost=policy))
    holds(db, 2)
    redis.restart_empty()
    wait_until(lambda: 'the server was emptied' in caplog.text, 20)
    for n in range(2, 4):  # with ids that come before those of the entries which are gone
        upstream.xadd('numbers', {'data': b'{"n": %d}' % n}, id=f'0-{n}')
    holds(db, 4)
    settled(upstream)
    assert numbers(db) == [0, 1, 2, 3]


@pytest.mark.parametrize(('policy', 'wanted'), [('resume', [0, 1, 2]), ('rescan', [0, 1, 0, 1, 2])])
def test_a_group_that_is_destroyed(upstream: Any, stream: mb.Stream, source: Source, db: Any, policy: str,
                                   wanted: list[int]) -> None:
    feed(upstream, range(2))
    stream.attach(source(on_history_lost=policy))
    holds(db, 2)
    settled(upstream)
    upstream.xgroup_destroy('numbers', groups(upstream)[0]['name'])
    wait_until(lambda: groups(upstream), what='another group')
    feed(upstream, range(2, 3))
    holds(db, len(wanted))
    settled(upstream)
    assert numbers(db) == wanted


@pytest.mark.parametrize('policy', ['fail', 'resume'])
def test_entries_that_were_trimmed_while_they_were_pending(
    redis: Redis, upstream: Any, stream: mb.Stream, source: Source, db: Any, caplog: pytest.LogCaptureFixture,
    policy: str,
) -> None:
    """Given to a consumer that was killed before it stored them, and then trimmed by whoever adds more."""
    ids = feed(upstream, range(4))
    upstream.xgroup_create('numbers', 'workers', '0')
    upstream.xreadgroup('workers', 'minibatch-killed', {'numbers': '>'}, count=3)
    upstream.xtrim('numbers', maxlen=2, approximate=False)
    said = f'2 entries of .* before they were stored, from {ids[0]} to {ids[1]}'
    if policy == 'fail':
        with pytest.raises(HistoryLost, match=said):
            stream.attach(source(group='workers'), background=False)
        assert numbers(db) == []
    else:
        stream.attach(source(group='workers', on_history_lost=policy))
        holds(db, 2)
        settled(upstream)
        assert numbers(db) == [2, 3]
        assert '2 entries of' in caplog.text


@pytest.mark.parametrize('policy', ['fail', 'resume'])
def test_entries_that_were_trimmed_before_they_were_read(
    upstream: Any, stream: mb.Stream, source: Source, db: Any, caplog: pytest.LogCaptureFixture, policy: str,
) -> None:
    if int(upstream.info()['redis_version'].split('.')[0]) < 7:
        pytest.skip('Redis counts what was added from version 7 on')
    feed(upstream, range(2))
    stream.attach(source())
    holds(db, 2)
    settled(upstream)
    stream.stop()
    upstream.xtrim('numbers', maxlen=0, approximate=False)
    feed(upstream, range(2, 9))
    upstream.xtrim('numbers', maxlen=3, approximate=False)
    if policy == 'fail':
        with pytest.raises(HistoryLost, match='4 entries of'):
            stream.attach(source(), background=False)
    else:
        stream.attach(source(on_history_lost=policy))
        holds(db, 5)
        assert '4 entries of' in caplog.text
        assert numbers(db) == [0, 1, 6, 7, 8]


def test_entries_that_were_trimmed_after_they_were_stored(
    redis: Redis, upstream: Any, world: World, stream: mb.Stream, source: Source, db: Any,
) -> None:
    """Stored, not acknowledged, and gone: nothing is missing, so nobody complains."""
    feed(upstream, range(100))
    child = start(world, redis, at('source:committed', nth=2))
    child.wait_killed(30)
    assert pending(upstream) == 100
    upstream.xtrim('numbers', maxlen=0, approximate=False)
    feed(upstream, range(100, 102))
    stream.attach(source())
    holds(db, 102)
    settled(upstream)
    assert numbers(db) == list(range(102))


@pytest.mark.parametrize(('options', 'said'), [
    ({'key': ''}, 'key is'), ({'url': 'http://x'}, 'redis-py does not take it'), ({'url': None}, 'url is None'),
    ({'url': 'redis://localhost?colour=red'}, 'redis-py does not take it'),
    ({'group': ''}, 'group is'), ({'field': ''}, 'field is'), ({'codec': 'jsn'}, 'did you mean json'),
    ({'start': 'newest'}, 'start='), ({'on_history_lost': 'fial'}, 'did you mean fail'), ({'size': 0}, 'size must be'),
    ({'claim_after': 0}, 'claim_after must be'), ({'claim_after': '1'}, 'claim_after must be'),
])
def test_options_that_a_source_refuses(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        RedisSource(**{'key': 'numbers', **options})


# -- the sink


@pytest.fixture
def sink(redis: Redis) -> Iterator[Callable[..., RedisSink]]:
    made: list[RedisSink] = []

    def make(key: Any = 'results', **options: Any) -> RedisSink:
        made.append(RedisSink(key, redis.url, **options))
        return made[-1]
    yield make
    for each in made:
        each.close()


def result_of(stream: mb.Stream, sink: Any, result: Any, **options: Any) -> None:
    """Let a window result in this."""
    stream.append({'n': 1})
    passed(stream, lambda window: result, size=1, sink=sink, **options)


def test_entries_say_which_window_they_come_from(upstream: Any, stream: mb.Stream, sink: Any) -> None:
    """Also when it is tried again, since a second sink has failed."""
    failures = [ConnectionError('not yet')]
    seen = []

    def second(result: Any) -> None:
        if failures:
            raise failures.pop()

    def work(window: Any) -> Any:
        seen.append(str(window.id))
        return [{'n': 1}, {'n': 2}]

    stream.append({'n': 1})
    both = [sink(), second]
    passed(stream, work, size=1, sink=both)

    def delivered() -> bool:
        passed(stream, work, size=1, sink=both)
        return int(stream.window().count()) == 0
    wait_until(delivered)
    entries = [fields for _, fields in upstream.xrange('results')]
    assert [entry[b'data'] for entry in entries] == [b'{"n":1}', b'{"n":2}'] * 2
    assert [entry[b'minibatch-index'] for entry in entries] == [b'0', b'1'] * 2
    assert {entry[b'minibatch-window'].decode() for entry in entries} == set(seen)
    assert len(set(seen)) == 1


def test_fields_of_a_result_are_fields_of_the_entry(upstream: Any, stream: mb.Stream, sink: Any, redis: Redis,
                                                    db: Any) -> None:
    result_of(stream, sink(field=None), {'user': 'ann', 'n': 1, 'in': {'a': [None]}})
    ((_, fields),) = upstream.xrange('results')
    assert {name: fields[name] for name in fields if not name.startswith(b'minibatch-')} == {
        b'user': b'ann', b'n': b'1', b'in': b'{"a":[null]}'}
    for bad in (5, {}):
        with pytest.raises(Unencodable, match='a mapping that is not empty'):
            sink(field=None).put(bad)
    # and it is read as it was written
    stream.attach(RedisSource('results', redis.url, field=None))
    wait_until(lambda: [each for each in data(db) if each.get('user') == 'ann'])


def test_a_stream_of_limited_length(upstream: Any, sink: Any) -> None:
    limited = sink(maxlen=100)
    for start in range(0, 2500, 500):
        limited.put([{'n': n} for n in range(start, start + 500)])
        limited.flush()
    assert 100 <= upstream.xlen('results') < 500
    assert json.loads(upstream.xrevrange('results', count=1)[0][1][b'data']) == {'n': 2499}


def test_keys_are_made_of_results(upstream: Any, stream: mb.Stream, sink: Any) -> None:
    keyed = sink('clicks:{user}:{at[day]}', kind='keys', ttl=60)
    result_of(stream, keyed, [{'user': 'ann', 'at': {'day': 1}, 'n': 1}, {'user': 'bob', 'at': {'day': 2}, 'n': 2}])
    result_of(stream, keyed, {'user': 'ann', 'at': {'day': 1}, 'n': 3})
    assert sorted(upstream.keys()) == [b'clicks:ann:1', b'clicks:bob:2']
    assert json.loads(upstream.get('clicks:ann:1'))['n'] == 3
    assert 50_000 < upstream.pttl('clicks:bob:2') <= 60_000
    for bad in ({'user': 'ann'}, {'user': 'ann', 'at': 1}):
        with pytest.raises(InvalidMessage, match='the key of a result cannot be made'):
            keyed.put(bad)
    with pytest.raises(Unencodable, match='has no fields'):
        keyed.put(5)
    with pytest.raises(InvalidMessage, match='which is no key'):
        sink(lambda result: None, kind='keys').put({})
    keyed.flush()
    assert upstream.dbsize() == 2, 'nothing of what was refused is sent later'


def test_a_window_of_which_redis_refuses_a_part(upstream: Any, stream: mb.Stream, sink: Any) -> None:
    upstream.set('results', 'of another kind')
    stream.append({'n': 1})
    passed(stream, size=1, sink=sink(), max_attempts=1)
    (dead,) = stream.dead.list()
    assert 'WRONGTYPE' in dead.error
    assert 'DeliveryFailed' in dead.error


def test_a_sink_whose_server_does_not_answer(redis: Redis, upstream: Any, sink: Any) -> None:
    slow = sink(timeout=0.3)
    slow.put({'n': 1})
    slow.flush()
    redis.gate.hang()
    slow.put({'n': 2})
    with pytest.raises(DeliveryFailed, match='is not committed and will be tried again'):
        slow.flush()
    redis.gate.cut()
    redis.gate.flow()
    slow.flush()  # what has failed is put again by who answers for it, and not sent behind his back
    assert [fields[b'data'] for _, fields in upstream.xrange('results')][:1] == [b'{"n":1}']
    slow.put({'n': 3})
    slow.flush()
    assert upstream.xrevrange('results', count=1)[0][1][b'data'] == b'{"n":3}'


def test_a_flush_is_a_few_round_trips(upstream: Any, sink: Any) -> None:
    """2,500 results in three transactions."""
    many = sink(kind='list')
    many.put({'n': -1})
    many.flush()
    before = upstream.info('commandstats')
    many.put([{'n': n} for n in range(2500)])
    many.flush()
    after = upstream.info('commandstats')
    assert after['cmdstat_exec']['calls'] - before['cmdstat_exec']['calls'] == 3
    assert [json.loads(each)['n'] for each in upstream.lrange('results', 0, -1)] == list(range(-1, 2500))


def test_a_connection_that_was_closed_in_between(redis: Redis, upstream: Any, sink: Any) -> None:
    some = sink(kind='list')
    for n in range(3):
        some.put({'n': n})
        some.flush()
        redis.gate.cut()
    assert upstream.llen('results') == 3


@pytest.mark.parametrize('password', ['geh/eim', 'geh?eim', 'geh#eim', '12#eim', '12/eim', '12?a=eim', '/', 'a@eim/b'])
def test_a_password_that_is_not_encoded_is_not_shown_in_pieces(password: str) -> None:
    with pytest.raises(OptionError, match='must be percent-encoded') as caught:
        RedisSink('results', f'redis://ann:{password}@cache:6379/0')
    assert 'eim' not in ''.join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(('options', 'said'), [
    ({'key': ''}, 'key is'), ({'key': None}, 'key is'), ({'kind': 'chanel'}, 'did you mean channel'),
    ({'kind': 'list', 'maxlen': 5}, "maxlen= goes with kind='stream'"),
    ({'kind': 'list', 'field': None}, 'field= goes'),
    ({'ttl': 5}, "ttl= goes with kind='keys'"), ({'key': str}, 'key= as a function goes'),
    ({'maxlen': 0}, 'maxlen must be'), ({'maxlen': True}, 'maxlen must be'), ({'timeout': 0}, 'timeout must be'),
    ({'kind': 'keys', 'key': '{n}', 'ttl': -1}, 'ttl must be'), ({'kind': 'keys'}, "such as 'results:{user}'"),
    ({'url': 'results'}, 'redis-py does not take it'), ({'codec': 'jsn'}, 'did you mean json'),
])
def test_options_that_a_sink_refuses(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        RedisSink(**{'key': 'results', **options})


def test_from_redis_to_redis(redis: Redis, upstream: Any, stream: mb.Stream, source: Source, sink: Any) -> None:
    feed(upstream, range(100))
    stream.attach(source())
    emitter = stream.streaming(lambda window: {'sum': sum(each['n'] for each in window.data)}, size=10,
                               executor='inline', background=True, sink=sink())
    with contextlib.closing(sink()):
        wait_until(lambda: upstream.xlen('results') == 10, 20)
    emitter.stop()
    assert sum(json.loads(fields[b'data'])['sum'] for _, fields in upstream.xrange('results')) == sum(range(100))


def test_without_the_library() -> None:
    """In an interpreter of its own, where it cannot be imported."""
    code = """
import sys
sys.modules['redis'] = None
try:
    import minibatch.contrib.redis
except ImportError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, '-c', code], check=True, timeout=30, capture_output=True, text=True).stdout
    assert said == "redis is not installed; install it with: pip install 'minibatch[redis]'\n"
