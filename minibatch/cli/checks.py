"""What ``doctor`` looks at: each check says how it is, and how to mend what is not well."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minibatch import embedded
from minibatch.cli.extras import CORE, EXTRAS, lacking, number
from minibatch.connection import connect
from minibatch.errors import MinibatchError
from minibatch.models import store_for
from minibatch.status import figures
from minibatch.store.health import examine
from minibatch.urls import checked, masked

OK, NOTE, WRONG = 'ok', 'note', 'wrong'

#: Oldest Python, oldest MongoDB, and the first one whose buffer can be clustered.
PYTHON, MONGODB, CLUSTERED = (3, 10), (4, 2), (5, 3)
#: Seconds that a majority may take to acknowledge a write, and that clocks may differ.
SLOW, ASTRAY = 0.5, 5.0
#: Dead windows: how many streams with some are named.
NAMED = 5


@dataclass(frozen=True)
class Finding:
    """What one check has found.

    :ivar check: what was looked at
    :ivar state: ``'ok'``; ``'note'``: it works, but might be better; ``'wrong'``
    :ivar found: how it is
    :ivar mend: what to do about it
    """

    check: str
    state: str
    found: str
    mend: str = ''


def examined(url: str | None, extras: Sequence[str], *, create: bool = False) -> Iterator[Finding]:
    """All checks, one after the other.

    :param url: of MongoDB; by default as :func:`minibatch.connectdb` finds it
    :param extras: those that have to be there
    :param create: create missing indexes
    """
    yield python()
    yield packages()
    yield from extras_there(extras)
    finding, facts = mongodb(url)
    yield finding
    if facts is None:
        return
    yield server_version(facts)
    yield replica_set(facts)
    yield write_concern(facts, _url(url)[0])
    yield clock(facts)
    yield indexes(url, facts, create)
    yield from dead_windows(url, facts)


def python() -> Finding:
    """The Python that runs."""
    name = f'{platform.python_implementation()} {platform.python_version()} on {platform.system()}'
    if sys.version_info < PYTHON:
        return Finding('Python', WRONG, name, 'use Python 3.10 or later')
    if not hasattr(os, 'register_at_fork'):
        return Finding('Python', NOTE, name, "no worker processes and no embedded MongoDB on this system: use "
                       "executor='thread' and a MongoDB by URL")
    return Finding('Python', OK, name)


def packages() -> Finding:
    """What minibatch cannot do without."""
    missing = lacking(CORE)
    if missing:
        return Finding('packages', WRONG, ', '.join(missing), f'pip install --upgrade {_pip(CORE)}')
    return Finding('packages', OK, ', '.join(CORE))


def extras_there(wanted: Sequence[str]) -> Iterator[Finding]:
    """Each extra that has to be there; the others in one line."""
    there, partly, absent = [], [], []
    for name, needs in EXTRAS.items():
        missing = lacking(needs)
        if not missing:
            there.append(name)
            if name in wanted:
                yield Finding(f'extra {name}', OK, 'installed')
        elif name in wanted or len(missing) < len(needs) or any('older' in each for each in missing):
            partly.append(name)
            yield Finding(f'extra {name}', WRONG if name in wanted else NOTE, ', '.join(missing),
                          f"pip install 'minibatch[{name}]'")
        else:
            absent.append(name)
    yield Finding('extras', OK, f'installed: {", ".join(there) or "none"}'
                  + (f'; not installed: {", ".join(absent)}' if absent else ''),
                  f"if you want one: pip install 'minibatch[{absent[0]}]'" if absent else '')


def _url(url: str | None) -> tuple[str, str]:
    """The URL that counts, and where it is from."""
    if url:
        return url, '--url'
    for name in ('MINIBATCH_MONGO_URL', 'MONGO_URL'):
        value = os.environ.get(name, '').strip()
        if value:
            return value, name
    return f'{embedded.SCHEME}:', 'no URL is set, so the embedded one'


def mongodb(url: str | None) -> tuple[Finding, dict[str, Any] | None]:
    """Whether it can be used, and its facts if it can."""
    given, origin = _url(url)
    try:
        connection = connect(url)
        facts = examine(connection)
    except MinibatchError as error:
        if given.startswith(embedded.SCHEME):
            mend = 'see what it says; or name a MongoDB of your own in MINIBATCH_MONGO_URL'
        else:
            mend = f'start it, or correct the URL ({origin})'
        return Finding('MongoDB', WRONG, str(error), mend), None
    where = f'answers at {masked(connection.url)}, database {connection.db.name} ({origin})'
    return Finding('MongoDB', OK, where), facts


def server_version(facts: dict[str, Any]) -> Finding:
    """Whether it is new enough."""
    version = facts['version']
    if number(version) < MONGODB:
        return Finding('version', WRONG, f'MongoDB {version}', 'minibatch needs 4.2 or later: upgrade the server')
    if number(version) < CLUSTERED:
        return Finding('version', NOTE, f'MongoDB {version}', 'from 5.3 on the buffer is clustered, and consumers are '
                       'about 1.5 times as fast')
    return Finding('version', OK, f'MongoDB {version}')


def replica_set(facts: dict[str, Any]) -> Finding:
    """Whether there is one, and all its members are well."""
    if facts['sharded']:
        return Finding('replica set', OK, 'sharded cluster')
    if not facts['set']:
        return Finding('replica set', WRONG, 'a standalone server: no transactions, so no tables and no exactly-once '
                       'sinks; consumers have to poll',
                       'start mongod with --replSet rs0, call rs.initiate() in mongosh once, and add replicaSet=rs0 to '
                       'the URL; one member is enough')
    members = facts['members']
    down = [f'{each["name"]} is {each["state"].lower() or "away"}' for each in members if each['healthy'] is False
            or each['state'] in ('DOWN', 'RECOVERING', 'ROLLBACK', 'REMOVED')]
    name = f'{facts["set"]}, {len(members)} member{"" if len(members) == 1 else "s"}'
    if down:
        return Finding('replica set', NOTE, f'{name}: {", ".join(down)}', 'look after it: with fewer than a majority '
                       'of its members nothing can be appended')
    return Finding('replica set', OK, name)


def write_concern(facts: dict[str, Any], url: str) -> Finding:
    """Whether a majority acknowledges writes, and in what time."""
    took = facts['acknowledged']
    if took is None:
        return Finding('write concern', WRONG, f'a write was not acknowledged by a majority ({facts["refusal"]})',
                       'see that a majority of the members that hold data is up and can keep up (rs.status() in '
                       'mongosh); an arbiter holds none')
    found = f'majority and journal, whatever the URL says: {took * 1000:.0f} ms'
    asked = [f'{name}={checked(url).option(name)}' for name in ('w', 'journal', 'j')
             if not url.startswith(embedded.SCHEME) and checked(url).option(name) not in (None, 'majority', 'true')]
    if facts['journal'] is False:
        return Finding('write concern', NOTE, f'{found}; the set has writeConcernMajorityJournalDefault: false',
                       'other programs may lose acknowledged writes; minibatch asks for the journal itself')
    if took > SLOW:
        return Finding('write concern', NOTE, found, 'appends wait for this: look at the disks and at the network '
                       'between the members; append in bulk, or with batchsize=')
    if asked:
        return Finding('write concern', NOTE, f'{found}; {", ".join(asked)} in the URL has no effect',
                       'leave it out of the URL')
    return Finding('write concern', OK, found)


def clock(facts: dict[str, Any]) -> Finding:
    """Whether ours and the server's agree."""
    ahead = facts['ahead']
    if abs(ahead) > ASTRAY:
        return Finding('clock', NOTE, f'the server is {abs(ahead):.1f} s {"ahead of" if ahead > 0 else "behind"} this '
                       'machine', 'leases and windows go by the server; but set both by NTP: times in your messages, '
                       'and logs, are of this machine')
    return Finding('clock', OK, f'differs by {abs(ahead):.1f} s from the server')


