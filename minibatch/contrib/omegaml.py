"""Datasets of omega|ml, as sources and as sinks.

>>> import minibatch as mb
>>> from minibatch.contrib.omegaml import DatasetSink, DatasetSource
>>> stream = mb.stream('readings')                                                  # doctest: +SKIP
>>> stream.attach(DatasetSource(om, 'readings'))                                    # doctest: +SKIP
>>> @mb.streaming('readings', size=100, sink=DatasetSink(om, 'averages'))           # doctest: +SKIP
... def average(window):
...     return {'celsius': sum(each['celsius'] for each in window.data) / len(window.data), 'until': window.end}

``om`` is whatever ``omegaml.setup()`` returns, or any object with the same ``datasets``; omegaml itself is not needed
here. This much is asked of ``datasets``:

==================================  ==================================================================================
``get(name)``                       all rows so far, the new ones last: a DataFrame, a list, a dict; ``None`` if there
                                    is no such dataset yet
``put(obj, name, append=True)``     add a dict, or a DataFrame, to what is there
``collection(name)``                if there is one: the MongoDB collection that holds the dataset
``metadata(name)``                  if there is one: ``None``, or what has the attribute ``kind``
==================================  ==================================================================================
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from minibatch.contrib.base import as_document
from minibatch.contrib.inlet import Inlet
from minibatch.contrib.mongodb import MongoSink
from minibatch.contrib.reconnect import detached, persist
from minibatch.errors import HistoryLost, MissingExtra, OptionError, did_you_mean

KINDS = ('documents', 'frame', 'objects')
_LOST = ('fail', 'resume', 'rescan')
#: How omega|ml calls what is in a dataset, and how we add to it.
_KIND_OF = {'pandas.rawdict': 'documents', 'pandas.dfrows': 'frame', 'pandas.serows': 'frame', 'python.data': 'objects'}


class DatasetSource:
    """Read a dataset into a stream, and what is added to it as it comes; each row is in the stream once.

    A row of a DataFrame is a dict of its columns (and of its index, if that has a name); a list inside of a list,
    which omega|ml makes of a list that is put, is that many rows. What has been read is known by the number of rows, so
    new ones have to come last, as omega|ml adds them. The dataset need not exist yet.

    :param om: an ``Omega``, or any object with ``datasets``
    :param dataset: its name
    :param name: of the source, under which its position is stored (default: ``dataset:`` and the dataset's name)
    :param interval: seconds between two looks at the dataset
    :param follow: go on when all is read (default), or end
    :param schema: what a row has to fit (:mod:`minibatch.contrib.schemas`)
    :param on_history_lost: if the dataset has fewer rows than were read, since it was replaced: ``'fail'`` raises
        :class:`~minibatch.errors.HistoryLost`, ``'resume'`` goes on after the rows that are there, ``'rescan'`` reads
        them all
    :param size: most rows stored at once
    :raises minibatch.errors.OptionError: an option cannot be
    """

    def __init__(self, om: Any, dataset: str, *, name: str | None = None, interval: float = 1.0, follow: bool = True,
                 schema: Any = None, on_history_lost: str = 'fail', size: int = 1000) -> None:
        self.datasets, self.dataset = _datasets(om, 'get'), _named(dataset)
        if isinstance(interval, bool) or not isinstance(interval, (int, float)) or not 0 < interval < float('inf'):
            raise OptionError(f'interval must be a number of seconds, more than 0, not {interval!r}')
        if on_history_lost not in _LOST:
            raise OptionError(f"on_history_lost must be 'fail', 'resume' or 'rescan', not {on_history_lost!r}"
                              f'{did_you_mean(str(on_history_lost), _LOST)}')
        self.name = name or f'dataset:{dataset}'
        self.interval, self.follow, self.on_history_lost = interval, bool(follow), on_history_lost
        self._schema, self._size = schema, size
        self.cancelled = threading.Event()

    def __repr__(self) -> str:
        return f'DatasetSource({self.dataset!r})'

    def stream(self, stream: Any) -> None:
        """Append the rows that are there and those that are added, until :meth:`cancel` is called.

        :raises minibatch.errors.HistoryLost: the dataset was replaced by a shorter one, with ``on_history_lost='fail'``
        """
        with Inlet(stream, self.name, schema=self._schema, size=self._size, cancelled=self.cancelled) as inlet:
            detached(lambda: persist(lambda up: self._session(inlet, up), repr(self), cancelled=self.cancelled,
                                     on=(ConnectionError, TimeoutError, PyMongoError)), self.cancelled)

    def cancel(self) -> None:
        """Stop within a second; what was read and not stored is read again by the next one."""
        self.cancelled.set()

    def _session(self, inlet: Inlet, up: Any) -> None:
        done, last = int(inlet.open() or 0), None
        while not self.cancelled.is_set():
            count = self._count()
            if count is not None and count == last:
                self.cancelled.wait(self.interval)
                continue
            rows, last = rows_of(self.datasets.get(self.dataset)), count
            up()
            if len(rows) < done:
                done = self._lost(inlet, len(rows), done)
            while done < len(rows) and not self.cancelled.is_set():
                part = rows[done:done + self._size]
                inlet.extend(part, range(done + 1, done + len(part) + 1))
                done += len(part)
            inlet.flush()
            inlet.durable()
            if not self.follow:
                return
            self.cancelled.wait(self.interval)

    def _count(self) -> int | None:
        """How many documents hold the dataset, which is cheap to ask; ``None`` if it is not known to be held by any."""
        collection, metadata = (getattr(self.datasets, name, None) for name in ('collection', 'metadata'))
        if not callable(collection) or not callable(metadata):
            return None
        meta = metadata(self.dataset)
        if meta is None or str(meta.kind) not in _KIND_OF:
            return None
        return int(collection(self.dataset).estimated_document_count())

    def _lost(self, inlet: Inlet, there: int, done: int) -> int:
        if self.on_history_lost == 'fail':
            raise HistoryLost(f'dataset {self.dataset!r} has {there:,} rows, and {done:,} of it were read before: it '
                              "was replaced; nothing was appended; say with on_history_lost='rescan' to read what "
                              "there is, or 'resume' to go on after it")
        done = there if self.on_history_lost == 'resume' else 0
        inlet.advance(done)
        return done


class DatasetSink:
    """Add results to a dataset.

    :param om: an ``Omega``, or any object with ``datasets``
    :param dataset: its name; it is made if it is not there
    :param kind: how results are stored: ``'documents'`` of a MongoDB collection, which omega|ml reads as a DataFrame;
        rows of a ``'frame'`` (by pandas); or Python ``'objects'``, one by one. By default in the way of the dataset; a
        new one holds a frame if the result is a DataFrame, else documents if datasets have a ``collection``, else
        objects.
    :param expand: a list is as many results (default), or one
    :param mode: with documents: ``'insert'`` or ``'upsert'``, as of :class:`~minibatch.contrib.mongodb.MongoSink`
    :param key: with ``'upsert'``, the field that tells which document to replace
    :raises minibatch.errors.OptionError: an option cannot be

    A window that runs again is added again, except for documents that are upserted.
    """

    #: Results that are data frames come as such, not as their rows.
    frames = True

    def __init__(self, om: Any, dataset: str, *, kind: str | None = None, expand: bool = True, mode: str = 'insert',
                 key: str | Sequence[str] | None = None) -> None:
        self.datasets, self.dataset = _datasets(om, 'put'), _named(dataset)
        if kind is not None and kind not in KINDS:
            raise OptionError(f"kind must be 'documents', 'frame' or 'objects', not {kind!r}"
                              f'{did_you_mean(str(kind), KINDS)}')
        if kind == 'documents' and not callable(getattr(self.datasets, 'collection', None)):
            raise OptionError("kind='documents' needs datasets with a collection(name); these have none")
        if not expand and kind in ('documents', 'frame'):
            raise OptionError(f"expand=False goes with kind='objects'; {kind} are rows, and a list is many")
        if (mode != 'insert' or key is not None) and kind not in (None, 'documents'):
            raise OptionError("mode= and key= go with kind='documents'")
        self.kind, self.expand, self.mode, self.key = kind, bool(expand), mode, key
        MongoSink('checked', mode, key)  # what it refuses is refused now
        self._documents: MongoSink | None = None

    def __repr__(self) -> str:
        return f'DatasetSink({self.dataset!r}{f", kind={self.kind!r}" if self.kind else ""})'

    def put(self, message: Any) -> None:
        """Store a result; it is in the dataset when this returns.

        :raises minibatch.errors.InvalidMessage: it cannot be stored; nothing of it was
        """
        if not self.expand and not _is_frame(message):
            self._put(message)
            return
        rows = [as_document(row) for row in (rows_of(message))]
        if not rows:
            return
        kind = self._kind(message)
        if kind == 'documents':
            self._collection().put(rows)
        elif kind == 'frame':
            self._put(_pandas().DataFrame(rows))
        else:
            for row in rows:
                self._put(row)

    def flush(self) -> None:
        """Nothing to do: ``put`` returns when the result is safe."""

    def close(self) -> None:
        """Nothing to do: the connection is that of ``om``."""
        self._documents = None

    def _kind(self, message: Any) -> str:
        if self.kind is not None:
            return self.kind
        meta = self.datasets.metadata(self.dataset) if hasattr(self.datasets, 'metadata') else None
        if meta is not None:
            return _KIND_OF.get(str(meta.kind), 'objects')
        if _is_frame(message) and self.mode == 'insert':
            return 'frame'
        return 'documents' if callable(getattr(self.datasets, 'collection', None)) else 'objects'

    def _put(self, what: Any) -> None:
        self.datasets.put(what, self.dataset, append=True)

    def _collection(self) -> MongoSink:
        if self._documents is None:
            given = self.datasets.collection(self.dataset)
            if self.datasets.metadata(self.dataset) is None:
                self.datasets.put(given, self.dataset)  # so that it is known as a dataset
            # omega|ml answers something that only behaves like a collection
            collection = given if isinstance(given, Collection) else given.database[given.name]
            self._documents = MongoSink(collection, self.mode, self.key)
        return self._documents


def rows_of(value: Any) -> list[Any]:
    """The rows of a DataFrame or a Series, of a list, of lists in a list, or of a single value.

    >>> rows_of([{'n': 1}, [{'n': 2}, {'n': 3}]])
    [{'n': 1}, {'n': 2}, {'n': 3}]
    >>> rows_of({'n': 1}), rows_of(None)
    ([{'n': 1}], [])
    """
    if value is None:
        return []
    if _is_frame(value):
        frame = value.to_frame(name=value.name or 'value') if value.ndim == 1 else value
        if any(name is not None for name in frame.index.names):
            frame = frame.reset_index()
        return [{str(column): item for column, item in row.items()} for row in frame.to_dict('records')]
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        return [value]
    rows: list[Any] = []
    for each in value:
        rows += each if isinstance(each, (list, tuple)) else [each]
    return rows


def _is_frame(value: Any) -> bool:
    pandas = sys.modules.get('pandas')  # whoever has a DataFrame has imported it
    return pandas is not None and isinstance(value, (pandas.DataFrame, pandas.Series))


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise MissingExtra('dataframe', 'pandas') from error
    return pandas


def _datasets(om: Any, verb: str) -> Any:
    datasets = getattr(om, 'datasets', om)
    if not callable(getattr(datasets, verb, None)):
        raise OptionError(f'om is {om!r}; give an Omega, or an object whose .datasets has {verb}()')
    return datasets


def _named(dataset: object) -> str:
    if not isinstance(dataset, str) or not dataset:
        raise OptionError(f'dataset is {dataset!r}; give the name of one')
    return dataset
