"""StreamingApp: real consumer processes, real HTTP on loopback; killed, failing, and without a MongoDB."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import minibatch as mb
from minibatch.connection import disconnect
from minibatch.contrib.apps import StreamingApp
from minibatch.contrib.apps.omegaml import StreamingApp as Documented
from minibatch.contrib.apps.worker import INSIDE
from minibatch.contrib.mongodb import MongoSink
from minibatch.errors import OptionError
from tests.support.mongod import free_port, replica_set
from tests.support.scripts import Person, Script, get
from tests.support.waiting import patience, wait_until


class Running:
    """An app that serves on a free port of loopback."""

    def __init__(self, app: StreamingApp) -> None:
        self.app = app
        self.server = app.serve(port=0)

    def page(self, path: str) -> tuple[int, Any]:
        code, body = get(self.server.url + path)
        return code, json.loads(body)

    def status(self) -> Any:
        return self.page('/status')[1]

    def wait(self, condition: Callable[[Any], Any], what: str, timeout: float = 30) -> Any:
        """Wait until a status page fulfils *condition*; that page."""
        seen: list[Any] = []

        def holds() -> bool:
            seen[:] = [self.status()]
            return bool(condition(seen[0]))
        try:
            wait_until(holds, timeout, what=what)
        except AssertionError as error:
            raise AssertionError(f'{error}\n{json.dumps(seen, indent=2)}') from None
        return seen[0]

    def close(self) -> None:
        self.app.stop_streaming(grace=5)
        self.server.stop()


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """Make a running app; it ends with the test."""
    made: list[Running] = []

    def make(**options: Any) -> Running:
        made.append(Running(StreamingApp(**options)))
        return made[-1]
    yield make
    for each in made:
        each.close()


def summing(stream: str, **options: Any) -> Callable[[str], None]:
    """A consumer like the seed's: it defines a function, and blocks."""
    def consumer(url: str) -> None:
        @mb.streaming(stream, size=2, url=url, sink=MongoSink('sums'), executor='inline', **options)
        def total(window: Any) -> dict[str, Any]:
            return {'sum': sum(message['n'] for message in window.data)}
    return consumer


def idle() -> None:
    threading.Event().wait()


def broken() -> None:
    raise RuntimeError('the configuration is missing')


def alive(pid: int) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


# -- consumers


def test_messages_are_consumed_and_the_status_says_so(serve: Any, url: str, db: Any, stream_name: str) -> None:
    running = serve(url=url)
    running.app.start_streaming(summing(stream_name, lease=1))
    mb.stream(stream_name, url=url).extend({'n': n} for n in range(5))
    page = running.wait(lambda p: p['healthy'] and p['streams'][stream_name]['done'] == 2, 'two windows')
    stream, consumer = page['streams'][stream_name], page['consumers'][0]
    assert set(stream) >= {'backlog', 'lag', 'ready', 'running', 'done', 'failed', 'dead', 'rate', 'last_progress'}
    assert stream['backlog'] == 1
    assert [(each['pid'], each['restarts']) for each in stream['consumers']] == [(consumer['pid'], 0)]
    assert consumer['state'] == 'running'
    assert alive(consumer['pid'])
    assert consumer['pid'] != os.getpid()
    assert page['reasons'] == []
    assert running.page('/health') == (200, {'healthy': True, 'status': 'healthy', 'reasons': []})
    assert sorted(each['sum'] for each in db['sums'].find()) == [1, 5]

    started = time.monotonic()
    running.app.stop_streaming()
    assert time.monotonic() - started < patience(8), 'it was killed, not stopped'
    assert not alive(consumer['pid'])
    assert running.page('/health')[0] == 503, 'nobody consumes the stream any more'
    assert list(db['consumer'].find()) == [], 'a clean stop signs off'


