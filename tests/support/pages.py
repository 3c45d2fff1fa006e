"""The pages of the documentation as they are run: their code blocks, and stories made of them.

A *program* is a block ``python`` whose first line is a comment with the name of a file. It is followed by ``output``,
what it prints, or by ``console``, commands (``$ ...``) with what they print. In a console

* a command that ends in ``&`` goes on in the background until the story ends, once it has printed what is shown;
* what is shown may end with ``^C``: then that is pressed as soon as the rest has been printed;
* ``curl`` asks again until somebody listens and, unless it posts something, until the answer is the one shown;
* ``minibatch`` is shown with its errors, and ``...`` stands for any part of a line.

Each program is a story, with the blocks after it: it is run in an empty directory, on an empty database. A page that
says ``<!-- one story -->`` is a single one. Blocks of other kinds are not run: diagrams, what is installed, other
languages, and ``py``, Python that is not ours.
"""

from __future__ import annotations

import ast
import contextlib
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from .mongod import free_port
from .scripts import Person, Script
from .waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
#: All pages; the README has its own test, and is counted with them.
PAGES = sorted((ROOT / 'docs').rglob('*.md'))
README = ROOT / 'README.md'

BLOCK = re.compile(r'^(?P<fence>```+)(?P<kind>[^\n`]*)\n(?P<text>.*?)^(?P=fence)$', re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r'^\$ (?P<command>.*)\n(?P<shown>(?:(?!\$ ).*\n)*)', re.MULTILINE)
RUN = ('python', 'output', 'console')
NOT_RUN = ('', 'py', 'sh', 'text', 'mermaid', 'yaml', 'toml', 'ini', 'dockerfile', 'json', 'nginx')
ONE_STORY = '<!-- one story -->'
PORT = ':5000'
#: What curl ends with as long as nobody listens.
REFUSED = 7


