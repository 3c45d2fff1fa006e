"""Datasets of omega|ml as sources and sinks, beyond what the conformance suites ask.

They run on :mod:`tests.support.datasets`, and on omega|ml itself where it is installed.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import minibatch as mb
from minibatch.contrib.base import Sink, Source
from minibatch.contrib.mongodb import MongoSink
from minibatch.contrib.omegaml import DatasetSink, DatasetSource, rows_of
from minibatch.errors import HistoryLost, InvalidMessage, OptionError
from tests.support.consuming import passed
from tests.support.mongod import Deployment
from tests.support.waiting import wait_until

pd = pytest.importorskip('pandas', reason="pip install 'minibatch[dataframe]'")

from tests.support.datasets import Datasets, Lists  # noqa: E402

REAL = importlib.util.find_spec('omegaml') is not None


@pytest.fixture(params=['ours', pytest.param('real', marks=[
    pytest.mark.skipif(not REAL, reason="pip install 'minibatch[omegaml]'"), pytest.mark.filterwarnings('default')])])
def om(request: pytest.FixtureRequest, url: str) -> Iterator[Any]:
    """Something with datasets, in the test's database."""
    if request.param == 'real':
        from omegaml import Omega
        yield Omega(mongo_url=url)
    else:
        datasets = Datasets(url)
        yield SimpleNamespace(datasets=datasets)
        datasets.close()


def stored(stream: mb.Stream) -> list[Any]:
    return [each.data for each in stream.buffer().order_by('id')]


def read(stream: mb.Stream, datasets: Any, **options: Any) -> None:
    """Read all that is there, and end."""
    stream.attach(DatasetSource(datasets, 'readings', follow=False, **options), background=False)


# -- the source


def test_they_are_what_they_say() -> None:
    assert isinstance(DatasetSource(Lists(), 'x'), Source)
    assert isinstance(DatasetSink(Lists(), 'x'), Sink)


def test_rows_of_all_kinds_of_datasets(om: Any, stream: mb.Stream) -> None:
    om.datasets.put({'n': 0}, 'readings')
    om.datasets.put([{'n': 1}, {'n': 2}], 'readings')
    read(stream, om)
    assert stored(stream) == [{'n': 0}, {'n': 1}, {'n': 2}]
    stream.clear()
    om.datasets.put(pd.DataFrame({'n': [0, 1], 'when': pd.to_datetime(['2026-01-01', '2026-01-02'])}), 'frame')
    stream.attach(DatasetSource(om, 'frame', follow=False), background=False)
    assert stored(stream) == [{'n': n, 'when': pd.Timestamp(f'2026-01-0{n + 1}')} for n in range(2)]
    stream.clear()
    collection = om.datasets.collection('native')
    om.datasets.put(collection, 'native')
    collection.insert_many([{'n': 0}, {'n': 1}])
    stream.attach(DatasetSource(om, 'native', follow=False), background=False)
    assert stored(stream) == [{'n': 0}, {'n': 1}]


def test_it_waits_for_the_dataset_and_for_what_is_added(om: Any, stream: mb.Stream) -> None:
    stream.attach(DatasetSource(om, 'readings', interval=0.02))
    wait_until(lambda: stream.store.positions('clicks'), what='the source to begin')
    for n in range(3):
        om.datasets.put({'n': n}, 'readings')
        wait_until(lambda n=n: len(stored(stream)) == n + 1)
    stream.stop()
    om.datasets.put({'n': 3}, 'readings')
    read(stream, om)
    assert stored(stream) == [{'n': n} for n in range(4)]


def test_a_dataset_of_any_object_with_get(stream: mb.Stream) -> None:
    lists = Lists()
    read(stream, lists)
    lists.put({'n': 0}, 'readings')
    lists.put([1, 'two'], 'readings')
    read(stream, SimpleNamespace(datasets=lists))
    assert stored(stream) == [{'n': 0}, {'value': 1}, {'value': 'two'}]
    assert [each['position'] for each in stream.store.positions('clicks')] == [3]


@pytest.mark.parametrize(('value', 'rows'), [
    (None, []), ({'n': 1}, [{'n': 1}]), ('text', ['text']), (b'raw', [b'raw']), (3, [3]), ([], []),
    ([[{'n': 1}], {'n': 2}], [{'n': 1}, {'n': 2}]), (({'n': n} for n in range(2)), [{'n': 0}, {'n': 1}]),
    (np.arange(2), [0, 1]),
    (pd.DataFrame({1: [2]}), [{'1': 2}]),
    (pd.DataFrame({'n': [1]}, index=pd.Index(['a'], name='user')), [{'user': 'a', 'n': 1}]),
    (pd.Series([1, 2], name='n'), [{'n': 1}, {'n': 2}]), (pd.Series([1]), [{'value': 1}]),
])
def test_what_are_rows(value: Any, rows: list[Any]) -> None:
    assert rows_of(value) == rows


