"""What both sources of MongoDB share: the collection, options, patience, and which errors pass."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import pymongo
from bson.raw_bson import RawBSONDocument
from pymongo import ReadPreference
from pymongo.collection import Collection
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from minibatch.errors import AccessRefused, OptionError
from minibatch.store.base import passing

log = logging.getLogger(__name__)

#: Seconds that one request may take before it counts as an outage.
PATIENCE = 5.0
_NOT_ALLOWED = frozenset({13, 18, 8000})


class Away(Exception):
    """The MongoDB upstream does not answer; it may again."""


def majority(collection: Collection[Any], *, raw: bool = False) -> Collection[Any]:
    """The collection, read from the primary and only what no failover takes back."""
    codec = collection.codec_options
    if raw:
        codec = codec.with_options(document_class=RawBSONDocument)
    return collection.with_options(codec, ReadPreference.PRIMARY, read_concern=ReadConcern('majority'))


def collection_of(given: Any, stream: Any) -> Collection[Any]:
    """The collection that a user means: itself, or one in the stream's database by its name."""
    found: Collection[Any] = stream.store.connection.db[given] if isinstance(given, str) else given
    return found


def check_collection(given: Any) -> None:
    """Refuse what is no collection.

    :raises OptionError: it is none
    """
    if not isinstance(given, Collection) and not (isinstance(given, str) and given):
        raise OptionError(f'collection is {given!r}; give a pymongo Collection, or the name of one')


def name_of(given: Any) -> str:
    """The full name of a collection, or that in the stream's database."""
    return given if isinstance(given, str) else str(given.full_name)


def check_seconds(option: str, value: Any, *, least: float = 0.0) -> float:
    """Refuse what is no number of seconds.

    :raises OptionError: it is none
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < float('inf'):
        raise OptionError(f'{option} must be a number of seconds, {least:g} or more, not {value!r}')
    return float(value)


@contextlib.contextmanager
def asking(what: str) -> Iterator[None]:
    """Ask the MongoDB upstream: patience, and its errors as ours.

    :raises Away: what may pass by itself
    :raises AccessRefused: the user may not read it
    """
    try:
        with pymongo.timeout(PATIENCE):
            yield
    except PyMongoError as error:
        if isinstance(error, OperationFailure) and error.code in _NOT_ALLOWED:
            raise AccessRefused(f'MongoDB does not let the source read {what} ({error.details or error}); grant its '
                                'user the role read there') from error
        if passing(error):
            raise Away(f'{type(error).__name__} at {what}') from error
        raise
