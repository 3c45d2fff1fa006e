"""Messages over HTTP: a real server, real requests; what is answered, and what is in the stream afterwards."""

from __future__ import annotations

import dataclasses
import gzip
import http.client
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

import minibatch as mb
from minibatch.connection import disconnect
from minibatch.contrib.apps import StreamingApp
from minibatch.contrib.once import Once, OtherContent
from minibatch.errors import BacklogFull, InvalidMessage, OptionError
from tests.support.mongod import Deployment, free_port, replica_set
from tests.support.scripts import Person
from tests.support.waiting import patience, wait_until

NDJSON = 'application/x-ndjson'
TOKEN = 'c0rrect horse'


class Answer(NamedTuple):
    code: int
    content: Any
    headers: http.client.HTTPMessage


def post(url: str, body: Any, kind: str | None = 'application/json', **headers: str) -> Answer:
    """Send a request; *body* is sent as it is if it is bytes or an iterator (then in chunks), else as JSON."""
    host, _, path = url.removeprefix('http://').partition('/')
    connection = http.client.HTTPConnection(host, timeout=20)
    data = body if isinstance(body, bytes) or hasattr(body, '__next__') else json.dumps(body).encode()
    given = {name.replace('_', '-'): value for name, value in headers.items()}
    if kind:
        given['Content-Type'] = kind
    try:
        connection.request('POST', '/' + path, data, given, encode_chunked=hasattr(body, '__next__'))
        answer = connection.getresponse()
        text = answer.read().decode()
        is_json = answer.headers.get_content_type() == 'application/json'
        return Answer(answer.status, json.loads(text) if is_json else text, answer.headers)
    finally:
        connection.close()


@pytest.fixture
def serve(url: str) -> Iterator[Callable[..., str]]:
    """Serve an app with these options of ingest (and of the app); the URL of its streams."""
    servers: list[Any] = []

    def make(ingest: Any = True, **options: Any) -> str:
        servers.append(StreamingApp(url=options.pop('url', url), ingest=ingest, **options).serve(port=0))
        return str(servers[-1].url) + '/streams/'
    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def stream(url: str, stream_name: str) -> Any:
    return mb.stream(stream_name, url=url)


def stored(stream: Any) -> list[Any]:
    """What is in the stream, in order."""
    return [each.data for each in stream.buffer().order_by('id')]


# -- taking messages


def test_it_is_off_unless_switched_on(serve: Any, stream: Any) -> None:
    for off in (False, None):
        assert post(serve(off) + 'clicks', {'n': 1}).code == 404
    assert stored(stream) == []


@pytest.mark.parametrize(('body', 'kind'), [
    ({'n': 0}, 'application/json'),
    ([{'n': 0}, {'n': 1}, {'n': 2}], 'application/json; charset=utf-8'),
    (b'{"n": 0}\n{"n": 1}\r\n\n  \n{"n": 2}', NDJSON),
    (b'{"n": 0}\n', 'application/ndjson'),
    (b'{"n": 0}', 'application/jsonl'),
    (b'\xef\xbb\xbf[{"n": 0}]', 'application/json'),
    ([], 'application/json'),
    (b'', NDJSON),
    ([{'n': n} for n in range(5000)], 'application/json'),
])
def test_what_is_answered_is_in_the_stream_in_order(serve: Any, stream: Any, body: Any, kind: str) -> None:
    answer = post(serve() + 'clicks', body, kind)
    count = len(stored(stream))
    assert stored(stream) == [{'n': n} for n in range(count)]
    assert (answer.code, answer.content) == (202, {'stream': 'clicks', 'count': count})
    assert answer.headers['Cache-Control'] == 'no-store'
    expected = {dict: 1, list: len(body)}.get(type(body))
    assert expected is None or count == expected


def test_a_packed_body_and_one_in_chunks(serve: Any, stream: Any) -> None:
    url = serve() + 'clicks'
    assert post(url, gzip.compress(b'[{"n": 0}]'), Content_Encoding='gzip').content['count'] == 1
    assert post(url, iter([b'{"n": 1}\n', b'{"n": ', b'2}\n']), NDJSON).content['count'] == 2
    assert stored(stream) == [{'n': 0}, {'n': 1}, {'n': 2}]