def test_a_dataset_that_was_replaced(om: Any, stream: mb.Stream) -> None:
    om.datasets.put([{'n': n} for n in range(5)], 'readings')
    read(stream, om)
    om.datasets.put([{'n': 10}, {'n': 11}], 'readings', append=False)
    with pytest.raises(HistoryLost, match=r'has 2 rows, and 5 of it were read before'):
        read(stream, om)
    assert len(stored(stream)) == 5
    read(stream, om, on_history_lost='resume')
    assert len(stored(stream)) == 5
    om.datasets.put({'n': 12}, 'readings')
    read(stream, om)
    assert stored(stream)[5:] == [{'n': 12}]
    om.datasets.put({'n': 20}, 'readings', append=False)
    read(stream, om, on_history_lost='rescan')
    assert stored(stream)[6:] == [{'n': 20}]


def test_rows_that_do_not_fit_are_dead_letters(om: Any, stream: mb.Stream) -> None:
    om.datasets.put([{'n': 0}, {'n': 'one'}, {'n': 2}], 'readings')
    read(stream, om, schema={'properties': {'n': {'type': 'integer'}}})
    assert stored(stream) == [{'n': 0}, {'n': 2}]
    (dead,) = stream.dead.list()
    assert "'one' is not of type 'integer'" in dead.data[0]['reason']
    assert dead.data[0]['position'] == 2


@pytest.mark.fault
def test_a_server_that_goes_away(solo: Deployment, stream: mb.Stream, caplog: pytest.LogCaptureFixture) -> None:
    datasets = Datasets(solo.url('datasets') + '&serverSelectionTimeoutMS=300')
    datasets.put({'n': 0}, 'readings')
    stream.attach(DatasetSource(datasets, 'readings', interval=0.02))
    wait_until(lambda: stored(stream) == [{'n': 0}])
    solo.nodes[0].kill()
    wait_until(lambda: 'was interrupted' in caplog.text, 20)
    solo.repair()
    wait_until(lambda: solo.client.admin.command('ping'), 20)
    datasets.put({'n': 1}, 'readings')
    wait_until(lambda: stored(stream) == [{'n': 0}, {'n': 1}], 30)
    assert caplog.text.count('was interrupted') == 1
    stream.stop()
    datasets.close()


