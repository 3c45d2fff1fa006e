"""How the suites get hold of a bridge: one small class for a source, one for a sink.

A module ``bridge_NAME.py`` in this directory, with ``SOURCES = [...]`` and ``SINKS = [...]``, is all it takes; the
suites find it. An adapter is made for each test with pytest's ``request``, from which it gets its broker
(``request.getfixturevalue('kafka')``), and should use names of its own there (topics, collections, directories).
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest


class SourceAdapter:
    """A source and what is upstream of it.

    :ivar name: of the bridge, in the names of the tests
    :ivar group: the fixture whose server the adapter shares with others, so that its tests run one after another
        (``'kafka_broker'``); ``None`` if it has all to itself
    :ivar ordered: whether messages come in the order of upstream
    :ivar can_be_away: whether upstream can be out of reach (:meth:`away`); a file cannot
    :ivar garbage: bytes that :meth:`feed_raw` can put upstream and that no message can be made of; ``None`` if
        upstream holds nothing but messages
    :ivar batch: how many messages the child that is killed stores at a time
    """

    name = ''
    group: str | None = None
    ordered = True
    can_be_away = True
    garbage: bytes | None = b'{"n": '
    batch = 100

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.request = request

    def config(self) -> dict[str, Any]:
        """What :meth:`make` needs, as JSON: it is called in other processes, too."""
        raise NotImplementedError

    @staticmethod
    def make(config: dict[str, Any], **options: Any) -> Any:
        """The source. Called again it is the same source, which goes on where the last one was.

        :param options: of the source, ``size`` for one: pass them on
        """
        raise NotImplementedError

    def source(self, **options: Any) -> Any:
        """The source, in this process."""
        return self.make(self.config(), **options)

    def feed(self, numbers: Iterable[int]) -> None:
        """Put a message with each number upstream, durably, in this order; also before there is any source.

        Upstream has to keep them although nobody reads yet: a topic or a subscription has to exist from the start.
        """
        raise NotImplementedError

    def feed_raw(self, raw: bytes) -> None:
        """Put these bytes upstream."""
        raise NotImplementedError

    def number(self, data: Any) -> int:
        """The number in a message of the stream."""
        return int(data['n'])

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Upstream is out of reach, and then comes back with all it had."""
        raise NotImplementedError
        yield

    def close(self) -> None:
        """The test is over."""


class SinkAdapter:
    """A sink and what is behind it.

    :ivar name: of the bridge
    :ivar group: as of :class:`SourceAdapter`
    :ivar can_be_away: whether what is behind it can be out of reach
    :ivar expands: whether the sink has ``expand=``
    :ivar unencodable: a result that the sink cannot send
    """

    name = ''
    group: str | None = None
    can_be_away = True
    expands = True
    unencodable: Any = object()

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.request = request

    def sink(self, **options: Any) -> Any:
        """A new sink to the same place."""
        raise NotImplementedError

    def read(self, count: int) -> Sequence[Any]:
        """What has arrived, decoded: waits until it is at least *count* messages, and returns all there are."""
        raise NotImplementedError

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """What is behind the sink is out of reach, and then comes back with all it had."""
        raise NotImplementedError
        yield

    def close(self) -> None:
        """The test is over."""


def found(kind: str) -> list[Any]:
    """Test parameters: the adapters of all bridges in this directory."""
    params = []
    package = importlib.import_module(__package__)
    for each in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        if each.startswith('bridge_'):
            for adapter in getattr(importlib.import_module(f'{__package__}.{each}'), kind, []):
                marks = [pytest.mark.xdist_group(adapter.group)] if adapter.group else []
                params.append(pytest.param(adapter, id=adapter.name, marks=marks))
    return params
