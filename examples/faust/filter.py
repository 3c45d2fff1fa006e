"""Faust's filter: clicks with a number of 100 or more go to another stream. ``python filter.py worker`` runs it.

What an agent yields arrives there exactly once. The same as a pipeline, without an app::

    mb.stream('clickevents').filter(lambda click: click['number'] >= 100).to('popular_uris').run()
"""

import minibatch as mb

app = mb.App('clicks')
clickevents, popular_uris = app.stream('clickevents'), app.stream('popular_uris')


@app.agent(clickevents, sinks=[popular_uris])
async def clickevent(windows):
    async for click in windows.messages():
        if click['number'] >= 100:
            yield click


if __name__ == '__main__':
    app.main()
