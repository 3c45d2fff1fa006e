"""Ids of messages sort in the order in which a process made them, and no two are the same."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import threading

import bson
import pytest

from minibatch.clock import EPOCH
from minibatch.ids import ObjectIds
from minibatch.messages import documents

NOW = dt.datetime(2026, 1, 31, 12)


def test_ids_grow_whatever_the_clock_does() -> None:
    ids = ObjectIds()
    clock = [NOW, NOW + dt.timedelta(seconds=1), NOW - dt.timedelta(hours=1), NOW, EPOCH - dt.timedelta(days=1)]
    made = list(itertools.chain.from_iterable(ids.take(3, now) for now in clock))
    assert made == sorted(set(made))
    assert made[0].binary[-3:] == made[3].binary[-3:] == b'\0\0\0', 'the counter starts at 0 in each second'


def test_ids_grow_past_the_end_of_the_counter() -> None:
    ids = ObjectIds()
    [first] = ids.take(1, NOW)
    ids._count = (1 << 24) - 2
    made = ids.take(5, NOW)
    assert [first, *made] == sorted({first, *made})
    assert made[-1].binary[-3:] == b'\0\0\2'


def test_ids_of_threads_are_all_different() -> None:
    ids = ObjectIds()
    made: list[list[bson.ObjectId]] = []
    threads = [threading.Thread(target=lambda: made.append([each for _ in range(200) for each in ids.take(5, NOW)]))
               for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(itertools.chain.from_iterable(made))) == 8 * 1000
    assert all(each == sorted(each) for each in made)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='nothing forks here')
def test_a_forked_child_makes_ids_of_its_own() -> None:
    [parent] = documents('clicks', [{}], NOW)
    out, into = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(into, documents('clicks', [{}], NOW)[0]['_id'].binary)
        os._exit(0)
    os.waitpid(pid, 0)
    child = bson.ObjectId(os.read(out, 12))
    os.close(out)
    os.close(into)
    assert child.binary[4:9] != parent['_id'].binary[4:9]
