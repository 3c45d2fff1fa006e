"""The ``minibatch`` command, also run as ``python -m minibatch``.

Exit codes, the same for all commands (:mod:`minibatch.cli.codes`): 0 done, 1 it failed or the answer is no, 2 wrong
use, 3 there is no such stream or window, 4 MongoDB cannot be used, 130 ended by Ctrl-C before it was done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minibatch.errors import MissingExtra

if TYPE_CHECKING:
    import click

__all__ = ['commands', 'main']


def main(args: list[str] | None = None) -> None:
    """Run the command; it ends the process, with one of the exit codes above.

    :param args: instead of those of the command line
    """
    try:
        group = commands()
    except MissingExtra as exc:
        raise SystemExit(f'Error: {exc}') from None
    group.main(args=args, prog_name='minibatch')


def commands() -> click.Group:
    """The commands; made when they are needed, for click and rich are an extra.

    :raises minibatch.errors.MissingExtra: they are not installed

    >>> sorted(commands().commands)[:4]
    ['append', 'bench', 'clear', 'completion']
    """
    for package in ('click', 'rich'):
        try:
            __import__(package)
        except ImportError:
            raise MissingExtra('cli', package) from None
    from minibatch.cli.group import group
    return group
