"""StreamingApp under the name that programs written for the original import, with a full example."""

from __future__ import annotations

from minibatch.contrib import apps

__all__ = ['StreamingApp']


class StreamingApp(apps.StreamingApp):
    """A Flask app whose consumers run beside it; the same as :class:`minibatch.contrib.apps.StreamingApp`.

    A full example: temperatures come in over HTTP, a consumer averages them by room, five seconds at a time, and
    a page shows the averages. Save it as ``app.py``::

        from collections import defaultdict

        import minibatch as mb
        from flask import request
        from minibatch.contrib.apps.omegaml import StreamingApp
        from minibatch.contrib.mongodb import MongoSink

        app = StreamingApp()

        def averages(url):
            # the sink writes where the page below can read: one document for each room, replaced by the next
            @mb.streaming('temperatures', interval=5, url=url, sink=MongoSink('rooms', 'upsert', key='room'))
            def average(window):
                rooms = defaultdict(list)
                for message in window.data:
                    rooms[message['room']].append(message['celsius'])
                return [{'room': room, 'celsius': sum(each) / len(each), 'of': len(each), 'until': window.end}
                        for room, each in rooms.items()]

        @app.route('/temperatures', methods=['POST'])
        def take():
            mb.stream('temperatures', url=app.url).append(request.get_json())
            return '', 204

        @app.route('/')
        def show():
            rooms = mb.connectdb(app.url)['rooms'].find({}, {'_id': False}, sort=[('room', 1)])
            return '<br>'.join(f"{r['room']}: {r['celsius']:.1f} °C" for r in rooms)

        if __name__ == '__main__':
            app.start_streaming(averages)
            app.run()

    Run it, feed it, look at it::

        $ python app.py
        $ curl -X POST -H 'Content-Type: application/json' -d '{"room": "attic", "celsius": 31.5}' \\
            http://127.0.0.1:5000/temperatures
        $ curl http://127.0.0.1:5000/
        $ curl http://127.0.0.1:5000/status

    The consumer is a process of its own: it is started again if it dies, finishes its windows when the app is
    stopped with Ctrl-C, and ends with the app. What was appended meanwhile waits in MongoDB.
    """
