"""Every route of an app, asked for anything by anybody: never a 500, and without the token nothing changes."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import minibatch as mb
from minibatch.contrib.apps import StreamingApp
from tests.support.consuming import passed

TOKEN = 'only-i-know-it'
STREAM = 'fuzzed'

#: Something is made of nothing by no request; and what is made of something is looked at here.
COLLECTIONS = ('stream', 'buffer', 'window', 'source', 'table', 'progress')

any_text = st.text(max_size=30)
names = st.one_of(st.sampled_from([STREAM, f'{STREAM}:1', f'{STREAM}:3', 'a/b', '..', '', '\0']), any_text)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | names,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=8)
acts = st.fixed_dictionaries({}, optional={
    'stream': names | any_json, 'windows': st.lists(names, max_size=3) | any_json, 'more': any_json})
bodies = st.one_of(
    st.binary(max_size=60), any_json.map(json.dumps).map(str.encode), acts.map(json.dumps).map(str.encode),
    st.just(b'[' * 20_000))
header = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters='\x7f'), max_size=30)
headers = st.fixed_dictionaries({}, optional={
    'Content-Type': st.sampled_from(['application/json', 'application/x-ndjson', 'text/plain', 'a/b/c']) | header,
    'Content-Encoding': st.sampled_from(['gzip', 'identity']) | header, 'Idempotency-Key': header,
    'Accept': header, 'Accept-Encoding': header, 'If-None-Match': header, 'Range': header, 'Cookie': header,
    'Authorization': st.sampled_from(['Bearer', 'Bearer wrong', f'Basic {TOKEN}', f'Bearer {TOKEN}x']) | header})
methods = st.sampled_from(['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS'])
queries = st.dictionaries(st.sampled_from(['stream', 'id', 'name[]', 'token']) | any_text, names, max_size=3)


class Fuzzed:
    """An app with everything on, and a stream that has messages, kept windows and dead ones."""

    def __init__(self, url: str, db: Any) -> None:
        self.db = db
        self.stream = mb.stream(STREAM, url=url)
        self.stream.extend({'n': n} for n in range(4))
        passed(self.stream, size=1, keep=True)

        def never(window: Any) -> None:
            raise ValueError('no')
        self.stream.extend({'n': n} for n in range(4))
        passed(self.stream, never, size=1, max_attempts=1)
        self.stream.append({'n': 'waits'})
        self.stream.store.tally.flush()
        self.app = StreamingApp(url=url, page={'token': TOKEN}, ingest={'token': TOKEN, 'create': True})
        self.server = self.app.serve(port=0)
        self.ask('GET', '/live/state', {}, b'')  # now it has all its routes
        self.rules = sorted({rule.rule for rule in self.app.url_map.iter_rules()})

    def ask(self, method: str, path: str, given_headers: dict[str, str], body: bytes) -> int:
        connection = http.client.HTTPConnection('127.0.0.1', self.server.port, timeout=20)
        with contextlib.closing(connection):
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # head and body go out in two parts
            connection.request(method, path, body, given_headers)
            answer = connection.getresponse()
            if answer.headers.get_content_type() != 'text/event-stream':
                answer.read()
            return answer.status

    def stored(self) -> Any:
        """All that is in the store."""
        return {name: sorted(self.db[name].find({}), key=lambda doc: str(doc['_id'])) for name in COLLECTIONS}


@pytest.fixture
def fuzzed(url: str, db: Any) -> Iterator[Fuzzed]:
    fuzzed = Fuzzed(url, db)
    yield fuzzed
    fuzzed.server.stop()


def path_of(rule: str, name: str, query: dict[str, str]) -> str:
    for variable in ('<path:name>', '<path:filename>', '<name>'):
        rule = rule.replace(variable, quote(name, safe=''))
    return rule + ('?' + urlencode(query) if query else '')


def check(code: int, rule: str) -> None:
    """No 500. A 503 is what /health says of a stream without a consumer, and /live/events if there are many pages."""
    assert code < 500 or (code == 503 and rule in ('/health', '/live/events')), code


def test_the_rules_are_all_of_them(fuzzed: Fuzzed) -> None:
    assert {'/', '/live/', '/live/events', '/live/state', '/live/windows', '/live/window', '/live/redrive',
            '/live/drop', '/live/<name>', '/status', '/health', '/metrics', '/streams/<path:name>'} <= set(fuzzed.rules)


def test_without_the_token_nothing_changes_and_nothing_breaks(fuzzed: Fuzzed) -> None:
    before = fuzzed.stored()
    seen: set[tuple[str, int]] = set()

    @settings(max_examples=300, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
              suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(fuzzed.rules), methods, names, queries, headers, bodies)
    def ask(rule: str, method: str, name: str, query: dict[str, str], sent: dict[str, str], body: bytes) -> None:
        code = fuzzed.ask(method, path_of(rule, name, query), sent, body)
        check(code, rule)
        seen.add((rule, code // 100))

    ask()
    assert fuzzed.stored() == before
    assert {rule for rule, _ in seen} == set(fuzzed.rules)
    assert {kind for _, kind in seen} >= {2, 4}


def test_with_the_token_nothing_breaks_and_only_dead_windows_change(fuzzed: Fuzzed) -> None:
    before = fuzzed.stored()
    acted: set[int] = set()

    @settings(max_examples=250, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
              suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(['redrive', 'drop']), bodies | st.builds(
        lambda windows: json.dumps({'stream': STREAM, 'windows': windows}).encode(),
        st.lists(names | st.integers(0, 9).map(lambda n: f'{STREAM}:{n}'), min_size=1, max_size=3)))
    def ask(verb: str, body: bytes) -> None:
        code = fuzzed.ask('POST', f'/live/{verb}', {'Authorization': f'Bearer {TOKEN}',
                                                    'Content-Type': 'application/json'}, body)
        check(code, verb)
        acted.add(code)

    ask()
    assert {200, 400} <= acted
    after = fuzzed.stored()
    dead = {doc['_id'] for doc in before['window'] if doc['state'] == 'dead'}
    changed = {doc['_id'] for doc in before['window'] if doc not in after['window']}
    assert changed
    assert changed <= dead
    assert [doc for doc in before['buffer'] if doc not in after['buffer'] and doc['window'] not in dead] == []
