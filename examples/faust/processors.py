"""Faust's processors: functions that take a record and return one, applied in order, plain and coroutine functions."""

import random

import minibatch as mb


def add_score(record):
    return {**record, 'score': random.random()}


async def add_grade(record):
    return {**record, 'grade': 'AB'[record['score'] < 0.5]}


scored = mb.stream('records').map([add_score, add_grade]).to('scored')

if __name__ == '__main__':
    print(scored.explain())
    scored.run()
