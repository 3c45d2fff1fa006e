"""The demo from its first line to its last."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Sequence

from minibatch.connection import connect, masked
from minibatch.contrib.apps import StreamingApp
from minibatch.demo.consumers import SIZE, by_count, by_second
from minibatch.demo.ledger import Account, Ledger
from minibatch.demo.producer import RATE, Producer
from minibatch.demo.view import Silent, View, make_view, summary
from minibatch.signals import handled_by

CONSUMERS = {'by-count': by_count, 'by-second': by_second}
#: Seconds between two looks at the results.
PAUSE = 0.2
#: What the summary says of a stream.
BOOKED = ('appended', 'windowed', 'committed', 'open', 'buffer', 'windows')


def run(seconds: float | None = None, plain: bool = False, url: str | None = None, *, as_json: bool = False) -> int:
    """Run the demo, until Ctrl-C or for some seconds, and say whether its figures add up.

    :param seconds: how long, from the first sample on; ``None``: until Ctrl-C or SIGTERM
    :param plain: plain lines, also on a terminal
    :param as_json: nothing but the summary, as a line of JSON
    :param url: of MongoDB; by default as :func:`minibatch.connectdb` finds it, so the embedded one if there is none
    :return: the exit code: 0 if everything that was appended is found where it should be
    :raises minibatch.errors.MinibatchError: there is no MongoDB, or a package is missing
    """
    with _stopped_by_signals() as stop:
        connection = connect(url)
        ledger = Ledger(url, tuple(CONSUMERS))
        app = StreamingApp(__name__, url=url, streams=list(ledger.accounts))
        try:
            server = app.serve(port=0)
            view = Silent() if as_json else make_view(plain)
            try:
                view.say(f'minibatch demo: about {RATE:.0f} samples a second of this machine, into two streams at '
                         f'{masked(connection.url)}')
                view.say(f'by-count averages every {SIZE} of them, by-second those of each second')
                view.say(f'live page: {server.url}/   status: {server.url}/status   (Ctrl-C ends it)')
                error, appended = _watch(app, ledger, url, view, stop, seconds)
            finally:
                view.close()
                server.stop()
            accounts = ledger.close_books(appended)
            return _told(accounts, error) if as_json else _finish(accounts, error)
        finally:
            app.stop_streaming()
            ledger.clear()


def _watch(app: StreamingApp, ledger: Ledger, url: str | None, view: View, stop: threading.Event,
           seconds: float | None) -> tuple[str | None, dict[str, int]]:
    """Start everything, show it until it is time, stop it; the error there was, and what was appended by stream."""
    for account in ledger.accounts.values():
        app.start_streaming(CONSUMERS[account.title], stream=account.name, results=ledger.results,
                            exactly_once=ledger.exactly_once)
    producer = Producer(url, list(ledger.accounts))
    try:
        end: float | None = None
        while producer.alive and not stop.wait(PAUSE) and (end is None or time.monotonic() < end):
            if end is None and seconds is not None and any(producer.appended.values()):
                end = time.monotonic() + seconds  # from the first sample on, so that a slow start takes nothing off
            _look(ledger, view, producer.appended)
    finally:
        producer.stop()
    _let_them_start(ledger, view, producer.appended)
    app.stop_streaming()
    _look(ledger, view, producer.appended)
    return producer.error, producer.appended


def _look(ledger: Ledger, view: View, appended: dict[str, int]) -> None:
    results = ledger.news()
    for name, account in ledger.accounts.items():
        account.note(appended[name])
    view.update(list(ledger.accounts.values()), results)


def _let_them_start(ledger: Ledger, view: View, appended: dict[str, int]) -> None:
    """After a very short demo, wait for consumers that are still starting to get to their first window."""
    patience = time.monotonic() + 30
    while time.monotonic() < patience:
        _look(ledger, view, appended)
        if all(account.committed or appended[name] < SIZE for name, account in ledger.accounts.items()):
            return
        time.sleep(PAUSE)


def _told(accounts: Sequence[Account], error: str | None) -> int:
    """The summary for programs, and the exit code."""
    well = error is None and all(account.adds_up and account.appended for account in accounts)
    streams = {account.title: {name: getattr(account, name) for name in BOOKED} for account in accounts}
    make_view(plain=True).say(json.dumps({'well': well, 'error': error, 'streams': streams}))
    return 0 if well else 1


def _finish(accounts: Sequence[Account], error: str | None) -> int:
    out = make_view(plain=True)
    out.say('')
    for line in summary(accounts):
        out.say(line)
    if error:
        out.say(f'The producer failed: {error}')
        return 1
    if not all(account.adds_up for account in accounts):
        out.say('It does not add up: appended is not committed + in open windows + in buffer. That is a bug; '
                'please report it with the lines above.')
        return 1
    if not all(account.appended for account in accounts):
        out.say('Nothing was appended, so there is nothing to add up; give it a few seconds more.')
        return 1
    out.say('It adds up: appended = committed + in open windows + in buffer.')
    return 0


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second Ctrl-C does not wait for anything."""
    stop = threading.Event()

    def ask(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    with handled_by(ask):
        yield stop
