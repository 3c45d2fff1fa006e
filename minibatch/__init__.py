"""minibatch: stream processing for Python people, on MongoDB.

Producers anywhere call ``stream.append(...)``; consumers anywhere are decorated functions that receive windows.
"""

from minibatch.api import make_emitter, source, stream, streaming
from minibatch.app import App
from minibatch.connection import authenticated_url, connectdb
from minibatch.errors import (
    AccessRefused,
    BacklogFull,
    CodecError,
    ConnectError,
    DeliveryFailed,
    EmbeddedError,
    HistoryLost,
    IntegrityError,
    InvalidMessage,
    LeaseLost,
    MessageTooLarge,
    MinibatchError,
    MissingExtra,
    OptionError,
    PositionMoved,
    StoreUnavailable,
    TableError,
    Undecodable,
    Unencodable,
    Unfit,
    WindowError,
    WindowTimeout,
    WorkerDied,
)
from minibatch.models import Buffer, Stream, Window
from minibatch.operators import Pipeline, agg
from minibatch.table import table
from minibatch.window import (
    Batch,
    CountWindow,
    FixedTimeWindow,
    HoppingWindow,
    RelaxedTimeWindow,
    SessionWindow,
    SlidingWindow,
    WindowEmitter,
)

__all__ = [
    'AccessRefused',
    'App',
    'BacklogFull',
    'Batch',
    'Buffer',
    'CodecError',
    'ConnectError',
    'CountWindow',
    'DeliveryFailed',
    'EmbeddedError',
    'FixedTimeWindow',
    'HistoryLost',
    'HoppingWindow',
    'IntegrityError',
    'InvalidMessage',
    'LeaseLost',
    'MessageTooLarge',
    'MinibatchError',
    'MissingExtra',
    'OptionError',
    'Pipeline',
    'PositionMoved',
    'RelaxedTimeWindow',
    'SessionWindow',
    'SlidingWindow',
    'StoreUnavailable',
    'Stream',
    'TableError',
    'Undecodable',
    'Unencodable',
    'Unfit',
    'Window',
    'WindowEmitter',
    'WindowError',
    'WindowTimeout',
    'WorkerDied',
    'agg',
    'authenticated_url',
    'connectdb',
    'make_emitter',
    'source',
    'stream',
    'streaming',
    'table',
]
