"""Agents: what they are told to be, how those that iterate live, and where results go."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

import minibatch as mb
from minibatch.app.kinds import iterates
from minibatch.app.outlet import Outlet, Results
from minibatch.errors import OptionError, WindowError
from tests.support import mongod
from tests.support.waiting import wait_until


@pytest.fixture
def app(url: str) -> mb.App:
    """An app whose agents run in threads of the test's process."""
    return mb.App('shop', url=url, executor='thread', backoff=0.01, workers=1)


def consumed(app: mb.App, n: int, got: list[Any]) -> list[Any]:
    """Run the app until so many things are there, and to its orderly end."""
    with app.start():
        wait_until(lambda: len(got) >= n, what=f'{n} results; there are {got}')
    return got


# -- which kind of function it is

async def over(windows: Any) -> None:
    async for window in windows:
        print(window)


async def over_messages(windows: Any) -> Any:
    async for message in windows.messages():
        yield message


async def by_comprehension(windows: Any) -> list[Any]:
    return [window async for window in windows]


async def under_another_name(windows: Any) -> None:
    messages = windows.messages()
    async for message in messages:
        print(message)


async def of_a_window(window: Any) -> int:
    return len(window)


async def over_something_else(window: Any) -> list[Any]:
    async def rows(data: Any) -> Any:
        for each in data:
            yield each
    return [row async for row in rows(window.data)]


async def generator_of_a_window(window: Any) -> Any:
    for message in window:
        yield message


class Handler:
    async def over(self, windows: Any) -> None:
        async for window in windows:
            print(self, window)

    async def __call__(self, windows: Any) -> None:
        async for window in windows:
            print(self, window)

    async def of_a_window(self, window: Any) -> None:
        print(self, window)


@pytest.mark.parametrize('fn', [
    over, over_messages, by_comprehension, under_another_name, Handler().over, Handler(), functools.partial(over)])
def test_a_function_that_iterates_over_its_argument(fn: Any) -> None:
    assert iterates(fn)


@pytest.mark.parametrize('fn', [
    of_a_window, over_something_else, generator_of_a_window, Handler().of_a_window, len, print, Handler])
def test_a_function_that_takes_a_window(fn: Any) -> None:
    assert not iterates(fn)


# -- definitions

def test_the_function_stays_as_it_is(app: mb.App) -> None:
    assert app.agent('orders')(len) is len
    assert app.agents['len'].stream.name == 'orders'


@pytest.mark.parametrize(('options', 'says'), [
    ({'size_': 2}, "agent 'work': there is no option 'size_'; did you mean size?"),
    ({'buffer_size': 100}, 'it is called size='),
    ({'size': 2, 'interval': 1}, 'give one of them'),
    ({'blocking': False}, "the app's worker runs"),
    ({'url': 'mongodb://other'}, 'it is given to the app'),
    ({'atomic_send': 'yes'}, "atomic_send must be True or False, not 'yes'"),
    ({'sinks': [3]}, 'a sink is a stream, an object with put'),
    ({'workers': 0}, 'workers must be a whole number'),
])
def test_options_that_cannot_be(app: mb.App, options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError) as error:
        app.agent('orders', name='work', **options)(lambda window: None)
    assert says in str(error.value)
    assert app.agents == {}


@pytest.mark.parametrize('fn', [lambda: None, lambda a, b: None])
def test_a_function_that_cannot_take_a_window(app: mb.App, fn: Any) -> None:
    with pytest.raises(OptionError, match='must take one argument'):
        app.agent('orders')(fn)


def test_the_decorator_without_brackets(app: mb.App) -> None:
    with pytest.raises(OptionError, match='needs brackets'):
        app.agent(lambda window: None)


def test_one_name_for_two_agents(app: mb.App) -> None:
    app.agent('orders', name='work')(len)
    with pytest.raises(OptionError, match="has an agent 'work' already"):
        app.agent('others', name='work')(len)


