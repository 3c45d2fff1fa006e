"""The examples of the document that minibatch was specified by, run as they stand there.

Where the document's own text is not Python (a slip of indentation, a missing bracket) or leaves out an import, the
example is repaired here, and a comment at the place says how; nothing else is changed.
"""

from __future__ import annotations

import json
from ast import literal_eval

import pytest

from tests.support.scripts import Person, get, need_port
from tests.support.waiting import wait_until

# As it stands, but for the two imports that it leaves out.
PRODUCER = """\
import datetime
from time import sleep

import minibatch as mb
stream = mb.stream('test')
for i in range(100):
    stream.append({'date': datetime.datetime.utcnow().isoformat()})
    sleep(.5)
"""

# The decorator stood deeper than the import, and the ``return`` outside of the function.
CONSUMER = """\
from minibatch import streaming
@streaming('test', size=2, keep=True)
def myprocess(window):
    print(window.data)
    return window
"""

# As it stands, but for the imports that it leaves out.
APP = """\
from minibatch import streaming
from minibatch.contrib.apps import StreamingApp

# app.py
def consumer(url):
   @streaming('test-stream', url=url)
   def processing(window):
      ... # whatever processing you need to do

if __name__ == '__main__':
    app = StreamingApp()
    app.start_streaming(consumer)
    app.run()
"""

# "To add a UI, specify using @app.route, as for any flask app": the same app with one.
APP_WITH_ROUTE = APP.replace("""\
    app.start_streaming(consumer)
""", """\
    @app.route('/')
    def index():
        return 'hello from any flask app'
    app.start_streaming(consumer)
""")

# A bracket was missing at the end.
APP_PRODUCER = """\
import minibatch as mb
stream = mb.stream('test-stream')
stream.append(dict(data='foobar'))
"""

# As it stands; around it, what its ``source`` is.
SOME_SOURCE = """\
import minibatch as mb
source = [{'n': n} for n in range(4)]

class SomeSource:
    ...
    def stream(self, stream):
        for data in source:
            stream.append(data)

stream = mb.stream('sourced')
stream.attach(SomeSource(), background=False)
print(stream.buffer(processed=False).count())
"""

# As it stands; around it, what its ``sink`` is.
SOME_SINK = """\
import minibatch as mb

class sink:
    @staticmethod
    def send(message):
        print('sent', message)

class SomeSink:
    ...
    def put(self, message):
        sink.send(message)

@mb.streaming('sourced', size=4, sink=SomeSink(), blocking=False)
def double(window):
    return [{'n': 2 * message['n']} for message in window.data]
"""

# Word for word; around it, the imports, some data, and a function.
SORTED_WINDOW = """\
import minibatch as mb
from minibatch import Buffer
from minibatch.window import WindowEmitter

class SortedWindow(WindowEmitter):
    \"\"\"
    sort all data by value and output only multiples of 2 in batches of interval size
    \"\"\"
    def window_ready(self):
        qs = Buffer.objects.no_cache().filter(processed=False)
        data = []
        for obj in sorted(qs, key=lambda obj : obj.data['value']):
            if obj.data['value'] % 2 == 0:
                data.append(obj)
                if len(data) >= self.interval:
                    break
        self._data = data
        return len(self._data) == self.interval, ()

    def query(self, *args):
        return self._data

stream = mb.stream('values')
stream.extend({'value': value} for value in [8, 5, 2, 7, 4, 1, 6, 3])

@mb.streaming('values', emitter=SortedWindow, interval=2)
def show(window):
    print([message['value'] for message in window.data])
"""


def test_quick_start(newcomer: Person) -> None:
    """Producer and consumer run at the same time; windows of two arrive in order while messages are still coming."""
    producer = newcomer.start('producer.py', PRODUCER)
    consumer = newcomer.start('consumer.py', CONSUMER)
    consumer.wait_until(lambda: len(consumer.lines) >= 2)
    consumer.interrupt()
    consumer.end()
    assert producer.process.poll() is None
    producer.interrupt()
    producer.process.wait(30)  # it has no handler: Python's own KeyboardInterrupt ends it

    windows = [literal_eval(line) for line in consumer.lines]
    assert all(len(window) == 2 and set(message) == {'date'} for window in windows for message in window)
    dates = sorted(message['date'] for window in windows for message in window)
    assert len(set(dates)) == len(dates), 'a message came twice'
    wait_until(lambda: not newcomer.processes(), 60, what='the embedded server to end with its last client')


def test_keep_true_keeps_buffer_and_windows(person: Person) -> None:
    """``keep=True`` as in the quick start: the documented states are there to look at afterwards."""
    person.run('two.py', "import minibatch as mb\nmb.stream('test').extend([{'date': 'a'}, {'date': 'b'}])\n")
    consumer = person.start('consumer.py', CONSUMER)
    consumer.wait_until(lambda: consumer.lines)
    consumer.interrupt()
    consumer.end()
    seen = person.run('look.py', """\
import minibatch as mb
stream = mb.stream('test')
print([message.processed for message in stream.buffer()])
print([(window.processed, window.data) for window in stream.window()])
""")
    assert seen.splitlines() == ['[True, True]', "[(True, [{'date': 'a'}, {'date': 'b'}])]"]


@pytest.mark.xdist_group('port 5000')
@pytest.mark.parametrize('source', [APP, APP_WITH_ROUTE], ids=['as it stands', 'with a route'])
def test_streaming_app(person: Person, source: str) -> None:
    """``/status`` at the address that the document gives shows that the appended message was processed."""
    need_port(5000)
    app = person.start('app.py', source)
    status = 'http://localhost:5000/status'
    app.wait_until(lambda: get(status)[0] == 200)
    person.run('producer.py', APP_PRODUCER)
    app.wait_until(lambda: _done(get(status)[1]))
    app.wait_until(lambda: json.loads(get(status)[1])['healthy'])  # a moment later: it has to prove itself
    if source is APP_WITH_ROUTE:
        assert get('http://localhost:5000/') == (200, 'hello from any flask app')
    app.interrupt()
    app.end()
    wait_until(lambda: not person.processes(), 60, what='the consumer to end')


def _done(body: str) -> bool:
    stream = json.loads(body)['streams'].get('test-stream')
    return bool(stream) and stream['done'] == 1 and stream['backlog'] == 0


def test_some_source_and_some_sink(person: Person) -> None:
    """Any object with ``stream`` is a source, any object with ``put`` is a sink."""
    assert person.run('source.py', SOME_SOURCE).split() == ['4']
    printed = person.run('sink.py', SOME_SINK)
    assert literal_eval(printed.removeprefix('sent ').strip()) == [{'n': 0}, {'n': 2}, {'n': 4}, {'n': 6}]


def test_sorted_window(person: Person) -> None:
    """The custom emitter runs unchanged, on the documented states."""
    script = person.start('sorted.py', SORTED_WINDOW)
    script.wait_until(lambda: len(script.lines) == 2)
    script.interrupt()
    script.end()
    assert sorted(script.lines) == ['[2, 4]', '[6, 8]']
    left = person.run('left.py', """\
import minibatch as mb
print(sorted(message.data['value'] for message in mb.stream('values').buffer(processed=False)))
""")
    assert left.split('\n')[0] == '[1, 3, 5, 7]', 'what no window asked for stays'
