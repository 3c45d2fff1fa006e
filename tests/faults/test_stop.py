"""``stop()``, Ctrl-C and SIGTERM at any moment: work in hand is finished or given back, and nothing stays behind."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from typing import Any

import pytest

import minibatch as mb
from tests.support.processes import Child
from tests.support.waiting import patience, wait_until
from tests.support.world import World, at

#: far longer than a test lasts: whoever leaves a lease behind blocks the next consumer for good
LONG = 60.0
MOMENTS = ['lead:taken', 'cut:found', 'cut:deleted', 'cut:committed', 'run:submitted', 'run:done', 'sink:done',
           'commit:before', 'commit:done']


def ends_cleanly(world: World, child: Child, within: float = 6) -> None:
    """It returns from ``mb.streaming`` with code 0, soon, and all it has started is gone."""
    since = time.monotonic()
    code = child.wait(20)
    assert code == 0, f'code {code}\n{child.said[-3000:]}'
    assert time.monotonic() - since < patience(within)
    assert any(world.log.read('ended')), 'mb.streaming did not return'
    wait_until(lambda: not child.family(), 3, what='its processes to end')
    assert 'Traceback' not in child.said, child.said[-3000:]


def nothing_is_held(world: World) -> None:
    """The next consumer finishes at once, although leases are long."""
    world.consumer(lease=LONG)
    world.wait_drained(timeout=8)
    assert world.judge().again == 0, 'a window that was drained or given back ran to its effect twice'


@pytest.mark.parametrize(('signum', 'moment'), [
    *[('SIGTERM', moment) for moment in MOMENTS], *[('SIGINT', moment) for moment in MOMENTS[1::3]]])
def test_signals(world: World, moment: str, signum: str) -> None:
    world.append(100)
    child = world.consumer(at=[at(moment, signum)], lease=LONG)
    ends_cleanly(world, child)
    assert world.faults() == [moment]
    nothing_is_held(world)


@pytest.mark.parametrize('moment', ['mark:intended', 'mark:published'])
def test_signals_with_kept_windows(world: World, moment: str) -> None:
    world.keep = True
    world.append(100)
    child = world.consumer(at=[at(moment, 'SIGTERM')], lease=LONG)
    ends_cleanly(world, child)
    nothing_is_held(world)


def test_ctrl_c_in_a_terminal(world: World) -> None:
    """The whole process group gets SIGINT, worker processes too: the windows in hand are finished all the same."""
    world.append(100)
    child = world.consumer(executor='process', workers=2, function={'seconds': 0.5}, lease=LONG)
    world.patiently(lambda: any(world.log.read('run')), 20, 'a worker to run')
    os.killpg(child.pid, signal.SIGINT)
    ends_cleanly(world, child)
    runs, returned = list(world.log.read('run')), list(world.log.read('returned'))
    assert len(runs) == len(returned), 'a window was interrupted in the middle'
    nothing_is_held(world)


def test_sigterm_while_idle(world: World) -> None:
    child = world.consumer(lease=LONG)
    world.append(10)
    world.wait_drained()
    child.send(signal.SIGTERM)
    ends_cleanly(world, child, within=3)
    world.append(10, 'more')
    nothing_is_held(world)


def test_sigterm_with_a_failing_sink(world: World) -> None:
    world.append(20)
    child = world.consumer(sink={'fail': 'always'}, lease=LONG, backoff=0.5)
    world.patiently(lambda: any(world.log.read('sink failed')), 20, 'the sink to fail')
    child.send(signal.SIGTERM)
    ends_cleanly(world, child)
    nothing_is_held(world)


def test_sigterm_while_the_database_is_gone(world_solo: World, solo: Any) -> None:
    """It cannot give back its lease, but it ends, and soon."""
    world = world_solo
    world.append(20)
    child = world.consumer(executor='process', workers=1)
    world.wait_drained()
    solo.nodes[0].kill()
    child.send(signal.SIGTERM)
    assert child.wait(20) == 0, child.said[-3000:]
    wait_until(lambda: not child.family(), 3, what='its processes to end')


def test_a_second_signal_does_not_wait(world: World) -> None:
    """A function that never ends holds up the first Ctrl-C; the second ends the consumer, and no window is lost."""
    world.append(10)
    child = world.consumer(executor='process', workers=1, function={'fault': 'hang'})
    world.patiently(lambda: any(world.log.read('run')), 20, 'a worker to run')
    child.send(signal.SIGINT)
    end = time.monotonic() + 0.5
    wait_until(lambda: time.monotonic() > end)
    assert child.alive, child.said[-3000:]
    child.send(signal.SIGINT)
    child.wait(10)
    wait_until(lambda: not child.family(), 3, what='its processes to end')
    world.consumer()
    world.wait_drained()
    world.judge()


def _threads() -> set[str]:
    return {t.name for t in threading.enumerate() if not t.name.startswith('pymongo') and t.is_alive()}


@pytest.mark.parametrize('executor', ['inline', 'thread', 'process'])
def test_stop_in_the_background(world: World, executor: str) -> None:
    """``emitter.stop()`` of a consumer in a thread: it drains, and its threads and workers are gone."""
    world.append(50)
    before = _threads()
    children = set(os.listdir('/proc/self/task'))
    emitter = mb.streaming(world.stream, _nothing, size=10, url=world.url, executor=executor, workers=2,
                           background=True, lease=LONG)
    world.patiently(lambda: world.db.buffer.count_documents({}) == 0 and world.left() == 0, 20, 'a drained stream')
    emitter.stop()
    wait_until(lambda: _threads() <= before, 8, what=f'the threads to end: {_threads() - before}')
    assert children
    world.append(20, 'more')
    world.consumer(lease=LONG)
    world.wait_drained(timeout=8)


def _nothing(window: Any) -> list[Any]:
    return []


def test_a_queue_stops_it(world: World) -> None:
    """A true value in ``queue=`` stops a blocking consumer."""
    world.append(10)
    orders: queue.Queue[bool] = queue.Queue()
    done = threading.Event()

    def consume() -> None:
        mb.streaming(world.stream, _nothing, size=10, url=world.url, executor='inline', queue=orders, lease=LONG)
        done.set()
    thread = threading.Thread(target=consume, daemon=True)
    thread.start()
    world.wait_drained()
    orders.put(True)
    assert done.wait(5), 'the consumer did not stop'


def test_a_producer_flushes_at_its_end(world: World) -> None:
    """What a batched producer holds is stored when it ends, and the time it waits for company is bounded."""
    producer = world.producer('p', 37, batchsize=10, linger=30)
    assert producer.wait(20) == 0, producer.said
    assert world.db.buffer.count_documents({'stream': world.stream}) == 37
