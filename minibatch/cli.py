"""The ``minibatch`` command, also run as ``python -m minibatch``."""

from __future__ import annotations

import json
import os
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from minibatch import embedded
from minibatch.errors import MinibatchError, MissingExtra

if TYPE_CHECKING:
    import click


def main(args: list[str] | None = None) -> None:
    """Run the command; it ends the process, with code 0, 1 (an error, in one line) or 2 (wrong use).

    :param args: instead of those of the command line
    """
    try:
        group = commands()
    except MissingExtra as exc:
        raise SystemExit(f'Error: {exc}') from None
    group.main(args=args, prog_name='minibatch')


def commands() -> click.Group:
    """The commands; made when they are needed, for click is an extra."""
    try:
        import click
    except ImportError:
        raise MissingExtra('cli', 'click') from None

    class Commands(click.Group):
        """Errors of ours are sentences for people: no traceback."""

        def invoke(self, ctx: click.Context) -> Any:
            try:
                return super().invoke(ctx)
            except MinibatchError as exc:
                problem = str(exc)
            raise click.ClickException(problem)

    @click.group(cls=Commands, context_settings={'help_option_names': ['-h', '--help']})
    @click.version_option(package_name='minibatch')
    def group() -> None:
        """Stream processing for Python, on MongoDB."""

    @group.command()
    @click.option('--seconds', type=click.FloatRange(min=0, min_open=True), help='End after so long; else on Ctrl-C.')
    @click.option('--plain', is_flag=True, help='Plain lines, also on a terminal.')
    def demo(seconds: float | None, plain: bool) -> None:
        """Stream this machine's own metrics through two consumers."""
        # when the command is over, so is everything that it started
        os.environ.setdefault('MINIBATCH_LINGER', '0')
        try:
            result = import_module('minibatch.demo').run(seconds=seconds, plain=plain)
        finally:
            embedded.leave()
        raise SystemExit(result if isinstance(result, int) else 0)

    @group.group()
    def server() -> None:
        """The embedded MongoDB, shared by your processes."""

    where = click.option('--path', help='Its directory, or embedded: URL.  [default: your own]')

    @server.command()
    @where
    def start(path: str | None) -> None:
        """Start it, and keep it until `minibatch server stop`."""
        click.echo(described(embedded.start(path)))

    @server.command()
    @where
    def stop(path: str | None) -> None:
        """Stop it, whoever uses it."""
        click.echo('stopped' if embedded.stop(path) else f'nothing runs in {embedded.directory(path)}')

    @server.command()
    @where
    @click.option('--json', 'as_json', is_flag=True, help='For programs.')
    def status(path: str | None, as_json: bool) -> None:
        """Say whether it runs, and where; the exit code is 0 if it does, 1 if not."""
        facts = embedded.status(path)
        click.echo(json.dumps(facts) if as_json else described(facts))
        raise SystemExit(0 if facts['running'] else 1)

    return group


def described(facts: dict[str, Any]) -> str:
    """The status of an embedded server, for people.

    >>> described({'running': False, 'path': '/srv/data'})
    'nothing runs in /srv/data'
    """
    if not facts['running']:
        return f'nothing runs in {facts["path"]}'
    clients = facts['clients']
    used = '' if clients is None else f', used by {len(clients)} process{"" if len(clients) == 1 else "es"}'
    pids = f' ({", ".join(map(str, clients))})' if clients else ''
    stays = 'until `minibatch server stop`' if facts['pinned'] else 'while it is used'
    minutes, seconds = divmod(int(time.time() - facts['started']), 60)
    return '\n'.join([
        f'running at {facts["url"]}',
        f'directory  {facts["path"]}',
        f'process    {facts["pid"]}, up {minutes} min {seconds} s{used}{pids}',
        f'stays      {stays}',
    ])


if __name__ == '__main__':
    main()