def test_a_consumer_gets_what_was_posted(serve: Any, url: str) -> None:
    got: list[Any] = []
    mb.stream('clicks', url=url)
    post(serve() + 'clicks', [{'n': 0}, {'n': 1}])
    mb.streaming('clicks', lambda window: got.extend(window.data), size=2, url=url, executor='inline', blocking=False)
    assert got == [{'n': 0}, {'n': 1}]


@pytest.mark.parametrize('name', ['a/b', 'ü ö', '..', 'a%2Fb', 'x' * 120])
def test_any_name_of_a_stream(serve: Any, url: str, name: str) -> None:
    stream = mb.stream(name, url=url)
    answer = post(serve() + quote(name, safe=''), {'n': 1})
    assert (answer.code, answer.content['stream']) == (202, name)
    assert stored(stream) == [{'n': 1}]


def test_other_pages_of_the_app_stay(url: str) -> None:
    app = StreamingApp(url=url, ingest=True)

    @app.route('/streams/<name>')
    def show(name: str) -> str:
        return f'this is {name}'
    assert app.test_client().get('/streams/clicks').text == 'this is clicks'


# -- refusing


BAD: list[tuple[Any, str, dict[str, Any], str]] = [
    (b'{"n": 1', 'application/json', {}, 'not JSON'),
    (b'', 'application/json', {}, 'not JSON: it is empty'),
    (b'3', 'application/json', {}, 'a message is a JSON object, and this is a number'),
    (b'null', 'application/json', {}, 'this is null'),
    (b'[{"n": 1}, [2]]', 'application/json', {'message': 1}, 'this is an array'),
    (b'[{"n": 1}, {"a": {"b": [0, 18446744073709551616]}}]', 'application/json', {'message': 1, 'field': 'a.b[1]'},
     'an integer of more than 64 bits'),
    (b'{"a": {"b": 18446744073709551616}}', 'application/json', {'field': 'a.b'}, 'an integer of more than 64 bits'),
    (b'{"a\\u0000": 1}', 'application/json', {}, 'NUL'),
    (b'{"a": NaN}', 'application/json', {}, 'NaN is no number of JSON'),
    (b'{"n": 1}\n\n{"n": \n', NDJSON, {'line': 3}, 'not JSON'),
    (b'{"n": 1}\n"text"\n', NDJSON, {'line': 2}, 'this is a string'),
    (b'\n{"n": 1}\n{"n": 18446744073709551616}\n', NDJSON, {'line': 3, 'field': 'n'}, 'more than 64 bits'),
    (b'{"n": 1}\xff', NDJSON, {'line': 1}, 'no UTF-8'),
    (b'[' * 150 + b']' * 150, 'application/json', {'message': 0}, 'this is an array'),
    (b'{"a":' * 150 + b'1' + b'}' * 150, 'application/json', {}, 'nested'),
]


@pytest.mark.parametrize('key', [None, 'a-key'])
@pytest.mark.parametrize(('body', 'kind', 'where', 'said'), BAD)
def test_a_wrong_message_is_named_and_nothing_is_stored(
        serve: Any, stream: Any, body: bytes, kind: str, where: dict[str, Any], said: str, key: str | None) -> None:
    answer = post(serve() + 'clicks', body, kind, **({'Idempotency_Key': key} if key else {}))
    assert answer.code == 400
    assert said in answer.content['error']
    assert answer.content == {**answer.content, **where}
    assert where or not {'line', 'message'} & set(answer.content)
    assert stored(stream) == []


@dataclasses.dataclass
class Click:
    user: str
    n: int = 0


def test_messages_that_do_not_fit_the_schema_of_their_stream(serve: Any, stream: Any, url: str) -> None:
    streams = serve({'schemas': {'clicks': Click}})
    answer = post(streams + 'clicks', b'{"user": "ann"}\n{"user": 3}\n', NDJSON)
    assert (answer.code, answer.content) == (400, {
        'error': 'user is an int, and Click wants str', 'field': 'user', 'line': 2})
    assert stored(stream) == []
    post(streams + 'clicks', {'user': 'ann'})
    assert stored(stream) == [{'user': 'ann', 'n': 0}]
    mb.stream('other', url=url)
    assert post(streams + 'other', {'anything': 1}).code == 202


