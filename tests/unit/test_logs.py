"""What is logged: one line for each thing that somebody should know of, with fields, and no password."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

import minibatch as mb
from minibatch import logs
from minibatch.errors import OptionError
from tests.support.consuming import passed
from tests.support.scripts import ROOT


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the JSON formatter writes of minibatch's records."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logs.JsonFormatter())
    logging.getLogger('minibatch').addHandler(handler)
    yield written
    logging.getLogger('minibatch').removeHandler(handler)


def fail(window: Any) -> None:
    raise ValueError('two\nlines of mongodb://ann:geheim@db/')


def test_each_failure_is_one_line_with_fields(stream: mb.Stream, lines: io.StringIO) -> None:
    stream.extend([{'n': 0}, {'n': 1}])
    passed(stream, fail, size=2, max_attempts=2)
    warning, error = map(json.loads, lines.getvalue().splitlines())
    about = {'stream': 'clicks', 'window': 'clicks:1', 'messages': 2, 'max_attempts': 2}
    assert warning.items() >= {**about, 'level': 'warning', 'logger': 'minibatch', 'attempt': 1, 'again_in': 0}.items()
    assert error.items() >= {**about, 'level': 'error', 'attempt': 2}.items()
    assert error['message'] == (
        'clicks: window clicks:1 is dead after 2 attempts (ValueError: two lines of mongodb://ann:***@db/); it is '
        'kept: `minibatch dead` or stream.dead lists, redrives and drops it')
    assert error['error'] == 'ValueError: two\nlines of mongodb://ann:***@db/'
    assert 'geheim' not in lines.getvalue()
    assert 'geheim' not in str(stream.dead.list()[0].errors), 'nor in the store, and so on no page'
    assert warning['time'] < error['time']


def test_what_goes_well_is_not_worth_a_line(stream: mb.Stream, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, 'minibatch')
    stream.extend({'n': n} for n in range(10))
    assert len(passed(stream, size=2)) == 5
    assert caplog.records == []


RUN = """
    import logging
    import minibatch as mb
    from minibatch import logs
    {before}
    logs.from_environment()
    stream = mb.stream('clicks', url={url!r})
    stream.append({{'n': 1}})
    stream.streaming(lambda window: window.nothing, size=1, blocking=False, executor='inline', max_attempts=1)
    stream.dead.drop()
"""


@pytest.mark.parametrize('given', ['', 'json', 'text', 'taken'])
def test_what_a_process_says(url: str, given: str) -> None:
    """Nobody has set up anything; the environment asks for a form; the program has its own."""
    before = 'logging.basicConfig(format="mine: %(message)s")' if given == 'taken' else ''
    code = textwrap.dedent(RUN).format(url=url, before=before)
    said = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=True, env={
        'PYTHONPATH': str(ROOT), 'MINIBATCH_LOG': 'json' if given == 'taken' else given}).stderr
    line, = said.splitlines()
    if given == 'json':
        assert json.loads(line)['window'].startswith('clicks:')
    else:
        starts = {'': r'clicks: window clicks:', 'text': '2', 'taken': 'mine: clicks: '}
        assert line.startswith(starts[given])


def test_a_record_of_anybody_is_written(lines: io.StringIO) -> None:
    """Fields that are no JSON, and an exception."""
    try:
        raise KeyError('redis://:geheim@cache/0')
    except KeyError:
        logging.getLogger('minibatch').exception('bad: %s', 'x', extra={
            'host': {1, 2}, 'url': b'bytes', 'from': ['redis://:geheim@cache/0', {'n': 1}]})
    line, = map(json.loads, lines.getvalue().splitlines())
    assert line['traceback'].endswith("KeyError: 'redis://:***@cache/0'")
    assert (line['message'], line['host']) == ('bad: x', '{1, 2}')
    assert line['from'] == ['redis://:***@cache/0', {'n': 1}]


@pytest.mark.parametrize(('given', 'match'), [
    ('jsn', 'did you mean json'), ('json:loud', 'json:loud'), ('text:inf', 'did you mean info'),
    ('yes', "'yes' is not")])
def test_a_form_that_there_is_not_is_refused(given: str, match: str) -> None:
    handlers = logging.getLogger().handlers[:]
    logging.getLogger().handlers[:] = []
    try:
        with pytest.raises(OptionError, match=match):
            logs.from_environment({'MINIBATCH_LOG': given})
    finally:
        logging.getLogger().handlers[:] = handlers
