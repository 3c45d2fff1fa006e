"""Tables by themselves, and what window functions do to them."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import threading
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest

import minibatch as mb
from minibatch.table import Table

NOON = dt.datetime(2026, 1, 31, 12, 0, 0, 123456)


@pytest.fixture
def counts(url: str) -> Table:
    return mb.table('counts', default=int, url=url)


@pytest.fixture
def plain(url: str) -> Table:
    return mb.table('plain', url=url)


class TestADict:
    def test_what_was_set_is_there_for_another_program(self, plain: Table, url: str) -> None:
        plain['ann'] = {'n': 1, 'tags': ('a', 'b')}
        assert mb.table('plain', url=url)['ann'] == {'n': 1, 'tags': ['a', 'b']}

    def test_missing_keys(self, plain: Table, counts: Table) -> None:
        with pytest.raises(KeyError, match='ann'):
            plain['ann']
        with pytest.raises(KeyError):
            del plain['ann']
        with pytest.raises(KeyError):
            plain.pop('ann')
        with pytest.raises(KeyError):
            plain.popitem()
        assert counts['ann'] == 0
        assert plain.get('ann') is counts.get('ann') is None
        assert plain.get('ann', 3) == plain.pop('ann', 3) == 3
        assert 'ann' not in counts
        assert len(counts) == 0

    def test_everything_a_dict_can(self, plain: Table) -> None:
        plain.update({'b': 2, 'a': 1}, c=3)
        assert list(plain) == list(plain.keys()) == ['a', 'b', 'c']
        assert list(plain.values()) == [1, 2, 3]
        assert dict(plain) == dict(plain.items()) == {'a': 1, 'b': 2, 'c': 3}
        assert plain.setdefault('a', 9) == 1
        assert plain.setdefault('d', 4) == plain['d'] == 4
        assert plain.pop('d') == 4
        assert plain.popitem() == ('a', 1)
        del plain['b']
        assert dict(plain) == {'c': 3}
        assert plain.get_many(['a', 'c']) == {'c': 3}
        plain.clear()
        assert list(plain) == []
        assert plain, 'an empty table is a table'

    def test_tables_are_apart(self, plain: Table, counts: Table) -> None:
        plain['a'], counts['a'] = 1, 2
        counts.clear()
        assert dict(plain) == {'a': 1}

    @pytest.mark.parametrize('key', [
        'ann', '', 'a\0b', '\U0001f34c', 0, -5, 2 ** 62, 1.5, float('inf'), True, None, NOON, ('ann', 1), (),
        (('a',), NOON, None)])
    def test_a_key_comes_back_as_it_was(self, plain: Table, key: Any) -> None:
        plain[key] = 1
        (found,) = plain
        assert found == key
        assert type(found) is type(key)
        assert key in plain

    def test_keys_that_are_the_same_and_that_are_not(self, plain: Table) -> None:
        for key, value in [(1, 'int'), (True, 'bool'), ('1', 'str'), (1.0, 'float'), ((1,), 'tuple')]:
            plain[key] = value
        assert dict(plain.items(prefix=())) == {(1,): 'tuple'}
        assert sorted(plain.values()) == ['bool', 'float', 'str', 'tuple']
        assert plain[1] == 'float'
        plain[NOON] = plain[NOON + dt.timedelta(microseconds=1)] = 'two of them'
        assert len(plain) == 6
        assert plain[NOON.replace(tzinfo=dt.timezone.utc)] == 'two of them'

    def test_keys_are_in_order_and_found_by_how_they_begin(self, plain: Table) -> None:
        keys = [None, -2, 1.5, 10, '', 'a', 'ab', 'a\U0010ffff', 'b', NOON, ('a',), ('a', 1), ('a', 'x'), ('b',), False]
        plain.update((key, 1) for key in reversed(keys))
        assert list(plain) == keys
        assert list(plain.keys(prefix='a')) == ['a', 'ab', 'a\U0010ffff']
        assert list(plain.keys(prefix='')) == ['', 'a', 'ab', 'a\U0010ffff', 'b']
        assert list(plain.keys(prefix=('a',))) == [('a',), ('a', 1), ('a', 'x')]
        with pytest.raises(mb.TableError, match='prefix'):
            list(plain.keys(prefix=3))

    def test_more_keys_than_fit_a_page(self, plain: Table) -> None:
        plain.update((n, n) for n in range(2500))
        assert list(plain) == list(range(2500))

    @pytest.mark.parametrize(('key', 'says'), [
        (float('nan'), 'NaN'), (2 ** 63, '64 bits'), ('\ud800', 'surrogate'), ({'a': 1}, 'cannot be a key'),
        (object(), 'cannot be a key'), (('a', {1}), 'cannot be a key'), ('x' * 9000, 'bytes')])
    def test_rubbish_for_a_key(self, plain: Table, key: Any, says: str) -> None:
        with pytest.raises(mb.TableError, match=says) as error:
            plain[key] = 1
        assert 'nothing was written' in str(error.value)
        assert list(plain) == []

    def test_rubbish_for_a_value(self, plain: Table) -> None:
        with pytest.raises(mb.TableError, match=r'value\.a is a value of type object'):
            plain['x'] = {'a': object()}
        with pytest.raises(mb.TableError, match='16,'):
            plain.update({'small': 1, 'large': 'x' * (16 << 20)})
        assert list(plain) == []

    def test_the_largest_value_fits_beside_the_largest_key(self, plain: Table) -> None:
        key, value = 'k' * 8000, 'x' * (16 * 1024 * 1024 - 16 * 1024 - 100)
        plain[key] = value
        assert plain[key] == value

    def test_in_place(self, counts: Table, plain: Table) -> None:
        counts['n'] += 2
        counts['n'] -= 5
        counts['n'] *= 3
        counts['f'] += 0.5
        plain.update(text='a', values=[1])
        plain['text'] += 'b'
        plain['values'] += [2]
        assert dict(counts) == {'n': -9, 'f': 0.5}
        assert dict(plain) == {'text': 'ab', 'values': [1, 2]}

    def test_in_place_is_not_lost_when_another_program_is_faster(self, counts: Table, url: str) -> None:
        held = counts['n']
        held += 1
        mb.table('counts', default=int, url=url)['n'] += 10
        counts['n'] = held
        assert counts['n'] == 11

    def test_what_was_read_and_not_changed_in_place_is_a_plain_value(self, counts: Table) -> None:
        counts['n'] = 5
        value = counts['n']
        counts['n'] = 7
        counts['n'] = value + 0
        assert counts['n'] == 5
        counts['m'] = value
        assert counts['m'] == 5
        assert type(cloudpickle.loads(cloudpickle.dumps(value))) is int

    def test_eight_threads_lose_nothing(self, url: str) -> None:
        def work() -> None:
            table = mb.table('counts', default=int, url=url)
            for n in range(20):
                table['in place'] += 1
                table.add('added', 2)
                table.change('list', lambda found, n=n: [*(found or []), n])

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        table = mb.table('counts', url=url)
        assert (table['in place'], table['added'], len(table['list'])) == (160, 320, 160)

    def test_add(self, counts: Table, url: str) -> None:
        counts.add('n')
        counts.add('n', 2.5)
        assert counts['n'] == 3.5
        mb.table('counts', default=lambda: 100, url=url).add('m')
        assert counts['m'] == 101
        counts['text'] = 'x'
        for key, n in [('text', 1), ('n', 'x'), ('n', True)]:
            with pytest.raises(mb.TableError, match='number'):
                counts.add(key, n)
        assert dict(counts) == {'m': 101, 'n': 3.5, 'text': 'x'}

    def test_ttl(self, url: str, db: Any) -> None:
        table = mb.table('brief', default=int, url=url, ttl=60)
        table.update(old=1, new=1, added=1)
        past = {'$set': {'expires': dt.datetime(2020, 1, 1)}}
        db['table'].update_many({'_id.k': {'$in': ['old', 'added']}}, past)
        assert dict(table) == {'new': 1}
        assert len(table) == 1
        assert 'old' not in table
        table['old'] += 5
        table.add('added', 3)
        assert dict(table) == {'added': 3, 'new': 1, 'old': 5}
        assert db['table'].index_information()['expires']['expireAfterSeconds'] == 0

    @pytest.mark.parametrize('options', [{'ttl': 0}, {'ttl': 'x'}, {'name': ''}, {'name': 3}])
    def test_options_that_cannot_be(self, options: dict[str, Any]) -> None:
        with pytest.raises(mb.OptionError):
            mb.table(**{'name': 'x', **options})
        with pytest.raises(mb.TableError):
            mb.table('x', default=object())

    def test_a_table_travels(self, counts: Table) -> None:
        counts['a'] = 1
        again = cloudpickle.loads(cloudpickle.dumps(counts))
        assert dict(again) == {'a': 1}
        assert again['b'] == 0


class TestASink:
    def test_pairs_and_dicts(self, plain: Table) -> None:
        plain.put(('a', 1))
        plain.put({'b': 2})
        plain([('c', 3), ['d', 4], {'e': 5}])
        plain('f', 6)
        assert dict(plain) == {'a': 1, 'b': 2, 'c': 3, 'd': 4, 'e': 5, 'f': 6}
        for rubbish in ('text', 5, [('a', 7), 'text'], None):
            with pytest.raises(mb.TableError, match='pair'):
                plain.put(rubbish)
        assert plain['a'] == 1

    def test_of_a_consumer(self, url: str) -> None:
        mb.stream('clicks', url=url).extend({'user': user} for user in 'aab')
        mb.streaming('clicks', lambda window: (window.data[0]['user'], window.id), url=url, executor='inline',
                     sink=mb.table('last'), blocking=False)
        assert set(mb.table('last', url=url)) == {'a', 'b'}, 'a table without a url is where the stream is'


class Consumed:
    """A stream, and one pass over it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stream = mb.stream('clicks', url=url)

    def __call__(self, function: Any, rows: Any = 1, **options: Any) -> None:
        self.stream.extend([{'n': n} for n in range(rows)] if isinstance(rows, int) else rows)
        options = {'executor': 'inline', 'size': 1, 'max_attempts': 1, **options}
        mb.streaming('clicks', function, url=self.url, blocking=False, **options)

    def errors(self) -> list[str]:
        return [each['errors'][-1]['error'] for each in self.stream.store.dead('clicks')]