def test_a_killed_consumer_is_started_again(serve: Any, url: str, db: Any, stream_name: str) -> None:
    running = serve(url=url)
    consumer = running.app.start_streaming(summing(stream_name, lease=1), backoff=0.1)
    killed = set()
    for count in (1, 2):
        pid = running.wait(lambda p: p['healthy'] and p['streams'], 'a healthy app')['consumers'][0]['pid']
        assert pid not in killed
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
        page = running.wait(lambda p, n=count: p['consumers'][0]['restarts'] == n, 'the restart')
        assert page['consumers'][0]['error'] == 'killed by SIGKILL'
    mb.stream(stream_name, url=url).extend({'n': n} for n in range(4))
    page = running.wait(lambda p: p['healthy'] and p['streams'][stream_name]['done'] == 2, 'windows after the restarts')
    assert page['streams'][stream_name]['consumers'][-1]['restarts'] == 2
    assert consumer.restarts == 2
    assert db['sums'].count_documents({}) == 2


def test_a_consumer_that_raises_is_named_with_its_reason(serve: Any, url: str) -> None:
    running = serve(url=url)
    running.app.start_streaming(broken, backoff=0.05, max_backoff=0.2)
    page = running.wait(lambda p: p['consumers'][0]['restarts'] >= 2, 'restarts')
    assert page['consumers'][0]['error'] == 'RuntimeError: the configuration is missing'
    code, health = running.page('/health')
    assert (code, health['healthy']) == (503, False)
    assert any('RuntimeError: the configuration is missing' in reason for reason in health['reasons'])


def test_the_back_off_grows_up_to_its_cap(serve: Any, url: str, caplog: pytest.LogCaptureFixture) -> None:
    running = serve(url=url)
    running.app.start_streaming(broken, backoff=0.05, max_backoff=0.1)
    running.wait(lambda p: p['consumers'][0]['restarts'] >= 3, 'three restarts')
    pauses = [float(record.args[2]) for record in caplog.records if 'started again' in record.msg]
    for pause, full in zip(pauses, [0.05, 0.1, 0.1], strict=False):
        assert full / 2 <= pause <= full


def test_a_consumer_that_returns_is_started_again(serve: Any, url: str) -> None:
    running = serve(url=url)
    running.app.start_streaming(lambda: None, backoff=0.05)
    page = running.wait(lambda p: p['consumers'][0]['restarts'] >= 1, 'the restart')
    assert 'it returned' in page['consumers'][0]['error']


def test_a_consumer_may_return_emitters_that_run_in_the_background(
        serve: Any, url: str, db: Any, stream_name: str) -> None:
    def consumer(url: str) -> list[Any]:
        return [mb.streaming(f'{stream_name}-{n}', lambda window: {'n': window.data[0]['n']}, size=1, url=url,
                             sink=MongoSink('seen'), executor='thread', background=True) for n in range(2)]
    running = serve(url=url)
    running.app.start_streaming(consumer)
    for n in range(2):
        mb.stream(f'{stream_name}-{n}', url=url).append({'n': n})
    page = running.wait(lambda p: p['healthy'] and len(p['streams']) == 2, 'two streams')
    wait_until(lambda: db['seen'].count_documents({}) == 2)
    running.app.stop_streaming()
    assert not alive(page['consumers'][0]['pid'])
    assert list(db['consumer'].find()) == [], 'they were stopped in order'


def test_a_consumer_that_does_not_stop_is_killed(serve: Any, url: str, tmp_path: Path) -> None:
    ready = tmp_path / 'ready'

    def deaf() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ready.touch()
        while True:
            time.sleep(60)
    running = serve(url=url)
    consumer = running.app.start_streaming(deaf, grace=0.2)
    wait_until(ready.exists)
    pid = consumer.pid
    running.app.stop_streaming()
    assert not alive(pid)


