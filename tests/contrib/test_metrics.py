"""/metrics: what Prometheus reads of it is what the store says, whatever the streams went through."""

from __future__ import annotations

import gzip
import math
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Counter, parser
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics

import minibatch as mb
from minibatch.contrib.apps import StreamingApp
from minibatch.contrib.apps.metrics import families
from minibatch.contrib.files import FileSource
from minibatch.measures import TIMES, Histogram, histograms, quantile
from tests.support.consuming import passed, running
from tests.support.mongod import free_port
from tests.support.scripts import Person, get
from tests.support.waiting import wait_until

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def scrape(url: str) -> Iterator[Callable[[], Scraped]]:
    """Reads the page of an app that serves on loopback, as Prometheus does."""
    server = StreamingApp(url=url).serve(port=0)

    def read() -> Scraped:
        code, text = get(f'{server.url}/metrics')
        assert code == 200, text
        return Scraped(text)
    yield read
    server.stop()


class Scraped:
    """A page, by the client's own parser."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in parser.text_string_to_metric_families(text)}
        self.samples: Samples = {(sample.name, frozenset(sample.labels.items())): sample.value
                                 for family in self.families.values() for sample in family.samples}

    def __call__(self, name: str, **labels: str) -> float:
        return self.samples[f'minibatch_{name}', frozenset(labels.items())]

    def buckets(self, name: str, stream: str) -> dict[float, float]:
        """The buckets of a histogram: how many were no larger than each bound."""
        return {float(dict(labels)['le']): n for (each, labels), n in self.samples.items()
                if each == f'minibatch_{name}_bucket' and ('stream', stream) in labels}


def test_after_a_known_run_the_values_are_the_stores(url: str, db: Any, scrape: Callable[[], Scraped]) -> None:
    """Appended one by one, in bulk, in batches and by a source; committed, retried, dead, redriven and dropped."""
    stream = mb.stream('visits', url=url)
    failing = {3: 1, 7: 99}  # the message, and how often its window fails

    def work(window: Any) -> None:
        for message in window:
            if failing.get(message['n'], 0) >= window.attempt:
                raise ValueError(message['n'])

    stream.append({'n': 0})
    stream.extend({'n': n} for n in range(1, 8))
    gathering = mb.stream('visits', url=url, batchsize=100)
    for n in range(8, 11):
        gathering.append({'n': n})
    gathering.stop()
    stream.attach([{'n': n} for n in range(11, 15)], background=False)
    passed(stream, work, size=2, max_attempts=3)  # 0 to 13, and 14 is left
    other = mb.stream('other "quoted"\nname', url=url)
    other.extend({'n': n} for n in range(3))
    for each in (stream, other):
        each.store.tally.flush()

    seen = scrape()
    assert seen('up') == 1
    assert seen('messages_appended_total', stream='visits') == 15
    windows = {'done': 6, 'failed': 1 + 3, 'retried': 1 + 2, 'dead': 1}
    assert seen('windows_committed_total', stream='visits') == windows['done']
    assert seen('messages_committed_total', stream='visits') == 2 * windows['done']
    assert seen('attempts_failed_total', stream='visits') == windows['failed']
    assert seen('windows_retried_total', stream='visits') == windows['retried']
    assert seen('windows_dead_total', stream='visits') == windows['dead']
    # the same from the collections: nothing has come or gone unseen
    held = {state: sum(doc['n'] for doc in db['window'].find({'stream': 'visits', 'state': state}))
            for state in ('ready', 'running', 'dead')}
    free = db['buffer'].count_documents({'stream': 'visits', 'window': None})
    assert seen('waiting_messages', stream='visits') == free == 1
    assert seen('backlog_messages', stream='visits') == free + held['ready'] + held['running'] == 1
    assert seen('windows', stream='visits', state='dead') == len(stream.dead.list()) == 1
    assert seen('messages_appended_total', stream='visits') == (
        seen('messages_committed_total', stream='visits') + seen('backlog_messages', stream='visits') + held['dead'])
    assert 0 < seen('lag_seconds', stream='visits') < 60
    assert abs(seen('last_progress_timestamp_seconds', stream='visits') - time.time()) < 60
    assert seen('messages_appended_total', stream='other "quoted"\nname') == 3
    # histograms: an attempt each, a window each
    assert seen('window_duration_seconds_count', stream='visits') == windows['done'] + windows['failed']
    assert seen('window_size_messages_count', stream='visits') == windows['done']
    assert seen('window_size_messages_sum', stream='visits') == 2 * windows['done']
    assert seen.buckets('window_size_messages', 'visits')[1] == 0
    assert seen.buckets('window_size_messages', 'visits')[2] == windows['done']
    assert seen('window_queue_seconds_count', stream='visits') == 7
    assert 0 < seen('window_queue_seconds_sum', stream='visits') < 60 * 7

    assert stream.dead.redrive() == 1
    failing.clear()
    assert len(passed(stream, work, size=2)) == 1
    seen = wait_until(lambda: (found := scrape())('windows_committed_total', stream='visits') == 7 and found)
    assert seen('windows', stream='visits', state='dead') == 0
    assert seen('windows_dead_total', stream='visits') == 1, 'what has happened has happened'


def test_durations_are_those_of_the_function(url: str, scrape: Callable[[], Scraped]) -> None:
    stream = mb.stream('slow', url=url)
    stream.extend({'n': n} for n in range(2))
    took = []

    def work(window: Any) -> None:
        began = time.perf_counter()
        wait_until(lambda: time.perf_counter() - began > 0.06)
        took.append(time.perf_counter() - began)
    passed(stream, work, size=1)
    seen = scrape()
    assert seen('window_duration_seconds_sum', stream='slow') == pytest.approx(sum(took), rel=0.2)
    buckets = seen.buckets('window_duration_seconds', 'slow')
    assert (buckets[0.05], buckets[math.inf]) == (0, 2)
    assert list(buckets.values()) == sorted(buckets.values()), 'they are cumulative'


def test_messages_from_stream_to_stream_count_when_they_are_committed(url: str, scrape: Callable[[], Scraped]) -> None:
    first = mb.stream('first', url=url)
    first.extend({'n': n} for n in range(6))
    first.map(lambda message: {'n': 2 * message['n']}).through('second').to(print).run(blocking=False)
    first.store.tally.flush()
    seen = scrape()
    assert seen('messages_appended_total', stream='first') == 6
    assert seen('messages_appended_total', stream='second') == 6
    assert seen('messages_committed_total', stream='second') == 6


def test_consumers_count_while_they_live_and_windows_that_died_with_theirs(
    url: str, db: Any, scrape: Callable[[], Scraped], caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody else could tell of a window whose consumer was killed at its last attempt."""
    stream = mb.stream('clicks', url=url)
    stream.append({'n': 1})
    passed(stream, lambda window: window.nothing, size=1, backoff=1000)  # one attempt has failed ...
    db['window'].update_one({'_id': 'clicks:1'}, {'$set': {  # ... the next was a consumer's that was killed
        'state': 'running', 'attempt': 2, 'owner': 'gone:1:2', 'token': 'gone', 'until': datetime(2026, 1, 1)}})
    with running(stream, lambda window: None, size=1, lease=0.3, max_attempts=2):
        wait_until(lambda: scrape()('consumers', stream='clicks') == 1)
        wait_until(lambda: scrape()('windows_dead_total', stream='clicks') == 1)
    seen = scrape()
    assert seen('attempts_failed_total', stream='clicks') == 2
    assert seen('windows_retried_total', stream='clicks') == 1
    wait_until(lambda: scrape()('consumers', stream='clicks') == 0)
    line, = [record.getMessage() for record in caplog.records if record.levelname == 'ERROR']
    assert line.startswith('clicks: window clicks:1 is dead after 2 attempts (the consumer gone:1:2 died')


