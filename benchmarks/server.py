"""The one server of a run: an embedded MongoDB with a data directory of its own, or the one that a URL names."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pymongo
from pymongo import MongoClient

from benchmarks.engines import HANDWRITTEN_DB, MINIBATCH_DB, ORIGINAL_DB, client_of
from minibatch import embedded


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """The URL of a server that runs as long as the block."""
    if url:
        yield url
        return
    home = Path(tempfile.mkdtemp(prefix='minibatch-bench-'))
    try:
        yield embedded.ensure(f'embedded://{home}')
    finally:
        embedded.stop(home)
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def connected(url: str) -> Iterator[MongoClient[dict[str, Any]]]:
    """A client; the databases of the benchmarks are gone before and after."""
    client = client_of(url)
    try:
        _clean(client)
        yield client
    finally:
        _clean(client)
        client.close()


def _clean(client: MongoClient[dict[str, Any]]) -> None:
    for name in (MINIBATCH_DB, HANDWRITTEN_DB, ORIGINAL_DB):
        client.drop_database(name)


def environment(client: MongoClient[dict[str, Any]]) -> dict[str, str]:
    """What the figures depend on, and nothing that tells whose machine it is."""
    return {
        'CPUs': str(os.cpu_count()),
        'Python': platform.python_version(),
        'pymongo': pymongo.version,
        'MongoDB': str(client.server_info()['version']),
        'replica set': 'yes' if client.admin.command('hello').get('setName') else 'no',
        'load before': f'{psutil.getloadavg()[0]:.1f}',
    }
