"""The documentation site: Sphinx with the theme furo, of the pages in this directory and of the docstrings.

Pages are read on the site and where the code is, so they link as files do: ``../README.md#options``. Here such links
are turned into what they lead to on the site (:func:`linked`).
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

project = 'minibatch'
author = 'The minibatch authors'
copyright = author  # noqa: A001 (the option's name)
release = version = re.search(r"^version = '(.+)'", (ROOT / 'pyproject.toml').read_text(), re.MULTILINE)[1]

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.viewcode', 'sphinx_copybutton']
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'minibatch {release}'
html_copy_source = False
html_show_sphinx = False
pygments_style, pygments_dark_style = 'friendly', 'monokai'

myst_heading_anchors = 4
myst_links_external_new_tab = True
#: What a terminal shows is not copied with its prompts.
copybutton_prompt_text = '$ '

autodoc_default_options = {'members': True, 'show-inheritance': True}
autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_class_signature = 'separated'
#: Names of options in signatures, in place of what they are by default at length.
autodoc_preserve_defaults = True
nitpicky = False

#: Files of the project that are pages of the site, too, each under the name of a stub in this directory.
ELSEWHERE = {'readme': ROOT / 'README.md', 'changelog': ROOT / 'CHANGELOG.md', 'contributing': ROOT / 'CONTRIBUTING.md',
             'figures': ROOT / 'benchmarks' / 'results' / 'bench.md'}
LINK = re.compile(r'(?P<text>(?<!!)\[(?P<said>[^\]]*)\])\((?P<target>[^)\s]+)\)')
FENCE = re.compile(r'^```.*?^```$', re.MULTILINE | re.DOTALL)


def page(path: Path) -> str | None:
    """The name of the site's page that is made of a file, if there is one."""
    for name, file in ELSEWHERE.items():
        if path == file:
            return name
    if path.suffix == '.md' and path.is_relative_to(HERE) and path.exists():
        return path.relative_to(HERE).with_suffix('').as_posix()
    return None


def linked(text: str, file: Path, name: str) -> str:
    """The text of a page with its links to files as links within the site.

    What is no page (a module, an example) is named, not linked.

    :param file: whose text it is
    :param name: of the site's page
    """
    def link(match: re.Match[str]) -> str:
        path, mark, anchor = match['target'].partition('#')
        if not path or re.match(r'[a-z]+:', path):
            return match[0]
        there = (file.parent / path).resolve()
        found = page(there)
        if found is None:
            return match['said']
        relative = os.path.relpath(HERE / f'{found}.md', (HERE / name).parent)
        return f'{match["text"]}({Path(relative).as_posix()}{mark}{anchor})'

    done, at = [], 0
    for fence in FENCE.finditer(text):  # code is left alone
        done += [LINK.sub(link, text[at:fence.start()]), fence[0]]
        at = fence.end()
    return ''.join([*done, LINK.sub(link, text[at:])])


def read(app: Any, name: str, source: list[str]) -> None:
    """Called by Sphinx with each page that it has read."""
    file = ELSEWHERE.get(name, HERE / f'{name}.md')
    if file.exists():
        source[0] = linked(file.read_text(encoding='utf-8') if name in ELSEWHERE else source[0], file, name)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect('source-read', read)
    app.add_lexer('mermaid', TextLexer)  # drawn where the code is; here its text can be read