@pytest.mark.parametrize(('options', 'said'), [
    ({'om': object()}, r'give an Omega, or an object whose .datasets has get\(\)'),
    ({'dataset': ''}, 'give the name of one'), ({'dataset': None}, 'give the name of one'),
    ({'interval': 0}, 'interval must be'), ({'interval': '1'}, 'interval must be'),
    ({'on_history_lost': 'fial'}, "must be 'fail', 'resume' or 'rescan', not 'fial'; did you mean fail"),
])
def test_options_that_a_source_refuses(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        DatasetSource(**{'om': Lists(), 'dataset': 'x', **options})


# -- the sink


def result_of(stream: mb.Stream, sink: Any, result: Any, count: int = 1) -> None:
    """Let a consumer forward *result*."""
    for n in range(count):
        stream.append({'n': n})
    passed(stream, lambda window: result, size=1, sink=sink)


def test_results_are_a_dataset_that_omegaml_reads(om: Any, stream: mb.Stream) -> None:
    result_of(stream, DatasetSink(om, 'results'), [{'n': np.int64(1), 'in': {'a': 1}}, {'n': 2}])
    assert om.datasets.metadata('results').kind == 'pandas.rawdict'
    assert list(om.datasets.get('results')['n']) == [1, 2]
    assert stream.buffer().count() == 0


def test_a_dataframe_as_the_result(om: Any, stream: mb.Stream) -> None:
    frame = pd.DataFrame({'user': ['ann', 'bob'], 'ms': [1.5, 2.5]})
    result_of(stream, DatasetSink(om, 'results'), frame, count=2)
    got = om.datasets.get('results')
    assert om.datasets.metadata('results').kind == 'pandas.dfrows'
    assert got[['user', 'ms']].reset_index(drop=True).equals(pd.concat([frame, frame], ignore_index=True))
    result_of(stream, DatasetSink(om, 'others', kind='documents'), frame)
    assert om.datasets.metadata('others').kind == 'pandas.rawdict'
    assert list(om.datasets.get('others')['ms']) == [1.5, 2.5]


@pytest.mark.parametrize(('first', 'kind'), [
    ({'n': 0}, 'python.data'), (pd.DataFrame({'n': [0]}), 'pandas.dfrows')])
def test_a_dataset_stays_what_it_is(om: Any, stream: mb.Stream, first: Any, kind: str) -> None:
    om.datasets.put(first, 'results')
    result_of(stream, DatasetSink(om, 'results'), [{'n': 1}, {'n': 2}])
    assert om.datasets.metadata('results').kind == kind
    assert [row['n'] for row in rows_of(om.datasets.get('results'))] == [0, 1, 2]


def test_documents_may_be_replaced_by_key(om: Any, stream: mb.Stream) -> None:
    sink = DatasetSink(om, 'results', mode='upsert', key='user')
    for ms in (1, 2):
        result_of(stream, sink, [{'user': 'ann', 'ms': ms}, {'user': f'new {ms}', 'ms': ms}])
    assert [(row['user'], row['ms']) for row in rows_of(om.datasets.get('results'))] == [
        ('ann', 2), ('new 1', 1), ('new 2', 2)]


def test_objects_one_by_one_or_as_a_list(om: Any, stream: mb.Stream) -> None:
    result_of(stream, DatasetSink(om, 'each', kind='objects'), [{'n': 1}, {'n': 2}])
    assert om.datasets.get('each') == [{'n': 1}, {'n': 2}]
    result_of(stream, DatasetSink(om, 'lists', kind='objects', expand=False), [{'n': 1}, {'n': 2}])
    assert om.datasets.get('lists') == [[{'n': 1}, {'n': 2}]]


def test_datasets_with_nothing_but_put(stream: mb.Stream) -> None:
    lists = Lists()
    result_of(stream, DatasetSink(lists, 'results'), [{'n': 1}, {'n': 2}])
    assert lists.get('results') == [{'n': 1}, {'n': 2}]


@pytest.mark.parametrize('kind', ['documents', 'frame', 'objects'])
def test_a_result_that_cannot_be_stored_is_refused_whole(om: Any, kind: str) -> None:
    sink = DatasetSink(om, 'results', kind=kind)
    with pytest.raises(InvalidMessage, match=r'data\.n'):
        sink.put([{'n': 1}, {'n': object()}])
    sink.put([])
    assert rows_of(om.datasets.get('results')) == []


@pytest.mark.parametrize(('options', 'said'), [
    ({'om': object()}, r'has put\(\)'), ({'dataset': 3}, 'give the name of one'),
    ({'kind': 'frames'}, "not 'frames'; did you mean frame"), ({'kind': 'documents'}, 'these have none'),
    ({'kind': 'frame', 'expand': False}, 'expand=False goes with'),
    ({'mode': 'upsrt'}, 'did you mean upsert'), ({'mode': 'upsert'}, 'needs key='),
    ({'kind': 'objects', 'mode': 'upsert', 'key': 'user'}, "go with kind='documents'"),
])
def test_options_that_a_sink_refuses(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        DatasetSink(**{'om': Lists(), 'dataset': 'x', **options})


def test_from_a_dataset_to_a_dataset(om: Any, stream: mb.Stream) -> None:
    om.datasets.put([{'n': n} for n in range(10)], 'readings')
    read(stream, om)
    passed(stream, lambda window: {'sum': sum(each['n'] for each in window.data)}, size=5,
           sink=DatasetSink(om, 'sums', kind='objects'))
    assert sorted(each['sum'] for each in om.datasets.get('sums')) == [10, 35]


def test_frames_without_pandas() -> None:
    """In an interpreter of its own, where pandas cannot be imported; nothing else needs it."""
    code = """
import sys
sys.modules['pandas'] = None
from minibatch.contrib.omegaml import DatasetSink
class Datasets:
    def put(self, obj, name, append): print(obj)
DatasetSink(Datasets(), 'x').put({'n': 1})
try:
    DatasetSink(Datasets(), 'x', kind='frame').put({'n': 1})
except ImportError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, '-c', code], check=True, timeout=30, capture_output=True, text=True).stdout
    assert said == "{'n': 1}\npandas is not installed; install it with: pip install 'minibatch[dataframe]'\n"


def test_a_sink_is_named(om: Any) -> None:
    assert repr(DatasetSink(om, 'x', kind='frame')) == "DatasetSink('x', kind='frame')"
    assert not isinstance(DatasetSink(om, 'x'), MongoSink)
