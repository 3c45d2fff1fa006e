"""How the demo looks: a table that moves, or, where there is no terminal, plain lines."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from minibatch.demo.ledger import Account

#: Windows shown at a time, and seconds between two lines of rates where lines are plain.
LATEST, EVERY = 12, 2.0


class View(Protocol):
    """What the demo shows itself on."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def update(self, accounts: Sequence[Account], results: Sequence[dict[str, Any]]) -> None:
        """Figures as they are now, and new results."""

    def close(self) -> None:
        """No more of it."""


def make_view(plain: bool) -> View:
    """The view for where the output goes.

    :param plain: lines only, also on a terminal
    """
    if not plain and sys.stdout.isatty():
        try:
            return Rich()
        except ModuleNotFoundError:
            pass  # the lines say the same
    return Plain()


def describe(result: dict[str, Any]) -> str:
    """A window's result in a line.

    >>> describe({'window': 'x:7', 'n': 20, 'cpu': 12.34, 'memory': 40, 'disk': 1_200_000, 'network': 900})
    'window 7: 20 messages, cpu 12.3 %, memory 40.0 %, disk 1.2 MB/s, network 900 B/s'
    """
    number = str(result['window']).rpartition(':')[2]
    return (f"window {number}: {result['n']} messages, cpu {result['cpu']:.1f} %, memory {result['memory']:.1f} %, "
            f"disk {_bytes(result['disk'])}/s, network {_bytes(result['network'])}/s")


def summary(accounts: Sequence[Account]) -> list[str]:
    """The books of all streams, in lines.

    >>> print(*summary([Account('by-count', 's', appended=9, committed=4, open=4, buffer=1, windows=1)]), sep='\\n')
    stream      appended  windowed  committed  in open windows  in buffer
    by-count           9         8          4                4          1   9 = 4 + 4 + 1
    """
    lines = [f"{'stream':<10}{'appended':>10}{'windowed':>10}{'committed':>11}{'in open windows':>17}{'in buffer':>11}"]
    for a in accounts:
        sign = '=' if a.adds_up else '≠'
        lines.append(f'{a.title:<10}{a.appended:>10}{a.windowed:>10}{a.committed:>11}{a.open:>17}{a.buffer:>11}'
                     f'   {a.appended} {sign} {a.committed} + {a.open} + {a.buffer}')
    return lines


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def update(self, accounts: Sequence[Account], results: Sequence[dict[str, Any]]) -> None:
        """Figures as they are now, and new results."""

    def close(self) -> None:
        """No more of it."""


class Plain:
    """One line for each window, and now and then one for each stream."""

    def __init__(self) -> None:
        self._next = time.monotonic() + EVERY

    def say(self, text: str) -> None:
        """A line that stays."""
        sys.stdout.write(text + '\n')
        sys.stdout.flush()

    def update(self, accounts: Sequence[Account], results: Sequence[dict[str, Any]]) -> None:
        """Figures as they are now, and new results."""
        titles = {account.name: account.title for account in accounts}
        for result in results:
            self.say(f"{titles[result['stream']]:<10} {describe(result)}")
        if time.monotonic() >= self._next and any(account.appended for account in accounts):
            self._next = time.monotonic() + EVERY
            for account in accounts:
                appended, committed = account.rates()
                self.say(f'{account.title:<10} {appended:.1f} messages/s appended, {committed:.1f}/s committed; '
                         f'{account.appended} appended, {account.committed} committed in {account.windows} windows')

    def close(self) -> None:
        """No more of it."""


class Rich:
    """A table that moves, above it what stays."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live
        self._latest: deque[str] = deque(maxlen=LATEST)
        self._live = Live(console=Console(highlight=False), refresh_per_second=8, transient=True)
        self._live.start()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._live.console.print(text, markup=False, soft_wrap=True)

    def update(self, accounts: Sequence[Account], results: Sequence[dict[str, Any]]) -> None:
        """Figures as they are now, and new results."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text
        titles = {account.name: account.title for account in accounts}
        self._latest.extend(f"{titles[result['stream']]:<10} {describe(result)}" for result in results)
        table = Table(expand=False)
        table.add_column('stream')
        for title in ('appended', 'per s', 'windows', 'committed', 'per s', 'not committed yet'):
            table.add_column(title, justify='right')
        for account in accounts:
            appended, committed = account.rates()
            waiting = max(0, account.appended - account.committed)
            table.add_row(account.title, f'{account.appended}', f'{appended:.1f}', f'{account.windows}',
                          f'{account.committed}', f'{committed:.1f}', f'{waiting}')
        self._live.update(Group(table, Text('\n'.join(self._latest), no_wrap=True, overflow='ellipsis')))

    def close(self) -> None:
        """No more of it; the terminal is as it was."""
        self._live.stop()


def _bytes(number: float) -> str:
    for unit in ('B', 'kB', 'MB'):
        if number < 1000:
            return f'{number:.0f} {unit}' if unit == 'B' else f'{number:.1f} {unit}'
        number /= 1000
    return f'{number:.1f} GB'
