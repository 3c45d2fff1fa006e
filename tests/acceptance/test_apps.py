"""Apps as people run them: a file, its command in one terminal, its producers in another, Ctrl-C, and kills."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import pytest

from tests.support.scripts import Person, Script
from tests.support.waiting import wait_until

APP = """\
import minibatch as mb

app = mb.App('shop', lease=1, backoff=0.1, workers=1)


@app.agent('orders', size=3, within=0.2, then='add_tax')
def check(window):
    return [order for order in window if order['price'] > 0]


@app.agent(then='book')
async def add_tax(windows):
    async for window in windows:
        for order in window:
            yield {**order, 'tax': order['price'] / 4}


@app.agent(size=5, within=0.2, sinks=[app.stream('booked')])
async def book(window):
    return window.data


if __name__ == '__main__':
    app.main()
"""

VICTIM = """\
import os
import signal

from app import app
from minibatch import points

left = 4


def kill(name):
    global left
    left -= name == os.environ['POINT']
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)


points.on_point = kill
app.main()
"""


def command(person: Person, *args: str, name: str = '') -> Script:
    return person.call([sys.executable, 'app.py', *args], name or args[0])


def booked(db: Any) -> list[int]:
    return sorted(doc['data']['n'] for doc in db.buffer.find({'stream': 'booked'}))


@pytest.fixture
def shop(person: Person) -> Person:
    (person.home / 'app.py').write_text(APP, encoding='utf-8')
    return person


def orders(first: int, last: int) -> list[str]:
    return [json.dumps({'n': n, 'price': 4 * (n % 5)}) for n in range(first, last)]


def paid(last: int) -> list[int]:
    return [n for n in range(last) if n % 5]


def test_a_worker_and_a_producer(shop: Person, db: Any) -> None:
    worker = command(shop, 'worker')
    assert command(shop, 'send', 'orders', *orders(0, 10)).end() == "sent 10 messages to stream 'orders'\n"
    worker.wait_until(lambda: len(booked(db)) == 8)
    worker.interrupt()
    worker.end()
    assert booked(db) == paid(10)
    assert "app 'shop': running check, add_tax, book; Ctrl-C ends it" in worker.err.read_text()
    rows = [line.split() for line in command(shop, 'streams').end().splitlines()[1:]]
    assert [(row[0], row[2], row[-1]) for row in rows] == [
        ('orders', '0', '0'), ('shop.add_tax', '0', '0'), ('shop.book', '0', '0'), ('booked', '8', '0')]


@pytest.mark.fault
def test_ctrl_c_in_the_middle(shop: Person, db: Any) -> None:
    """What runs is finished, what waits is there for the next worker; each order is booked once."""
    command(shop, 'send', 'orders', *orders(0, 6000)).end()
    worker = command(shop, 'worker')
    worker.wait_until(lambda: len(booked(db)) > 20)
    worker.interrupt()
    worker.end()
    assert len(booked(db)) < 4800
    again = command(shop, 'worker', name='again')
    again.wait_until(lambda: len(booked(db)) >= 4800)
    os.kill(again.process.pid, signal.SIGTERM)
    again.end()
    assert booked(db) == paid(6000)


@pytest.mark.fault
def test_workers_that_are_killed_between_two_agents(shop: Person, db: Any) -> None:
    """At each step of handing on, one worker after the other; each order is booked exactly once."""
    (shop.home / 'victim.py').write_text(VICTIM, encoding='utf-8')
    command(shop, 'send', 'orders', *orders(0, 400)).end()
    for point in ('commit:before', 'flow:inserted', 'commit:done'):
        victim = shop.call([sys.executable, 'victim.py', 'worker'], point, POINT=point)
        victim.end(code=-signal.SIGKILL)
        assert len(booked(db)) < 320
    last = command(shop, 'worker')
    last.wait_until(lambda: len(booked(db)) >= 320)
    last.interrupt()
    last.end()
    assert booked(db) == paid(400)


def test_an_agent_that_dies_ends_the_worker_with_code_1(person: Person) -> None:
    worker = person.start('app.py', """\
import sys
import minibatch as mb

app = mb.App('shop', executor='thread')


class Broken(mb.CountWindow):
    def should_stop(self):
        raise OSError('no disk')


@app.agent('orders')
def check(window):
    pass


@app.agent('others', emitter=Broken, interval=1)
def other(window):
    pass


sys.argv[1:] = ['worker']
app.main()
""")
    worker.end(code=1)
    assert worker.err.read_text().splitlines()[-1] == (
        "Error: agent 'other' has died (OSError: no disk), so the worker has stopped; its messages and windows are "
        'kept, and go on with the next worker')


@pytest.mark.fault
def test_a_second_ctrl_c_does_not_wait(person: Person, db: Any) -> None:
    (person.home / 'app.py').write_text("""\
import time
import minibatch as mb

app = mb.App('shop', workers=1)


@app.agent('orders')
def hang(window):
    app.stream('begun').append({})
    time.sleep(600)


app.main()
""", encoding='utf-8')
    worker = command(person, 'worker')
    command(person, 'send', 'orders', '{}').end()
    worker.wait_until(lambda: db.buffer.find_one({'stream': 'begun'}))
    worker.interrupt()
    worker.wait_until(lambda: 'Ctrl-C once more does not wait' in worker.err.read_text())
    worker.interrupt()
    worker.end(code=130)
    wait_until(lambda: not person.processes(), what='its worker process to end')