@pytest.mark.parametrize('kind', [None, 'text/plain', 'application/x-www-form-urlencoded', 'application/xml'])
def test_another_kind_of_body(serve: Any, stream: Any, kind: str | None) -> None:
    answer = post(serve() + 'clicks', b'{"n": 1}', kind)
    assert answer.code == 415
    assert 'application/x-ndjson' in answer.content['error']
    assert stored(stream) == []


def test_an_unknown_packing(serve: Any, stream: Any) -> None:
    url = serve() + 'clicks'
    assert post(url, b'{"n": 1}', Content_Encoding='br').code == 415
    assert post(url, b'{"n": 1}', Content_Encoding='gzip').code == 400
    assert stored(stream) == []


def test_another_method(serve: Any, stream: Any) -> None:
    url = serve() + 'clicks'
    host, _, path = url.removeprefix('http://').partition('/')
    for method in ('GET', 'PUT', 'DELETE'):
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request(method, '/' + path)
        answer = connection.getresponse()
        assert answer.status == 405
        assert 'POST' in str(answer.getheader('Allow'))
        connection.close()


def test_a_stream_that_is_not_there(serve: Any, url: str, db: Any) -> None:
    answer = post(serve() + 'clcks', {'n': 1})
    assert answer.code == 404
    assert "there is no stream 'clcks'" in answer.content['error']
    assert db['stream'].find_one({'_id': 'clcks'}) is None
    assert post(serve({'create': True}) + 'clicks', {'n': 1}).code == 202
    assert stored(mb.stream('clicks', url=url)) == [{'n': 1}]
    assert post(serve({'create': True}) + 'x' * 121, {'n': 1}).code == 400


@pytest.mark.parametrize('named', ['clicks', ['clicks', 'views']])
def test_only_some_streams(serve: Any, url: str, named: Any) -> None:
    streams = serve({'streams': named, 'create': True})
    assert post(streams + 'clicks', {'n': 1}).code == 202
    assert post(streams + 'secret', {'n': 1}).code == 404


@pytest.mark.parametrize('given', [
    None, TOKEN, f'Basic {TOKEN}', 'Bearer', 'Bearer ', f'Bearer {TOKEN}x', f'Bearer {TOKEN[:-1]}', 'Bearer \xe9',
    f'Bearer {TOKEN.upper()}'])
def test_a_token_is_asked_for_before_anything_else(serve: Any, stream: Any, given: str | None) -> None:
    url = serve({'token': [TOKEN, 'the next one']})
    for name, body, kind in (('clicks', {'n': 1}, 'application/json'), ('nosuch', b'x' * 5_000_000, 'text/plain')):
        answer = post(url + name, body, kind, **({'Authorization': given} if given else {}))
        assert answer.code == 401
        assert answer.headers['WWW-Authenticate'].startswith('Bearer')
        assert 'Bearer' in answer.content['error']
        assert TOKEN not in json.dumps(answer.content)
    assert stored(stream) == []


@pytest.mark.parametrize('given', [f'Bearer {TOKEN}', 'bearer the next one', f'Bearer  {TOKEN}'])
def test_any_of_the_tokens_will_do(serve: Any, stream: Any, given: str) -> None:
    assert post(serve({'token': [TOKEN, 'the next one']}) + 'clicks', {'n': 1}, Authorization=given).code == 202


def test_limits(serve: Any, stream: Any) -> None:
    url = serve({'max_bytes': 1000, 'max_messages': 10}) + 'clicks'
    large = b'{"a": "' + b'x' * 1000 + b'"}'
    for body, headers in ((large, {}), (iter([large]), {}), (gzip.compress(large), {'Content_Encoding': 'gzip'})):
        answer = post(url, body, **headers)
        assert answer.code == 413
        assert '1,000 bytes' in answer.content['error']
    answer = post(url, [{}] * 11)
    assert (answer.code, answer.content['error'][:12]) == (413, '11 messages,')
    assert stored(stream) == []
    assert post(url, [{}] * 10).code == 202
    exact = b'{"a": "' + b'x' * 991 + b'"}'
    assert (len(exact), post(url, exact).code) == (1000, 202)