def test_a_stop_lets_a_window_finish(serve: Any, url: str, db: Any, stream_name: str, tmp_path: Path) -> None:
    begun = tmp_path / 'begun'

    def consumer(url: str) -> None:
        @mb.streaming(stream_name, size=2, url=url, sink=MongoSink('sums'), workers=1)
        def total(window: Any) -> dict[str, Any]:
            with begun.open('a') as file:
                file.write('x')
            time.sleep(1)
            return {'sum': sum(message['n'] for message in window.data)}
    running = serve(url=url)
    running.app.start_streaming(consumer)
    mb.stream(stream_name, url=url).extend({'n': n} for n in range(2))
    wait_until(begun.exists)
    running.app.stop_streaming()
    assert [each['sum'] for each in db['sums'].find()] == [1]
    assert begun.read_text() == 'x', 'the window ran twice'
    assert mb.stream(stream_name, url=url).status()['backlog'] == 0


def test_a_consumer_that_hangs_is_missed(serve: Any, url: str, stream_name: str) -> None:
    running = serve(url=url)
    running.app.start_streaming(summing(stream_name, lease=1), grace=0.5)
    pid = running.wait(lambda p: p['healthy'] and p['streams'], 'a healthy app')['consumers'][0]['pid']
    os.kill(pid, signal.SIGSTOP)
    try:
        page = running.wait(lambda p: not p['healthy'], 'the app to notice')
        assert page['reasons'] == [f'stream {stream_name} has no consumer']
    finally:
        os.kill(pid, signal.SIGCONT)
    running.wait(lambda p: p['healthy'], 'the consumer to be back')


def test_mongodb_gone_for_a_moment(serve: Any, stream_name: str) -> None:
    with replica_set(1) as deployment:
        url = deployment.url('gone')
        running = serve(url=url)
        running.app.start_streaming(summing(stream_name, lease=1))
        running.wait(lambda p: p['healthy'] and p['streams'], 'a healthy app')
        deployment.nodes[0].kill()
        page = running.wait(lambda p: not p['healthy'], 'the app to notice')
        assert any('MongoDB' in reason for reason in page['reasons'])
        for _ in range(3):
            started = time.monotonic()
            assert running.page('/health')[0] == 503
            assert time.monotonic() - started < patience(3)
        deployment.repair()
        running.wait(lambda p: p['healthy'], 'the app to be back')
        stream = mb.stream(stream_name, url=url)
        stream.extend({'n': n} for n in range(4))
        page = running.wait(lambda p: p['streams'][stream_name]['done'] == 2, 'windows')
        assert page['consumers'][0]['restarts'] == 0, 'it goes on by itself'
        running.close()
        disconnect(url)


def test_what_cannot_run_in_a_process_is_refused(url: str) -> None:
    app = StreamingApp(url=url)
    lock = threading.Lock()
    with pytest.raises(OptionError, match='cannot be sent to its own process'):
        app.start_streaming(lambda: lock.acquire())
    with pytest.raises(OptionError, match="missing a required argument: 'topic'"):
        app.start_streaming(lambda url, topic: None)
    with pytest.raises(OptionError, match='unexpected keyword'):
        app.start_streaming(lambda url: None, topic='x')
    with pytest.raises(OptionError, match='takes a function'):
        app.start_streaming('consumer')  # type: ignore[arg-type]
    with pytest.raises(OptionError, match='backoff must be'):
        app.start_streaming(idle, backoff=0)
    assert app.consumers == []


def test_arguments_reach_the_consumer(serve: Any, url: str, tmp_path: Path) -> None:
    def consumer(path: Path, **more: Any) -> None:
        path.write_text(json.dumps(more))
        idle()
    running = serve(url=url)
    running.app.start_streaming(consumer, path=tmp_path / 'got', topic='x')
    wait_until((tmp_path / 'got').exists)
    assert wait_until(lambda: (tmp_path / 'got').read_text()) == json.dumps({'topic': 'x', 'url': url})


def test_no_consumers_inside_of_a_consumer(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INSIDE, '1')
    app = StreamingApp(url=url)
    assert app.start_streaming(idle) is None
    app.run()
    assert app.consumers == []


