"""The README's examples, run as they stand by somebody who has nothing but them, and compared with the output shown."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.scripts import Person, get, need_port
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / 'README.md').read_text(encoding='utf-8')
BLOCK = re.compile(r'^```python\n# (?P<name>\w+\.py)\n(?P<source>.*?)^```\n(?:\n```output\n(?P<output>.*?)^```$)?',
                   re.MULTILINE | re.DOTALL)
EXAMPLES = {match['name']: (match['source'], match['output']) for match in BLOCK.finditer(README)}

#: Examples that end by themselves, and whether what they print comes in this order or, from parallel windows, in any.
PLAIN: dict[str, Callable[[list[str]], list[str]]] = {
    'shop.py': list, 'slow.py': list, 'pages.py': list,
    'urgent.py': sorted, 'billing.py': list, 'doubling.py': list, 'totals.py': list, 'words.py': list}


def test_every_example_is_run() -> None:
    assert README.count('```python') == len(EXAMPLES)
    assert set(EXAMPLES) == {'producer.py', 'consumer.py', 'app.py', *PLAIN}


def test_quick_start(newcomer: Person, record_property: Callable[[str, object], None]) -> None:
    """Produce first, consume later, on the embedded MongoDB, which is gone in between and afterwards."""
    newcomer.run('producer.py', EXAMPLES['producer.py'][0])
    wait_until(lambda: not newcomer.processes(), 60, what='the embedded server to end with its last client')
    source, output = EXAMPLES['consumer.py']
    consumer = newcomer.start('consumer.py', source)
    consumer.wait_until(lambda: len(consumer.lines) == len(output.splitlines()))
    consumer.interrupt()
    consumer.end()
    record_property('code blocks', 3)
    assert sorted(consumer.lines) == sorted(output.splitlines())
    wait_until(lambda: not newcomer.processes(), 60, what='the embedded server to end with its last client')


@pytest.mark.parametrize('name', PLAIN)
def test_an_example_prints_what_the_page_shows(person: Person, name: str,
                                               record_property: Callable[[str, object], None]) -> None:
    source, output = EXAMPLES[name]
    printed = person.run(name, source)
    in_order = PLAIN[name]
    record_property('code blocks', 2)
    assert in_order(printed.splitlines()) == in_order(output.splitlines())


@pytest.mark.xdist_group('port 5000')
def test_streaming_app(person: Person, record_property: Callable[[str, object], None]) -> None:
    """The app answers, consumes what its route appended, and says so on the pages that the README names."""
    need_port(5000)
    app = person.start('app.py', EXAMPLES['app.py'][0])
    app.wait_until(lambda: get('http://localhost:5000/health')[0] == 200)
    assert get('http://localhost:5000/visit/ann') == (200, 'hello ann\n')
    assert get('http://localhost:5000/visit/bob') == (200, 'hello bob\n')
    app.wait_until(lambda: "visited by ['ann', 'bob']" in app.printed)
    app.wait_until(lambda: '"done": 1' in json.dumps(json.loads(get('http://localhost:5000/status')[1])))
    app.interrupt()
    app.end()
    wait_until(lambda: not person.processes(), 60, what='the consumer to end')
    record_property('code blocks', 1)
