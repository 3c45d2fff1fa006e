"""Datasets of omega|ml, as sources and as sinks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from tests.support.waiting import wait_until

from .adapters import SinkAdapter, SourceAdapter

pd = pytest.importorskip('pandas', reason="pip install 'minibatch[dataframe]'")

from minibatch.contrib.omegaml import DatasetSink, DatasetSource  # noqa: E402
from tests.support.datasets import Datasets  # noqa: E402


class Objects(SourceAdapter):
    """A dataset of Python objects."""

    name = 'omegaml'
    can_be_away = False
    garbage = None

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.datasets = Datasets.at(request.getfixturevalue('url'))

    def config(self) -> dict[str, Any]:
        return {'url': self.request.getfixturevalue('url')}

    @staticmethod
    def make(config: dict[str, Any], **options: Any) -> DatasetSource:
        return DatasetSource(Datasets.at(config['url']), 'numbers', interval=0.02, **options)

    def feed(self, numbers: Iterable[int]) -> None:
        self.datasets.put([{'n': n} for n in numbers], 'numbers')

    def close(self) -> None:
        self.datasets.close()


class Frame(Objects):
    """A dataset that is a DataFrame."""

    name = 'omegaml-frame'

    def feed(self, numbers: Iterable[int]) -> None:
        self.datasets.put(pd.DataFrame({'n': list(numbers)}), 'numbers')


class Documents(SinkAdapter):
    """A dataset of documents."""

    name = 'omegaml'
    can_be_away = False
    kind: str | None = None

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.datasets = Datasets.at(request.getfixturevalue('url'))
        self.expands = self.kind == 'objects'

    def sink(self, **options: Any) -> DatasetSink:
        return DatasetSink(self.datasets, 'results', kind=self.kind, **options)

    def rows(self) -> list[Any]:
        return list(self.datasets.collection('results').find({}, {'_id': 0}, sort=[('_id', 1)]))

    def read(self, count: int) -> Sequence[Any]:
        wait_until(lambda: len(self.rows()) >= count, 20, what=f'{count} results')
        return self.rows()

    def close(self) -> None:
        self.datasets.close()


class Results(Documents):
    """A dataset of Python objects."""

    name = 'omegaml-objects'
    kind = 'objects'

    def rows(self) -> list[Any]:
        return self.datasets.get('results') or []


class Frames(Documents):
    """A dataset that is a DataFrame."""

    name = 'omegaml-frame'
    kind = 'frame'

    def rows(self) -> list[Any]:
        rows = self.datasets.get('results')
        return [] if rows is None else list(rows.to_dict('records'))


SOURCES = [Objects, Frame]
SINKS = [Documents, Results, Frames]
