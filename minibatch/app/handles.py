"""Streams of an app, by name: opened when they are used, so that defining an app needs no MongoDB."""

from __future__ import annotations

import os
import threading
from typing import Any

from minibatch import api
from minibatch.errors import OptionError
from minibatch.models import Stream, check_name


class AppStream:
    """A stream of an app: all that a :class:`minibatch.Stream` is, once one of its attributes is used.

    It may be a global of the app's module and be used in agents, in worker processes too.

    :param name: of the stream
    :param url: its database (default: as :func:`minibatch.connectdb` finds it)
    :param options: as of :func:`minibatch.stream`

    >>> visits = AppStream('docs-visits')
    >>> visits.append({'page': '/'})
    >>> visits.clear()
    1
    """

    def __init__(self, name: str, url: str | None = None, **options: Any) -> None:
        check_name(name)
        self.name, self.url, self.options = name, url, options
        self._opened: tuple[int, Stream] | None = None
        self._opening = threading.Lock()

    def __repr__(self) -> str:
        return f'app.stream({self.name!r})'

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.name, self.url, self.options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):  # what copy, pickle and the like ask for; not worth a connection
            raise AttributeError(name)
        return getattr(self.open(), name)

    def open(self) -> Stream:
        """The stream itself; the same one each time, in one process."""
        with self._opening:
            if self._opened is None or self._opened[0] != os.getpid():
                self._opened = os.getpid(), api.stream(self.name, url=self.url, **self.options)
            return self._opened[1]


def _again(name: str, url: str | None, options: dict[str, Any]) -> AppStream:
    return AppStream(name, url, **options)


def name_of(given: Any) -> str:
    """The name of a stream that is given by it, or as an object.

    :raises minibatch.errors.OptionError: it is neither
    """
    name = given if isinstance(given, str) else given.name if isinstance(given, (AppStream, Stream)) else None
    if name is None:
        raise OptionError(f'a stream is given by its name, or as app.stream(name), not as {given!r}')
    check_name(name)
    return name
