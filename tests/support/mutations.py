"""Remove a guard of the engine in this process, so that a fault test can show that it would notice.

A mutation replaces a piece of a module's source before that is imported. Where the piece is not found any more, it
fails at once: the guard was rewritten, and its mutation has to be, too.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    module: str
    replace: tuple[tuple[str, str], ...]


MUTATIONS = {
    # Every write of a runner carries the token of its claim.
    'token': Mutation('minibatch.store.windows', (
        ("{'_id': records[0].id, 'state': RUNNING, 'token': records[0].token}",
         "{'_id': records[0].id, 'state': RUNNING}"),
        ("""'state': RUNNING,
            'token': {'$in': list({each.token for each in records})}}""", "'state': RUNNING}"),
    )),
    # The same, and only while the window is running.
    'fence': Mutation('minibatch.store.windows', (
        ("{'_id': records[0].id, 'state': RUNNING, 'token': records[0].token}", "{'_id': records[0].id}"),
        ("{'state': {'$in': [RUNNING, DONE]}} if session is None else {}", '{}'),
    )),
    # A message is marked only if it is in no window yet.
    'mark': Mutation('minibatch.store.cut', (
        ("UpdateMany({'_id': {'$in': chunk}, 'stream': stream, 'window': None},",
         "UpdateMany({'_id': {'$in': chunk}, 'stream': stream},"),
    )),
    # Find, delete and insert of a move are one transaction, which deletes what it found or nothing.
    'move': Mutation('minibatch.store.cut', (
        ('        with session.start_transaction(read_concern=schema.SNAPSHOT, write_concern=schema.MAJORITY):\n',
         '        session = None\n        if True:\n'),
        ('                if gone != n:\n', '                if False:\n'),
    )),
    # Window numbers are taken for good: a majority knows of it before the first of them is used.
    'numbers': Mutation('minibatch.store.lead', (
        ("""        doc = self.streams.find_one_and_update(
            {'_id': stream, 'lease.owner': owner},
            [{'$set': {'seq'""", """        doc = self.streams.with_options(write_concern=LIGHT).find_one_and_update(
            {'_id': stream, 'lease.owner': owner},
            [{'$set': {'seq'"""),
    )),
    # The server session of a dead consumer is ended, and with it the locks of its open transaction.
    'killSessions': Mutation('minibatch.store.base', (
        ('        if lsids and self.transactions:\n', '        if False:\n'),
    )),
    # Whoever takes over finishes the cuts that were begun.
    'roll forward': Mutation('minibatch.store.cut', (
        ("        docs = list(self.settled.find({'stream': stream, 'state': CUTTING}))\n", '        docs = []\n'),
    )),
    # A window whose lease has run out goes back to the others.
    'recover': Mutation('minibatch.store.windows', (
        ('        if not expired:\n            return []\n', '        return []\n'),
    )),
    # A commit of fewer windows than were run takes its effects back.
    'all or nothing': Mutation('minibatch.store.windows', (
        ('                if done != len(records):\n', '                if False:\n'),
    )),
}


def mutate(*names: str) -> None:
    """Let the modules of these mutations be imported without their guards."""
    wanted = [MUTATIONS[name] for name in names]
    original = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: importlib.machinery.SourceFileLoader, fullname: str) -> types.CodeType | None:
        mine = [m for m in wanted if m.module == fullname]
        if not mine:
            return original(self, fullname)
        source = self.get_source(fullname) or ''
        for mutation in mine:
            for old, new in mutation.replace:
                if old not in source:
                    raise LookupError(f'{fullname} has no piece like this any more:\n{old}')
                source = source.replace(old, new, 1)
        return compile(source, self.get_filename(fullname), 'exec', dont_inherit=True)

    for mutation in wanted:
        if mutation.module in sys.modules:
            raise RuntimeError(f'{mutation.module} is imported already')
    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]