def indexes(url: str | None, facts: dict[str, Any], create: bool) -> Finding:
    """Whether all are there that the queries need."""
    if not facts['collections']:
        return Finding('indexes', OK, 'nothing is stored here yet; collections and indexes are made at the first use')
    if facts['missing'] and create:
        store_for(url)
        return Finding('indexes', OK, f'created: {", ".join(facts["missing"])}')
    if facts['missing']:
        return Finding('indexes', WRONG, f'missing: {", ".join(facts["missing"])}',
                       'minibatch doctor --create-indexes, or start any consumer: it creates them')
    if facts['clustered'] is False and number(facts['version']) >= CLUSTERED:
        return Finding('indexes', NOTE, 'the buffer was made by an older MongoDB, and is not clustered',
                       'while nothing is in it and nothing runs, drop the collection buffer: it is made anew, and '
                       'consumers are about 1.5 times as fast')
    return Finding('indexes', OK, 'all there')


def dead_windows(url: str | None, facts: dict[str, Any]) -> Iterator[Finding]:
    """Windows that wait for a person."""
    if not facts['collections'] or facts['missing']:
        return
    store = store_for(url)
    found = {name: figures(store, name)['dead'] for name in store.names()}
    dead = {name: n for name, n in found.items() if n}
    if dead:
        names = ', '.join(f'{name} ({n:,})' for name, n in list(dead.items())[:NAMED])
        yield Finding('dead windows', NOTE, names + (' and others' if len(dead) > NAMED else ''),
                      'minibatch dead list shows why; then dead redrive, or dead drop')
    else:
        yield Finding('dead windows', OK, 'none')


def _pip(packages: Iterable[str]) -> str:
    return ' '.join(packages)