def test_one_message_that_mongodb_could_not_store(serve: Any, stream: Any) -> None:
    answer = post(serve({'max_bytes': 20_000_000}) + 'clicks', {'a': 'x' * 17_000_000})
    assert answer.code in (400, 413)
    assert 'bytes' in answer.content['error']
    assert stored(stream) == []


@pytest.mark.parametrize('key', [None, 'a-key'])
def test_a_full_stream(serve: Any, url: str, key: str | None) -> None:
    stream = mb.stream('clicks', url=url, max_backlog=3)
    page, headers = serve() + 'clicks', {'Idempotency_Key': key} if key else {}
    assert post(page, [{'n': 0}, {'n': 1}]).code == 202
    started = time.monotonic()
    answer = post(page, [{'n': 2}, {'n': 3}], **headers)
    assert time.monotonic() - started < patience(3), 'it waited for room'
    assert (answer.code, answer.headers['Retry-After']) == (429, '1')
    assert 'nothing was stored' in answer.content['error']
    assert len(stored(stream)) == 2
    mb.streaming('clicks', lambda window: [], size=2, url=url, executor='inline', blocking=False)
    wait_until(lambda: post(page, [{'n': 2}, {'n': 3}], **headers).code == 202)
    assert stored(stream) == [{'n': 2}, {'n': 3}]


def test_an_option_of_the_stream_that_is_set_later(serve: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('minibatch.contrib.apps.ingest.FRESH', 0.0)
    mb.stream('clicks', url=url)
    page = serve() + 'clicks'
    assert post(page, [{'n': 0}, {'n': 1}]).code == 202
    mb.stream('clicks', url=url, max_backlog=2)
    assert post(page, {'n': 2}).code == 429


@pytest.mark.parametrize(('given', 'said'), [
    ({'tokn': 'x'}, "ingest does not take 'tokn'; did you mean token?"),
    ('yes', 'ingest must be True, False or a dict'), (1, 'ingest must be True, False or a dict'),
    ({'token': ''}, 'token must be'), ({'token': []}, 'token must be'), ({'token': 'é'}, 'token must be'),
    ({'token': [None]}, 'token must be'),
    ({'max_bytes': 0}, 'max_bytes must be'), ({'max_messages': True}, 'max_messages must be'),
    ({'max_bytes': '1M'}, 'max_bytes must be'), ({'create': 'yes'}, 'create must be'),
    ({'schemas': Click}, 'schemas must be a dict'), ({'schemas': {'clicks': 3}}, 'give a dataclass'),
])
def test_options_that_cannot_be(given: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said.replace('?', r'\?')):
        StreamingApp(ingest=given)


def test_whoever_opens_it_to_the_world_is_told(url: str, caplog: pytest.LogCaptureFixture) -> None:
    for ingest, host, warned in ((True, '127.0.0.1', 0), ({'token': TOKEN}, '0.0.0.0', 0), (True, '0.0.0.0', 1)):
        caplog.clear()
        StreamingApp(url=url, ingest=ingest).serve(host, port=0).stop()
        assert sum('give ingest a token' in record.message for record in caplog.records) == warned


# -- once


def test_a_key_is_taken_once(serve: Any, stream: Any, url: str) -> None:
    page, body = serve() + 'clicks', [{'n': 0}, {'n': 1}]
    first, second = (post(page, body, Idempotency_Key='a') for _ in range(2))
    assert (first.code, first.content) == (202, {'stream': 'clicks', 'count': 2})
    assert (second.code, second.content) == (200, {'stream': 'clicks', 'count': 2, 'repeated': True})
    mb.streaming('clicks', lambda window: [], size=2, url=url, executor='inline', blocking=False)
    assert post(serve() + 'clicks', body, Idempotency_Key='a').code == 200, 'by another app, after it was consumed'
    assert stored(stream) == []
    assert post(page, body, Idempotency_Key='b').code == 202
    mb.stream('views', url=url)
    assert post(serve() + 'views', body, Idempotency_Key='a').code == 202, 'a key of another stream'
    answer = post(page, [{'n': 9}], Idempotency_Key='a')
    assert answer.code == 422
    assert 'another body' in answer.content['error']
    assert stored(stream) == body


@pytest.mark.parametrize('key', ['', 'x' * 256, 'a\tb', 'é'])
def test_a_key_that_cannot_be(serve: Any, stream: Any, key: str) -> None:
    assert post(serve() + 'clicks', {'n': 1}, Idempotency_Key=key).code == 400
    assert stored(stream) == []


def test_the_same_request_many_times_at_once(serve: Any, stream: Any) -> None:
    page, body = serve() + 'clicks', [{'n': n} for n in range(100)]
    for key in ('a', 'b', 'c'):
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _, key=key: post(page, body, Idempotency_Key=key), range(8)))
        assert [answer.code for answer in answers if answer.code not in (200, 202)] == []
    assert stored(stream) == body * 3


