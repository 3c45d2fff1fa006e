"""The documentation holds together: what is linked exists, and what is named in the code is explained."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md'), *(ROOT / 'benchmarks').glob('*.md')])
LINK = re.compile(r'(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)')


def without_code(text: str) -> str:
    """A page's text without its code blocks, in which brackets mean something else."""
    return re.sub(r'^```.*?^```', '', text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make, as the usual renderers name them."""
    headings = re.findall(r'^#+ +(.+)$', without_code(page.read_text(encoding='utf-8')), flags=re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


def links() -> Iterator[object]:
    for page in PAGES:
        for match in LINK.finditer(without_code(page.read_text(encoding='utf-8'))):
            target = match[1] or match[2]
            if not re.match(r'[a-z]+:', target):
                yield pytest.param(page, target, id=f'{page.relative_to(ROOT)}->{target}')


@pytest.mark.parametrize(('page', 'target'), list(links()))
def test_a_link_leads_somewhere(page: Path, target: str) -> None:
    name, _, anchor = target.partition('#')
    there = (page.parent / name).resolve() if name else page
    assert there.exists()
    if anchor and there.suffix == '.md':
        assert anchor in anchors(there)


@pytest.mark.parametrize('page', [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_a_page_names_files_that_exist(page: Path) -> None:
    """Paths of the project in a page's text, such as ``minibatch/runner.py`` or ``tests/faults/``."""
    named = re.findall(r'`((?:minibatch|tests|docs|benchmarks|examples)/[\w./-]*)`', page.read_text(encoding='utf-8'))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_point_of_the_protocol_is_explained() -> None:
    """The table of crash rules has a line for each named point of the code, and for no other."""
    code = '\n'.join(path.read_text(encoding='utf-8') for path in (ROOT / 'minibatch').rglob('*.py'))
    reached = set(re.findall(r"reached\('([\w:]+)'\)", code))
    page = (ROOT / 'docs/design/protocol.md').read_text(encoding='utf-8')
    explained = set(re.findall(r'^\| `([\w-]+:[\w-]+)` \|', page, flags=re.MULTILINE))
    assert explained == reached


def test_every_test_that_holds_a_guarantee_is_there() -> None:
    """``docs/guarantees.md`` names tests as ``path::name``."""
    page = (ROOT / 'docs/guarantees.md').read_text(encoding='utf-8')
    named = re.findall(r'`(tests/[\w/]+\.py)::(\w+)`', page)
    assert len(named) > 30
    missing = [(path, name) for path, name in named
               if not re.search(rf'^def {name}\(', (ROOT / path).read_text(encoding='utf-8'), re.MULTILINE)]
    assert missing == []
    rows = [line for line in page.splitlines() if line.startswith('| ')][2:]
    assert [row for row in rows if '`tests/' not in row] == []


def test_every_page_of_the_site_is_in_a_table_of_contents() -> None:
    """Who builds the site would be told of it, but tests are run more often."""
    listed = {ROOT / 'docs/index.md'}
    for page in (ROOT / 'docs').rglob('*.md'):
        text = page.read_text(encoding='utf-8')
        for tree in re.findall(r'^```\{toctree\}\n(.*?)^```', text, re.MULTILINE | re.DOTALL):
            listed |= {page.parent / f'{line}.md' for line in tree.splitlines() if line and not line.startswith(':')}
    assert listed == set((ROOT / 'docs').rglob('*.md'))