def test_one_stream_for_two_agents(app: mb.App) -> None:
    app.agent('orders', name='one')(len)
    with pytest.raises(OptionError, match=r"agents 'one' and 'two' consume the same stream 'orders'.*then="):
        app.agent(app.stream('orders'), name='two')(len)


def test_a_successor_that_is_not_there(app: mb.App) -> None:
    app.agent('orders', name='work', then='bil')(len)
    app.agent(name='bill')(len)
    with pytest.raises(OptionError, match=r"then='bil', and the app has no agent of that name; did you mean bill\?"):
        app.start()


def test_an_iterating_agent_takes_no_executor_and_sends_what_it_yields(app: mb.App) -> None:
    with pytest.raises(OptionError, match='takes no executor='):
        app.agent('orders', executor='process')(over)
    with pytest.raises(OptionError, match='takes no as_='):
        app.agent('orders', as_='pandas')(over)
    with pytest.raises(OptionError, match='yields nothing'):
        app.agent('orders', sinks=[print])(over)


def test_agents_that_are_not_there(app: mb.App) -> None:
    with pytest.raises(OptionError, match='has no agents'):
        app.start()
    app.agent('orders', name='work')(len)
    with pytest.raises(OptionError, match="has no agent 'wrok'; did you mean work"):
        app.start(['wrok'])


def test_an_unknown_default() -> None:
    with pytest.raises(OptionError, match='did you mean max_attempts'):
        mb.App('shop', max_attempt=3)


def test_a_stream_with_two_sets_of_options(app: mb.App) -> None:
    orders = app.stream('orders')
    assert app.stream('orders', max_backlog=5) is orders
    assert app.stream('orders') is orders
    with pytest.raises(OptionError, match='give them in one place'):
        app.stream('orders', max_backlog=6)
    assert orders.max_backlog == 5


# -- results

LIST = [{'n': 1}, {'n': 2}]


@pytest.mark.parametrize(('atomic', 'stream', 'sink'), [
    (None, [LIST], [LIST]),
    (True, [LIST], LIST),
    (False, [[{'value': LIST}]], [LIST]),
])
def test_a_list_goes_item_by_item_or_as_one(atomic: bool | None, stream: list[Any], sink: list[Any]) -> None:
    streamed: list[Any] = []
    sunk: list[Any] = []
    Outlet([streamed.append], [sunk.append], atomic).put(LIST)
    assert (streamed, sunk) == (stream, sink)


@pytest.mark.parametrize('atomic', [None, True, False])
@pytest.mark.parametrize('result', [{'n': 1}, 5, (1, 2), 'text'])
def test_what_is_no_list_is_one_result(atomic: bool | None, result: Any) -> None:
    streamed: list[Any] = []
    sunk: list[Any] = []
    Outlet([streamed.append], [sunk.append], atomic).put(result)
    assert sunk == [result]
    assert streamed == [[result if isinstance(result, dict) else {'value': result}]]


def test_what_is_yielded_is_so_many_results() -> None:
    streamed: list[Any] = []
    sunk: list[Any] = []
    Outlet([streamed.append], [sunk.append]).put(Results([{'n': 1}, LIST]))
    assert sunk == [{'n': 1}, LIST]
    assert streamed == [[{'n': 1}, *LIST]]


@pytest.mark.parametrize('atomic', [None, True, False])
def test_a_sink_that_takes_lists_gets_all_at_once(atomic: bool | None) -> None:
    """It numbers what it sends for a window, so that readers can tell what came twice."""
    class Expanding:
        expand = True

        def __init__(self) -> None:
            self.got: list[Any] = []

        def put(self, message: Any) -> None:
            self.got.append(message)

    sink = Expanding()
    outlet = Outlet([], [sink], atomic)
    for result in (LIST, Results(LIST), {'n': 1}):
        outlet.put(result)
    assert sink.got == [LIST, LIST, {'n': 1}]


# -- running

