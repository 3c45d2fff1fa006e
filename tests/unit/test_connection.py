"""Connecting: to the right database, once per process and URL, and why not, within 5 s and without the password."""

from __future__ import annotations

import functools
import os
import pickle
import shutil
import signal
import socket
import socketserver
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import mongoengine
import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

import minibatch.connection
from minibatch import embedded
from minibatch.connection import authenticated_url, connect, connectdb, disconnect, masked
from minibatch.errors import ConnectError, OptionError
from minibatch.urls import checked
from tests.support import waiting
from tests.support.waiting import patience

wait_until = functools.partial(waiting.wait_until, timeout=30)  # servers start and stop, on a busy machine

PASSWORD = 'correct-horse'  # of the test servers' user


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No connection and no default before and after."""
    monkeypatch.delenv('MINIBATCH_MONGO_URL', raising=False)
    monkeypatch.delenv('MONGO_URL', raising=False)
    disconnect()
    yield
    disconnect()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return int(probe.getsockname()[1])


@contextmanager
def mongod(path: Path, *options: str, **client_options: Any) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A server with *options*, on loopback."""
    path.mkdir()
    port = free_port()
    process = subprocess.Popen(
        [embedded.find_mongod(), '--dbpath', str(path), '--port', str(port), '--bind_ip', '127.0.0.1',
         '--nounixsocket', '--networkMessageCompressors', 'disabled', '--wiredTigerCacheSizeGB', '0.25',
         '--logpath', str(path / 'log'), '--setParameter', 'diagnosticDataCollectionEnabled=false', *options],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip

    def answers() -> bool:
        with suppress(PyMongoError), MongoClient[dict[str, Any]](
            '127.0.0.1', port, directConnection=True, serverSelectionTimeoutMS=500, **client_options
        ) as client:
            client.admin.command('hello')
            return True
        return False

    try:
        wait_until(answers, timeout=30, what='mongod to answer')
        yield port, process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope='module')
def rs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a replica set of one, called rs7."""
    with mongod(tmp_path_factory.mktemp('rs') / 'db', '--replSet', 'rs7') as (port, _):
        with MongoClient[dict[str, Any]]('127.0.0.1', port, directConnection=True) as client:
            member = {'_id': 0, 'host': f'127.0.0.1:{port}'}
            client.admin.command('replSetInitiate', {'_id': 'rs7', 'members': [member]})
            wait_until(lambda: client.admin.command('hello')['isWritablePrimary'], what='a primary')
        yield f'127.0.0.1:{port}'


@pytest.fixture(scope='module')
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a standalone server that wants a password."""
    with mongod(tmp_path_factory.mktemp('auth') / 'db', '--auth') as (port, _):
        with MongoClient[dict[str, Any]]('127.0.0.1', port) as client:  # the first user may be made without one
            client.admin.command('createUser', 'root', pwd=PASSWORD, roles=['root'])
        with MongoClient[dict[str, Any]]('127.0.0.1', port, username='root', password=PASSWORD) as client:
            client.admin.command('createUser', 'ann', pwd=PASSWORD, roles=[{'role': 'readWrite', 'db': 'shop'}])
            client.admin.command('createUser', 'reader', pwd=PASSWORD, roles=[{'role': 'read', 'db': 'shop'}])
            client.shop.command('createUser', 'bob', pwd=PASSWORD, roles=['readWrite'])
        yield f'127.0.0.1:{port}'


class Mute(socketserver.BaseRequestHandler):
    """Accepts and says nothing."""

    def handle(self) -> None:
        with suppress(OSError):
            while self.request.recv(1 << 16):
                pass


class Web(socketserver.BaseRequestHandler):
    """Answers in another protocol."""

    def handle(self) -> None:
        with suppress(OSError):
            self.request.recv(1 << 16)
            self.request.sendall(b'HTTP/1.1 400 Bad Request\r\n\r\n' + b' ' * 100)