def test_what_could_not_be_read_counts_as_dead(tmp_path: Path, url: str, scrape: Callable[[], Scraped]) -> None:
    (tmp_path / 'in.jsonl').write_text('{"n": 1}\nnonsense\n')
    stream = mb.stream('lines', url=url)
    stream.attach(FileSource(tmp_path / 'in.jsonl'), background=False)
    stream.store.tally.flush()
    seen = scrape()
    assert seen('messages_appended_total', stream='lines') == 1
    assert seen('windows_dead_total', stream='lines') == seen('windows', stream='lines', state='dead') == 1


def test_counts_reach_the_store_by_themselves_and_at_the_end_of_a_process(
    url: str, person: Person, scrape: Callable[[], Scraped],
) -> None:
    mb.stream('clicks', url=url).append({'n': 1})
    wait_until(lambda: scrape()('messages_appended_total', stream='clicks') == 1)
    person.run('producer.py', "import minibatch as mb; mb.stream('clicks').extend({'n': n} for n in range(3))")
    assert scrape()('messages_appended_total', stream='clicks') == 4


def test_prometheus_may_ask_for_openmetrics_compressed_and_in_part(url: str, stream: mb.Stream) -> None:
    """And finds the metrics that the app has made itself."""
    mine = Counter('shop_orders', 'Orders taken.')
    mine.inc(3)
    client = StreamingApp(url=url).test_client()
    answer = client.get('/metrics', headers={'Accept': 'application/openmetrics-text; version=1.0.0',
                                             'Accept-Encoding': 'gzip'})
    text = gzip.decompress(answer.data).decode()
    families = {each.name: each for each in read_openmetrics(text)}
    assert families['minibatch_messages_appended'].type == 'counter'
    assert families['minibatch_window_duration_seconds'].type == 'histogram'
    assert families['shop_orders'].samples[0].value == 3
    part = client.get('/metrics?name[]=minibatch_up').text
    assert [family.name for family in parser.text_string_to_metric_families(part)] == ['minibatch_up']


def test_without_mongodb_the_page_says_so_and_no_figures() -> None:
    answer = StreamingApp(url=f'mongodb://ann:geheim@127.0.0.1:{free_port()}/').test_client().get('/metrics')
    seen = Scraped(answer.text)
    assert answer.status_code == 200
    assert seen('up') == 0
    assert not any('stream' in dict(labels) for _, labels in seen.samples)
    assert 'geheim' not in answer.text


def test_names_follow_the_conventions() -> None:
    """https://prometheus.io/docs/practices/naming/: a prefix, base units, and what it means in words."""
    for family in families({}, up=True):
        assert family.name.startswith('minibatch_')
        assert family.documentation.endswith('.')
        assert not re.search('_(milliseconds|ms|minutes|kilobytes)(_|$)', family.name)


@pytest.mark.parametrize('q', [0.0, 0.01, 0.5, 0.9, 0.99, 1.0])
def test_a_quantile_is_right_to_the_width_of_a_bucket(q: float) -> None:
    numbers = sorted(int(1.3 ** n) for n in range(70))
    counted = Histogram(TIMES)
    for n in numbers:
        counted.add(n)
    stats = {key.partition('.')[2]: n for key, n in counted.totals('duration').items()}
    found = quantile(histograms({'duration': stats})['duration']['buckets'], q)
    right = numbers[max(0, math.ceil(q * len(numbers)) - 1)]
    bounds = (0, *TIMES)
    at = bisect_left(TIMES, right)
    assert found is not None
    assert bounds[at] <= found * 1e6 <= bounds[at + 1]
    assert quantile([(1.0, 0), (math.inf, 0)], q) is None
