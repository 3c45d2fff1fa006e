"""A streaming app in one file: http://localhost:5000/visit/ann appends, a consumer process counts, /status tells.

What the Dockerfile, compose.yaml and the files in ``docs/services/`` run. ``python app.py`` serves the pages and runs
the consumer; ``python app.py web`` and ``python app.py consumer`` do one of them, to have as many as needed of each. A
consumer by itself serves pages, too, among them ``/health`` and ``/metrics``. ``HOST`` and ``PORT`` say where to
listen; by default on this machine only.
"""

import os
import sys

import minibatch as mb
from minibatch.contrib.apps import StreamingApp
from minibatch.contrib.mongodb import MongoSink

app = StreamingApp()


def consumer(url):
    """Count the visits of each window, once and only once, whatever dies."""
    @mb.streaming('visits', size=10, within=1, url=url, sink=MongoSink('visit_counts', exactly_once=True))
    def count(window):
        return {'_id': window.id, 'visits': len(window), 'until': window.end}


@app.route('/visit/<user>')
def visit(user):
    """Append a message; it is durable when this answers."""
    mb.stream('visits').append({'user': user})
    return f'hello {user}\n'


@app.route('/')
def index():
    """How many visits have been counted."""
    counts = mb.connectdb()['visit_counts'].aggregate([{'$group': {'_id': None, 'visits': {'$sum': '$visits'}}}])
    return {'visits': next((each['visits'] for each in counts), 0)}


if __name__ == '__main__':
    roles = sys.argv[1:] or ['web', 'consumer']
    if not set(roles) <= {'web', 'consumer'}:
        sys.exit('usage: python app.py [web] [consumer]')
    if 'consumer' in roles:
        app.start_streaming(consumer)
    app.run(host=os.environ.get('HOST', '127.0.0.1'), port=int(os.environ.get('PORT', '5000')))
