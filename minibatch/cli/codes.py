"""What the exit codes of the command mean, and which error has which."""

from __future__ import annotations

from minibatch.errors import ConnectError, MinibatchError, OptionError, StoreUnavailable

DONE = 0
#: It failed, or the answer is no: `doctor` has found something wrong, no server runs, a question was answered by no.
FAILED = 1
#: A command, an option or a value that cannot be.
WRONG_USE = 2
#: No such stream, no such window.
NOT_THERE = 3
#: MongoDB is not there, or refuses; the same command may succeed later.
NO_MONGODB = 4
#: Ctrl-C came before it was done.
INTERRUPTED = 130


class NotThere(MinibatchError):
    """A stream or a window that does not exist; nothing was changed."""


def code_of(error: MinibatchError) -> int:
    """The exit code for an error.

    >>> code_of(ConnectError('no MongoDB')), code_of(MinibatchError('something else'))
    (4, 1)
    """
    if isinstance(error, (ConnectError, StoreUnavailable)):
        return NO_MONGODB
    if isinstance(error, NotThere):
        return NOT_THERE
    return WRONG_USE if isinstance(error, OptionError) else FAILED