@pytest.fixture
def consume(url: str) -> Iterator[Consumed]:
    consumed = Consumed(url)
    yield consumed
    consumed.stream.stop()


class TestInAWindow:
    @pytest.mark.parametrize('executor', ['inline', 'thread', 'process'])
    def test_changes_commit_with_the_window(self, consume: Consumed, url: str, executor: str) -> None:
        counts = mb.table('counts', default=int, url=url)

        def count(window: Any) -> None:
            for message in window:
                counts[message['n'] % 3] += 1
            counts.add('all', len(window))

        consume(count, 60, size=5, executor=executor, workers=2)
        assert dict(counts) == {0: 20, 1: 20, 2: 20, 'all': 60}
        assert consume.errors() == []

    def test_a_coroutine_changes_too(self, consume: Consumed, counts: Table) -> None:
        async def count(window: Any) -> None:
            await asyncio.sleep(0)
            counts['n'] += len(window)

        consume(count, 4, size=2)
        assert counts['n'] == 4

    def test_a_window_that_fails_changes_nothing(self, consume: Consumed, counts: Table) -> None:
        def count(window: Any) -> None:
            counts['n'] += 1
            counts.add('m')
            if window.data[0]['n'] == 1:
                raise ValueError('no')

        consume(count, 3)
        assert dict(counts) == {'m': 2, 'n': 2}
        assert consume.stream.dead.redrive() == 1
        consume(lambda window: counts.update(n=counts['n'] + 1), 0)
        assert dict(counts) == {'m': 2, 'n': 3}

    def test_nobody_sees_a_change_before_the_commit(self, consume: Consumed, counts: Table, db: Any) -> None:
        seen = []

        def count(window: Any) -> None:
            counts['n'] += 1
            seen.append((counts['n'], list(counts), len(counts), db['table'].count_documents({})))

        consume(count)
        assert seen == [(1, ['n'], 1, 0)]
        assert counts['n'] == 1

    def test_it_sees_its_own_changes(self, consume: Consumed, plain: Table) -> None:
        plain.update(a=1, b=2, c=3)
        seen: list[Any] = []

        def work(window: Any) -> None:
            del plain['a']
            plain['d'] = 4
            plain.add('b', 10)
            seen.append(dict(plain))
            seen.append(('a' in plain, plain.pop('c'), plain.get('c'), plain.setdefault('e', 5)))
            seen.append((list(plain.keys(prefix='d')), plain.get_many(['a', 'b', 'd'])))
            plain.clear()
            plain['f'] = 6
            seen.append(list(plain.items()))

        consume(work)
        assert seen == [{'b': 12, 'c': 3, 'd': 4}, (False, 3, None, 5), (['d'], {'b': 12, 'd': 4}), [('f', 6)]]
        assert dict(plain) == {'f': 6}

    def test_a_value_that_was_read_is_a_copy(self, consume: Consumed, plain: Table) -> None:
        plain['a'] = [1]

        def work(window: Any) -> None:
            plain['a'].append(2)
            assert plain['a'] == [1]
            plain['a'] += [3]

        consume(work)
        assert plain['a'] == [1, 3]
        assert consume.errors() == []

    def test_a_window_whose_key_changed_meanwhile_runs_again(self, consume: Consumed, counts: Table, url: str) -> None:
        counts['n'] = 1
        runs: list[Any] = []

        def count(window: Any) -> None:
            runs.append((window.attempt, counts['n'], counts['m']))
            counts['sum'] = counts['n'] + counts['m']
            if len(runs) < 3:  # in another program, so outside of the window
                in_another_thread(lambda: mb.table('counts', url=url).update({'nm'[len(runs) - 1]: 10}))

        consume(count)
        assert runs == [(1, 1, 0), (1, 10, 0), (1, 10, 10)], 'and it is no failed attempt'
        assert dict(counts) == {'m': 10, 'n': 10, 'sum': 20}

    def test_who_only_adds_is_in_nobodys_way(self, consume: Consumed, counts: Table, url: str) -> None:
        runs = []

        def count(window: Any) -> None:
            runs.append(1)
            counts.add('n')
            in_another_thread(lambda: mb.table('counts', url=url).add('n', 10))

        consume(count, 3)
        assert len(runs) == 3
        assert counts['n'] == 33

    def test_a_value_that_mongodb_cannot_hold(self, consume: Consumed, counts: Table) -> None:
        counts['text'] = 'as it was'
        with pytest.raises(mb.TableError, match=r'takes more than 16,760,832 bytes.*nothing was written'):
            counts['text'] = 'x' * 17_000_000

        def work(window: Any) -> None:
            counts['n'] += 1
            counts['text'] = 'x' * (17_000_000 if window.data[0]['n'] == 0 else 10)

        consume(work, 2)
        assert 'takes more than 16,760,832 bytes' in consume.errors()[0]
        assert len(consume.errors()) == 1
        assert dict(counts) == {'n': 1, 'text': 'x' * 10}

    def test_a_sink_gets_nothing_of_a_run_that_does_not_count(self, consume: Consumed, counts: Table, url: str) -> None:
        results: list[Any] = []
        runs: list[int] = []

        def count(window: Any) -> Any:
            counts['n'] += 1
            runs.append(1)
            if len(runs) == 1:
                in_another_thread(lambda: mb.table('counts', url=url).update(n=10))
            return counts['n']

        consume(count, sink=results.append)
        assert results == [11]
        assert len(runs) == 2

    def test_a_window_that_cannot_add_fails_alone(self, consume: Consumed, counts: Table) -> None:
        counts['text'] = 'x'
        counts['most'] = 2 ** 63 - 1

        def count(window: Any) -> None:
            counts.add('n')
            counts.add({0: 'text', 1: 'most'}.get(window.data[0]['n'], 'n'), 1)

        consume(count, 4)
        assert dict(counts) == {'most': 2 ** 63 - 1, 'n': 4, 'text': 'x'}
        assert len(consume.errors()) == 2
        assert "1 cannot be added to 'x'" in consume.errors()[0]
        assert '64 bits' in consume.errors()[1]

    def test_rubbish_fails_the_window_that_brings_it(self, consume: Consumed, plain: Table) -> None:
        def work(window: Any) -> None:
            plain['ok'] = 1
            plain['large'] = 'x' * (16 << 20)

        consume(work)
        assert list(plain) == []
        assert 'nothing was written' in consume.errors()[0]

    def test_what_is_left_running_cannot_change_anything(self, consume: Consumed, counts: Table) -> None:
        left: list[Any] = []

        def work(window: Any) -> None:
            left.append(contextvars.copy_context())

        consume(work)
        with pytest.raises(mb.TableError, match='the window is over'):
            left[0].run(counts.__setitem__, 'n', 1)

    def test_a_table_of_another_database(self, consume: Consumed, server: Any, dbname: str) -> None:
        elsewhere = mb.table('counts', default=int, url=server.url(f'{dbname}_2'))

        def work(window: Any) -> None:
            elsewhere['n'] += 1

        consume(work)
        assert 'another database' in consume.errors()[0]
        assert 'n' not in elsewhere
        server.client.drop_database(f'{dbname}_2')

    def test_a_table_without_a_url_is_where_the_stream_is(self, consume: Consumed, url: str) -> None:
        counts = mb.table('counts', default=int)

        def work(window: Any) -> None:
            counts['n'] += 1

        consume(work, executor='process', workers=1)
        assert mb.table('counts', url=url)['n'] == 1

    def test_exactly_once_sinks_commit_together_with_tables(self, consume: Consumed, counts: Table, db: Any) -> None:
        from minibatch.contrib.mongodb import MongoSink

        def work(window: Any) -> Any:
            counts['n'] += len(window)
            return [{'_id': f'{window.id}', 'n': counts['n']}]

        consume(work, 6, size=2, sink=MongoSink(db['effects'], exactly_once=True))
        assert sorted(each['n'] for each in db['effects'].find()) == [2, 4, 6]
        assert counts['n'] == 6

    def test_windows_that_are_kept(self, consume: Consumed, counts: Table) -> None:
        def work(window: Any) -> None:
            counts['n'] += len(window)

        consume(work, 6, size=2, keep=True)
        assert counts['n'] == 6
        assert consume.stream.window(state='done').count() == 3

    def test_a_standalone_server_refuses(self, alone: Any, dbname: str) -> None:
        url = alone.url(dbname)
        table = mb.table('counts', default=int, url=url)
        table['n'] = 1
        consume = Consumed(url)
        seen = []

        def work(window: Any) -> None:
            seen.append(table['n'])
            table['n'] += 1

        consume(work)
        assert 'replSet' in consume.errors()[0]
        assert seen == [1], 'to look something up is no change'
        assert table['n'] == 1
        alone.client.drop_database(dbname)


def in_another_thread(call: Any) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
