"""A MongoDB with a password and TLS: all works by the URL alone, and what the URL must not tell is told nowhere."""

from __future__ import annotations

import json
import logging
import os
import signal
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

import minibatch as mb
from minibatch.connection import connect, disconnect
from minibatch.contrib.apps import StreamingApp
from minibatch.contrib.mongodb import MongoSink
from tests.support.consuming import passed, running
from tests.support.guarded import PASSWORD, Guarded, guarded
from tests.support.mongod import free_port
from tests.support.scripts import Person, get
from tests.support.waiting import wait_until

WRONG = 'wr0ng-staple'
SECRETS = [PASSWORD, quote(PASSWORD, safe=''), quote_plus(PASSWORD), WRONG]


@pytest.fixture(scope='module')
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded(tmp_path_factory.mktemp('guarded')) as server:
        yield server
        disconnect()


def without_secrets(*texts: Any) -> None:
    for text in texts:
        for secret in SECRETS:
            at = str(text).find(secret)
            assert at < 0, f'{str(text)[max(0, at - 300):at]}<<< the secret >>>'  # of megabytes, a piece


@pytest.mark.parametrize('how', ['password', 'certificate'])
def test_all_of_it_works_by_the_url_alone(server: Guarded, how: str) -> None:
    """Worker processes, transactions, change streams, tables; with the role readWrite on the database, no more."""
    url = server.url if how == 'password' else server.by_certificate
    stream, counts = mb.stream(how, url=url), mb.table(f'{how} counts', url=url, default=int)
    out = mb.connectdb(url)[f'{how} out']

    def work(window: Any) -> Any:
        counts['windows'] += 1
        return [{**message, 'pid': os.getpid()} for message in window]

    sink = MongoSink(f'{how} out', exactly_once=True)
    with running(stream, work, size=2, executor='process', workers=1, sink=sink, lease=5) as emitter:
        stream.extend({'n': n} for n in range(3))
        wait_until(lambda: counts['windows'] == 1, 30)
        stream.append({'n': 3})  # the consumer hears of it by a change stream
        wait_until(lambda: counts['windows'] == 2, 30)
    assert sorted(doc['n'] for doc in out.find()) == [0, 1, 2, 3]
    assert all(doc['pid'] != os.getpid() for doc in out.find())
    without_secrets(repr(stream.store.connection), repr(emitter), repr(stream), repr(counts), repr(sink))
    disconnect(url)


def refused(url: str) -> str:
    with pytest.raises(mb.ConnectError) as caught:
        connect(url, timeout=2)
    without_secrets(*traceback.format_exception(caught.value))
    return str(caught.value)


def test_who_may_not_come_in_is_told_why(server: Guarded) -> None:
    wrong = mb.authenticated_url(server.tls, 'ann', WRONG)
    assert 'refuses the user ann: the password is wrong' in refused(wrong)
    assert 'wants a user and a password' in refused(server.tls)
    assert 'add tls=true' in refused(mb.authenticated_url(server.plain, 'ann', PASSWORD))
    unknown = mb.authenticated_url(f'{server.plain}&tls=true', 'ann', PASSWORD)
    assert 'not signed by an authority known here' in refused(unknown)
    elsewhere = mb.authenticated_url(server.tls.replace('/shop', '/bank'), 'ann', PASSWORD)
    assert 'the user ann may not read and write the database' in refused(elsewhere)


APP = """\
import logging
import sys

logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
import minibatch as mb
from minibatch.contrib.apps import StreamingApp
from minibatch.contrib.mongodb import MongoSink

app = StreamingApp(streams=['visits'])


def consumer(url):
    @mb.streaming('visits', size=1, url=url, lease=1, workers=1, max_attempts=2, backoff=0.1,
                  sink=MongoSink('visited', exactly_once=True))
    def copy(window):
        if 'bad' in window.data[0]:
            raise ValueError(f'{window!r} of {mb.connectdb()!r}')
        return window.data


def misled(url):
    mb.connectdb(url.replace(url.partition('ann:')[2].partition('@')[0], 'wr0ng' + '-staple'))


if __name__ == '__main__':
    app.start_streaming(consumer)
    app.start_streaming(misled, max_backoff=1)
    app.run(port=PORT)
"""


def test_no_secret_in_logs_errors_and_pages_whatever_fails(server: Guarded, tmp_path: Path) -> None:
    """An app that logs all it can, with a poisonous message, a wrong password, and a MongoDB that is killed."""
    person = Person(tmp_path, server.url)
    page = f'http://127.0.0.1:{(port := free_port())}'
    seen: list[str] = []

    def read(path: str) -> Any:
        seen.append(get(page + path)[1])
        return json.loads(seen[-1] or '{}')

    stream = mb.stream('visits', url=server.url)
    stream.extend([{'n': 1}, {'bad': True}])
    try:
        app = person.start('app.py', APP.replace('PORT', str(port)))
        app.wait_until(lambda: read('/status').get('streams', {}).get('visits', {}).get('dead') == 1)
        app.wait_until(lambda: any('refuses the user ann' in reason for reason in read('/status')['reasons']))
        server.kill()
        app.wait_until(lambda: any('no word from MongoDB' in reason for reason in read('/status')['reasons']))
        read('/health')
        seen.append(get(f'{page}/metrics')[1])
        assert 'minibatch_up 0.0' in seen[-1]
        with pytest.raises(mb.StoreUnavailable) as away:
            stream.append({'n': 2})
        server.start()
        app.wait_until(lambda: read('/status')['streams']['visits']['done'] == 1 and (
            'no word' not in str(read('/status')['reasons'])))
        stream.append({'n': 3})
        app.wait_until(lambda: read('/status')['streams']['visits']['done'] >= 2)
        seen.append(get(f'{page}/metrics')[1])
        os.kill(app.process.pid, signal.SIGTERM)
        app.end()
        dead, = stream.dead.list()
        assert 'ValueError: <window visits:2' in str(dead.errors)
        said = app.err.read_text(errors='replace')
        assert 'is dead after 2 attempts' in said
        without_secrets(*seen, said, app.printed, dead, dead.errors, *traceback.format_exception(away.value))
    finally:
        person.leave()
        disconnect(server.url)


def test_what_is_logged_in_place(server: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """And what a URL that cannot be used is told about, in code and in the environment."""
    caplog.set_level(logging.DEBUG)
    stream = mb.stream('logged', url=server.url)
    stream.append({'n': 1})
    passed(stream, lambda window: window.nothing, size=1, max_attempts=1)
    assert 'is dead after 1 attempts' in caplog.text
    for wrong in (server.url + '&nosuch=1', server.url.replace('mongodb:', 'mongo:'), server.url + '&w=0',
                  f'mongodb://ann:{PASSWORD}@127.0.0.1/shop'):
        with pytest.raises(mb.OptionError) as caught:
            connect(wrong)
        without_secrets(*traceback.format_exception(caught.value))
        pages = StreamingApp(url=wrong).test_client()
        without_secrets(pages.get('/status').text, pages.get('/metrics').text)
    without_secrets(caplog.text, *map(vars, caplog.records))
    disconnect(server.url)
