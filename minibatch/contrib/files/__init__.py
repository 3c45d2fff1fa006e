"""Files as sources and sinks: JSON lines, CSV and text, finished or still growing.

>>> import json, tempfile, pathlib, minibatch as mb
>>> from minibatch.contrib.files import FileSource
>>> path = pathlib.Path(tempfile.mkdtemp(), 'clicks.jsonl')
>>> _ = path.write_text('{"user": "ann", "ms": 12}\\n{"user": "bob", "ms": 7}\\n')
>>> stream = mb.stream('docs-files')
>>> stream.attach(FileSource(path), background=False)           # follow=True goes on as the file grows
>>> [each.data['user'] for each in stream.buffer()]
['ann', 'bob']
>>> stream.attach(FileSource(path), background=False)           # it knows how far it was
>>> stream.clear()
2

What it does, and when:

======================  ==========================================================================================
a restart, a crash      it goes on at the byte where it was: each line is in the stream exactly once
rotation (renamed)      what was left in the old file is read first, then the new one from its beginning; also when
                        it happened while the source was not running, if the old file is still in that directory
truncation, rewriting   noticed by the size and by the file's first bytes; the file is read from its beginning
a line without an end   with ``follow=True`` it waits for the rest; else it is a message
what cannot be read     a dead letter with the line, its place and the reason
======================  ==========================================================================================
"""

from minibatch.contrib.files.sink import FileSink
from minibatch.contrib.files.source import FileSource

__all__ = ['FileSink', 'FileSource']
