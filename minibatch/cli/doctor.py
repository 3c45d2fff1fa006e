"""``doctor``: is all as it should be, and if not, what to do."""

from __future__ import annotations

from dataclasses import asdict

import click
from rich.text import Text

from minibatch.cli.checks import NOTE, OK, WRONG, examined
from minibatch.cli.codes import DONE, FAILED
from minibatch.cli.extras import EXTRAS
from minibatch.cli.options import with_json, with_url
from minibatch.cli.output import safe, say, say_json, screen

_MARKS = {OK: ('ok   ', 'green'), NOTE: ('note ', 'yellow'), WRONG: ('WRONG', 'bold red')}


@click.command()
@click.option('--need', 'extras', multiple=True, type=click.Choice([*EXTRAS]), metavar='EXTRA',
              help='An extra that has to be installed; may be repeated.')
@click.option('--create-indexes', 'create', is_flag=True, help='Create those that are missing.')
@with_url
@with_json
def doctor(extras: tuple[str, ...], create: bool, url: str | None, json_: bool) -> None:
    """Check Python, packages, MongoDB, its version, replica set, write concern, clock and indexes.

    It says how to mend what is wrong. Nothing is changed, but for what --create-indexes creates. The exit code is 1 if
    something is wrong; notes do not count.
    """
    findings = []
    console = screen()
    for each in examined(url, extras, create=create):
        findings.append(each)
        if json_:
            continue
        mark, style = _MARKS[each.state]
        line = f'{each.check}: {each.found}'
        if console.is_terminal:
            console.print(Text(mark, style=style), Text(safe(line)))
        else:
            say(f'{mark}  {line}')
        if each.mend:
            say(f'         {each.mend}')
    wrong = sum(each.state == WRONG for each in findings)
    if json_:
        say_json({'well': not wrong, 'findings': [asdict(each) for each in findings]})
    else:
        say('all is well' if not wrong else f'{wrong} thing{"" if wrong == 1 else "s"} to mend')
    raise SystemExit(FAILED if wrong else DONE)
