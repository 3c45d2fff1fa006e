"""The files in ``examples/``, run as the Dockerfile runs them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from tests.support.mongod import free_port
from tests.support.scripts import Person, get
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


def test_the_app_counts_each_visit_once(tmp_path: Path, url: str) -> None:
    """As in the container: address from the environment, health check, SIGTERM at the end."""
    port = str(free_port())
    person = Person(tmp_path, url)
    try:
        app = person.start('app.py', (ROOT / 'examples/app.py').read_text(encoding='utf-8'), PORT=port)
        page = f'http://127.0.0.1:{port}'
        app.wait_until(lambda: get(f'{page}/health')[0] == 200)
        for user in ('ann', 'bob', 'cid'):
            assert get(f'{page}/visit/{user}') == (200, f'hello {user}\n')
        app.wait_until(lambda: json.loads(get(f'{page}/')[1]) == {'visits': 3})
        os.kill(app.process.pid, signal.SIGTERM)
        app.end()
        wait_until(lambda: not person.processes(), 60, what='the consumer to end')
    finally:
        person.leave()
