"""Faust's windowed tables: clicks on each page, in tumbling windows of 5 minutes and in hopping ones each minute.

The counts are committed together with the clicks that they count, so they are right whatever dies meanwhile. Windows
go by the time in the clicks; without ``relative_to_field`` it is the time at which they were appended.
"""

import minibatch as mb

app = mb.App('clicks')
views = app.table('views', default=int)
tumbling = views.tumbling(300).relative_to_field('at')
hopping = views.hopping(300, 60, expires=3600).relative_to_field('at')


@app.agent('clickevents', sinks=[print])
async def count(windows):
    async for click in windows.messages():
        page = click['page']
        tumbling[page] += 1
        hopping[page] += 1
        before, lately = tumbling[page].delta(300), hopping[page].delta(240)  # of the window that ends in this minute
        yield f'{page}: {tumbling[page].current()} in these 5 minutes, {before} in those before, {lately} lately'


if __name__ == '__main__':
    app.main()