def test_keys_are_forgotten_after_a_day(serve: Any, stream: Any, db: Any) -> None:
    post(serve() + 'clicks', {'n': 1}, Idempotency_Key='a')
    (index,) = [each for each in db['source'].list_indexes() if 'expireAfterSeconds' in each]
    assert (index['key'], index['expireAfterSeconds']) == ({'at': 1}, 24 * 3600)
    (doc,) = db['source'].find(dict(index['partialFilterExpression']))
    assert doc['position']['count'] == 1
    assert doc['at'] is not None


def test_once_without_http(url: str, stream: Any) -> None:
    once = Once(stream)
    assert once.extend('a', []) is True
    assert once.extend('a', []) is False
    with pytest.raises(OtherContent):
        once.extend('a', [], b'other')
    with pytest.raises(InvalidMessage, match=r'message 1 .* data.n'):
        once.extend('b', [{'n': 1}, {'n': object()}])
    assert once.extend('b', [{'n': 1}]) is True
    full = Once(mb.stream('full', url=url, max_backlog=1))
    with pytest.raises(BacklogFull, match='nothing of this call was stored'):
        full.extend('a', [{'n': 1}, {'n': 2}])
    assert full.extend('a', [{'n': 1}]) is True


def test_a_standalone_server(alone: Deployment, serve: Any, dbname: str) -> None:
    url = alone.url(dbname)
    stream = mb.stream('clicks', url=url)
    page, body = serve(url=url) + 'clicks', [{'n': n} for n in range(10)]
    with ThreadPoolExecutor(4) as pool:
        codes = sorted(pool.map(lambda _: post(page, body, Idempotency_Key='a').code, range(4)))
    assert set(codes) <= {200, 202}
    assert stored(stream) == body
    disconnect(url)


APP = """\
from minibatch.contrib.apps import StreamingApp
StreamingApp(ingest={'create': True}).run(port=PORT)
"""


@pytest.mark.fault
def test_an_app_that_is_killed_stores_each_batch_once(person: Person, url: str) -> None:
    """Four clients send batches until they are told that these are in; the app is killed in the middle, five times."""
    port = free_port()
    source = APP.replace('PORT', str(port))
    page = f'http://127.0.0.1:{port}/streams/clicks'
    per_batch, batches, clients = 40, 60, 4
    sent = threading.Semaphore(0)
    repeats: list[str] = []

    def client(number: int) -> None:
        for batch in range(batches):
            body = [{'c': number, 'b': batch, 'n': n} for n in range(per_batch)]

            def delivered(key: str = f'{number}-{batch}', body: Any = body) -> bool:
                try:
                    answer = post(page, body, Idempotency_Key=key)
                except (OSError, http.client.HTTPException):
                    return False
                if answer.code == 200:
                    repeats.append(key)
                assert answer.code in (200, 202, 503)
                return answer.code != 503
            wait_until(delivered, 60, what=f'batch {batch} of client {number}')
            sent.release()

    app = person.start('app.py', source)
    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(client, number) for number in range(clients)]
        for _ in range(5):
            for _ in range(random.randint(20, 40)):
                assert sent.acquire(timeout=60)
            os.kill(app.process.pid, signal.SIGKILL)
            app.process.wait(10)
            app = person.start('app.py', source)
        for each in running:
            each.result(120)
    got = [(each['c'], each['b'], each['n']) for each in stored(mb.stream('clicks', url=url))]
    wanted = [(c, b, n) for c in range(clients) for b in range(batches) for n in range(per_batch)]
    assert sorted(got) == wanted
    of_batch: dict[tuple[int, int], list[int]] = {}
    for client_, batch, n in got:
        of_batch.setdefault((client_, batch), []).append(n)
    assert set(map(tuple, of_batch.values())) == {tuple(range(per_batch))}, 'the order inside of a batch'
    print(f'{len(repeats)} batches were answered as repeated')


