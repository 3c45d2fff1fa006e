"""The pages of ``docs/``: each program and each command on them is run as it stands, and prints what is shown."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.pages import NOT_RUN, ONE_STORY, PAGES, README, ROOT, RUN, Story, blocks, stories
from tests.support.scripts import Person

BRIDGES = [page for page in PAGES if page.parent.name == 'bridges']
#: Addresses in examples, and the fixture whose broker stands in for the server that a reader has there.
BROKERS = {'localhost:9092': 'kafka', 'mqtt://localhost:1883': 'mqtt', 'redis://localhost:6379/0': 'redis'}
STORIES = [story for page in PAGES for story in stories(page)]


@pytest.mark.parametrize('page', [pytest.param(page, id=str(page.relative_to(ROOT))) for page in [*PAGES, README]])
def test_what_can_run_is_run(page: Path) -> None:
    """A block is of a kind that is run, or of one that is known not to be; no program is without what it prints."""
    found = blocks(page)
    assert {each.kind for each in found} - {*RUN, *NOT_RUN} == set()
    for number, block in enumerate(found):
        if block.kind == 'python' and page != README:
            shown = any(each.kind in ('output', 'console') for each in found[number + 1:number + 2])
            used = any(block.name in each.text for each in found if each.kind == 'console')
            assert shown or used, f'nobody sees what {block.name} does'
    for name in ('output', 'console'):
        assert page == README or not any(each.kind == name for each in found[:1]), 'a page begins with a program'


@pytest.mark.parametrize('page', [pytest.param(page, id=page.stem) for page in BRIDGES if page.stem != 'README'])
def test_every_page_on_a_bridge_is_in_the_index(page: Path) -> None:
    assert any(each.kind == 'python' for each in blocks(page))
    assert f'({page.name})' in (ROOT / 'docs/bridges/README.md').read_text(encoding='utf-8')


@pytest.mark.parametrize('story', [pytest.param(each, id=each.name) for each in STORIES])
def test_a_page_shows_what_happens(request: pytest.FixtureRequest, story: Story,
                                   record_property: Callable[[str, object], None]) -> None:
    for imported in story.imports():
        if importlib.util.find_spec(imported) is None and not any(
                f'{imported}.py' == each.name for each in story.blocks):
            pytest.skip(f'{imported} is not installed')
    if '$ curl' in story and shutil.which('curl') is None:
        pytest.skip('curl is not installed')
    run = story
    for address, fixture in BROKERS.items():
        if address in story:
            run = run.with_text(address, request.getfixturevalue(fixture).url)
    embedded = ONE_STORY in story.page.read_text(encoding='utf-8')
    person: Person = request.getfixturevalue('newcomer' if embedded else 'person')
    run.run(person)
    record_property('code blocks', len(story.blocks))
