"""What tests of bridges share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import minibatch as mb


@pytest.fixture
def stream(url: str) -> Iterator[mb.Stream]:
    """A stream called ``clicks``, whose sources end with the test."""
    stream = mb.stream('clicks', url=url)
    yield stream
    stream.stop()