DYING = """\
import os, signal
from minibatch import points
def on_point(name):
    if name == 'POINT':
        os.kill(os.getpid(), signal.SIGKILL)
points.on_point = on_point
""" + APP


@pytest.mark.fault
@pytest.mark.parametrize(('point', 'code'), [
    ('source:opened', 202), ('source:moved', 202), ('source:inserted', 202), ('source:committed', 200)])
def test_a_request_whose_app_was_killed_is_repeated_at_once(person: Person, url: str, point: str, code: int) -> None:
    """The transaction that the dead app has left open is ended; otherwise it would hold its locks for a minute."""
    port = free_port()
    page, body = f'http://127.0.0.1:{port}/streams/clicks', [{'n': n} for n in range(10)]
    mb.stream('clicks', url=url)

    def sent() -> Answer | None:
        try:
            return post(page, body, Idempotency_Key='a')
        except (OSError, http.client.HTTPException):
            return None
    app = person.start('dying.py', DYING.replace('PORT', str(port)).replace('POINT', point))
    wait_until(lambda: sent() is None and app.process.poll() is not None, 30, what='the app to be killed')
    person.start('app.py', APP.replace('PORT', str(port)))
    started = time.monotonic()
    answer = wait_until(sent, 30)
    assert answer.code == code
    assert time.monotonic() - started < patience(15)
    assert stored(mb.stream('clicks', url=url)) == body


# -- MongoDB away


def test_mongodb_is_away(serve: Any) -> None:
    page = serve(url=f'mongodb://user:secret@127.0.0.1:{free_port()}/x')
    answer = post(page + 'clicks', {'n': 1})
    assert (answer.code, answer.headers['Retry-After']) == (503, '5')
    assert 'secret' not in json.dumps(answer.content)


@pytest.mark.fault
def test_mongodb_goes_away_and_comes_back(serve: Any) -> None:
    with replica_set(1) as deployment:
        url = deployment.url('ingest')
        stream = mb.stream('clicks', url=url)
        page = serve(url=url)
        assert post(page + 'clicks', {'n': 0}).code == 202
        deployment.nodes[0].kill()
        with ThreadPoolExecutor(12) as pool:
            waiting = [pool.submit(post, page + 'clicks', {'n': -1}) for _ in range(12)]
            started = time.monotonic()
            connection = http.client.HTTPConnection(page.removeprefix('http://').partition('/')[0], timeout=20)
            connection.request('GET', '/health')
            assert connection.getresponse().status == 503
            connection.close()
            assert time.monotonic() - started < patience(3), 'its page waited for the requests'
            assert {each.result(60).code for each in waiting} == {503}
        started = time.monotonic()
        answers = [post(page + 'clicks', {'n': -2}) for _ in range(3)]
        assert time.monotonic() - started < patience(12), 'each of them waited for MongoDB'
        assert {answer.code for answer in answers} == {503}
        deployment.repair()
        wait_until(lambda: post(page + 'clicks', {'n': 1}, Idempotency_Key='back').code in (200, 202), 30)
        kept = [each['n'] for each in stored(stream)]
        assert kept[0] == 0
        assert kept.count(1) == 1
        disconnect(url)