def test_a_chain_of_all_kinds(app: mb.App) -> None:
    got: list[Any] = []

    @app.agent('numbers', size=2, then='by_generator')
    def function(window: Any) -> Any:
        return [{'n': message['n'] + 1} for message in window]

    @app.agent(size=2, then='coroutine')
    def by_generator(window: Any) -> Any:
        for message in window:
            yield {'n': message['n'] * 10}

    @app.agent(size=4, then='by_async_generator')
    async def coroutine(window: Any) -> Any:
        await asyncio.sleep(0)
        return sum(message['n'] for message in window)  # a number: {'value': number}

    @app.agent(then=over_windows)
    async def by_async_generator(window: Any) -> Any:
        for message in window:
            yield message['value'] + 1

    app.agent(sinks=[got.append], name='over')(over_windows)
    app.stream('numbers').extend({'n': n} for n in range(8))
    assert sorted(consumed(app, 2, got)) == [101, 261]


async def over_windows(windows: Any) -> Any:
    async for window in windows:
        for message in window:
            yield message['value']


def test_results_to_several_agents_and_to_streams(app: mb.App, url: str) -> None:
    got: list[Any] = []
    app.agent('numbers', then=['left', 'right'], sinks=[app.stream('out'), mb.stream('others', url=url)],
              name='first')(lambda window: window.data)
    app.agent(name='left', sinks=[got.append])(lambda window: ('left', window.data))
    app.agent(name='right', sinks=[got.append])(lambda window: ('right', window.data))
    app.stream('numbers').append({'n': 1})
    assert sorted(consumed(app, 2, got)) == [('left', [{'n': 1}]), ('right', [{'n': 1}])]
    for name in ('out', 'others'):
        assert [message.data for message in mb.stream(name, url=url).buffer()] == [{'n': 1}]


def test_a_chain_on_a_standalone_server(alone: mongod.Deployment, dbname: str) -> None:
    """Without transactions results are appended before the commit; without crashes that is once."""
    app = mb.App('shop', url=alone.url(dbname), executor='thread')
    got: list[Any] = []
    app.agent('numbers', then='over', name='first')(lambda window: [{'value': each['n']} for each in window])
    app.agent(sinks=[got.append], name='over')(over_windows)
    app.stream('numbers').extend({'n': n} for n in range(20))
    assert sorted(consumed(app, 20, got)) == list(range(20))
    alone.client.drop_database(dbname)


def test_a_full_stream_holds_up_the_agent_before_it_and_no_circle(app: mb.App) -> None:
    got: list[Any] = []
    free = threading.Event()

    @app.agent('numbers', then='slow')
    def fast(window: Any) -> Any:
        return window.data

    # The last one may come alone, and nothing after it before it has been here.
    @app.agent(app.stream('slow', max_backlog=3), size=2, within=0.2, then='slow')
    def slow(window: Any) -> Any:
        free.wait(60)
        got.extend(message['n'] for message in window)
        return [message for message in window if message.pop('again', False)]

    app.stream('numbers').extend({'n': n, 'again': True} for n in range(10))
    with app.start() as running:
        running.wait(lambda: app.stream('slow').buffer(processed=False).count() >= 3)
        assert app.stream('numbers').status()['backlog'] > 0
        free.set()
        running.wait(lambda: len(got) == 20)
    assert sorted(got) == sorted([*range(10)] * 2)


def test_a_result_that_cannot_be_stored_fails_its_window_alone(app: mb.App) -> None:
    got: list[Any] = []

    @app.agent('numbers', then='over', max_attempts=2)
    def work(window: Any) -> Any:
        n = window.data[0]['n']
        return [{'value': n}, {'value': object() if n == 7 else -n}]

    app.agent(sinks=[got.append], name='over')(over_windows)
    app.stream('numbers').extend({'n': n} for n in range(20))
    with app.start() as running:
        running.wait(lambda: len(got) >= 38 and app.stream('numbers').dead.list())
    assert sorted(got) == sorted(sign * n for n in range(20) for sign in (1, -1) if n != 7)
    (dead,) = app.stream('numbers').dead.list()
    assert dead.data == [{'n': 7}]
    assert 'InvalidMessage' in dead.error


