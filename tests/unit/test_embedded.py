"""The embedded MongoDB: shared, recovered and gone again, with real servers and real processes that get killed."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient, WriteConcern

from minibatch import embedded
from minibatch.errors import EmbeddedError, OptionError
from tests.support import waiting

wait_until = functools.partial(waiting.wait_until, timeout=30)  # servers start and stop, on a busy machine

#: A client of the server in argv[1]: says where it is, as JSON, then stays until its input ends.
CLIENT = """
import json, os, sys
from minibatch import embedded
url = embedded.ensure('embedded://' + sys.argv[1])
print(json.dumps({'url': url, 'pid': os.getpid()}), flush=True)
sys.stdin.read()
"""


class Client:
    """A process that uses the server."""

    def __init__(self, home: Path, program: str = CLIENT) -> None:
        self.process = subprocess.Popen(
            [sys.executable, '-c', program, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )

    def where(self) -> str:
        """Wait until it has the server."""
        assert self.process.stdout is not None
        return str(json.loads(self.process.stdout.readline())['url'])

    def end(self) -> None:
        self.process.communicate()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory whose server is gone at the end, with every process of it."""
    monkeypatch.setenv('MINIBATCH_LINGER', '0')
    home = tmp_path / 'home'
    yield home
    embedded.release(embedded.url_of(home))
    for pid in processes_of(home):  # quicker than an orderly end, of which there are tests enough
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not processes_of(home), what='all processes to be gone')


def processes_of(home: Path) -> list[int]:
    """Every process, but this one's own, that has *home* in its command line."""
    found = []
    for entry in Path('/proc').iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / 'cmdline').read_bytes().decode(errors='replace')
            except OSError:
                continue
            if str(home) in line:
                found.append(int(entry.name))
    return found