# -- the pages


def test_routes_work_as_in_any_flask_app(serve: Any, url: str) -> None:
    running = serve(url=url)

    @running.app.route('/hello/<name>')
    def hello(name: str) -> str:
        return f'hello {name}'
    assert get(running.server.url + '/hello/ann') == (200, 'hello ann')


def test_the_documented_name_is_the_same_app() -> None:
    assert issubclass(Documented, StreamingApp)
    assert 'app.run()' in str(Documented.__doc__)


def test_without_mongodb_the_pages_answer_fast(serve: Any) -> None:
    running = serve(url=f'mongodb://user:secret@127.0.0.1:{free_port()}/x')
    running.app.start_streaming(idle)
    for path, wanted in (('/health', 503), ('/status', 200), ('/health', 503)):
        started = time.monotonic()
        code, page = running.page(path)
        assert code == wanted
        assert time.monotonic() - started < patience(3)
        assert page['healthy'] is False
        assert any('MongoDB' in reason for reason in page['reasons'])
    page = running.wait(lambda p: 'ConnectError' in str(p['reasons']), 'the reason')
    assert 'secret' not in json.dumps(page)


def test_streams_may_be_named(serve: Any, url: str, stream_name: str) -> None:
    mb.stream(stream_name, url=url).append({'n': 1})
    running = serve(url=url, streams=stream_name)
    page = running.wait(lambda p: p['streams'], 'the stream')
    assert page['streams'][stream_name]['backlog'] == 1
    assert page['reasons'] == [f'stream {stream_name} has no consumer']


def test_dead_windows_are_a_warning(serve: Any, url: str, stream_name: str) -> None:
    mb.stream(stream_name, url=url).append({'n': 1})
    mb.streaming(stream_name, lambda window: 1 / 0, size=1, url=url, executor='inline', max_attempts=1, blocking=False)
    page = serve(url=url, streams=[stream_name]).wait(lambda p: p['streams'], 'the stream')
    assert page['streams'][stream_name]['dead'] == 1
    assert any('1 dead window' in warning for warning in page['warnings'])


def test_a_port_that_is_taken_is_one_sentence(serve: Any, url: str) -> None:
    port = serve(url=url).server.port
    with pytest.raises(OptionError, match=rf'cannot listen on 127.0.0.1:{port} .* choose another'):
        StreamingApp(url=url).run(port=port)
    with pytest.raises(OptionError, match='does not take these options'):
        StreamingApp(url=url).run(port=0, treads=3)


@pytest.mark.parametrize(('module', 'extra', 'package'), [
    ('minibatch.contrib.apps', 'apps', 'flask'), ('minibatch.contrib.apps', 'apps', 'waitress'),
    ('minibatch.demo', 'demo', 'psutil'), ('minibatch.demo', 'demo', 'flask'),
])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(module: str, extra: str, package: str) -> None:
    """In an interpreter of its own, where that package cannot be found."""
    code = f"""
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *args: None if name == {package!r} else found(name, *args)
try:
    import {module}
except ImportError as error:
    print(type(error).__name__, error)
"""
    said = subprocess.run([sys.executable, '-c', code], check=True, timeout=30, capture_output=True, text=True).stdout
    assert said == f"MissingExtra {package} is not installed; install it with: pip install 'minibatch[{extra}]'\n"


# -- as a script


SCRIPT = """\
import minibatch as mb
from minibatch.connection import disconnect
from minibatch.contrib.apps import StreamingApp
from minibatch.contrib.mongodb import MongoSink
print('imported', flush=True)

def consumer(url):
    @mb.streaming('scripted', size=1, url=url, sink=MongoSink('out'))
    def copy(window):
        return window.data

app = StreamingApp()
app.start_streaming(consumer)
app.run(port=PORT)
print('ended')
"""


