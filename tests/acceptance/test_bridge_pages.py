"""The pages about sources and sinks: every program on them is run as it stands, and prints what the page shows."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mongod import free_port
from tests.support.scripts import Person, get

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / 'docs/bridges').glob('*.md'))
BLOCK = re.compile(r'^```python\n# (?P<name>\w+\.py)\n(?P<source>.*?)^```\n(?:\n```output\n(?P<output>.*?)^```$)?',
                   re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r'^\$ (curl .*)\n(.*)$', re.MULTILINE)

#: Addresses in examples, and the fixture whose broker stands in for the server that a reader has there.
BROKERS = {'localhost:9092': 'kafka', 'mqtt://localhost:1883': 'mqtt', 'redis://localhost:6379/0': 'redis'}


def programs() -> Iterator[object]:
    for page in PAGES:
        for match in BLOCK.finditer(page.read_text(encoding='utf-8')):
            if match['output'] is not None:
                yield pytest.param(match['name'], match['source'], match['output'], id=f'{page.stem}-{match["name"]}')


@pytest.mark.parametrize('page', [pytest.param(page, id=page.stem) for page in PAGES])
def test_every_program_is_run(page: Path) -> None:
    text = page.read_text(encoding='utf-8')
    named = [match['name'] for match in BLOCK.finditer(text)]
    assert text.count('```python') == len(named), 'each begins with a comment that is the name of a file'
    assert page.name == 'README.md' or named
    assert [match['name'] for match in BLOCK.finditer(text) if match['output'] is None] in (
        [], ['app.py']), 'a program without output is run by no test'


@pytest.mark.parametrize('page', [pytest.param(page, id=page.stem) for page in PAGES if page.stem != 'README'])
def test_every_page_is_in_the_index(page: Path) -> None:
    assert f'({page.name})' in (ROOT / 'docs/bridges/README.md').read_text(encoding='utf-8')


@pytest.mark.parametrize(('name', 'source', 'output'), list(programs()))
def test_a_program_prints_what_the_page_shows(request: pytest.FixtureRequest, person: Person, name: str, source: str,
                                              output: str) -> None:
    for imported in imports(source):
        if importlib.util.find_spec(imported) is None:
            pytest.skip(f'{imported} is not installed')
    for address, fixture in BROKERS.items():
        if address in source:
            source = source.replace(address, request.getfixturevalue(fixture).url)
    assert person.run(name, source) == output


def imports(source: str) -> set[str]:
    """The packages that a program imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition('.')[0])
    return found


def test_the_app_and_the_commands_of_the_page_on_http(person: Person) -> None:
    page = (ROOT / 'docs/bridges/http.md').read_text(encoding='utf-8')
    (source,) = [match['source'] for match in BLOCK.finditer(page) if match['name'] == 'app.py']
    commands = COMMAND.findall(page)
    assert len(commands) == page.count('$ curl') == 4
    if shutil.which('curl') is None:
        pytest.skip('curl is not installed')
    port = str(free_port())
    app = person.start('app.py', source.replace('app.run()', f'app.run(port={port})'))
    app.wait_until(lambda: get(f'http://127.0.0.1:{port}/health')[0] == 200)
    for command, answer in commands:
        said = subprocess.run(['bash', '-c', command.replace(':5000', f':{port}')], capture_output=True, text=True,
                              timeout=30, check=True)
        assert said.stdout.strip() == answer
    app.wait_until(lambda: "clicked by ['ann', 'bob']" in app.printed)
    app.interrupt()
    app.end()
