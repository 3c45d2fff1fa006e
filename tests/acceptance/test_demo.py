"""``minibatch demo`` as a person sees it: windows as they come, figures that add up, and nothing left behind."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import minibatch as mb
from minibatch.demo.ledger import Ledger
from minibatch.demo.view import summary
from tests.support.mongod import Deployment
from tests.support.scripts import Person, Script, get
from tests.support.waiting import wait_until

DEMO = [sys.executable, '-m', 'minibatch.cli', 'demo']


def books(printed: str) -> dict[str, list[int]]:
    """The figures of the summary: appended, windowed, committed, in open windows, in buffer; by stream."""
    table = printed[printed.index('stream      appended'):]
    return {row.split()[0]: [int(figure) for figure in row.split()[1:6]]
            for row in table.splitlines()[1:3]}


def check(printed: str) -> None:
    """Add it up again."""
    assert set(books(printed)) == {'by-count', 'by-second'}
    for appended, windowed, committed, in_windows, in_buffer in books(printed).values():
        assert appended > 0
        assert committed > 0
        assert windowed == committed + in_windows
        assert appended == committed + in_windows + in_buffer
    assert printed.rstrip().endswith('It adds up: appended = committed + in open windows + in buffer.')


def status_of(script: Script) -> Any:
    """The page at the address that it printed."""
    address = re.search(r'status: (http://127\.0\.0\.1:\d+/status)', script.printed)
    return json.loads(get(address[1])[1] or '{}') if address else {}


def nothing_left(db: Any) -> None:
    for name in db.list_collection_names():
        assert db[name].count_documents({}) == 0, name
        assert not name.startswith('demo-')


def test_for_somebody_with_nothing(newcomer: Person) -> None:
    script = newcomer.call([*DEMO, '--seconds', '4'], 'demo')
    script.wait_until(lambda: status_of(script).get('healthy'))
    printed = script.end()
    check(printed)
    assert re.search(r'by-count +window 1: 20 messages, cpu [\d.]+ %, memory [\d.]+ %', printed)
    assert 'by-second  window' in printed
    assert 'messages/s appended' in printed
    assert re.search(r'live page: http://127\.0\.0\.1:\d+/ ', printed)
    wait_until(lambda: not newcomer.processes(), 30, what='the embedded server to end with its last client')


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_ends_on_a_signal(person: Person, db: Any, how: signal.Signals) -> None:
    script = person.call(DEMO, 'demo')
    page = script.wait_until(lambda: (p := status_of(script)).get('healthy') and len(p['streams']) == 2 and p)
    for stream in page['streams'].values():
        assert len(stream['consumers']) == 1
    script.wait_until(lambda: 'by-second  window 2' in script.printed)
    os.killpg(script.process.pid, how)
    check(script.end())
    wait_until(lambda: not person.processes(), what='its processes to end')
    nothing_left(db)


def test_adds_up_though_a_consumer_is_killed(person: Person, db: Any) -> None:
    script = person.call([*DEMO, '--plain'], 'demo')
    script.wait_until(lambda: 'by-count   window 1' in script.printed)
    page = script.wait_until(lambda: (p := status_of(script)).get('healthy') and p)
    for consumer in page['consumers']:
        os.kill(consumer['pid'], signal.SIGKILL)
    script.wait_until(lambda: (p := status_of(script)).get('healthy') and all(c['restarts'] for c in p['consumers']))
    latest = script.printed.count(' window ')
    script.wait_until(lambda: script.printed.count(' window ') > latest + 3)
    script.interrupt()
    check(script.end())
    nothing_left(db)


def test_says_so_if_its_producer_dies(person: Person, db: Any) -> None:
    script = person.call(DEMO, 'demo')
    script.wait_until(lambda: 'by-count   window 1' in script.printed)
    for pid in person.processes():
        if b'minibatch.demo.producer' in Path(f'/proc/{pid}/cmdline').read_bytes():
            os.kill(pid, signal.SIGKILL)
    assert 'The producer failed: the producer ended with code -9' in script.end(code=1)
    nothing_left(db)


def test_leaves_no_process_behind_when_it_is_killed(person: Person) -> None:
    script = person.call(DEMO, 'demo')
    script.wait_until(lambda: 'by-count   window 1' in script.printed)
    assert len(person.processes()) >= 4
    os.kill(script.process.pid, signal.SIGKILL)
    script.process.wait(10)
    wait_until(lambda: not person.processes(), 30, what='producer and consumers to end')


def test_a_table_on_a_terminal(person: Person) -> None:
    reading, terminal = pty.openpty()
    process = subprocess.Popen([*DEMO, '--seconds', '3'], stdout=terminal, stderr=subprocess.DEVNULL,
                               env=person.env | {'TERM': 'xterm', 'COLUMNS': '100', 'LINES': '40'})
    os.close(terminal)
    shown = b''
    while chunk := _read(reading):
        shown += chunk
    os.close(reading)
    assert process.wait(30) == 0
    text = shown.decode()
    assert 'not committed yet' in text
    assert '┃' in text
    check(text.replace('\r\n', '\n'))


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # a terminal whose other side is closed
        return b''


def test_on_a_standalone_server(tmp_path: Path, alone: Deployment, dbname: str) -> None:
    """Without transactions the sink is an ordinary one; nothing dies here, so it adds up all the same."""
    somebody = Person(tmp_path, alone.url(dbname))
    try:
        told = json.loads(somebody.call([*DEMO, '--seconds', '3', '--json'], 'demo').end())
        assert (told['well'], told['error'], set(told['streams'])) == (True, None, {'by-count', 'by-second'})
        for each in told['streams'].values():
            assert each['appended'] == each['committed'] + each['open'] + each['buffer'] > 0
        wait_until(lambda: not somebody.processes(), what='its processes to end')
        nothing_left(alone.client[dbname])
    finally:
        somebody.leave()
        alone.client.drop_database(dbname)


def test_a_lost_message_would_be_seen(url: str, db: Any) -> None:
    ledger = Ledger(url, ('by-count',))
    (name,) = ledger.accounts
    mb.stream(name, url=url).extend({'n': n} for n in range(3))
    assert [account.adds_up for account in ledger.close_books({name: 3})] == [True]
    db['buffer'].delete_one({'stream': name})
    accounts = ledger.close_books({name: 3})
    assert [account.adds_up for account in accounts] == [False]
    assert '3 ≠ 0 + 0 + 2' in summary(accounts)[1]
    ledger.clear()
    nothing_left(db)
