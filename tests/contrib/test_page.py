"""The live page over real HTTP: its figures, its windows, who may act, and how many may look."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from pymongo import MongoClient
from pymongo.monitoring import CommandListener, CommandStartedEvent

import minibatch as mb
import minibatch.client
from minibatch.contrib.apps import StreamingApp, board
from minibatch.errors import OptionError
from tests.support.consuming import passed
from tests.support.mongod import free_port
from tests.support.scripts import get
from tests.support.waiting import patience, wait_until

TOKEN = 'c0rrect horse'
ASSETS = Path(board.__file__).parent / 'assets'


@pytest.fixture
def serve(url: str) -> Iterator[Callable[..., Any]]:
    """Serve an app with these options; its server."""
    servers: list[Any] = []

    def make(app: StreamingApp | None = None, **options: Any) -> Any:
        threads = {name: options.pop(name) for name in ('threads',) if name in options}
        app = app or StreamingApp(**{'url': url, **options})
        servers.append(app.serve(port=0, **threads))
        return servers[-1]
    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def stream(url: str, stream_name: str) -> mb.Stream:
    return mb.stream(stream_name, url=url)


class Events:
    """A page that listens."""

    def __init__(self, server: Any) -> None:
        self.connection = http.client.HTTPConnection('127.0.0.1', server.port, timeout=20)
        self.connection.request('GET', '/live/events')
        self.answer = self.connection.getresponse()

    def next(self) -> Any:
        """The next event."""
        while True:
            line = self.answer.readline()
            assert line, 'the events have ended'
            if line.startswith(b'data: '):
                return json.loads(line.removeprefix(b'data: '))

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


def post(server: Any, verb: str, body: Any, token: str | None = TOKEN) -> tuple[int, Any]:
    headers = {'Content-Type': 'application/json'} | ({'Authorization': f'Bearer {token}'} if token else {})
    connection = http.client.HTTPConnection('127.0.0.1', server.port, timeout=20)
    with contextlib.closing(connection):
        connection.request('POST', f'/live/{verb}', json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def ask(server: Any, what: str) -> tuple[int, Any]:
    code, text = get(f'{server.url}/live/{what}')
    return code, json.loads(text)


def kill_all(stream: mb.Stream, n: int) -> list[str]:
    """Dead windows of one message each; their ids."""
    def work(window: Any) -> None:
        raise ValueError('this one never works')
    stream.extend({'n': each, 'text': '<script>'} for each in range(n))
    passed(stream, work, size=1, max_attempts=1)
    return [window.id for window in stream.dead.list()]


def test_the_figures_are_those_of_the_store(serve: Any, stream: mb.Stream) -> None:
    stream.extend({'n': n} for n in range(25))
    passed(stream, size=10)
    stream.store.tally.flush()
    events = Events(serve())
    event = events.next()
    events.close()
    seen, status = event['streams'][stream.name], stream.status()
    assert {name: seen[name] for name in status if name != 'lag'} == {
        name: each for name, each in status.items() if name != 'lag'}
    assert (seen['appended'], seen['committed'], seen['backlog'], seen['done']) == (25, 20, 5, 2)
    assert event['error'] is None


def test_a_long_backlog_is_counted_seldom(stream: mb.Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """In between, what has come and gone is added, and it is not claimed to be counted."""
    monkeypatch.setattr(board, 'COUNTED', 20)
    seen = board.Backlog(stream)

    def looked() -> tuple[int, int, bool]:
        stream.store.tally.flush()
        figures = seen.figures()
        return figures['backlog'], figures['waiting'], figures['counted']

    stream.extend({'n': n} for n in range(19))
    assert looked() == (19, 19, True)
    stream.extend({'n': n} for n in range(31))
    assert looked() == (50, 50, True)
    stream.extend({'n': n} for n in range(10))
    assert looked() == (60, 60, False)
    passed(stream, size=30)
    assert looked() == (0, 0, True)
    stream.extend({'n': n} for n in range(30))
    assert looked() == (30, 30, True), 'counted anew'
    stream.clear()
    stream.extend({'n': n} for n in range(20))
    assert looked() == (50, 50, False), 'nobody told of what was removed'
    monkeypatch.setattr(time, 'monotonic', lambda now=time.monotonic: now() + board.COUNT_AGAIN)
    assert looked() == (20, 20, True), 'until it is counted again'


def test_one_poller_serves_all_pages(serve: Any, stream: mb.Stream, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    looks: Counter[str] = Counter()

    class Looks(CommandListener):
        def started(self, event: CommandStartedEvent) -> None:
            if event.command_name == 'find' and event.command['find'] == 'stream' and not event.command['filter']:
                looks[event.command_name] += 1

        def succeeded(self, event: Any) -> None: ...

        def failed(self, event: Any) -> None: ...

    monkeypatch.setattr(minibatch.client, 'MongoClient', lambda *args, **options: MongoClient(
        *args, **{**options, 'event_listeners': [Looks()]}))
    minibatch.connection.disconnect(url)
    monkeypatch.setattr(board, 'LIVE', 0.05)
    monkeypatch.setattr(board, 'SHARE', 0)
    server = serve()
    pages = [Events(server) for _ in range(5)]
    seen = [[page.next()['at'] for _ in range(4)] for page in pages]
    assert 4 <= looks['find'] < 16, 'each page was looked for on its own'
    assert all(each == sorted(set(each)) for each in seen)
    assert {*seen[0]} & {*seen[4]}, 'they get the same'
    for page in pages:
        page.close()


def test_pages_that_listen_hold_up_nobody(serve: Any, stream: mb.Stream) -> None:
    server = serve(threads=5)
    pages = [Events(server) for _ in range(3)]
    for page in pages:
        page.next()
    code, refused = ask(server, 'events')
    assert (code, refused['error']) == (503, '3 pages listen already; ask for state instead')
    assert get(server.url + '/status')[0] == 200
    assert ask(server, 'state')[1]['event']['streams'].keys() == {stream.name}
    pages[0].close()
    wait_until(lambda: server_listens(server), what='the place of a page that has gone')
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < patience(5), 'pages that listen hold up the stop'
    assert pages[1].answer.read() is not None


def server_listens(server: Any) -> bool:
    events = Events(server)
    try:
        return events.answer.status == 200
    finally:
        events.close()


def test_windows_are_shown_with_their_data(serve: Any, stream: mb.Stream) -> None:
    stream.extend({'n': n, 'big': 2 ** 60, 'raw': b'\0\1'} for n in range(300))
    passed(stream, size=150, keep=True)
    (dead,) = kill_all(stream, 1)
    server = serve(page=True)
    code, found = ask(server, f'windows?stream={stream.name}')
    assert code == 200
    assert [(each['id'], each['state'], each['n']) for each in found['windows']] == [
        (dead, 'dead', 1), (f'{stream.name}:2', 'done', 150), (f'{stream.name}:1', 'done', 150)]
    assert found['dead'][0]['error'] == 'ValueError: this one never works'
    assert 'in work' in found['dead'][0]['traceback']
    _, window = ask(server, f'window?stream={stream.name}&id={quote(stream.name)}:2')
    assert len(window['messages']) == 100
    assert json.loads(window['messages'][0]) == {'n': 150, 'big': 2 ** 60, 'raw': "b'\\x00\\x01'"}
    _, window = ask(server, f'window?stream={stream.name}&id={quote(dead)}')
    assert [json.loads(each)['text'] for each in window['messages']] == ['<script>']
    code, answer = ask(server, f'window?stream={stream.name}&id=nothing')
    assert (code, 'keep=True' in answer['error']) == (404, True)


def test_a_request_creates_no_stream(serve: Any, url: str, db: Any) -> None:
    server = serve()
    for what in ('windows?stream=new', 'window?stream=new&id=x', 'windows', 'windows?stream='):
        assert ask(server, what)[0] in (400, 404)
    assert db['stream'].count_documents({}) == 0


def test_only_the_token_acts(serve: Any, stream: mb.Stream) -> None:
    ids = kill_all(stream, 3)
    chosen = {'stream': stream.name, 'windows': ids[:1]}
    reading, acting = serve(), serve(page={'token': ['old', TOKEN]})
    assert ask(reading, 'state')[1]['acts'] is False
    assert ask(acting, 'state')[1]['acts'] is True
    for verb in ('redrive', 'drop'):
        assert post(reading, verb, chosen)[0] == 403
        for token in (None, '', 'wrong', TOKEN + 'x', TOKEN[:-1]):
            assert post(acting, verb, chosen, token)[0] == 401
        assert get(f'{acting.url}/live/{verb}')[0] in (404, 405)
    for body in ({}, [], 'x', {'stream': stream.name}, {**chosen, 'windows': []}, {**chosen, 'windows': [3]},
                 {**chosen, 'windows': '*'}, {**chosen, 'windows': ['\ud800']}, {**chosen, 'more': 1}):
        assert post(acting, 'drop', body)[0] == 400
    assert post(acting, 'drop', {**chosen, 'stream': 'another'})[0] == 404
    assert [each.id for each in stream.dead.list()] == ids
    assert post(acting, 'redrive', {**chosen, 'windows': ids[:2]}) == (200, {'stream': stream.name, 'redriven': 2})
    assert post(acting, 'drop', {**chosen, 'windows': ids[1:]}, 'old') == (200, {'stream': stream.name, 'dropped': 1})
    assert stream.dead.list() == []
    assert stream.status()['ready'] == 2
    assert [each.data['n'] for each in stream.buffer()] == [0, 1]


def test_data_may_be_withheld(serve: Any, stream: mb.Stream) -> None:
    (dead,) = kill_all(stream, 1)
    server = serve(page={'data': False})
    assert ask(server, f'window?stream={stream.name}&id={quote(dead)}')[0] == 403
    code, text = get(f'{server.url}/live/windows?stream={stream.name}')
    assert code == 200
    assert 'never works' not in text
    assert 'script' not in text


def test_a_page_of_ones_own_at_the_front_stays(serve: Any, url: str) -> None:
    app = StreamingApp(url=url)

    @app.route('/')
    def front() -> str:
        return 'mine'
    server = serve(app)
    assert get(server.url + '/') == (200, 'mine')
    assert '<title>minibatch</title>' in get(server.url + '/live/')[1]


def test_there_need_be_no_page(serve: Any) -> None:
    server = serve(page=False)
    assert [get(server.url + path)[0] for path in ('/', '/live/', '/live/state', '/live/events')] == [404] * 4


def test_options_are_checked(url: str) -> None:
    for given, text in (({'tokn': 'x'}, 'did you mean token'), ({'token': 7}, 'token must be'),
                        ({'data': 'no'}, 'data must be'), ('yes', 'page must be')):
        with pytest.raises(OptionError, match=text):
            StreamingApp(url=url, page=given)  # type: ignore[arg-type]


def test_all_of_it_comes_from_here(serve: Any) -> None:
    server = serve()
    code, html = get(server.url + '/')
    assert code == 200
    wanted = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert {'live/live.js', 'live/live.css', 'live/uplot.js', 'live/uplot.css'} <= set(wanted)
    for path in wanted:
        assert path.startswith(('live/', 'data:')), path
    for path in [each for each in wanted if not each.startswith('data:')] + ['live/charts.js', 'live/uplot.LICENSE']:
        assert get(f'{server.url}/{path}')[0] == 200, path
    own = ''.join((ASSETS / name).read_text(encoding='utf-8') for name in (
        'live.html', 'live.css', 'live.js', 'charts.js'))
    assert 'http' not in own.replace('http-equiv', ''), 'something is fetched from elsewhere'
    assert 'innerHTML' not in own, 'what is in a message would become a part of the page'
    assert 'MIT License' in (ASSETS / 'uplot.LICENSE').read_text(encoding='utf-8')


def test_without_mongodb_the_page_says_so(serve: Any) -> None:
    server = serve(url=f'mongodb://user:secret@127.0.0.1:{free_port()}/x?serverSelectionTimeoutMS=200')
    assert get(server.url + '/')[0] == 200
    events = Events(server)
    event = events.next()
    events.close()
    assert 'ConnectError' in event['error']
    assert 'secret' not in json.dumps(event)
    code, answer = ask(server, 'windows?stream=x')
    assert code == 503
    assert 'secret' not in json.dumps(answer)


def test_only_this_machine_is_listened_to(serve: Any, caplog: pytest.LogCaptureFixture, url: str) -> None:
    before = listening()
    server = serve()
    assert [address for address in listening() - before if address[0] != '127.0.0.1'] == []
    assert ('127.0.0.1', server.port) in listening()
    assert not [record for record in caplog.records if 'may read messages' in record.message]
    everywhere = StreamingApp(url=url).serve('0.0.0.0', 0)
    everywhere.stop()
    assert [record for record in caplog.records if 'may read messages' in record.message]


def listening() -> set[tuple[str, int]]:
    """What this process listens at."""
    return {(each.laddr.ip, each.laddr.port) for each in psutil.Process().net_connections('inet')
            if each.status == psutil.CONN_LISTEN}


def test_rates_are_steady_when_totals_are_told_now_and_then() -> None:
    """Producers tell their counts every two seconds, a look is each second, and neither is quite punctual."""
    total, rates = board.Total(), []
    for second in range(60):
        told = second // 2 * 2 * 1000 if second < 40 else 40_000
        rates.append(total.rate(second + 0.03 * (second % 3), told))
    steady = [each for each in rates[12:40] if each is not None]
    assert all(970 < each < 1030 for each in steady), steady
    assert rates[-1] == 0


def test_a_stream_that_was_idle_comes_to_its_new_rate() -> None:
    total = board.Total()
    for second in range(100):
        total.rate(second, 0)
    assert [total.rate(100 + second, 500 * (1 + second)) for second in range(3)] == [50.0, 100.0, 150.0]
