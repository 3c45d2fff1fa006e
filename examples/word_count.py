"""The word count: how often each word has come so far. The counts are in MongoDB, right whatever dies meanwhile."""

import re

import minibatch as mb

lines = mb.stream('lines')
counts = lines.flat_map(lambda line: re.findall(r'\w+', line['text'].lower())).group_by(str).count()

if __name__ == '__main__':
    counts.to(lambda word: print(word['key'], word['count'])).run()
