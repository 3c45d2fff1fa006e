"""The pages of ``docs/``: each program and each command on them is run as it stands, and prints what is shown."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.scripts import Person

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / 'docs').glob('*.md'))
BLOCK = re.compile(r'^```(?P<kind>python|output|console)\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r'^\$ (?P<command>.*)\n(?P<shown>(?:(?!\$ ).*\n)*)', re.MULTILINE)


def blocks(page: Path) -> list[tuple[str, str]]:
    return [(match['kind'], match['text']) for match in BLOCK.finditer(page.read_text(encoding='utf-8'))]


def programs() -> Iterator[object]:
    """Each program that is followed by what it prints, or by commands that run it."""
    for page in PAGES:
        found = blocks(page)
        for (kind, text), (next_kind, shown) in zip(found, [*found[1:], ('', '')], strict=True):
            if kind == 'python':
                name = text.partition('\n')[0].removeprefix('# ')
                yield pytest.param(name, text, next_kind, shown, id=f'{page.stem}-{name}')


@pytest.mark.parametrize(('name', 'source', 'kind', 'shown'), list(programs()))
def test_a_program_prints_what_the_page_shows(person: Person, name: str, source: str, kind: str, shown: str) -> None:
    assert re.fullmatch(r'\w+\.py', name), 'a program begins with a comment that is the name of a file'
    if kind == 'output':
        assert person.run(name, source) == shown
        return
    assert kind == 'console', 'a program is followed by what it prints, or by commands that run it'
    (person.home / name).write_text(source, encoding='utf-8')
    commands = COMMAND.findall(shown)
    assert ''.join(f'$ {command}\n{printed}' for command, printed in commands) == shown
    for number, (command, printed) in enumerate(commands):
        python, *args = shlex.split(command)
        if python == 'minibatch':
            script = person.call([sys.executable, '-m', 'minibatch', *args], f'command{number}')
            script.process.wait(60)
            said = script.printed + script.err.read_text(encoding='utf-8')
            assert without_spaces(said) == Shown(without_spaces(printed)), script.said
            continue
        assert python == 'python'
        script = person.call([sys.executable, *args], f'command{number}')
        if 'worker' in args:  # which would go on for ever
            script.wait_until(lambda script=script, printed=printed: len(script.printed) >= len(printed))
            script.interrupt()
        assert without_ages(script.end()) == without_ages(printed)


def without_ages(text: str) -> str:
    return re.sub(r'\d+\.\d s *', '', text)


def without_spaces(text: str) -> str:
    """Without those at the ends of lines."""
    return re.sub(r' +$', '', text, flags=re.MULTILINE)


class Shown(str):
    """What a page shows, in which ``...`` stands for any part of a line."""

    def __eq__(self, other: object) -> bool:
        return re.fullmatch('.*'.join(map(re.escape, self.split('...'))), str(other)) is not None

    __hash__ = str.__hash__
