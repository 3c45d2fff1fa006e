"""Docstring examples run as a newcomer would run them: on the embedded MongoDB of an empty home directory."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope='session')
def newcomers_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('home')


@pytest.fixture(autouse=True)
def _as_a_newcomer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.setenv('MINIBATCH_HOME', str(request.getfixturevalue('newcomers_home')))
        for name in ('MINIBATCH_MONGO_URL', 'MONGO_URL'):
            monkeypatch.delenv(name, raising=False)
