"""A shell whose commands find the test's own database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import minibatch as mb
from tests.support.shell import Shell


@pytest.fixture(scope='session')
def the_shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp('shell'))
    yield shell
    shell.close()


@pytest.fixture
def shell(the_shell: Shell, url: str) -> Shell:
    """With ``MINIBATCH_MONGO_URL`` set."""
    the_shell.env = {'MINIBATCH_MONGO_URL': url, 'TERM': 'dumb'}
    return the_shell


@pytest.fixture
def filled(url: str) -> Callable[..., mb.Stream]:
    """A stream with messages, of which windows of two have run."""

    def make(name: str = 'orders', waiting: int = 0, done: int = 0, dead: int = 0) -> mb.Stream:
        stream = mb.stream(name, url=url)

        def work(window: Any) -> None:
            if 'bad' in window.data[0]:
                raise ValueError('a bad order')

        stream.extend([{'bad': n} for n in range(2 * dead)] + [{'n': n} for n in range(2 * done)])
        stream.streaming(work, size=2, executor='inline', blocking=False, max_attempts=1, keep=True)
        stream.extend({'waiting': n} for n in range(waiting))
        return stream

    return make
