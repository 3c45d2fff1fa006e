"""Snapstream's second program: what it sends to a topic is read from there, cached, and read from the cache.

The topic is a stream and the cache is a table, so both are in MongoDB. As the sources have names, their items are sent
once, however often this is started.
"""

from time import sleep

import minibatch as mb

messages = '🏆', '📞', '🐟', '👌', '🎩'

app = mb.App('demo', executor='thread', workers=1)
topic = app.stream('demo')
cache = app.table('demo')


@app.agent(source=mb.source(messages, name='messages'), sinks=[topic])
def send_to_topic(window):
    return window.data


@app.agent(topic, sinks=[cache])
def add_key_and_cache(window):
    return [(ord(message['value']), message['value']) for message in window]


def inspect_cache():
    for key in map(ord, messages):
        while not (value := cache.get(key)):
            sleep(0.1)
        yield value


@app.agent(source=mb.source(inspect_cache, name='cache'), sinks=[print])
def read_from_cache(window):
    for message in window:
        return f'Look at this emoji: {message["value"]}'


if __name__ == '__main__':
    app.run()
