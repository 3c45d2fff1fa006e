"""A stream on the test's own database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import minibatch as mb


@pytest.fixture
def open_stream(url: str, stream_name: str) -> Iterator[Callable[..., mb.Stream]]:
    """Gets the stream with options, each time another object of it; all are stopped in the end."""
    opened = []

    def get(**options: Any) -> mb.Stream:
        opened.append(mb.stream(stream_name, url=url, **options))
        return opened[-1]

    yield get
    for stream in opened:
        stream.stop()


@pytest.fixture
def stream(open_stream: Callable[..., mb.Stream]) -> mb.Stream:
    return open_stream()
