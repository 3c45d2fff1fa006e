"""Every exception that minibatch raises on purpose, drawn as a tree.

::

    MinibatchError
    ├── OptionError            an option or a name that minibatch does not take      (also a ValueError)
    ├── ConnectError           no MongoDB to talk to: absent, refused, wrong set     (also a ConnectionError)
    │   └── EmbeddedError      the embedded MongoDB is missing or does not start
    ├── StoreUnavailable       MongoDB went away in the middle of something          (also a ConnectionError)
    ├── InvalidMessage         a message that cannot be stored; nothing was          (also a ValueError)
    │   ├── MessageTooLarge
    │   └── Unfit              it does not fit the schema that it was to have
    ├── CodecError             a codec cannot do it: what it was given stays         (also a ValueError)
    │   ├── Undecodable        bytes from outside that are no message
    │   └── Unencodable        a message that cannot be written as bytes
    ├── TableError             a key or a value that a table cannot take             (also a ValueError)
    ├── BacklogFull            ``max_backlog`` is reached and the stream is set to raise
    ├── LeaseLost              somebody else does this work now: drop it, touch nothing
    ├── WindowError            one attempt at a window failed
    │   ├── WindowTimeout      the function ran longer than ``timeout``
    │   └── WorkerDied         the worker process died while it ran the function
    ├── PositionMoved          somebody else has read a source on: start again from where it is
    ├── HistoryLost            where a source was to go on is gone upstream          (also a LookupError)
    ├── AccessRefused          a bridge's other end refuses the credentials
    ├── DeliveryFailed         a sink's other end did not confirm a result           (also a ConnectionError)
    ├── IntegrityError         documents contradict each other; nothing was changed
    └── MissingExtra           an optional package is not installed                  (also an ImportError)

A message of ours says what was wrong, what happened to the data and what to do next. Connection strings in
messages are masked before they get here (:func:`minibatch.connection.masked`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class MinibatchError(Exception):
    """Base of all exceptions raised by minibatch."""


class OptionError(MinibatchError, ValueError):
    """An option, or its value, that cannot be used; raised before anything is stored or started."""


class ConnectError(MinibatchError, ConnectionError):
    """No usable MongoDB at the given URL."""


class EmbeddedError(ConnectError):
    """The embedded MongoDB cannot be found or started."""


class StoreUnavailable(MinibatchError, ConnectionError):
    """MongoDB did not answer, or could not make a write durable, in time."""


class InvalidMessage(MinibatchError, ValueError):
    """A message that MongoDB could not store; nothing of it was stored.

    :ivar path: where in the message, for example ``data.user.tags[3]``
    """

    def __init__(self, text: str, *, path: str = 'data') -> None:
        super().__init__(text)
        self.path = path


class MessageTooLarge(InvalidMessage):
    """A message above the size that MongoDB can store (16 MB less 16 KB for what the engine adds)."""


class Unfit(InvalidMessage):
    """A message that does not fit the schema it was to have.

    :ivar field: which field, for example ``user.tags[3]``; empty if it is the message as a whole
    :ivar reason: what is wrong with it, a sentence of which the field is the subject
    """

    def __init__(self, text: str, *, field: str = '', reason: str = '') -> None:
        super().__init__(text, path=f'data.{field}' if field else 'data')
        self.field, self.reason = field, reason or text


class CodecError(MinibatchError, ValueError):
    """Bytes and messages that a codec cannot turn into each other.

    :ivar reason: why, in one line that does not repeat the payload
    """

    @property
    def reason(self) -> str:
        """What it says."""
        return str(self)


class Undecodable(CodecError):
    """Bytes that are no message; a source keeps them as a dead letter and goes on."""


class Unencodable(CodecError):
    """A message that cannot be written as bytes; it fails the attempt at its window."""


class TableError(MinibatchError, ValueError):
    """A key, a value or an operation that a table cannot take; nothing was written."""


class BacklogFull(MinibatchError):
    """The stream holds ``max_backlog`` messages; what was being appended was not stored."""


class LeaseLost(MinibatchError):
    """The right to cut or to run went to another consumer: a normal outcome, with nothing left to do."""


class WindowError(MinibatchError):
    """One attempt at a window failed; the window is kept for the next one."""


class WindowTimeout(WindowError):
    """The function ran longer than ``timeout`` seconds."""


class WorkerDied(WindowError):
    """The process that ran the function died: killed, out of memory, ``os._exit``."""


class PositionMoved(MinibatchError):
    """Another process has read a source on meanwhile; nothing was stored, and the source starts again from there."""


class HistoryLost(MinibatchError, LookupError):
    """The position that a source has stored is gone upstream: what came after it may be lost. Nothing was appended.

    Sources take ``on_history_lost``: ``'fail'`` raises this, ``'resume'`` goes on with what is there, ``'rescan'``
    reads all that is there once more.
    """


class AccessRefused(MinibatchError):
    """The server at the other end of a source or a sink refuses the credentials, or what they were used for."""


class DeliveryFailed(MinibatchError, ConnectionError):
    """The server at the other end of a sink did not confirm all of a window's result; the window is tried again."""


class IntegrityError(MinibatchError):
    """Documents in the database contradict each other."""


class MissingExtra(MinibatchError, ImportError):
    """An optional dependency is not installed.

    >>> str(MissingExtra('kafka', 'kafka-python'))
    "kafka-python is not installed; install it with: pip install 'minibatch[kafka]'"
    """

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install 'minibatch[{extra}]'")


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Suggest the known name nearest to *given*, as the end of a sentence; empty if none is near.

    >>> did_you_mean('size_', ['size', 'interval'])
    '; did you mean size?'
    >>> did_you_mean('zzz', ['size'])
    ''
    """
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.6)
    return f'; did you mean {near[0]}?' if near else ''


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value of the option *name* that is none of *choices*.

    >>> check_choice('on_full', 'rais', ('block', 'raise'))
    Traceback (most recent call last):
    minibatch.errors.OptionError: on_full='rais' is none of 'block', 'raise'; did you mean raise?
    """
    if value not in choices:
        raise OptionError(f'{name}={value!r} is none of {", ".join(map(repr, choices))}'
                          f'{did_you_mean(str(value), choices)}')
