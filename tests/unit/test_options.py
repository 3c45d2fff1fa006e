"""Options of consumers: what is refused, before anything is stored or started, and how the refusal helps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import minibatch as mb
from minibatch.errors import OptionError
from minibatch.window import CountWindow, WindowEmitter

WAYS: dict[str, Callable[..., Any]] = {
    'streaming': lambda url, **options: mb.streaming('clicks', print, url=url, blocking=False, **options),
    'decorator': lambda url, **options: mb.streaming('clicks', url=url, blocking=False, **options)(print),
    'make_emitter': lambda url, **options: mb.make_emitter('clicks', print, url=url, **options),
    'stream.streaming': lambda url, **options: mb.stream('clicks', url=url).streaming(
        print, blocking=False, **options),
}


@pytest.fixture(params=WAYS)
def consume(request: pytest.FixtureRequest, url: str, db: Any) -> Callable[..., Any]:
    """Each way to say options; afterwards nobody may have begun to consume."""
    def call(**options: Any) -> Any:
        with pytest.raises(OptionError) as refused:
            WAYS[request.param](url, **options)
        assert db.window.count_documents({}) == db.consumer.count_documents({}) == 0
        return str(refused.value)
    return call


@pytest.mark.parametrize(('option', 'near'), [
    ('size_', 'size'), ('intervall', 'interval'), ('worker', 'workers'), ('maxworkers', 'max_workers'),
    ('time_out', 'timeout'), ('max_attempt', 'max_attempts'), ('back_off', 'backoff'), ('sinks', 'sink'),
    ('emitempty', 'emit_empty'), ('keeps', 'keep'), ('executer', 'executor'), ('leases', 'lease')])
def test_an_unknown_option_is_refused_with_the_nearest_name(
    consume: Callable[..., str], option: str, near: str,
) -> None:
    said = consume(**{option: 1})
    assert option in said
    assert f'did you mean {near}' in said


def test_an_option_like_no_other_is_refused_all_the_same(consume: Callable[..., str]) -> None:
    assert 'zzz' in consume(zzz=1)


def test_none_is_as_good_as_not_given(stream: mb.Stream, url: str) -> None:
    options = ('size', 'within', 'interval', 'emitter', 'sink', 'workers', 'lease', 'timeout', 'executor', 'keep')
    stream.extend({'n': n} for n in range(2))
    seen: list[Any] = []
    mb.streaming(stream.name, lambda window: seen.append(window.data), blocking=False, url=url,
                 **{**dict.fromkeys(options), 'executor': 'inline'})
    assert seen == [[{'n': 0}], [{'n': 1}]]


def test_make_emitter_has_no_options_of_running(url: str) -> None:
    with pytest.raises(OptionError, match='blocking'):
        mb.make_emitter('clicks', print, url=url, blocking=False)


@pytest.mark.parametrize(('options', 'words'), [
    ({'size': 0}, 'size'), ({'size': -3}, 'size'), ({'size': 2.5}, 'size'), ({'size': '10'}, 'size'),
    ({'size': True}, 'size'), ({'interval': 0}, 'interval'), ({'interval': '1s'}, 'interval'),
    ({'interval': float('nan')}, 'interval'), ({'size': 1, 'within': -1}, 'within'),
    ({'size': 1, 'within': '2'}, 'within'), ({'lease': 0}, 'lease'), ({'lease': 'long'}, 'lease'),
    ({'backoff': -1}, 'backoff'), ({'timeout': 0}, 'timeout'), ({'timeout': True}, 'timeout'),
    ({'max_attempts': 0}, 'max_attempts'), ({'max_attempts': 1.5}, 'max_attempts'), ({'workers': 0}, 'workers'),
    ({'workers': 'all'}, 'workers'), ({'max_workers': -1}, 'max_workers'), ({'executor': 'proces'}, 'process'),
    ({'executor': 5}, 'submit'), ({'sink': 5}, 'sink'), ({'sink': [print, 'file']}, 'sink'),
    ({'emitter': 5}, 'WindowEmitter'), ({'emitter': dict}, 'WindowEmitter'),
    ({'size': 2, 'interval': 2}, 'one of them'), ({'within': 2}, 'size'), ({'within': 2, 'interval': 2}, 'size'),
    ({'interval': 1, 'relaxed': False, 'grace': -1}, 'grace'), ({'grace': 1}, 'grace'),
], ids=str)
def test_a_value_that_cannot_be_is_refused(url: str, db: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        mb.streaming('clicks', print, url=url, blocking=False, **options)
    assert db.window.count_documents({}) == db.consumer.count_documents({}) == 0


@pytest.mark.parametrize('fn', [5, 'work', [print], {}])
def test_what_is_no_function(url: str, fn: Any) -> None:
    with pytest.raises(OptionError, match='function'):
        mb.make_emitter('clicks', fn, url=url)
    with pytest.raises(OptionError, match='function'):
        mb.streaming('clicks', fn, url=url, blocking=False)


@pytest.mark.parametrize('name', ['', None, 5, 'x' * 121])
def test_what_is_no_name(url: str, name: Any) -> None:
    with pytest.raises(OptionError, match='a stream is named'):
        mb.streaming(name, print, url=url, blocking=False)


def test_a_function_in_the_place_of_the_name(url: str) -> None:
    """``@mb.streaming`` without parentheses."""
    with pytest.raises(OptionError, match='a stream is named'):
        mb.streaming(print)  # type: ignore[arg-type]


@pytest.mark.parametrize('options', [
    {'size': None, 'interval': 0.3}, {'size': 2, 'interval': None}, {'size': 2, 'within': None, 'timeout': None},
    {'size': 2, 'workers': None, 'max_workers': None, 'executor': None, 'sink': None, 'queue': None, 'keep': None},
    {'size': None}], ids=str)
def test_none_is_as_if_it_were_not_given(url: str, options: dict[str, Any]) -> None:
    assert mb.make_emitter('clicks', print, url=url, **{'executor': 'inline', **options}) is not None


def test_a_time_limit_that_the_executor_cannot_keep_is_refused_at_once(url: str, db: Any) -> None:
    """Or each window would fail, one after the other."""
    mb.stream('clicks', url=url).append({'n': 1})
    with pytest.raises(OptionError, match='timeout'):
        mb.streaming('clicks', print, url=url, size=1, executor='inline', timeout=5, blocking=False)
    assert db.window.count_documents({}) == 0


class Own(WindowEmitter):
    def __init__(self, *args: Any, threshold: int = 5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.threshold = threshold


def test_options_of_an_emitter_of_ones_own(url: str) -> None:
    emitter = mb.make_emitter('clicks', print, url=url, emitter=Own, threshold=7, interval=3, executor='inline')
    assert isinstance(emitter, Own)
    assert (emitter.threshold, emitter.interval) == (7, 3)
    with pytest.raises(OptionError, match='did you mean threshold'):
        mb.make_emitter('clicks', print, url=url, emitter=Own, treshold=7)


def test_a_strategy_of_ones_own_finds_its_number_in_interval(url: str) -> None:
    assert mb.make_emitter('clicks', print, url=url, emitter=Own, size=3, executor='inline').interval == 3
    class Counted(CountWindow):
        pass
    counted = mb.make_emitter('clicks', print, url=url, emitter=Counted, size=3, executor='inline')
    assert (counted.size, counted.interval) == (3, 3)  # type: ignore[attr-defined]
