"""The oracle: from what was acknowledged and what had an effect, count what a user would have lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from .log import Log


@dataclass
class Verdict:
    """Counts of one test; all but the first two and the last must be zero.

    :ivar acknowledged: messages whose append returned
    :ivar windows: windows that ran
    :ivar lost: acknowledged and without any effect in the plain sink
    :ivar in_two_windows: messages that were in two windows, or twice in one
    :ivar changed: windows with other members, another order or another start or end at a later attempt
    :ivar disordered: messages in a window before, or in an earlier window than, an older one of the same producer
    :ivar doubled: messages that are twice in an exactly-once sink
    :ivar missing: acknowledged and not in the exactly-once sink
    :ivar left: documents that stayed behind in buffer and window
    :ivar again: messages that reached a plain sink again, as at-least-once allows
    """

    acknowledged: int = 0
    windows: int = 0
    lost: int = 0
    in_two_windows: int = 0
    changed: int = 0
    disordered: int = 0
    doubled: int = 0
    missing: int = 0
    left: int = 0
    again: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def wrongs(self) -> dict[str, int]:
        """The counts that should be zero and are not."""
        names = ('lost', 'in_two_windows', 'changed', 'disordered', 'doubled', 'missing', 'left')
        return {name: getattr(self, name) for name in names if getattr(self, name)}

    def __str__(self) -> str:
        counts = ', '.join(f'{f.name} {getattr(self, f.name)}' for f in fields(self) if f.name != 'examples')
        return '\n  '.join([counts, *self.examples[:12]])


#: the sum of all verdicts of this session, printed at its end
total = Verdict()
judged = 0


def judge(
    log: Log, *, exactly_once: Iterable[str] | None = None, committed: Iterable[list[str]] = (), left: int = 0,
    wanted: Iterable[str] | None = None,
) -> Verdict:
    """Compare the log with what it should be.

    :param exactly_once: the ids in the exactly-once sink's collection; None if the plain sink was used
    :param committed: members of the committed windows that were kept (``keep=True``)
    :param left: how many documents stayed behind
    :param wanted: the acknowledged ids, if they are not all in the log
    """
    verdict = Verdict(left=left)
    acknowledged = set(wanted) if wanted is not None else {i for r in log.read('ack') for i in r['ids']}
    verdict.acknowledged = len(acknowledged)

    seen: dict[str, Any] = {}
    window_of: dict[str, str] = {}
    twice: set[str] = set()
    changed: set[str] = set()
    for run in log.read('run'):
        frozen = (run['members'], run.get('start'), run.get('end'))
        if seen.setdefault(run['window'], frozen) != frozen:
            changed.add(run['window'])
            verdict.examples.append(f'{run["window"]} attempt {run["attempt"]}: {_short(seen[run["window"]])}'
                                    f' became {_short(frozen)}')
        for member in run['members']:
            if window_of.setdefault(member, run['window']) != run['window']:
                twice.add(member)
                verdict.examples.append(f'{member} in {window_of[member]} and {run["window"]}')
    for members, *_ in seen.values():
        twice.update(m for m, n in Counter(members).items() if n > 1)
    kept = Counter(m for members in committed for m in members)
    twice.update(m for m, n in kept.items() if n > 1)
    latest: dict[str, int] = {}
    for window in sorted(seen, key=_seq):
        for member in seen[window][0]:
            producer, _, n = member.rpartition(':')
            if n.isdigit() and int(n) < latest.get(producer, -1):
                verdict.disordered += 1
                verdict.examples.append(f'{member} in {window}, after {producer}:{latest[producer]}')
            latest[producer] = max(latest.get(producer, -1), int(n) if n.isdigit() else -1)
    verdict.windows, verdict.changed, verdict.in_two_windows = len(seen), len(changed), len(twice)

    effects = Counter(i for r in log.read('put') for i in r['ids'])
    if exactly_once is not None:
        found = Counter(exactly_once)
        verdict.missing = len(acknowledged - set(found))
        verdict.doubled = sum(1 for n in found.values() if n > 1)
        verdict.examples += [f'missing {i}' for i in sorted(acknowledged - set(found))[:3]]
        verdict.examples += [f'doubled {i}: {n} times' for i, n in found.items() if n > 1][:3]
    else:
        verdict.lost = len(acknowledged - set(effects))
        verdict.again = sum(1 for n in effects.values() if n > 1)
        verdict.examples += [f'lost {i} (window {window_of.get(i)})' for i in sorted(acknowledged - set(effects))[:5]]
    return verdict


def add(verdict: Verdict, tests: int = 1) -> None:
    """Count *verdict*, of one test or several, into the session's total."""
    global judged
    judged += tests
    for f in fields(Verdict):
        if f.name != 'examples':
            setattr(total, f.name, getattr(total, f.name) + getattr(verdict, f.name))


def _seq(window: str) -> tuple[int, str]:
    """What sorts windows as they were cut: by number, or by the start of their interval."""
    number = window.rpartition(':')[2]
    return (int(number), '') if number.isdigit() else (0, window)


def _short(frozen: Any) -> str:
    members, start, end = frozen
    return f'{len(members)} {members[:3]}.. [{start}, {end})'
