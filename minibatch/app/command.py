"""The command that ``app.main()`` makes of an app's file."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from minibatch.app.agents import Agent, successors
from minibatch.errors import InvalidMessage, MinibatchError, OptionError, did_you_mean
from minibatch.logs import for_command, hidden
from minibatch.models import store_for

if TYPE_CHECKING:
    from minibatch.app import App

#: Options that say which windows an agent gets, as they are shown.
_OF_WINDOWS = ('size', 'within', 'interval', 'every', 'gap', 'sliding', 'relaxed', 'time', 'key', 'when', 'emitter')
#: Messages of standard input that are stored together.
TOGETHER = 1000


def main(app: App, args: list[str] | None = None) -> int:
    """Run the command.

    :param app: whose
    :param args: instead of those of the command line
    :return: the exit code: 0, 1 (an error, which was told in one line), 2 (wrong use) or 130 (two times Ctrl-C)
    """
    parser = commands(app)
    given = parser.parse_args(args)
    if given.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        for_command(given.loglevel)
        app.check()
        given.command(app, given)
    except MinibatchError as error:
        print(f'Error: {hidden(str(error))}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('stopped without waiting: windows that ran are run again when their lease is over', file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)  # at an orderly exit Python would wait for threads, of which one may never end
    except BrokenPipeError:  # whoever read what it prints has read enough
        sys.stdout = None
        return 0
    return 0


def commands(app: App) -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(
        description=f'The app {app.name!r}, of minibatch. Start it with "worker": as often as you like, on as many '
        'machines as you like.', epilog='The database is the one that the app names, else that of '
        'MINIBATCH_MONGO_URL or MONGO_URL, else the embedded one.')
    parser.set_defaults(command=None)
    parser.add_argument('--loglevel', choices=['debug', 'info', 'warning', 'error'],
                        help='what is told on standard error (default: what minibatch does, and warnings of others; or '
                        'as MINIBATCH_LOG says)')
    subs = parser.add_subparsers(title='commands', metavar='COMMAND')

    def add(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        sub = subs.add_parser(name, help=text, description=text)
        sub.set_defaults(command=function)
        return sub

    worker = add('worker', run, 'Run the agents, until Ctrl-C or SIGTERM; what runs then is finished.')
    worker.add_argument('--agents', metavar='A,B', help='only these (default: all)')
    sender = add('send', send, 'Append messages to a stream.')
    sender.add_argument('stream', help='its name, or that of the agent which consumes it')
    sender.add_argument('message', nargs='*', help='messages as JSON objects; without any, one is read from each line '
                        'of standard input')
    add('agents', show_agents, 'Show the agents.')
    add('tables', show_tables, 'Show the tables.')
    add('streams', show_streams, 'Show what the streams are doing.')
    return parser


def run(app: App, given: argparse.Namespace) -> None:
    """``worker``: run agents."""
    from minibatch.app.running import Worker
    names = None if given.agents is None else [name.strip() for name in given.agents.split(',') if name.strip()]
    worker = Worker(app, names)
    print(f'app {app.name!r}: running {", ".join(agent.name for agent in worker.agents)}; Ctrl-C ends it',
          file=sys.stderr, flush=True)
    worker.run()


def send(app: App, given: argparse.Namespace) -> None:
    """``send``: append messages to a stream."""
    target = _stream(app, given.stream)
    sent = 0
    if given.message:
        sent = target.extend([parsed(text, f'message {n}') for n, text in enumerate(given.message, 1)])
    else:
        for rows in groups(sys.stdin):
            messages = []
            try:
                for n, text in rows:
                    messages.append(parsed(text, f'line {n}'))
            except InvalidMessage as error:
                sent += target.extend(messages)
                raise InvalidMessage(f'{error}; the {sent} messages before it were sent, and no more') from None
            sent += target.extend(messages)
    print(f'sent {sent} message{"" if sent == 1 else "s"} to stream {target.name!r}')


def show_agents(app: App, given: argparse.Namespace) -> None:
    """``agents``: what they consume and where their results go."""
    rows = [('AGENT', 'STREAM', 'IS', 'WINDOWS', 'THEN', 'SINKS')]
    for agent in app.agents.values():
        rows.append((agent.name, agent.stream.name, agent.kind, _windows(agent),
                     ', '.join(each.name for each in successors(agent, app.agents)) or '-',
                     ', '.join(map(_named, agent.sinks)) or '-'))
    _table(rows)


def show_streams(app: App, given: argparse.Namespace) -> None:
    """``streams``: how much waits in each, and who consumes it."""
    rows = [('STREAM', 'AGENT', 'BACKLOG', 'LAG', 'RUNNING', 'DONE', 'DEAD', 'CONSUMERS')]
    agents = {agent.stream.name: agent.name for agent in app.agents.values()}
    for name in [*agents, *(name for name in app.streams if name not in agents)]:
        figures = app.streams[name].status()
        rows.append((name, agents.get(name, '-'), str(figures['backlog']), f'{figures["lag"]:.1f} s',
                     str(figures['running']), str(figures['done']), str(figures['dead']),
                     str(len(figures['consumers']))))
    _table(rows)


def show_tables(app: App, given: argparse.Namespace) -> None:
    """``tables``: how much is in each, and in what is windowed of it."""
    rows = [('TABLE', 'KEYS')]
    if app.tables:
        store = store_for(app.url)
        there = store.table_names()
        for name in app.tables:
            windowed = [each for each in there if each.startswith(f'{name}@') and not each.endswith(':marks')]
            rows += [(each, str(store.count_keys(each))) for each in (name, *windowed)]
    _table(rows)


def _stream(app: App, name: str) -> Any:
    """A stream of the app, or one that is there already: a new one would be a slip of the pen."""
    if name in app.streams:
        return app.streams[name].open()
    if name in app.agents:
        return app.agents[name].stream.open()
    if name not in store_for(app.url).names():
        raise OptionError(f'app {app.name!r} has no stream {name!r}, and neither has its database'
                          f'{did_you_mean(name, [*app.streams, *app.agents])}; nothing was sent')
    return app.stream(name).open()


def parsed(text: str, which: str) -> dict[str, Any]:
    """The message that a text is the JSON of.

    :param which: of several: words for the error
    :raises minibatch.errors.InvalidMessage: it is no JSON, or no object

    >>> parsed('[1]', 'line 2')
    Traceback (most recent call last):
    minibatch.errors.InvalidMessage: line 2 is not a JSON object, such as {"n": 1}, but [1]
    """
    try:
        message = json.loads(text)
    except RecursionError:
        raise InvalidMessage(f'{which} is nested too deeply') from None
    except ValueError as error:
        raise InvalidMessage(f'{which} is not JSON: {error}') from None
    if not isinstance(message, dict):
        raise InvalidMessage(f'{which} is not a JSON object, such as {{"n": 1}}, but {text.strip()[:50]}')
    return message


def groups(lines: Iterable[str]) -> Iterator[list[tuple[int, str]]]:
    """The lines that hold something, with their numbers, so many together."""
    group: list[tuple[int, str]] = []
    for n, line in enumerate(lines, 1):
        if line.strip():
            group.append((n, line))
        if len(group) == TOGETHER:
            yield group
            group = []
    if group:
        yield group


def _windows(agent: Agent) -> str:
    shown = [f'{name}={agent.options[name]!r}' for name in _OF_WINDOWS if name in agent.options]
    return ' '.join(shown) or 'size=1'


def _named(sink: Any) -> str:
    return getattr(sink, '__name__', None) or repr(sink)


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print('  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
