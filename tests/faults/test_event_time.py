"""Windows of time are over when they should be, though everything crashed in between."""

from __future__ import annotations

import time
from datetime import datetime, timezone

import pytest

import minibatch as mb
from minibatch import alive
from minibatch.clock import SECOND, micros
from tests.support.mongod import Deployment
from tests.support.world import World


@pytest.mark.parametrize('lease', [
    None, pytest.param(15, marks=pytest.mark.skipif(alive.mark() is None, reason='this system has no /proc'))])
@pytest.mark.parametrize('options', [{'interval': 5}, {'gap': 5}], ids=['tumbling', 'session'])
def test_a_window_is_over_on_time_after_a_crash_of_everything(
        world_solo: World, solo: Deployment, options: dict[str, int], lease: int | None) -> None:
    """No message comes any more; consumer and database are killed while the window is open, and start again.

    With the lease that consumers have by default, the next one leads because it sees that the process has ended.
    """
    if lease is not None:
        options = {**options, 'lease': lease}
    world = world_solo
    now = time.time()
    begin = micros(datetime.fromtimestamp(now, timezone.utc).replace(tzinfo=None)) / SECOND
    if 'gap' not in options:
        options = {**options, 'offset': begin % 5}
    mb.stream(world.stream, url=world.url).extend([{'id': 't:0', 'ts': begin}])
    due = now + 5
    first = world.consumer(size=None, time='ts', **options)
    world.patiently(lambda: world.db.stream.count_documents({'placed.watermark': {'$exists': True}}), 20,
                    'the message to be read')
    solo.nodes[0].kill()
    first.kill()
    assert world.effects() == 0
    solo.nodes[0].start()
    world.consumer(size=None, time='ts', **options)
    started = time.time()
    world.patiently(lambda: world.effects() > 0, 30, 'the window to be over')
    late = time.time() - max(due, started)
    print(f'{late:.2f} s after it was due')
    assert late > -0.1
    assert late < (1 if started < due - 1 else 5), 'in time, unless the restart itself took that long'
    world.wait_drained()
