"""The ``minibatch`` command, run as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from minibatch import cli, embedded


def run(*args: str, env: dict[str, str] | None = None, module: str = 'minibatch') -> subprocess.CompletedProcess[str]:
    command = [sys.executable, '-m', module, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **(env or {})})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv('MINIBATCH_HOME', str(tmp_path))
    monkeypatch.setenv('MINIBATCH_LINGER', '0')
    yield tmp_path / 'mongodb'
    embedded.stop()


def test_the_server_is_started_looked_at_and_stopped(home: Path) -> None:
    before = run('server', 'status')
    assert before.returncode == 1
    assert before.stdout == f'nothing runs in {home}\n'

    started = run('server', 'start')
    assert started.returncode == 0, started.stderr
    assert 'running at mongodb://127.0.0.1:' in started.stdout
    assert 'until `minibatch server stop`' in started.stdout

    status = run('server', 'status', '--json', module='minibatch.cli')
    assert status.returncode == 0
    assert json.loads(status.stdout) == embedded.status()

    assert json.loads(run('server', 'start', '--json').stdout) == embedded.status(), 'it goes on as it is'

    assert run('server', 'stop').stdout == 'stopped\n'
    assert not embedded.status()['running']
    again = run('server', 'stop')
    assert again.returncode == 0
    assert 'nothing runs in' in again.stdout
    assert json.loads(run('server', 'stop', '--json').stdout) == {'stopped': False, 'path': str(home)}


def test_an_error_is_a_sentence(home: Path) -> None:
    failed = run('server', 'start', env={'MINIBATCH_MONGOD': '/no/such/mongod'})
    assert failed.returncode == 4
    assert failed.stderr == 'Error: MINIBATCH_MONGOD is /no/such/mongod, which is no program that can be run\n'


def test_a_wrong_word_is_wrong_use() -> None:
    failed = run('server', 'begin')
    assert failed.returncode == 2
    assert "No such command 'begin'" in failed.stderr


def test_without_click_the_error_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / 'click.py').write_text('raise ImportError("no click here")\n')
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    failed = run('server', 'status', env={'PYTHONPATH': path})
    assert failed.returncode == 1
    assert failed.stderr == "Error: click is not installed; install it with: pip install 'minibatch[cli]'\n"


@pytest.mark.parametrize(('args', 'given'), [
    ([], {'seconds': None, 'plain': False, 'as_json': False}),
    (['--seconds', '1.5', '--plain'], {'seconds': 1.5, 'plain': True, 'as_json': False}),
    (['--json'], {'seconds': None, 'plain': False, 'as_json': True}),
])
def test_the_demo_gets_its_options(monkeypatch: pytest.MonkeyPatch, args: list[str], given: dict[str, Any]) -> None:
    monkeypatch.setenv('MINIBATCH_LINGER', '0')
    got: list[dict[str, Any]] = []
    demo = ModuleType('minibatch.demo')
    demo.run = lambda **options: got.append(options)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, 'minibatch.demo', demo)
    with pytest.raises(SystemExit) as ended:
        cli.main(['demo', *args])
    assert ended.value.code == 0
    assert got == [given]


def test_when_the_demo_is_over_its_server_is_gone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MINIBATCH_LINGER', '0')
    demo = ModuleType('minibatch.demo')
    demo.run = lambda **options: bool(embedded.ensure()) and 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, 'minibatch.demo', demo)
    with pytest.raises(SystemExit) as ended:
        cli.main(['demo'])
    assert ended.value.code == 3
    assert not embedded.status()['running']


def test_the_demo_refuses_no_time_at_all() -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(['demo', '--seconds', '0'])
    assert ended.value.code == 2
