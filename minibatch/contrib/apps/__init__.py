"""Streaming apps: a web app and its consumers, started, watched and stopped together.

>>> from minibatch import streaming
>>> from minibatch.contrib.apps import StreamingApp
>>> def consumer(url):
...     @streaming('test-stream', url=url)
...     def processing(window):
...         ...                                  # whatever processing you need to do
>>> if __name__ == '__main__':                   # doctest: +SKIP
...     app = StreamingApp()
...     app.start_streaming(consumer)
...     app.run()                                # http://127.0.0.1:5000/status

A full example, with a page of its own, is in the documentation of :class:`minibatch.contrib.apps.omegaml.StreamingApp`.
"""

from importlib.util import find_spec

from minibatch.errors import MissingExtra

for _name in ('flask', 'waitress', 'prometheus_client'):
    if find_spec(_name) is None:
        raise MissingExtra('apps', _name)

from minibatch.contrib.apps.app import StreamingApp  # noqa: E402

__all__ = ['StreamingApp']
