"""The inside of a process that :mod:`minibatch.cli.keeping` keeps: it ends when its keeper is gone, even if killed."""

from __future__ import annotations

import os
import signal
import sys
import threading

from minibatch.cli import main


def end_with(keeper: int) -> None:
    """Ask this process to stop when the other end of a pipe is closed.

    :param keeper: the pipe's reading end
    """
    os.set_inheritable(keeper, False)

    def watch() -> None:
        os.read(keeper, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name='minibatch-keeper', daemon=True).start()


if __name__ == '__main__':
    end_with(int(sys.argv[1]))
    main(sys.argv[2:])