def test_a_circle_ends_when_an_agent_sends_nothing(app: mb.App) -> None:
    got: list[Any] = []

    @app.agent('numbers', then='halve', sinks=[got.append])
    def halve(window: Any) -> Any:
        n = window.data[0]['n']
        return [{'n': n // 2}] if n > 1 else []

    app.stream('numbers').append({'n': 20})
    with app.start():
        wait_until(lambda: len(got) == 4 and app.stream('numbers').status()['backlog'] == 0)
    assert got == [[{'n': 10}], [{'n': 5}], [{'n': 2}], [{'n': 1}]]


def test_an_agent_in_a_worker_process_may_use_its_app(url: str) -> None:
    app = mb.App('shop', url=url, workers=1)
    got: list[Any] = []

    @app.agent('numbers')
    def send(window: Any) -> None:
        app.stream('seen').append({'pid': os.getpid()})

    app.agent('seen', executor='thread', sinks=[got.append])(lambda window: window.data[0]['pid'])
    app.stream('numbers').append({'n': 1})
    assert consumed(app, 1, got) != [os.getpid()]


def test_what_agents_do_to_tables_commits_with_their_windows(app: mb.App) -> None:
    counts = app.table('counts', default=int)

    @app.agent('words', then='total', size=3)
    async def count(windows: Any) -> Any:
        async for window in windows:
            for word in window:
                counts[word['word']] += 1
                if word['word'] == 'bad' and window.attempt == 1:
                    raise ValueError('what was counted so far is not')
            yield {'n': len(window)}

    @app.agent(workers=3)
    async def total(windows: Any) -> None:
        async for window in windows:
            await asyncio.sleep(0)
            counts['all'] += sum(message['n'] for message in window)

    app.stream('words').extend({'word': word} for word in ['a', 'b', 'bad'] * 20)
    with app.start():
        wait_until(lambda: counts['all'] == 60)
    assert dict(counts) == {'a': 20, 'b': 20, 'bad': 20, 'all': 60}
    with pytest.raises(OptionError, match="has a table 'counts' already"):
        app.table('counts')


def test_an_agent_of_frames(app: mb.App) -> None:
    pytest.importorskip('pandas')
    got: list[Any] = []

    @app.agent('numbers', size=4, as_='pandas', then='show')
    def top(frame: Any, window: Any) -> Any:
        return frame.nlargest(2, 'n')

    app.agent(size=2, sinks=[got.append], name='show')(lambda window: window.data)
    app.stream('numbers').extend({'n': n} for n in (3, 1, 7, 2))
    assert consumed(app, 1, got) == [[{'n': 7}, {'n': 3}]]


def test_only_some_agents(app: mb.App) -> None:
    got: list[Any] = []
    app.agent('one', sinks=[got.append], name='one')(lambda window: 'one')
    app.agent('two', sinks=[got.append], name='two')(lambda window: 'two')
    for name in ('one', 'two'):
        app.stream(name).append({'n': 1})
    with app.start(['two']):
        wait_until(lambda: got)
    assert got == ['two']
    assert app.stream('one').buffer(processed=False).count() == 1


def test_an_agent_may_stop_its_app(app: mb.App) -> None:
    got: list[Any] = []

    @app.agent('numbers')
    def last(window: Any) -> None:
        got.append(window.data)
        running.stop()

    @app.agent('others')
    async def iterator(windows: Any) -> None:
        async for window in windows:
            got.append(window.data)

    app.stream('others').append({'n': 2})
    running = app.start()
    wait_until(lambda: got)
    app.stream('numbers').append({'n': 1})
    wait_until(lambda: not [each for each in threading.enumerate() if each.name.startswith(
        ('minibatch-numbers', 'minibatch-others', 'stop-'))])
    assert got == [[{'n': 2}], [{'n': 1}]]
    running.stop()
    assert not [each for each in threading.enumerate() if each.name == 'minibatch-agent-iterator']
    assert app.stream('numbers').status()['backlog'] == 0


def test_a_source_feeds_the_agents_stream(app: mb.App) -> None:
    got: list[Any] = []
    app.agent('numbers', source=range(5), sinks=[got.append])(lambda window: f'hello {window.data[0]["value"]}')
    assert sorted(consumed(app, 5, got)) == [f'hello {n}' for n in range(5)]


def test_an_agent_that_dies_ends_the_worker(app: mb.App, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(mb.CountWindow):
        def should_stop(self) -> bool:
            raise OSError('broken')

    app.agent('one', name='one')(len)
    app.agent('two', name='two', emitter=Broken, interval=1)(len)
    with app.start() as running, pytest.raises(WindowError, match="agent 'two' has died"):
        running.wait(lambda: False)
    with app.start(['one']) as running, pytest.raises(TimeoutError, match=r'within 0\.1 s'):
        running.wait(lambda: False, timeout=0.1)
    with pytest.raises(WindowError, match=r"agent 'two' has died \(OSError: broken\), so the worker has stopped"):
        app.run()
    assert not [thread for thread in threading.enumerate() if thread.name in ('minibatch-one', 'minibatch-two')]


# -- agents that iterate

def test_local_variables_live_on_and_a_window_is_committed_when_the_next_is_asked_for(app: mb.App, db: Any) -> None:
    seen: list[Any] = []

    @app.agent('numbers', size=2, keep=True)
    async def count(windows: Any) -> None:
        total = 0
        async for window in windows:
            total += len(window)
            seen.append((window.id, total, db.window.find_one({'_id': window.id})['state']))

    with app.start():
        for n in range(1, 4):
            app.stream('numbers').extend({'n': n} for _ in range(2))
            wait_until(functools.partial(lambda n: db.window.count_documents({'state': 'done'}) == n, n))
    assert seen == [(f'numbers:{n}', 2 * n, 'running') for n in range(1, 4)]


def test_one_that_raises_is_started_anew_for_that_window(app: mb.App) -> None:
    got: list[Any] = []

    @app.agent('numbers', sinks=[got.append])
    async def fail_once(windows: Any) -> Any:
        seen: list[int] = []
        async for window in windows:
            seen.append(window.data[0]['n'])
            if window.data[0]['n'] == 1 and window.attempt < 3:
                raise ValueError('not yet')
            yield window.attempt, list(seen)

    app.stream('numbers').extend({'n': n} for n in range(2))
    assert consumed(app, 2, got) == [(1, [0]), (3, [1])]


def test_a_window_that_always_fails_is_dead_and_says_where(app: mb.App) -> None:
    got: list[Any] = []

    @app.agent('numbers', max_attempts=2, sinks=[got.append])
    async def divide(windows: Any) -> Any:
        async for window in windows:
            yield 6 // window.data[0]['n']

    app.stream('numbers').extend({'n': n} for n in (3, 0, 2))
    with app.start():
        wait_until(lambda: app.stream('numbers').dead.list() and len(got) == 2)
    dead, = app.stream('numbers').dead.list()
    assert (sorted(got), dead.attempts, dead.data) == ([2, 3], 2, [{'n': 0}])
    assert "yield 6 // window.data[0]['n']" in dead.traceback
    assert 'iterators.py' not in dead.traceback


def test_messages_one_by_one(app: mb.App) -> None:
    got: list[Any] = []

    @app.agent('numbers', size=3, sinks=[got.append])
    async def double(windows: Any) -> Any:
        async for message in windows.messages():
            yield message['n'] * 2

    app.stream('numbers').extend({'n': n} for n in range(6))
    assert consumed(app, 6, got) == [0, 2, 4, 6, 8, 10]
    assert app.stream('numbers').status()['done'] == 2


def test_several_iterators_work_at_the_same_time(app: mb.App) -> None:
    got: list[Any] = []
    both = threading.Barrier(2)

    @app.agent('numbers', workers=2)
    async def meet(windows: Any) -> None:
        async for window in windows:
            await asyncio.to_thread(both.wait, 30)
            got.append(window.data[0]['n'])

    app.stream('numbers').extend({'n': n} for n in range(4))
    assert sorted(consumed(app, 4, got)) == [0, 1, 2, 3]


def test_what_comes_after_the_loop_is_run_when_the_app_stops(app: mb.App, caplog: pytest.LogCaptureFixture) -> None:
    got: list[Any] = []

    @app.agent('numbers', sinks=[got.append])
    async def tidy(windows: Any) -> Any:
        try:
            async for window in windows:
                yield len(window)
        finally:
            got.append('tidied')
        yield 'too late'

    app.stream('numbers').append({'n': 1})
    assert consumed(app, 1, got) == [1, 'tidied']
    assert 'yields outside of its loop' in caplog.text


def test_one_that_takes_too_long_is_interrupted(app: mb.App) -> None:
    got: list[Any] = []

    @app.agent('numbers', timeout=0.1)
    async def hang(windows: Any) -> None:
        async for window in windows:
            try:
                await asyncio.sleep(60 if window.attempt == 1 else 0)
            finally:
                got.append(window.attempt)

    app.stream('numbers').append({'n': 1})
    assert consumed(app, 2, got) == [1, 2]
    assert app.stream('numbers').status()['failed'] == 1


@pytest.mark.parametrize('how', ['break', 'return', 'exit'])
def test_one_that_leaves_its_loop_is_started_again(app: mb.App, how: str) -> None:
    got: list[Any] = []

    @app.agent('numbers', sinks=[got.append])
    async def leave(windows: Any) -> Any:
        async for window in windows:
            yield window.data[0]['n']
            if how == 'break':
                break
            if how == 'return':
                return
            if window.attempt == 1:
                raise SystemExit(3)

    app.stream('numbers').extend({'n': n} for n in range(3))
    assert sorted(consumed(app, 3, got)) == [0, 1, 2]


def test_one_that_never_asks_is_told_so(app: mb.App) -> None:
    async def idle(windows: Any) -> None:
        await asyncio.sleep(0)

    app.agent('numbers', iterate=True, max_attempts=1)(idle)
    app.stream('numbers').append({'n': 1})
    with app.start():
        wait_until(lambda: app.stream('numbers').dead.list())
    dead, = app.stream('numbers').dead.list()
    assert 'returned without asking for a window' in dead.error


def test_killing_does_not_wait(app: mb.App) -> None:
    """As at the end of a process that could not be drained: whoever waits for a window learns that it was cut off."""
    from minibatch.app.iterators import IteratorExecutor
    started = threading.Event()

    async def hang(windows: Any) -> None:
        async for _ in windows:
            started.set()
            await asyncio.sleep(60)

    executor = IteratorExecutor(hang, 'hang')
    future = executor.run(hang, [mb.Batch('a:1', 'a', []), mb.Batch('a:2', 'a', [])])
    assert started.wait(30)
    executor.shutdown(kill=True)
    assert [(outcome.kind, outcome.ran) for outcome in future.result(30)] == [('died', True), ('died', False)]
    with pytest.raises(RuntimeError, match='shut down'):
        executor.run(hang, [])


# -- the command

@pytest.fixture
def command(app: mb.App, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str, str]]:
    """Runs the command of an app with two agents; the exit code, and what it prints."""
    app.agent('orders', name='check', then='bill', size=2)(len)
    app.agent(name='bill', within=1, size=5, sinks=[print])(over_windows)
    app.stream('prices')

    def run(*args: str) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as end:
            app.main(list(args))
        printed = capsys.readouterr()
        return end.value.code, printed.out, printed.err

    return run


def test_without_a_command_it_says_what_to_do(command: Callable[..., tuple[Any, str, str]]) -> None:
    code, _, said = command()
    assert code == 2
    assert all(name in said for name in ('worker', 'send', 'agents', 'tables', 'streams', 'MINIBATCH_MONGO_URL'))
    assert command('--help')[0] == 0
    assert command('wroker')[0] == 2


def test_it_shows_the_agents(command: Callable[..., tuple[Any, str, str]]) -> None:
    code, printed, _ = command('agents')
    assert code == 0
    assert [line.split() for line in printed.splitlines()] == [
        ['AGENT', 'STREAM', 'IS', 'WINDOWS', 'THEN', 'SINKS'],
        ['check', 'orders', 'function', 'size=2', 'bill', '-'],
        ['bill', 'shop.bill', 'iterator', 'size=5', 'within=1', '-', 'print']]


def test_it_sends_and_shows_the_streams(command: Callable[..., tuple[Any, str, str]]) -> None:
    assert command('send', 'orders', '{"n": 1}', '{"n": 2}')[:2] == (0, "sent 2 messages to stream 'orders'\n")
    assert command('send', 'bill', '{"n": 3}')[:2] == (0, "sent 1 message to stream 'shop.bill'\n")
    code, printed, _ = command('streams')
    rows = [line.split()[:3] for line in printed.splitlines()[1:]]
    assert (code, rows) == (0, [['orders', 'check', '2'], ['shop.bill', 'bill', '1'], ['prices', '-', '0']])


def test_it_shows_the_tables(command: Callable[..., tuple[Any, str, str]], app: mb.App) -> None:
    prices = app.table('prices', default=int)
    prices.update({'tea': 3, 'cup': 4})
    prices.tumbling(60)['tea'] += 1
    app.table('names')
    mb.table('others', url=app.url)['a'] = 1
    code, printed, _ = command('tables')
    assert (code, [line.split() for line in printed.splitlines()]) == (
        0, [['TABLE', 'KEYS'], ['prices', '2'], ['prices@60', '1'], ['names', '0']])


@pytest.mark.parametrize(('args', 'says'), [
    (['ordrs', '{}'], "has no stream 'ordrs', and neither has its database; did you mean orders?; nothing was sent"),
    (['orders', '{"n": 1}', '{n: 2}'], 'message 2 is not JSON: '),
    (['orders', '[1]'], 'message 1 is not a JSON object'),
    (['orders', '{"n": 100000000000000000000}'], 'nothing was stored'),
])
def test_what_it_does_not_send(command: Callable[..., tuple[Any, str, str]], app: mb.App, args: list[str],
                               says: str) -> None:
    code, _, said = command('send', *args)
    assert (code, app.stream('orders').buffer().count()) == (1, 0)
    assert said.startswith('Error: ')
    assert says in said


def test_it_sends_to_a_stream_that_others_made(command: Callable[..., tuple[Any, str, str]], url: str) -> None:
    theirs = mb.stream('theirs', url=url)
    assert command('send', 'theirs', '{"n": 1}')[0] == 0
    assert theirs.buffer().count() == 1


def test_it_sends_the_lines_of_standard_input(command: Callable[..., tuple[Any, str, str]], app: mb.App,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f'{{"n": {n}}}\n' for n in range(2500)]
    monkeypatch.setattr('sys.stdin', iter(['\n', *lines]))
    assert command('send', 'orders')[:2] == (0, "sent 2500 messages to stream 'orders'\n")
    monkeypatch.setattr('sys.stdin', iter([*lines[:3], 'no\n', *lines]))
    code, _, said = command('send', 'orders')
    assert code == 1
    assert 'line 4 is not JSON' in said
    assert 'the 3 messages before it were sent, and no more' in said
    assert app.stream('orders').buffer().count() == 2503


def test_a_worker_that_cannot_start(command: Callable[..., tuple[Any, str, str]]) -> None:
    code, _, said = command('worker', '--agents', 'check,bil')
    assert (code, said) == (1, "Error: app 'shop' has no agent 'bil'; did you mean bill?\n")
