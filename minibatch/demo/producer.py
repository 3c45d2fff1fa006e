"""The demo's producer: samples of this machine, appended to each stream, in a process of its own.

It is told by a line of JSON on standard input what to do, and says in a line of JSON after each sample what has been
appended so far. When standard input ends, so does it; also if the demo was killed.
"""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

import psutil

import minibatch as mb
from minibatch.errors import MinibatchError

#: What the process is started with. Its module search path comes first of all.
BOOT = """
import json, sys
config = json.loads(sys.stdin.readline())
sys.path[:] = config['path']
from minibatch.demo.producer import main
main(config)
"""

#: Samples a second.
RATE = 20.0


class Producer:
    """The process, as the demo sees it.

    :param url: of MongoDB
    :param streams: names of the streams to append to
    """

    def __init__(self, url: str | None, streams: Sequence[str]) -> None:
        self.appended = dict.fromkeys(streams, 0)
        #: Why it ended, if nobody asked it to.
        self.error: str | None = None
        # A session of its own: a Ctrl-C in the terminal is the demo's, which then stops it.
        self._process = subprocess.Popen([sys.executable, '-c', BOOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         start_new_session=True, text=True)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({'path': sys.path, 'url': url, 'streams': list(streams)}) + '\n')
        self._process.stdin.flush()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def alive(self) -> bool:
        """Whether it still appends."""
        return self._listener.is_alive()

    def stop(self) -> None:
        """Let it finish its sample, and end; then :attr:`appended` is final."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._listener.join(10)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            self.error = 'the producer did not stop, and was killed'
        if self._process.returncode and not self.error:
            self.error = f'the producer ended with code {self._process.returncode}'

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as said:
            for line in said:
                report = json.loads(line)
                self.appended.update(report['appended'])
                self.error = report.get('error')


def main(config: dict[str, Any]) -> None:
    """Append until standard input ends.

    :param config: ``url`` and ``streams``
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    appended = dict.fromkeys(config['streams'], 0)
    try:
        streams = [mb.stream(name, url=config['url']) for name in config['streams']]
        for sample in samples():
            for stream in streams:
                stream.append(sample)
                appended[stream.name] += 1
            _say(appended=appended)
    except MinibatchError as error:
        _say(appended=appended, error=f'{type(error).__name__}: {error}')
        raise SystemExit(1) from error


def samples() -> Iterator[dict[str, Any]]:
    """This machine's metrics, :data:`RATE` times a second, until standard input ends."""
    before, due = _counters(), time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        now = _counters()
        seconds = max(now['at'] - before['at'], 1e-3)
        yield {
            'at': datetime.now(timezone.utc), 'cpu': now['cpu'], 'memory': now['memory'],
            'disk': round((now['disk'] - before['disk']) / seconds),
            'network': round((now['network'] - before['network']) / seconds),
        }
        before, due = now, max(due + 1 / RATE, time.monotonic() - 1)  # after a pause, catch up with a second at most


def _counters() -> dict[str, float]:
    disk, network = psutil.disk_io_counters(), psutil.net_io_counters()  # either is None where there is none
    return {
        'at': time.monotonic(), 'cpu': psutil.cpu_percent(), 'memory': psutil.virtual_memory().percent,
        'disk': disk.read_bytes + disk.write_bytes if disk else 0,
        'network': network.bytes_sent + network.bytes_recv if network else 0,
    }


def _say(**report: Any) -> None:
    sys.stdout.write(json.dumps(report) + '\n')
    sys.stdout.flush()
