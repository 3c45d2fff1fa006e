"""The adapter of each bridge, for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .adapters import SinkAdapter, SourceAdapter, found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test of a suite runs once for each bridge."""
    for fixture, kind in (('upstream', 'SOURCES'), ('downstream', 'SINKS')):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, found(kind), indirect=True)


@pytest.fixture
def upstream(request: pytest.FixtureRequest) -> Iterator[SourceAdapter]:
    adapter: Any = request.param(request)
    yield adapter
    adapter.close()


@pytest.fixture
def downstream(request: pytest.FixtureRequest) -> Iterator[SinkAdapter]:
    adapter: Any = request.param(request)
    yield adapter
    adapter.close()