@contextlib.contextmanager
def squatter(port: int) -> Iterator[None]:
    """Somebody else's server, which hangs up on everybody."""
    socketserver.TCPServer.allow_reuse_address = True
    with socketserver.TCPServer(('127.0.0.1', port), socketserver.BaseRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


def client_of(url: str) -> MongoClient[dict[str, Any]]:
    return MongoClient(url, serverSelectionTimeoutMS=10_000)


def is_up(home: Path) -> bool:
    return bool(embedded.status(home)['running'])


def test_a_real_server_with_transactions_starts_by_need_and_ends_with_its_client(home: Path) -> None:
    user = Client(home)
    with client_of(user.where()) as client:
        with client.start_session() as session, session.start_transaction(write_concern=WriteConcern('majority')):
            client.shop.clicks.insert_one({'n': 1}, session=session)
        with client.shop.clicks.watch(max_await_time_ms=100) as stream:
            client.shop.clicks.insert_one({'n': 2})
            assert stream.next()['fullDocument']['n'] == 2
    user.end()
    wait_until(lambda: not processes_of(home), what='the server to stop')
    assert not is_up(home)


def test_what_was_written_is_there_the_next_time(home: Path) -> None:
    user = Client(home)
    with client_of(user.where()) as client:
        client.shop.clicks.insert_one({'n': 1})
    user.end()
    wait_until(lambda: not processes_of(home), what='the server to stop')
    with client_of(embedded.ensure(embedded.url_of(home))) as client:
        assert client.shop.clicks.count_documents({}) == 1


def test_it_listens_on_loopback_only_and_leaves_no_socket_elsewhere(home: Path) -> None:
    embedded.ensure(embedded.url_of(home))
    facts = embedded.status(home)
    line = Path(f'/proc/{facts["pid"]}/cmdline').read_bytes().split(b'\0')
    assert line[line.index(b'--bind_ip') + 1] == b'127.0.0.1'
    assert not Path(f'/tmp/mongodb-{facts["port"]}.sock').exists()
    assert home.stat().st_mode & 0o077 == 0, 'other users may read the data'


def test_ten_processes_at_once_share_one_server(home: Path) -> None:
    users = [Client(home) for _ in range(10)]
    assert len({user.where() for user in users}) == 1
    servers = [pid for pid in processes_of(home) if b'--dbpath' in Path(f'/proc/{pid}/cmdline').read_bytes()]
    assert len(servers) == 1
    assert embedded.status(home)['clients'] == sorted(user.process.pid for user in users)
    for user in users:
        user.process.kill()
    for user in users:
        user.end()
    wait_until(lambda: not processes_of(home), what='the server to stop')


def test_threads_that_ask_at_once_get_the_same_server(home: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(embedded.ensure(embedded.url_of(home)))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 5
    assert len(set(found)) == 1


def test_it_stays_for_the_others_when_who_started_it_is_killed(home: Path) -> None:
    first, second = Client(home), None
    url = first.where()
    second = Client(home)
    assert second.where() == url
    first.kill()
    with client_of(url) as client:
        assert client.admin.command('ping')['ok'] == 1
    assert embedded.status(home)['clients'] == [second.process.pid]
    second.kill()
    wait_until(lambda: not processes_of(home), what='the server to stop after its last client was killed')


def test_a_client_killed_while_it_starts_the_server_leaves_nothing(home: Path) -> None:
    user = Client(home)
    wait_until(lambda: (home / 'supervisor.lock').exists(), what='the supervisor to begin')
    user.kill()
    wait_until(lambda: not processes_of(home), timeout=20, what='the server to stop')
    embedded.ensure(embedded.url_of(home))
    assert is_up(home)


def test_a_second_supervisor_says_where_the_first_ones_server_is(home: Path) -> None:
    """As if the client that started the first one had been killed before anybody could know of it."""
    url = embedded.ensure(embedded.url_of(home))
    assert embedded._start(home)['url'] == url
    assert is_up(home)


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(home: Path) -> None:
    user = subprocess.Popen(
        [sys.executable, '-c', CLIENT, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )
    assert user.stdout is not None
    url = json.loads(user.stdout.readline())['url']
    embedded.ensure(embedded.url_of(home))
    os.killpg(user.pid, signal.SIGINT)
    user.communicate()
    with client_of(url) as client:
        assert client.admin.command('ping')['ok'] == 1


def test_a_killed_server_comes_back_at_the_same_place(home: Path) -> None:
    url = embedded.ensure(embedded.url_of(home))
    with client_of(url) as client:
        client.shop.clicks.with_options(write_concern=WriteConcern('majority', j=True)).insert_one({'n': 1})
        before = embedded.status(home)['pid']
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: embedded.status(home)['pid'] not in (before, None), what='another server')
        assert client.shop.clicks.count_documents({}) == 1
        client.shop.clicks.insert_one({'n': 2})
    assert embedded.ensure(embedded.url_of(home)) == url


def test_a_killed_supervisor_takes_the_server_along_and_the_next_one_finds_the_data(home: Path) -> None:
    url = embedded.ensure(embedded.url_of(home))
    with client_of(url) as client:
        client.shop.clicks.with_options(write_concern=WriteConcern('majority', j=True)).insert_one({'n': 1})
        facts = embedded.status(home)
        os.kill(facts['supervisor'], signal.SIGKILL)
        wait_until(lambda: not is_up(home) and not processes_of(home), what='the server to die with its supervisor')
        # the same place again: clients of the old one, too, go on
        assert embedded.ensure(embedded.url_of(home)) == url
        assert client.shop.clicks.count_documents({}) == 1


def test_what_a_crash_or_a_reboot_left_behind_is_not_believed(home: Path) -> None:
    home.mkdir()
    # the notes name a process that lives and is not ours, as after a reboot
    (home / 'server.json').write_text(json.dumps({'url': 'mongodb://127.0.0.1:1/', 'port': 1, 'pid': os.getpid()}))
    (home / 'stop').touch()
    (home / 'pinned').touch()
    database = home / 'rs-00000000'
    database.mkdir()
    (database / 'mongod.lock').write_text(f'{os.getpid()}\n')
    assert not is_up(home)
    with client_of(embedded.ensure(embedded.url_of(home))) as client:
        assert client.admin.command('ping')['ok'] == 1
    assert not embedded.status(home)['pinned']


def test_broken_notes_are_no_obstacle(home: Path) -> None:
    home.mkdir()
    (home / 'server.json').write_bytes(b'{')
    (home / 'port').write_bytes(b'\xff\x00')
    embedded.ensure(embedded.url_of(home))
    assert is_up(home)


def test_a_server_moves_when_its_port_was_taken_meanwhile(home: Path) -> None:
    user = Client(home)
    with client_of(user.where()) as client:
        client.shop.clicks.insert_one({'n': 1})
    user.end()
    wait_until(lambda: not processes_of(home), what='the server to stop')
    port = int((home / 'port').read_text())
    with squatter(port):
        url = embedded.ensure(embedded.url_of(home))
        assert f':{port}/' not in url
        with client_of(url) as client:
            assert client.shop.clicks.count_documents({}) == 1


def test_started_on_purpose_it_stays_until_it_is_stopped(home: Path) -> None:
    facts = embedded.start(home)
    assert facts['running']
    assert facts['pinned']
    assert facts['clients'] == []
    user = Client(home)
    assert user.where() == facts['url']
    user.end()
    wait_until(lambda: embedded.status(home)['clients'] == [], what='the client to be gone')
    assert embedded.start(str(home))['pid'] == facts['pid']
    assert embedded.stop(home)
    assert not processes_of(home)
    assert not embedded.stop(home)
    # the next one is an ordinary one
    embedded.ensure(embedded.url_of(home))
    assert not embedded.status(home)['pinned']


def test_it_lingers_for_the_next_command(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MINIBATCH_LINGER', '30')
    pids = set()
    for _ in range(2):
        user = Client(home)
        user.where()
        pids.add(embedded.status(home)['pid'])
        user.end()
    assert len(pids) == 1


def test_a_forked_child_keeps_the_server_only_if_it_uses_it(home: Path) -> None:
    program = """
import os, sys, time
from minibatch import embedded
url = 'embedded://' + sys.argv[1]
embedded.ensure(url)
down, up = os.pipe()
for asks in (False, True):
    if os.fork() == 0:
        os.close(0)
        os.setsid()
        if asks:
            embedded.ensure(url)
            os.write(up, b'.')
        time.sleep(60)
        os._exit(0)
os.read(down, 1)
print('{"url": ""}', flush=True)
sys.stdin.read()
"""
    user = Client(home, program)
    user.where()
    os.kill(user.process.pid, signal.SIGKILL)
    user.process.wait()
    clients = wait_until(lambda: embedded.status(home)['clients'], what='one client')
    assert len(clients) == 1
    assert clients != [user.process.pid]
    os.kill(clients[0], signal.SIGKILL)
    wait_until(lambda: not is_up(home), what='the server to stop although a child lives that never used it')
    rest = [pid for pid in processes_of(home) if b'-c' in Path(f'/proc/{pid}/cmdline').read_bytes().split(b'\0')]
    for pid in rest:
        os.kill(pid, signal.SIGKILL)
    user.process.communicate()


def test_a_deleted_directory_ends_its_server(home: Path) -> None:
    user = Client(home)
    user.where()
    facts = embedded.status(home)
    home.rename(home.with_name('away'))
    wait_until(lambda: not Path(f'/proc/{facts["supervisor"]}').exists(), timeout=30, what='the supervisor to end')
    assert not Path(f'/proc/{facts["pid"]}').exists()
    user.kill()


def test_two_directories_have_two_servers_that_cannot_be_mistaken(home: Path, tmp_path: Path) -> None:
    other = tmp_path / 'other'
    try:
        urls = [embedded.ensure(embedded.url_of(place)) for place in (home, other)]
        sets = {url.partition('replicaSet=')[2] for url in urls}
        assert len(sets) == 2
    finally:
        embedded.release(embedded.url_of(other))
        embedded.stop(other)


# -- without a server, and other mistakes


def test_without_a_mongod_the_error_names_both_ways_out(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv('MINIBATCH_MONGOD', raising=False)
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(EmbeddedError, match=r"pip install 'minibatch\[embedded\]'.*MINIBATCH_MONGO_URL"):
        embedded.ensure(embedded.url_of(home))


def test_the_environment_names_the_program(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MINIBATCH_MONGOD', '/no/such/mongod')
    with pytest.raises(EmbeddedError, match='MINIBATCH_MONGOD is /no/such/mongod'):
        embedded.ensure(embedded.url_of(home))


def test_a_wheel_without_the_permission_to_execute_is_no_obstacle(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = embedded.find_mongod()
    place = tmp_path / 'fiftyone' / 'db' / 'bin'
    place.mkdir(parents=True)
    (place / 'mongod').write_text(f'#!/bin/sh\nexec {real} "$@"\n')
    (place / 'mongod').chmod(0o644)
    monkeypatch.delenv('MINIBATCH_MONGOD', raising=False)
    monkeypatch.setenv('PATH', str(tmp_path))

    class Spec:
        submodule_search_locations = (str(tmp_path / 'fiftyone'),)

    monkeypatch.setattr('importlib.util.find_spec', lambda name: Spec)
    assert embedded.find_mongod() == str(place / 'mongod')
    embedded.ensure(embedded.url_of(home))
    assert is_up(home)


def test_a_program_that_does_not_start_is_quoted(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / 'mongod'
    broken.write_text('#!/bin/sh\necho libcrypto.so.3: cannot open shared object file >&2\nexit 127\n')
    broken.chmod(0o755)
    monkeypatch.setenv('MINIBATCH_MONGOD', str(broken))
    with pytest.raises(EmbeddedError, match=r'ended with code 127: libcrypto.so.3.*MINIBATCH_MONGO_URL'):
        embedded.ensure(embedded.url_of(home))
    wait_until(lambda: not processes_of(home), what='nothing to stay')


def test_a_place_that_cannot_hold_data_is_named(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(EmbeddedError, match='MINIBATCH_HOME'):
        embedded.ensure(embedded.url_of(tmp_path / 'file' / 'home'))


@pytest.mark.parametrize('url', ['embedded://relative/path', 'embedded:relative', 'embedded:./x'])
def test_an_url_without_an_absolute_directory_is_refused(url: str) -> None:
    with pytest.raises(OptionError, match='three slashes'):
        embedded.ensure(url)


@pytest.mark.parametrize('linger', ['soon', '-1', 'nan', 'inf'])
def test_a_linger_that_is_no_time_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch, linger: str) -> None:
    monkeypatch.setenv('MINIBATCH_LINGER', linger)
    with pytest.raises(OptionError, match='MINIBATCH_LINGER'):
        embedded.ensure(embedded.url_of(home))


def test_the_default_directory_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv('MINIBATCH_HOME', raising=False)
    monkeypatch.delenv('XDG_DATA_HOME', raising=False)
    monkeypatch.setenv('HOME', str(tmp_path))
    assert embedded.directory() == tmp_path / '.local' / 'share' / 'minibatch' / 'mongodb'
    monkeypatch.setenv('XDG_DATA_HOME', str(tmp_path / 'xdg'))
    assert embedded.directory('embedded://') == tmp_path / 'xdg' / 'minibatch' / 'mongodb'
    monkeypatch.setenv('MINIBATCH_HOME', str(tmp_path / 'own'))
    assert embedded.directory('embedded:///') == tmp_path / 'own' / 'mongodb'
    assert embedded.directory('embedded:///a%20b') == Path('/a b')
    assert embedded.directory(embedded.url_of(tmp_path / 'a b?c')) == tmp_path / 'a b?c'
