"""Snapstream's first program: an iterable, a handler, a sink."""

import minibatch as mb

stream = mb.stream('numbers')
stream.attach(range(5), background=False)


@mb.streaming('numbers', sink=print, workers=1, blocking=False)
def handler(window):
    for message in window:
        return f'Hello {message["value"]}'
