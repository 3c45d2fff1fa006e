"""Datasets with the interface of omega|ml: the part of it that our source and sink use, on a real MongoDB.

Kinds, shapes and the fields that are added to rows are those that omegaml 0.18 stores.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
from pymongo import MongoClient
from pymongo.collection import Collection


class Datasets:
    """Datasets of one database.

    :param url: of the database
    """

    def __init__(self, url: str) -> None:
        self.client: MongoClient[dict[str, Any]] = MongoClient(url)
        self.db = self.client.get_default_database()

    def collection(self, name: str) -> Any:
        """What holds the dataset; like a collection, and not one."""
        return _Wrapped(self.db[f'omegaml.{name}.datastore'])

    def metadata(self, name: str) -> Any:
        """What is known of a dataset; ``None`` if there is none."""
        found = self.db['omegaml_metadata'].find_one({'_id': name})
        return None if found is None else SimpleNamespace(kind=found['kind'])

    def put(self, obj: Any, name: str, append: bool = True) -> None:
        """Add to a dataset, or replace it."""
        collection = self.collection(name)
        if not append:
            collection.delete_many({})
        if isinstance(obj, _Wrapped):
            kind = 'pandas.rawdict'
        elif isinstance(obj, pd.DataFrame):
            kind = 'pandas.dfrows'
            done = collection.count_documents({})
            rows = obj.astype(object).to_dict('records')
            collection.insert_many([{'_idx#0_0': n, **row, '_om#rowid': done + n} for n, row in enumerate(rows)])
        else:
            kind = 'python.data'
            collection.insert_one({'data': obj})
        self.db['omegaml_metadata'].replace_one({'_id': name}, {'kind': kind}, upsert=True)

    def get(self, name: str) -> Any:
        """All that is in a dataset."""
        meta = self.metadata(name)
        if meta is None:
            return None
        docs = list(self.collection(name).find({}, {'_id': 0}, sort=[('_id', 1)]))
        if meta.kind == 'python.data':
            return [doc.get('data') for doc in docs]
        return pd.DataFrame(docs).drop(columns=['_om#rowid', '_idx#0_0'], errors='ignore')

    @classmethod
    def at(cls, url: str) -> Datasets:
        """Those of a database, the same object each time."""
        if url not in _known:
            _known[url] = cls(url)
        return _known[url]

    def close(self) -> None:
        """Close the connection."""
        self.client.close()
        for url in [url for url, known in _known.items() if known is self]:
            del _known[url]


_known: dict[str, Datasets] = {}


class _Wrapped:
    def __init__(self, collection: Collection[dict[str, Any]]) -> None:
        self._collection = collection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)


class Lists:
    """Datasets in memory, with nothing but ``put`` and ``get``."""

    def __init__(self) -> None:
        self.lists: dict[str, list[Any]] = {}

    def put(self, obj: Any, name: str, append: bool = True) -> None:
        """Add to a dataset, or replace it."""
        self.lists[name] = [*(self.lists.get(name, []) if append else []), obj]

    def get(self, name: str) -> Any:
        """All that is in a dataset; ``None`` if there is none."""
        return self.lists.get(name)