@dataclass(frozen=True)
class Block:
    """One code block of a page."""

    kind: str
    text: str
    line: int

    @property
    def name(self) -> str:
        """The file that a program is saved as."""
        return self.text.partition('\n')[0].removeprefix('# ')

    @property
    def commands(self) -> list[tuple[str, str]]:
        """The commands of a console, with what each shows."""
        found = COMMAND.findall(self.text)
        assert ''.join(f'$ {command}\n{shown}' for command, shown in found) == self.text, 'a console begins with $'
        return found


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page; those that only Sphinx reads are no code."""
    text = page.read_text(encoding='utf-8')
    return [Block(match['kind'], match['text'], text.count('\n', 0, match.start()) + 1)
            for match in BLOCK.finditer(text) if not match['kind'].startswith('{')]


@dataclass(frozen=True)
class Story:
    """Blocks that are run one after the other, in one place."""

    page: Path
    blocks: tuple[Block, ...]

    @property
    def name(self) -> str:
        """What the test is called by."""
        page = self.page.relative_to(ROOT / 'docs').with_suffix('').as_posix()
        return page if ONE_STORY in self.page.read_text(encoding='utf-8') else f'{page}-{self.blocks[0].name}'

    def imports(self) -> set[str]:
        """The packages that its programs import."""
        found = set()
        for node in (node for each in self.blocks if each.kind == 'python' for node in ast.walk(ast.parse(each.text))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition('.')[0])
        return found

    def with_text(self, old: str, new: str) -> Story:
        """The same with something replaced, such as the address of a server."""
        return Story(self.page, tuple(Block(each.kind, each.text.replace(old, new), each.line) for each in self.blocks))

    def __contains__(self, text: str) -> bool:
        return any(text in each.text for each in self.blocks)

    def run(self, person: Person) -> None:
        """Do as the page says; an :class:`AssertionError` says at which line something else is printed."""
        story = self
        if PORT in self:  # which may be somebody else's
            port = free_port()
            story = self.with_text(PORT, f':{port}').with_text('app.run()', f'app.run(port={port})')
        behind: list[Script] = []
        for block, following in zip(story.blocks, [*story.blocks[1:], Block('', '', 0)], strict=True):
            where = f'{self.page.relative_to(ROOT)}:{block.line}'
            if block.kind == 'python':
                assert re.fullmatch(r'\w+\.py', block.name), f'{where}: a program begins with the name of its file'
                (person.home / block.name).write_text(block.text, encoding='utf-8')
                if following.kind == 'output':
                    printed = person.call([sys.executable, block.name], block.name).end()
                    assert printed == following.text, f'{where}: {block.name} prints this'
            elif block.kind == 'console':
                for number, (command, shown) in enumerate(block.commands):
                    _do(person, command, shown, f'line-{block.line}-{number}', where, behind)
        for script in behind:
            script.interrupt()
            script.end()


def _ask(command: str, shown: str, where: str) -> None:
    answer = ''

    def answered() -> bool:
        nonlocal answer
        said = subprocess.run(['bash', '-c', command], capture_output=True, text=True, timeout=30, check=False)
        answer = said.stdout.rstrip('\n') + '\n'
        return said.returncode != REFUSED and (' POST ' in command or answer == shown)

    with contextlib.suppress(AssertionError):
        wait_until(answered, 30, every=0.1)
    assert answer == shown, f'{where}: {command}\n{answer}\nnot\n{shown}'


def _do(person: Person, command: str, shown: str, name: str, where: str, behind: list[Script]) -> None:
    words = shlex.split(command.removesuffix(' &'))
    if words[0] == 'curl':
        _ask(command, shown, where)
        return
    first = {'python': [], 'minibatch': ['-m', 'minibatch'], 'pytest': ['-m', 'pytest']}
    assert words[0] in first, f'{where}: this console cannot run {words[0]!r}'
    script = person.call([sys.executable, *first[words[0]], *words[1:]], name, PYTEST_PLUGINS=_plugin())
    if words[0] == 'minibatch':  # whose errors and prompts are shown, too
        script.process.wait(60)
        said = script.printed + script.err.read_text(encoding='utf-8')
        wanted = '.*'.join(map(re.escape, _trimmed(shown).split('...')))
        assert re.fullmatch(wanted, _trimmed(said)), f'{where}: {command}\n{said}\nnot\n{shown}'
        return
    if command.endswith(' &'):
        behind.append(script)
        if shown:
            script.wait_until(lambda: _like(script.printed, shown))
        return
    if shown.endswith('^C\n'):
        shown = shown.removesuffix('^C\n')
        script.wait_until(lambda: len(script.lines) >= len(shown.splitlines()))
        script.interrupt()
    printed = script.end()
    assert _like(printed, shown), f'{where}: {command}\n{printed}\nnot\n{shown}'


def _plugin() -> str:
    """Our plugin for pytest, which knows it by itself where minibatch is installed, not just there."""
    found = any(each.value == 'minibatch_pytest' for each in entry_points(group='pytest11'))
    return '' if found else 'minibatch_pytest'


def _like(printed: str, shown: str) -> bool:
    return _timeless(printed) == _timeless(shown)


def _trimmed(text: str) -> str:
    return re.sub(r' +$', '', text, flags=re.MULTILINE)


def _timeless(text: str) -> str:
    """How long something took is different each time."""
    return re.sub(r'\d+\.\d+ ?s *', '', text)


def stories(page: Path) -> Iterator[Story]:
    """The stories of a page."""
    found = [each for each in blocks(page) if each.kind in RUN]
    if ONE_STORY in page.read_text(encoding='utf-8'):
        yield Story(page, tuple(found))
        return
    story: list[Block] = []
    for each in [*found, Block('python', '', 0)]:
        if each.kind == 'python' and story:
            yield Story(page, tuple(story))
            story = []
        story.append(each)


def tell(reporter: Any, ran: int, examples: int) -> None:
    """Print how many code blocks there are, and how many of them were run.

    :param reporter: what pytest prints by
    :param ran: blocks that were run, or compared with what was printed
    :param examples: docstrings whose examples were run
    """
    kinds = Counter(each.kind for page in [*PAGES, README] for each in blocks(page))
    rest = ', '.join(f'{n} {kind or "plain"}' for kind, n in sorted(kinds.items()) if kind not in RUN)
    can = sum(kinds[kind] for kind in RUN)
    reporter.section('code blocks of the documentation')
    reporter.write_line(f'{kinds.total()} blocks on {len(PAGES) + 1} pages')
    reporter.write_line(f'{ran} of {can} that can run were run, and printed what is shown')
    reporter.write_line(f'{kinds.total() - can} cannot be run: {rest} (diagrams, installations, code of others)')
    reporter.write_line(f'besides, the examples of {examples} docstrings were run')
