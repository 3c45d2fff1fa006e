"""``minibatch demo``: this machine's own metrics, live, through two streams, with a summary that has to add up.

A producer process appends about twenty samples a second to two streams. One consumer cuts its stream by count, one by
the second; each runs in a process of its own, beside a :class:`~minibatch.contrib.apps.StreamingApp` with its
``/status``. The results go through an exactly-once sink into a collection, from which they are shown here. At the
end everything is counted where it lies::

    appended == committed + in open windows + in buffer
"""

from importlib.util import find_spec

from minibatch.errors import MissingExtra

for _name in ('psutil', 'flask', 'waitress'):
    if find_spec(_name) is None:
        raise MissingExtra('demo', _name)

from minibatch.demo.show import run  # noqa: E402

__all__ = ['run']