def wait_healthy(script: Script, port: int) -> None:
    """Wait until an app is well; a failure shows what it said about itself."""
    try:
        script.wait_until(lambda: get(f'http://127.0.0.1:{port}/health')[0] == 200)
    except AssertionError as error:
        raise AssertionError(f'{error}\n{get(f"http://127.0.0.1:{port}/status")[1]}') from None


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_a_script_without_a_main_guard_runs_once_and_stops_cleanly(
        person: Person, url: str, db: Any, how: signal.Signals) -> None:
    port = free_port()
    script = person.start('app.py', SCRIPT.replace('PORT', str(port)))
    mb.stream('scripted', url=url).append({'n': 1})
    wait_healthy(script, port)
    script.wait_until(lambda: db['out'].count_documents({}) == 1)
    os.kill(script.process.pid, how)
    assert script.end().split() == ['imported', 'ended']
    wait_until(lambda: not person.processes(), what='the consumer to end')


def test_the_consumer_ends_with_an_app_that_is_killed(person: Person, db: Any) -> None:
    port = free_port()
    script = person.start('app.py', SCRIPT.replace('PORT', str(port)))
    wait_healthy(script, port)
    assert len(person.processes()) > 1
    os.kill(script.process.pid, signal.SIGKILL)
    script.process.wait(10)
    wait_until(lambda: not person.processes(), what='the consumer to end')
    assert list(db['consumer'].find()) == [], 'it was not stopped in order'


def test_a_module_that_starts_its_consumer_on_import(person: Person, url: str, db: Any) -> None:
    """As under another WSGI server: the consumer imports the module, and must not start itself over and over."""
    port = free_port()
    (person.home / 'served.py').write_text(SCRIPT.replace('app.run', '# '))
    script = person.start('serve.py', f'import served\nserved.app.run(port={port})\n')
    mb.stream('scripted', url=url).append({'n': 1})
    wait_healthy(script, port)
    script.wait_until(lambda: db['out'].count_documents({}) == 1)
    assert len(person.processes()) <= 2 + (os.cpu_count() or 1)
    script.interrupt()
    script.end()
    wait_until(lambda: not person.processes(), what='the consumer to end')


def test_a_script_that_ends_takes_its_consumers_along(person: Person) -> None:
    source = SCRIPT.replace('app.run(port=PORT)', '') + """\
from minibatch.testing import wait_until
wait_until(lambda: app.consumers[0].pid, 30)
"""
    person.start('app.py', source).end()
    wait_until(lambda: not person.processes(), what='the consumer to end')


def test_the_documented_example_runs_as_it_stands(person: Person) -> None:
    lines = inspect.cleandoc(str(Documented.__doc__)).splitlines()
    begin, end = lines.index('    from collections import defaultdict'), lines.index('Run it, feed it, look at it::')
    source = textwrap.dedent('\n'.join(lines[begin:end]))
    port = free_port()  # other than the documented one, which may be taken, and windows that end sooner
    assert source.count('app.run()') == source.count('interval=5') == 1
    source = source.replace('interval=5', 'interval=0.5').replace('app.run()', f'app.run(port={port})')
    script = person.start('app.py', source)
    wait_healthy(script, port)
    for celsius in (31.0, 32.0):
        body = json.dumps({'room': 'attic', 'celsius': celsius}).encode()
        request = urllib.request.Request(f'http://127.0.0.1:{port}/temperatures', body,
                                         {'Content-Type': 'application/json'})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 204
    shown = script.wait_until(lambda: get(f'http://127.0.0.1:{port}/')[1])
    assert re.fullmatch(r'attic: 3[12]\.\d °C', shown)
    script.interrupt()
    script.end()
    wait_until(lambda: not person.processes(), what='the consumer to end')


def test_importing_contrib_needs_no_flask() -> None:
    code = "import sys; sys.modules['flask'] = None; import minibatch.contrib, minibatch.contrib.mongodb"
    subprocess.run([sys.executable, '-c', code], check=True, timeout=30)
