"""The live page as people see it: in a browser, while a stream runs, a consumer is killed, and windows die.

It needs Chromium and Playwright, and is skipped where there is none. With ``MINIBATCH_SCREENSHOTS`` set to a directory,
the pictures are kept there.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import minibatch as mb
from minibatch.contrib.apps import StreamingApp
from tests.support.scripts import Person
from tests.support.waiting import wait_until

CHROMIUM = next((found for name in ('chromium', 'chromium-browser', 'google-chrome') if (found := shutil.which(name))),
                None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason='there is no Chromium on this machine')
TOKEN = 'open-sesame'
RATE, TOTAL, POISONED = 1_000, 6_000, (1_111, 2_222)

CONSUMER = """\
import minibatch as mb

@mb.streaming('clicks', size=50, lease=1, max_attempts=2, backoff=0.05, executor='inline')
def work(window):
    if any(message['n'] in (1111, 2222) for message in window):
        raise ValueError('this click cannot be read')
"""


@pytest.fixture(scope='module')
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip('playwright.sync_api')
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[
            '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
            '--disable-component-update', '--disable-sync'])
        yield chromium
        chromium.close()


@pytest.fixture
def stream(url: str) -> mb.Stream:
    return mb.stream('clicks', url=url)


@pytest.fixture
def server(url: str) -> Iterator[Any]:
    server = StreamingApp(url=url, page={'token': TOKEN}).serve(port=0)
    yield server
    server.stop()


class Producer(threading.Thread):
    """Appends so many messages a second."""

    def __init__(self, stream: mb.Stream) -> None:
        super().__init__(daemon=True)
        self.stream, self.n, self.seconds = stream, 0, 0.0

    def run(self) -> None:
        began = time.monotonic()
        while self.n < TOTAL:
            due = min(TOTAL, int((time.monotonic() - began) * RATE)) - self.n
            if due > 0:
                self.stream.extend({'n': n} for n in range(self.n, self.n + due))
                self.n += due
            threading.Event().wait(0.02)
        self.seconds = time.monotonic() - began
        self.stream.store.tally.flush()


def opened(page: Any, url: str) -> float:
    """Open the page; after how many milliseconds it showed figures."""
    page.goto(url)
    when = "performance.getEntriesByName('figures')[0]?.startTime"
    return float(wait_until(lambda: page.evaluate(when), what='figures on the page'))


def figures(page: Any) -> dict[str, str]:
    """What the page says of the stream, as it is written there."""
    found: dict[str, str] = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('[data-stream=clicks] [data-figure]')]
            .map((each) => [each.dataset.figure, each.textContent]))""")
    return found


def is_over(status: Any) -> bool:
    return bool(status['appended'] == TOTAL and status['backlog'] == 0 and len(status['lost']) == 1)


def number(text: str) -> float:
    return float(text.replace(',', '').split()[0])


def picture(page: Any, name: str, tmp_path: Path) -> None:
    where = Path(os.environ.get('MINIBATCH_SCREENSHOTS') or tmp_path)
    where.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=where / f'{name}.png', full_page=True)
    assert page.evaluate('document.documentElement.scrollWidth <= window.innerWidth'), f'{name}: wider than the window'


