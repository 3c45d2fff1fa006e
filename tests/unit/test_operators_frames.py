"""Operators whose functions get data frames."""

from __future__ import annotations

from typing import Any

import pytest

from minibatch.errors import OptionError, WindowError
from tests.support.pipelines import applied, begun

pytest.importorskip('pandas')
pytest.importorskip('polars')
DATA: list[dict[str, Any]] = [{'user': 'ann', 'ms': 12}, {'user': 'bob', 'ms': 3}, {'user': 'ann', 'ms': 30}]
batch = begun().window(size=3)


def ranked(frame: Any) -> Any:
    return frame.assign(rank=frame['ms'].rank().astype(int))


def test_map_makes_rows_of_a_frame() -> None:
    made = applied(batch.map(ranked, as_='pandas'), DATA)
    assert made == [{**message, 'rank': rank} for message, rank in zip(DATA, (2, 1, 3), strict=True)]
    means = applied(batch.map(lambda frame: frame.groupby('user', as_index=False)['ms'].mean(), as_='pandas'), DATA)
    assert means == [{'user': 'ann', 'ms': 21.0}, {'user': 'bob', 'ms': 3.0}]


@pytest.mark.parametrize('as_', ['pandas', 'polars'])
def test_filter_takes_a_mask(as_: str) -> None:
    assert applied(batch.filter(lambda frame: frame['ms'] > 10, as_=as_).map(lambda m: m['ms']), DATA) == [12, 30]


def test_an_aggregate_of_a_frame_for_each_group() -> None:
    pipeline = batch.group_by('user').aggregate(
        as_='pandas', n='count', spread=lambda frame: int(frame['ms'].max() - frame['ms'].min()))
    assert [(each['key'], each['n'], each['spread']) for each in applied(pipeline, DATA)] == [
        ('ann', 2, 18), ('bob', 1, 0)]


def test_the_window_comes_as_a_second_argument() -> None:
    def named(frame: Any, window: Any) -> Any:
        return frame.assign(window=window.id)

    assert {each['window'] for each in applied(batch.map(named, as_='pandas'), DATA)} == {'clicks:1'}


def test_groups_survive_a_map_that_keeps_the_rows() -> None:
    grouped = batch.group_by('user').map(ranked, as_='pandas').sum('rank')
    assert [(each['key'], each['sum']) for each in applied(grouped, DATA)] == [('ann', 5), ('bob', 1)]
    with pytest.raises(WindowError, match='another number of rows'):
        applied(batch.group_by('user').map(lambda frame: frame.head(1), as_='pandas').count(), DATA)


def test_what_a_function_on_a_frame_gets_wrong() -> None:
    with pytest.raises(WindowError, match=r"stage 1, map\(.*as_='pandas'\), failed at the window: KeyError"):
        applied(batch.map(lambda frame: frame['no'], as_='pandas'), DATA)
    with pytest.raises(WindowError, match='one true or false value for each row'):
        applied(batch.filter(lambda frame: [True], as_='pandas'), DATA)
    with pytest.raises(WindowError, match='returned None'):
        applied(batch.map(lambda frame: None, as_='pandas'), DATA)
    with pytest.raises(OptionError, match='did you mean pandas'):
        batch.map(ranked, as_='panda')
