"""Files that grow, are rotated, truncated, cut off in the middle of a line, and written again."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import minibatch as mb
from minibatch.contrib.files import FileSink, FileSource
from minibatch.errors import OptionError, Unencodable
from tests.support.waiting import wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / 'clicks.jsonl'


@pytest.fixture
def numbers(db: Any) -> Callable[[], list[int]]:
    return lambda: [doc['data']['n'] for doc in db.buffer.find({}).sort('_id', 1)]


Numbers = Callable[[], list[int]]


def lines(*numbers: int) -> str:
    return ''.join(f'{{"n": {n}}}\n' for n in numbers)


def write(path: Path, text: str, mode: str = 'a') -> None:
    with path.open(mode) as file:
        file.write(text)


def follow(stream: mb.Stream, path: Path, **options: Any) -> FileSource:
    source = FileSource(path, follow=True, interval=0.02, **options)
    stream.attach(source)
    return source


def test_a_file_is_read_to_its_end_and_then_on(stream: mb.Stream, path: Path, numbers: Numbers) -> None:
    path.write_text(lines(0, 1) + '\n\n' + '{"n": 2}')
    stream.attach(FileSource(path), background=False)
    assert numbers() == [0, 1, 2], 'also the last line, which has no end'
    write(path, '\n' + lines(3))
    stream.attach(FileSource(path), background=False)
    assert numbers() == [0, 1, 2, 3]


def test_a_line_that_is_being_written_is_waited_for(stream: mb.Stream, path: Path, numbers: Numbers) -> None:
    path.write_text(lines(0) + '{"n":')
    follow(stream, path)
    wait_until(lambda: numbers() == [0])
    write(path, ' 1')
    write(path, '}\n' + lines(2))
    wait_until(lambda: numbers() == [0, 1, 2])
    assert len(stream.dead) == 0


def test_a_file_that_is_not_there_yet_is_waited_for(stream: mb.Stream, path: Path, numbers: Numbers,
                                                    caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(FileNotFoundError):
        stream.attach(FileSource(path), background=False)
    follow(stream, path)
    wait_until(lambda: 'was interrupted (FileNotFoundError' in caplog.text)
    path.write_text(lines(0))
    wait_until(lambda: numbers() == [0])


def test_a_rotated_file_is_read_to_its_end_first(stream: mb.Stream, path: Path, numbers: Numbers) -> None:
    path.write_text(lines(0))
    follow(stream, path)
    wait_until(lambda: numbers() == [0])
    with path.open('a') as writer:
        path.rename(path.with_name('clicks.jsonl.1'))
        path.write_text(lines(3))
        writer.write(lines(1))  # who writes has not noticed yet
        writer.flush()
        wait_until(lambda: numbers()[:2] == [0, 1])
    wait_until(lambda: numbers() == [0, 1, 3])
    write(path, lines(4))
    wait_until(lambda: numbers() == [0, 1, 3, 4])


def test_rotations_while_nobody_looked(stream: mb.Stream, path: Path, numbers: Numbers) -> None:
    """Twice, and the first file had more in it; a last line without an end is one now."""
    path.write_text(lines(0))
    stream.attach(FileSource(path), background=False)
    write(path, lines(1) + '{"n": 2}')
    path.rename(path.with_name('clicks.jsonl.2'))
    path.write_text(lines(3, 4))
    path.rename(path.with_name('clicks.jsonl.1'))
    path.write_text(lines(5))
    for at, name in enumerate(['clicks.jsonl.2', 'clicks.jsonl.1', 'clicks.jsonl']):
        os.utime(path.with_name(name), (1_000_000 + at, 1_000_000 + at))
    stream.attach(FileSource(path), background=False)
    assert numbers() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize('offline', [True, False])
@pytest.mark.parametrize('text', [lines(7), lines(*range(7, 30))], ids=['shorter', 'longer'])
def test_a_file_that_is_written_anew_is_read_anew(stream: mb.Stream, path: Path, numbers: Numbers, offline: bool,
                                                  text: str, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text(lines(0, 1, 2))
    source = follow(stream, path)
    wait_until(lambda: numbers() == [0, 1, 2])
    if offline:
        stream.stop()
        path.write_text(text)
        follow(stream, path)
    else:
        write(path, text, 'r+' if len(text) > 100 else 'w')
    wanted = [0, 1, 2, *(json.loads(line)['n'] for line in text.splitlines())]
    wait_until(lambda: numbers() == wanted)
    assert 'from its beginning' in caplog.text
    source.cancel()


def test_csv(stream: mb.Stream, tmp_path: Path, db: Any) -> None:
    path = tmp_path / 'clicks.csv'
    path.write_bytes('\ufeffuser;ms\r\n"Ann ""B"";\nC";12\r\n'.replace(';', ',').encode())
    stream.attach(FileSource(path, types={'ms': int}), background=False)
    write(path, 'bob,x\nbob\ncarl,7\n')
    stream.attach(FileSource(path, types={'ms': int}), background=False)
    assert [doc['data'] for doc in db.buffer.find({}).sort('_id', 1)] == [
        {'user': 'Ann "B",\nC', 'ms': 12}, {'user': 'carl', 'ms': 7}]
    assert [window.data[0]['reason'] for window in stream.dead.list()] == [
        "field ms: ValueError: invalid literal for int() with base 10: 'x'",
        'the record has 1 fields, and the file 2']


@pytest.mark.parametrize('rows', [10, 1500])
def test_an_open_quote_does_not_swallow_the_file(stream: mb.Stream, tmp_path: Path, numbers: Numbers,
                                                 rows: int) -> None:
    path = tmp_path / 'clicks.csv'
    path.write_text('n,text\n1,a\n2,"b\n' + ''.join(f'{n},{"x" * 1000}\n' for n in range(3, rows)))
    stream.attach(FileSource(path, types={'n': int}), background=False)
    assert numbers() == [1, *range(3, rows)]
    assert stream.dead.list()[0].data[0]['raw'] == b'2,"b'


def test_tabs_fields_encoding_and_text(stream: mb.Stream, tmp_path: Path, db: Any) -> None:
    table = tmp_path / 'a.tsv'
    table.write_bytes('J\xf6rg\t1\n'.encode('latin-1'))
    stream.attach(FileSource(table, fields=['user', 'n'], encoding='latin-1'), background=False)
    text = tmp_path / 'a.log'
    text.write_text('one line\n')
    stream.attach(FileSource(text), background=False)
    odd = tmp_path / 'a.b64'
    odd.write_bytes(b'eyJuIjogMX0=\n')
    stream.attach(FileSource(odd, codec='base64|json'), background=False)
    assert [doc['data'] for doc in db.buffer.find({}).sort('_id', 1)] == [
        {'user': 'J\xf6rg', 'n': '1'}, {'value': 'one line'}, {'n': 1}]


@pytest.mark.parametrize(('name', 'options', 'words'), [
    ('a.dat', {}, 'give format='), ('a.csv', {'format': 'cvs'}, 'did you mean csv'),
    ('a.csv', {'interval': 0}, 'interval'),
    ('a.jsonl', {'fields': ['a']}, "go with format='csv'"), ('a.csv', {'codec': 'json'}, 'give format= as well')])
def test_options_that_cannot_be(tmp_path: Path, name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        FileSource(tmp_path / name, **options)


def test_a_sink_ends_the_line_that_a_crash_has_left(path: Path) -> None:
    path.write_text('{"n": 0')
    sink = FileSink(path)
    sink.put([{'n': 1}])
    sink.flush()
    sink.close()
    assert path.read_text() == '{"n": 0\n{"n":1}\n'


def test_a_sink_ends_the_line_that_a_full_disk_has_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = FileSink(path)
    sink.put({'n': 1})

    def short(file: int, data: bytes) -> int:
        monkeypatch.setattr(os, 'write', full)
        return write(file, data[:5])

    def full(file: int, data: bytes) -> int:
        monkeypatch.setattr(os, 'write', write)
        raise OSError(errno.ENOSPC, 'no space left on device')

    write = os.write
    monkeypatch.setattr(os, 'write', short)
    with pytest.raises(OSError, match='no space'):
        sink.put({'n': 12345})
    sink.put({'n': 12345})
    assert path.read_text() == '{"n":1}\n{"n":\n{"n":12345}\n'


def test_a_csv_sink_has_a_header_though_its_first_result_did_not_fit(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / 'new.csv')
    with pytest.raises(Unencodable):
        sink.put([{'a': 1}, {'b': 2}])
    sink.put({'b': 3})
    assert (tmp_path / 'new.csv').read_text() == 'b\n3\n'


def test_a_csv_sink_keeps_the_fields_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / 'out.csv'
    for row in ({'a': 1, 'b': 'x,y'}, {'b': None, 'a': 2}):
        sink = FileSink(path)
        sink.put(row)
        sink.close()
    assert path.read_text() == 'a,b\n1,"x,y"\n2,\n'
    with pytest.raises(Unencodable, match="no field 'c'"):
        FileSink(path).put({'c': 1})
    assert path.read_text() == 'a,b\n1,"x,y"\n2,\n'