def test_what_the_page_shows_is_what_the_store_has(browser: Any, server: Any, stream: mb.Stream, person: Person,
                                                   tmp_path: Path) -> None:
    """Given 1,000 messages a second, when one of two consumers is killed, then the page and the store agree."""
    scripts = [person.start(f'consumer{n}.py', CONSUMER) for n in range(2)]
    for script in scripts:
        script.wait_until(lambda: len(stream.status()['consumers']) == 2)
    context = browser.new_context(viewport={'width': 1280, 'height': 900}, color_scheme='light')
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on('console', lambda message: said.append(message.text))
    page.on('pageerror', lambda error: said.append(str(error)))
    page.on('request', lambda request: asked.append(request.url))
    took = min(opened(page, server.url) for _ in range(2))
    print(f'the page showed figures after {took:.0f} ms')
    assert took < 1_000

    producer = Producer(stream)
    producer.start()
    wait_until(lambda: number(figures(page)['committed']) > 1_500, 30, what='the page to show what is committed')
    os.kill(scripts[0].process.pid, signal.SIGKILL)
    rates: list[float] = []

    def over() -> bool:
        rates.append(number(figures(page)['rate-appended']))
        return is_over(stream.status())
    scripts[1].wait_until(over, 60)
    # The page's rates are those of the last ten seconds.
    assert 0.7 * TOTAL / max(10.0, producer.seconds) < max(rates) < 1.4 * TOTAL / producer.seconds, rates
    picture(page, 'wide', tmp_path)

    def agree() -> bool:
        status, shown = stream.status(), figures(page)
        names = ('appended', 'committed', 'backlog', 'done', 'ready', 'running', 'dead', 'failed')
        return all(number(shown[name]) == status[name] for name in names)
    wait_until(agree, 20, what=f'{figures(page)} to be {stream.status()}')
    status = stream.status()
    assert (status['backlog'], status['dead'], status['appended']) == (0, len(POISONED), TOTAL)
    # What the killed one had committed, and had not told yet, is known to nobody.
    assert TOTAL - 100 - 1.5 * RATE <= status['committed'] <= TOTAL - 100
    rows = page.locator('[data-stream=clicks] details.consumers tbody tr')
    written = [rows.nth(n).locator('td').first.text_content() for n in range(rows.count())]
    assert written == [str(script.process.pid) for script in reversed(scripts)]
    assert rows.nth(1).text_content().endswith(', lost')
    assert [url for url in asked if not url.startswith((server.url, 'data:'))] == []
    assert said == []
    act_by_keyboard(page, stream)
    pictures(browser, server, tmp_path)
    assert said == ['Failed to load resource: the server responded with a status of 401 (UNAUTHORIZED)']
    context.close()


def act_by_keyboard(page: Any, stream: mb.Stream) -> None:
    """Dead windows are read, redriven and dropped, with the token only."""
    first, second = [window.id for window in stream.dead.list()]
    page.get_by_text('Dead windows (2)').focus()
    page.keyboard.press('Enter')
    page.get_by_role('button', name=f'Drop window {first}', exact=True).wait_for()
    traceback = page.locator('details.dead li').first
    traceback.locator('summary').press('Enter')
    assert "raise ValueError('this click cannot be read')" in (traceback.locator('pre').text_content() or '')
    page.get_by_role('button', name=first, exact=True).press('Enter')
    dialog = page.get_by_role('dialog', name=f'Window {first}')
    dialog.wait_for()
    assert '{"n": 1111}' in dialog.locator('code').all_text_contents()
    page.keyboard.press('Escape')
    dialog.wait_for(state='hidden')

    page.on('dialog', lambda asks: asks.accept())
    drop = page.get_by_role('button', name=f'Drop window {first}', exact=True)
    drop.press('Enter')
    page.get_by_text('Give the token first').wait_for()
    for token, answer in (('wrong', 'This token is not valid'), (TOKEN, f'1 window of {stream.name} dropped')):
        page.get_by_label('Token').fill(token)
        page.get_by_label('Token').press('Enter')
        drop.press('Enter')
        page.get_by_text(answer).wait_for()
        assert len(stream.dead.list()) == (2 if token == 'wrong' else 1)
    failed = stream.status()['failed']
    page.get_by_role('button', name=f'Redrive window {second}', exact=True).press('Enter')
    page.get_by_text(f'1 window of {stream.name} redriven').wait_for()
    wait_until(lambda: len(stream.dead.list()) == 1 and stream.status()['failed'] > failed, what='it to be run again')


def pictures(browser: Any, server: Any, tmp_path: Path) -> None:
    """In a narrow window, and in the dark; nothing is wider than the window."""
    for name, width, scheme in (('narrow', 360, 'light'), ('dark', 1280, 'dark'), ('narrow-dark', 360, 'dark')):
        context = browser.new_context(viewport={'width': width, 'height': 800}, color_scheme=scheme)
        page = context.new_page()
        page.goto(server.url)
        page.get_by_text('Dead windows (1)').click()
        page.locator('details.dead li summary').click()
        page.locator('.uplot').nth(1).wait_for()
        ground = page.evaluate('getComputedStyle(document.body).backgroundColor')
        assert (ground == 'rgb(15, 18, 22)') == (scheme == 'dark')
        beat = page.locator('[data-stream=clicks] details.consumers tbody tr').last.locator('td').last
        assert beat.text_content().endswith(', lost')
        box = beat.bounding_box()
        assert box['x'] + box['width'] <= width, 'who was lost is seen in a narrow window, too'
        picture(page, name, tmp_path)
        context.close()
