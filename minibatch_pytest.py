"""The pytest plugin of minibatch: the fixtures ``minibatch_stream`` and ``minibatch_clock``.

It is a module by itself, and imports minibatch when a test asks for a fixture, so that all other tests of whoever has
minibatch installed start as fast as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from minibatch import Stream
    from minibatch.testing import ManualClock, Scratch


@pytest.fixture
def _minibatch_database() -> Iterator[Scratch]:
    from minibatch.testing import database
    with database() as scratch:
        yield scratch


@pytest.fixture
def minibatch_clock(_minibatch_database: Scratch) -> ManualClock:
    """The clock of the test's database: it shows midnight of 1 January 2100, and moves by ``advance(seconds)``."""
    return _minibatch_database.clock


@pytest.fixture
def minibatch_stream(_minibatch_database: Scratch) -> Iterator[Stream]:
    """The stream ``'test'`` of an empty database, where all streams, tables and apps of the test are that have no URL.

    A real MongoDB, the embedded one or that of ``MINIBATCH_TEST_URL``. Give it to ``minibatch.testing.consume`` as
    ``stream=``.
    """
    import minibatch
    stream = minibatch.stream('test')
    yield stream
    stream.stop()


def pytest_unconfigure() -> None:
    """Remove this process's database."""
    testing = sys.modules.get('minibatch.testing')
    if testing is not None:
        testing.discard()
