"""The table: printed, and written as JSON and Markdown."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.figures import MINIBATCH, Figures
from benchmarks.targets import targets

RESULTS = Path(__file__).parent / 'results'


def markdown(figures: Figures, environment: dict[str, str]) -> str:
    """The whole report as Markdown, which reads well in a terminal, too."""
    blocks = ['# Benchmarks', ', '.join(f'{name} {value}' for name, value in environment.items())
              + '. Medians; in brackets: minibatch to that one.']
    for part, unit in dict.fromkeys((key.part, key.unit) for key in figures.values):
        blocks += [f'## {part}, {unit}', _part(figures, part, unit)]
    blocks += ['## Ratios', _targets(figures)]
    if figures.failures:
        blocks += ['## Failed trials', '\n'.join(f'* {failure}' for failure in figures.failures)]
    return '\n\n'.join(blocks) + '\n'


def _part(figures: Figures, part: str, unit: str) -> str:
    keys = [key for key in figures.values if (key.part, key.unit) == (part, unit)]
    subjects = list(dict.fromkeys(key.subject for key in keys))
    lines = [['', *subjects]]
    for case in dict.fromkeys(key.case for key in keys):
        lines.append([case, *(_cell(figures, part, case, subject, unit) for subject in subjects)])
    return table(lines)


def _cell(figures: Figures, part: str, case: str, subject: str, unit: str) -> str:
    value = figures.median(part, case, subject, unit)
    if value is None:
        return '-'
    ratio = figures.ratio(part, case, unit, MINIBATCH, subject) if subject != MINIBATCH else None
    return number(value) + (f' ({number(ratio)})' if ratio is not None else '')


def _targets(figures: Figures) -> str:
    lines, missing = [['', 'wanted', 'measured', '']], 0
    for target in targets():
        value = target.figure(figures)
        if value is None:
            missing += 1
            continue
        lines.append([target.text, target.wanted, number(value), 'pass' if target.passed(figures) else 'FAIL'])
    rest = f'\n\n{missing} more were not measured in this run.' if missing else ''
    return table(lines) + rest


def number(value: float) -> str:
    """
    >>> number(41234.5), number(12.34), number(0.8449)
    ('41,234', '12.3', '0.84')
    """
    return f'{value:,.0f}' if value >= 100 else f'{value:.1f}' if value >= 10 else f'{value:.2f}'


def table(lines: list[list[str]]) -> str:
    """A Markdown table with aligned columns; the first line is its head.

    >>> print(table([['', 'a'], ['size 1', '42']]))
    |        |  a |
    | ------ | -: |
    | size 1 | 42 |
    """
    widths = [max(2, *(len(line[i]) for line in lines)) for i in range(len(lines[0]))]
    rule = ['-' * widths[0], *('-' * (width - 1) + ':' for width in widths[1:])]
    padded = [
        [cells[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))]
        for cells in [lines[0], rule, *lines[1:]]
    ]
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in padded)


def write(figures: Figures, environment: dict[str, str], name: str) -> list[Path]:
    """Write both files into ``benchmarks/results/``."""
    RESULTS.mkdir(exist_ok=True)
    content = {
        'when': datetime.now(timezone.utc).strftime('%Y-%m-%d %H:%M UTC'),
        'environment': environment,
        'figures': [
            {'part': key.part, 'case': key.case, 'subject': key.subject, 'unit': key.unit,
             'median': figures.median(key.part, key.case, key.subject, key.unit), 'values': values}
            for key, values in figures.values.items()
        ],
        'targets': [
            {'target': target.text, 'wanted': target.wanted, 'measured': target.figure(figures),
             'passed': target.passed(figures)}
            for target in targets()
        ],
        'failures': figures.failures,
    }
    paths = [RESULTS / f'{name}.json', RESULTS / f'{name}.md']
    paths[0].write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
    paths[1].write_text(markdown(figures, environment), encoding='utf-8')
    return paths