@contextmanager
def listener(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    with socketserver.ThreadingTCPServer(('127.0.0.1', 0), handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def refused(url: str, match: str, call: Callable[[str], Any] = connect) -> ConnectError:
    """Assert that *url* is refused as the house promises: in time, in a sentence, and with no secret in any trace."""
    started = time.monotonic()
    with pytest.raises(ConnectError, match=match) as caught:
        call(url)
    assert time.monotonic() - started < 5.3, 'it took longer than the promised 5 s (and what a busy machine adds)'
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    for secret in (PASSWORD, 'wrong-staple'):
        assert secret not in ''.join(traceback.format_exception(error))
    return error


def hasty(url: str) -> Any:
    """Connect, where to wait for the full time shows nothing more."""
    return connect(url, timeout=1.5)


# -- what works


def test_one_client_per_url_whose_writes_are_durable(rs: str) -> None:
    url = f'mongodb://{rs}/shop?w=1&readPreference=secondary&retryWrites=false&tz_aware=true'
    connection = connect(url)
    assert connect(url) is connection
    assert connection.url == url
    assert connection.replica_set
    assert connection.db.name == 'shop'
    concern = connection.db.write_concern.document
    assert concern == {'w': 'majority', 'j': True}
    options = connection.client.options
    assert options.retry_writes
    assert options.read_preference.mongos_mode == 'primary'
    assert not options.codec_options.tz_aware
    assert options.server_selection_timeout == 5.0


def test_timeouts_are_the_urls_to_choose(rs: str) -> None:
    assert connect(f'mongodb://{rs}/?serverSelectionTimeoutMS=700').client.options.server_selection_timeout == 0.7
    assert connect(f'mongodb://{rs}/', timeout=2).client.options.server_selection_timeout == 2.0


def test_a_standalone_server_has_no_transactions(tmp_path: Path) -> None:
    with mongod(tmp_path / 'db') as (port, _):
        assert not connect(f'mongodb://127.0.0.1:{port}/').replica_set
        disconnect()


def test_models_reach_the_same_databases(rs: str) -> None:
    first, second = connect(f'mongodb://{rs}/one'), connect(f'mongodb://{rs}/two')
    assert first.alias == 'minibatch'
    assert second.alias != 'minibatch'
    assert mongoengine.get_db('minibatch').name == 'one'
    assert mongoengine.get_db(second.alias).name == 'two'
    assert mongoengine.get_connection(second.alias) is second.client


def test_without_a_url_the_environment_says_where(rs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MONGO_URL', f'mongodb://{rs}/theirs')
    assert connect().db.name == 'theirs'
    monkeypatch.setenv('MINIBATCH_MONGO_URL', f'mongodb://{rs}/ours')
    assert connect().db.name == 'ours'
    assert connect(f'mongodb://{rs}/given').db.name == 'given'
    monkeypatch.setenv('MINIBATCH_MONGO_URL', '')
    assert connect().db.name == 'theirs'


def test_the_database_of_connectdb_is_the_default_from_then_on(rs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = connect(f'mongodb://{rs}/before')
    monkeypatch.setenv('MONGO_URL', f'mongodb://{rs}/environment')
    db = connectdb(f'mongodb://{rs}/', 'chosen')
    assert db.name == 'chosen'
    assert connect().db == db
    assert mongoengine.get_db('minibatch').name == 'chosen'
    # who has the other one keeps it
    assert before.alias != 'minibatch'
    assert mongoengine.get_db(before.alias).name == 'before'
    assert before.db.command('ping')['ok'] == 1
    assert connectdb().name == 'environment'


def test_connectdb_takes_what_programs_for_earlier_versions_give(rs: str) -> None:
    db = connectdb(url=f'mongodb://{rs}/shop', dbname=None, alias=None, authSource='admin', fast_insert=True, ssl=False)
    assert db.name == 'shop'
    assert connectdb(f'mongodb://{rs}/', alias='other', dbname='aside').name == 'aside'
    assert mongoengine.get_db('other').name == 'aside'
    assert connect().db.name == 'shop'


def test_a_connection_goes_to_other_processes_by_its_url(rs: str) -> None:
    connection = connect(f'mongodb://{rs}/shop')
    assert pickle.loads(pickle.dumps(connection)) is connection


def test_a_forked_child_has_a_client_of_its_own_and_leaves_the_parents_alone(rs: str) -> None:
    connection = connect(f'mongodb://{rs}/shop')
    connection.db.create_collection('clicks')
    with connection.client.start_session() as session:
        session.start_transaction()
        connection.db.clicks.insert_one({'n': 1}, session=session)
        pid = os.fork()
        if pid == 0:
            code = 1
            with suppress(BaseException):
                mine = connect(connection.url)
                assert mine is not connection
                assert mongoengine.get_connection('minibatch') is mine.client
                assert connection.alias == 'minibatch'
                mine.db.clicks.insert_one({'n': 2})
                disconnect()
                code = 0
            os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        session.commit_transaction()  # a child that had ended the parent's sessions would have ended this, too
    assert sorted(row['n'] for row in connection.db.clicks.find()) == [1, 2]
    connection.client.drop_database('shop')


def test_the_clock_is_the_servers(rs: str) -> None:
    clock = connect(f'mongodb://{rs}/?heartbeatFrequencyMS=500').clock

    def off() -> float:
        return abs((clock.now() - datetime.now(timezone.utc).replace(tzinfo=None)).total_seconds())

    assert off() < patience(0.1)
    clock.adjust(clock.now() + timedelta(hours=1))
    wait_until(lambda: off() < 0.2, timeout=15, what='a heartbeat to put the clock right')


def test_the_embedded_server_is_a_url_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MINIBATCH_LINGER', '0')
    monkeypatch.setenv('MINIBATCH_HOME', str(tmp_path))
    connection = connect()
    assert connection.url == embedded.url_of(tmp_path / 'mongodb')
    assert connection.replica_set
    assert connection.db.name == 'minibatch'
    assert connect('embedded:') is connection
    assert connect(f'embedded://{tmp_path}/mongodb') is connection
    other = connect('embedded:?database=other&maxPoolSize=3')
    assert other.db.name == 'other'
    assert other.client.options.pool_options.max_pool_size == 3
    assert connectdb(dbname='third').name == 'third'
    disconnect('embedded:')
    assert embedded.status()['clients'] == [os.getpid()], 'another connection still uses it'
    disconnect()
    wait_until(lambda: not embedded.status()['running'], what='the server to stop')


def test_an_embedded_server_comes_back_to_its_clients_whatever_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('MINIBATCH_LINGER', '0')
    connection = connect(f'embedded://{tmp_path}', timeout=2)
    connection.db.clicks.insert_one({'n': 1})

    def count() -> int:
        with suppress(PyMongoError):
            return connection.db.clicks.count_documents({})
        return 0

    for victim in ('pid', 'supervisor'):
        facts = embedded.status(tmp_path)
        os.kill(facts[victim], signal.SIGKILL)
        wait_until(lambda: embedded.status(tmp_path)['pid'] not in (facts['pid'], None), what='another')  # noqa: B023
        wait_until(lambda: count() == 1, what='the server to come back')
    # stopped on purpose it stays away, until somebody connects anew
    embedded.stop(tmp_path)
    with pytest.raises(PyMongoError):
        connection.db.clicks.count_documents({})
    assert not embedded.status(tmp_path)['running']
    connect(f'embedded://{tmp_path}')
    wait_until(lambda: count() == 1, what='the server to be there again')


def test_disconnect_forgets_and_the_next_connect_is_new(rs: str) -> None:
    url = f'mongodb://{rs}/shop'
    connection = connect(url)
    disconnect(url)
    with pytest.raises(mongoengine.ConnectionFailure):
        mongoengine.get_connection('minibatch')
    again = connect(url)
    assert again is not connection
    assert again.alias == 'minibatch'
    assert again.db.command('ping')['ok'] == 1


def test_users_are_looked_up_where_the_url_says_or_in_admin_as_ever(guarded: str) -> None:
    assert connect(f'mongodb://ann:{PASSWORD}@{guarded}/shop').db.name == 'shop'
    assert connect(f'mongodb://bob:{PASSWORD}@{guarded}/shop').db.name == 'shop'
    assert connectdb(f'mongodb://{guarded}/shop', username='ann', password=PASSWORD, authSource='admin').name == 'shop'
    assert connect(authenticated_url(f'mongodb://{guarded}/shop', 'ann', PASSWORD)).db.name == 'shop'


# -- what does not


def test_nobody_listens() -> None:
    refused(f'mongodb://ann:{PASSWORD}@127.0.0.1:{free_port()}/shop', r'ann:\*\*\*@127.*nothing listens at 127.0.0.1')


def test_the_environment_is_named_if_the_url_is_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MONGO_URL', f'mongodb://127.0.0.1:{free_port()}/')
    refused('', r'\(from MONGO_URL\)', lambda _: connect(timeout=0.5))
    monkeypatch.setenv('MONGO_URL', 'db.example')
    with pytest.raises(OptionError, match=r"MONGO_URL: 'db\.example' is no URL"):
        connect()


def test_an_unknown_host() -> None:
    refused('mongodb://no-such-host.invalid/shop', 'host name no-such-host.invalid is not known')
    refused('mongodb+srv://no-such-host.invalid/shop', 'mongodb.srv record')


def test_a_server_that_says_nothing() -> None:
    with listener(Mute) as port:
        refused(f'mongodb://127.0.0.1:{port}/', 'does not answer')


def test_a_server_of_another_kind() -> None:
    with listener(Web) as port:
        refused(f'mongodb://127.0.0.1:{port}/', 'no MongoDB')


@pytest.mark.parametrize('database', ['', 'shop'])
def test_a_wrong_password(guarded: str, database: str) -> None:
    refused(f'mongodb://ann:wrong-staple@{guarded}/{database}', 'it refuses the user ann: the password is wrong')


def test_no_password_where_one_is_wanted(guarded: str) -> None:
    refused(f'mongodb://{guarded}/shop', 'wants a user and a password')


def test_a_user_that_may_only_read(guarded: str) -> None:
    url = f'mongodb://reader:{PASSWORD}@{guarded}/shop'
    refused(url, 'the user reader may not write to the database shop: grant it the role readWrite')


@pytest.mark.parametrize('more', ['', '&directConnection=true'])
def test_a_wrong_replica_set(rs: str, more: str) -> None:
    refused(f'mongodb://{rs}/?replicaSet=rs8{more}', 'rs7')


def test_a_replica_set_where_there_is_none(guarded: str) -> None:
    refused(f'mongodb://{guarded}/?replicaSet=rs8', 'no replica set: leave replicaSet=rs8 out')


def test_a_replica_set_that_nobody_has_initiated(tmp_path: Path) -> None:
    with mongod(tmp_path / 'db', '--replSet', 'rs9') as (port, _):
        refused(f'mongodb://127.0.0.1:{port}/?replicaSet=rs9', r'rs\.initiate', hasty)
        refused(f'mongodb://127.0.0.1:{port}/', r'rs\.initiate', hasty)


def test_no_primary(tmp_path: Path) -> None:
    with mongod(tmp_path / 'db', '--replSet', 'rs9') as (port, _):
        with MongoClient[dict[str, Any]]('127.0.0.1', port, directConnection=True) as client:
            absent = {'_id': 1, 'host': f'127.0.0.1:{free_port()}', 'priority': 0}
            here = {'_id': 0, 'host': f'127.0.0.1:{port}'}
            client.admin.command('replSetInitiate', {'_id': 'rs9', 'members': [here]})
            wait_until(lambda: client.admin.command('hello')['isWritablePrimary'], what='a primary')
            client.admin.command(
                'replSetReconfig', {'_id': 'rs9', 'version': 5, 'members': [here, absent]}, force=True
            )
            client.admin.command('replSetStepDown', 60, force=True)
            wait_until(lambda: client.admin.command('hello').get('secondary'), what='the primary to step down')
        refused(f'mongodb://127.0.0.1:{port}/?replicaSet=rs9', 'no primary|nothing listens', hasty)
        refused(f'mongodb://127.0.0.1:{port}/?directConnection=true', 'not the primary', hasty)


def test_tls_where_there_is_none(rs: str) -> None:
    refused(f'mongodb://{rs}/?tls=true', 'does not speak TLS: leave tls=true out')


@pytest.fixture(scope='module')
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1, and its key."""
    openssl = shutil.which('openssl')
    if openssl is None:
        if os.environ.get('CI'):
            pytest.fail('openssl is not installed')
        pytest.skip('openssl is not installed')
    place = tmp_path_factory.mktemp('tls')
    subprocess.run(
        [openssl, 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=127.0.0.1',
         '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', 'key.pem', '-out', 'cert.pem'],
        cwd=place, check=True, capture_output=True,
    )  # fmt: skip
    both = place / 'both.pem'
    both.write_text((place / 'cert.pem').read_text() + (place / 'key.pem').read_text())
    return both


def test_a_server_that_speaks_tls_only(tmp_path: Path, certificate: Path) -> None:
    options = ('--tlsMode', 'requireTLS', '--tlsCertificateKeyFile', str(certificate))
    with mongod(tmp_path / 'db', *options, tls=True, tlsAllowInvalidCertificates=True) as (port, _):
        refused(f'mongodb://127.0.0.1:{port}/', 'speaks TLS only: add tls=true')
        refused(f'mongodb://127.0.0.1:{port}/?tls=true', 'not signed by an authority known here')
        assert connect(f'mongodb://127.0.0.1:{port}/?tls=true&tlsCAFile={certificate}').db.command('ping')['ok'] == 1
        disconnect()


def test_a_member_that_announces_itself_by_a_name_of_no_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # as in a container network: the server knows its own name, this machine does not
    real = socket.getaddrinfo

    def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
        if host == 'localhost':
            raise socket.gaierror(socket.EAI_NONAME, 'Name or service not known')
        return real(host, *args, **kwargs)

    with mongod(tmp_path / 'db', '--replSet', 'rs9') as (port, _):
        with MongoClient[dict[str, Any]]('127.0.0.1', port, directConnection=True) as client:
            members = [{'_id': 0, 'host': f'localhost:{port}'}]
            client.admin.command('replSetInitiate', {'_id': 'rs9', 'members': members})
            wait_until(lambda: client.admin.command('hello')['isWritablePrimary'], what='a primary')
        monkeypatch.setattr(socket, 'getaddrinfo', resolve)
        url = f'mongodb://127.0.0.1:{port}/'
        refused(url, 'the host name localhost is not known.*calls that member.*add directConnection=true', hasty)
        assert connect(f'{url}?directConnection=true').db.command('ping')['ok'] == 1
        disconnect()


def test_a_server_that_goes_away_later_is_an_error_within_the_same_time(tmp_path: Path) -> None:
    with mongod(tmp_path / 'db') as (port, process):
        connection = connect(f'mongodb://127.0.0.1:{port}/', timeout=1)
        process.kill()
        process.wait()
        started = time.monotonic()
        with pytest.raises(PyMongoError):
            connection.db.clicks.insert_one({})
        assert time.monotonic() - started < patience(2.5)
        disconnect()


# -- URLs that cannot be used: nothing is tried, nothing is stored


@pytest.mark.parametrize(('url', 'match'), [
    ('localhost:27017', 'must begin with mongodb://'),
    ('mongo://db.example/', r'must begin with mongodb://.*did you mean mongodb\?'),
    ('mongodb:/db.example/', 'two slashes'),
    ('mongodb://', 'names no host'),
    ('mongodb:///shop', 'names no host'),
    ('mongodb://db.example:port/', 'a port is a number'),
    ('mongodb://db.example:99999/', 'a port is a number'),
    ('mongodb://db.example/my shop', 'name of a database'),
    ('mongodb://db.example/shop.clicks', 'name of a database'),
    ('mongodb://db.example/?retrywrite=true', r'no option retrywrite; did you mean retryWrites\?'),
    ('mongodb://db.example/?bogus=1', 'no option bogus'),
    ('mongodb://db.example/?retryWrites=maybe', "option retryWrites cannot be 'maybe'"),
    ('mongodb://db.example/?serverSelectionTimeoutMS=soon', 'option serverSelectionTimeoutMS cannot be'),
    ('mongodb://db.example/?tlsCAFile=/no/such/file', 'option tlsCAFile cannot be'),
    ('mongodb://db.example/?w=majority&w=1', 'w is given twice'),
    ('mongodb://db.example/?replicaSet', 'name=value'),
    ('mongodb://db.example/?w=0', 'w=0 would let acknowledged messages be lost'),
    ('mongodb://db.example/?w=2', 'w=2 would let'),
    ('mongodb://db.example/?journal=false', 'journal=false would let'),
    ('mongodb://a.example,b.example/?directConnection=true', 'multiple hosts'),
    ('mongodb://:secret@db.example/', 'user name is empty'),
    ('embedded:///data?bogus=1', 'no option bogus'),
    ('embedded://data', 'three slashes'),
])
def test_a_url_that_cannot_be_used_is_refused_with_the_fix(url: str, match: str) -> None:
    with pytest.raises(OptionError, match=match):
        connect(url)


@pytest.mark.parametrize('password', ['pass@word', 'pass/word', 'pass?word', 'pass:word', 'pass%word', 'pass?wo=rd',
                                      'pass#wo/rd', 'pass/wo?r=d', 'pass@w@rd'])  # fmt: skip
def test_a_password_that_is_not_encoded_is_not_shown_in_pieces(password: str) -> None:
    url = f'mongodb://ann:{password}@db.example/shop?replicaSet=rs0'
    with pytest.raises(OptionError, match='percent-encoded') as caught:
        connect(url)
    told = ''.join(traceback.format_exception(caught.value)).replace('the password', '')
    for piece in ('pass', 'word', 'rd@'):
        assert piece not in told.partition('OptionError: ')[2].replace('and password', '').replace('user, password', '')
    assert checked(authenticated_url('mongodb://db.example/shop', 'ann', password)).database == 'shop'


@pytest.mark.parametrize('url', [None, 5, b'mongodb://db.example/'])
def test_a_url_is_text(url: Any) -> None:
    with pytest.raises(OptionError, match='str'):
        checked(url)


def test_options_of_connectdb_are_checked_as_well(rs: str) -> None:
    for options, match in [
        ({'serverSelectionTimoutMS': 5}, 'did you mean serverSelectionTimeoutMS'),
        ({'w': 0}, 'w=0'),
        ({'dbname': 'a b'}, 'name of a database'),
        ({'host': 'x'}, 'no option host'),
    ]:
        with pytest.raises(OptionError, match=match):
            connectdb(f'mongodb://{rs}/', **options)
    assert minibatch.connection._connections == {}


@pytest.mark.parametrize(('url', 'shown'), [
    ('mongodb://ann:secret@h/x?w=1', 'mongodb://ann:***@h/x?w=1'),
    ('mongodb+srv://ann:secret@h/x', 'mongodb+srv://ann:***@h/x'),
    ('mongodb://ann:se/cr@et@h/x', 'mongodb://ann:***@h/x'),
    ('mongodb://ann:s?a=b@h/x', 'mongodb://ann:***@h/x'),
    ('mongodb://ann:one\ntwo@h/x', 'mongodb://ann:***@h/x'),
    ('ann:secret@h', 'ann:***@h'),
    ('mongodb://h/?tlsCertificateKeyFilePassword=secret&w=1', 'mongodb://h/?tlsCertificateKeyFilePassword=***&w=1'),
    ('mongodb://h:1/x', 'mongodb://h:1/x'),
    ('embedded:///data', 'embedded:///data'),
])
def test_masked_shows_no_secret(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_a_connection_shows_no_secret(guarded: str) -> None:
    assert PASSWORD not in repr(connect(f'mongodb://ann:{PASSWORD}@{guarded}/shop'))


def test_authenticated_url_as_programs_for_earlier_versions_call_it() -> None:
    assert authenticated_url('mongodb://h/x') == 'mongodb://h/x?authSource=admin'
    assert authenticated_url('mongodb://h/x', 'users') == 'mongodb://h/x?authSource=users'
    assert authenticated_url('mongodb://h/x', authSource='users') == 'mongodb://h/x?authSource=users'
    assert authenticated_url('mongodb://h/x?authSource=a', authSource='b') == 'mongodb://h/x?authSource=a'
    assert authenticated_url('mongodb+srv://h/x') == 'mongodb+srv://h/x'
    assert authenticated_url('mongodb://h', 'a b', 'c&d') == 'mongodb://a+b:c%26d@h/?authSource=admin'
