"""minibatch: stream processing for Python people, on MongoDB.

Producers anywhere call ``stream.append(...)``; consumers anywhere are decorated functions that receive windows.
"""

from minibatch.api import make_emitter, source, stream, streaming
from minibatch.connection import authenticated_url, connectdb
from minibatch.errors import (
    BacklogFull,
    ConnectError,
    EmbeddedError,
    IntegrityError,
    InvalidMessage,
    LeaseLost,
    MessageTooLarge,
    MinibatchError,
    MissingExtra,
    OptionError,
    StoreUnavailable,
    WindowError,
    WindowTimeout,
    WorkerDied,
)
from minibatch.models import Buffer, Stream, Window
from minibatch.window import Batch, CountWindow, FixedTimeWindow, RelaxedTimeWindow, WindowEmitter

__all__ = [
    'BacklogFull',
    'Batch',
    'Buffer',
    'ConnectError',
    'CountWindow',
    'EmbeddedError',
    'FixedTimeWindow',
    'IntegrityError',
    'InvalidMessage',
    'LeaseLost',
    'MessageTooLarge',
    'MinibatchError',
    'MissingExtra',
    'OptionError',
    'RelaxedTimeWindow',
    'StoreUnavailable',
    'Stream',
    'Window',
    'WindowEmitter',
    'WindowError',
    'WindowTimeout',
    'WorkerDied',
    'authenticated_url',
    'connectdb',
    'make_emitter',
    'source',
    'stream',
    'streaming',
]
