"""The rules of the house, which a reader would otherwise have to believe: imports point down, names are pinned."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import minibatch

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / 'minibatch'
MODULES = sorted(PACKAGE.rglob('*.py'))
MOST_LINES = 400

#: From the ground up. A module imports from its own layer and from those before it.
LAYERS = (
    ('errors', 'states', 'clock', 'points', 'order', 'ids', 'refused', 'coerce', 'convert', 'frames', 'scope',
     'outcome', 'supervisor', 'alive', 'measures', 'linger', 'logs', 'tracing'),
    ('embedded', 'urls', 'diagnosis', 'client'),
    ('connection',),
    ('store',),
    ('messages', 'chunks', 'backlog', 'writer', 'dead', 'fluent'),
    ('models', 'status'),
    ('window', 'wrapped', 'worker', 'lanes', 'process', 'processes', 'pools', 'executor'),
    ('tables', 'table'),
    ('delivery', 'housekeeping', 'upkeep', 'inbox', 'letters', 'placer', 'cutter', 'runner', 'signals', 'sinks',
     'crew'),
    ('api',),
    ('operators',),
    ('app',),
    ('testing', 'contrib', 'demo'),
    ('cli', '__main__'),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

#: Who may talk to MongoDB's driver (``bson`` counts: it is the driver's idea of data).
DRIVER = {'pymongo', 'bson', 'gridfs', 'mongoengine'}
MAY_USE_DRIVER = {'store', 'urls', 'diagnosis', 'client', 'connection', 'embedded', 'supervisor', 'models', 'messages',
                  'ids', 'coerce', 'convert', 'frames', 'refused'}

#: What all bridges are built on. Its modules may import each other, and from our own house what is named here: what a
#: message may hold, and how many a stream takes.
BRIDGEHEAD: dict[str, tuple[str, ...]] = {
    'minibatch.contrib.base': ('convert', 'refused'),
    'minibatch.contrib.codecs': (),
    'minibatch.contrib.schemas': (),
    'minibatch.contrib.records': (),
    'minibatch.contrib.reconnect': (),
    'minibatch.contrib.reading': ('coerce', 'convert', 'messages', 'refused'),
    'minibatch.contrib.intake': ('backlog', 'ids', 'store'),
    'minibatch.contrib.inlet': (),
    'minibatch.contrib.once': ('backlog', 'ids', 'messages', 'store'),
    'minibatch.contrib.mongodb': ('store',),
    'minibatch.contrib.apps': ('measures',),
}
#: Bridges to MongoDB itself, and what knows its documents.
MONGO_BRIDGES = ('minibatch.contrib.mongodb', 'minibatch.contrib.omegaml', 'minibatch.contrib.reading')

#: What ``import minibatch as mb`` gives, in full. A name added or removed here is a change of the public surface.
PUBLIC = [
    'AccessRefused', 'App', 'BacklogFull', 'Batch', 'Buffer', 'CodecError', 'ConnectError', 'CountWindow',
    'DeliveryFailed', 'EmbeddedError', 'FixedTimeWindow', 'HistoryLost', 'HoppingWindow', 'IntegrityError',
    'InvalidMessage', 'LeaseLost', 'MessageTooLarge', 'MinibatchError', 'MissingExtra', 'OptionError',
    'Pipeline', 'PositionMoved', 'RelaxedTimeWindow', 'SessionWindow', 'SlidingWindow', 'StoreUnavailable', 'Stream',
    'TableError', 'Undecodable', 'Unencodable', 'Unfit', 'Window', 'WindowEmitter', 'WindowError', 'WindowTimeout',
    'WorkerDied', 'agg', 'authenticated_url', 'connectdb', 'make_emitter', 'source', 'stream', 'streaming', 'table',
]

#: Names that programs import from elsewhere than the top.
PROMISED = {
    'minibatch.models': ['Stream', 'Buffer', 'Window'],
    'minibatch.window': ['WindowEmitter', 'CountWindow', 'FixedTimeWindow', 'RelaxedTimeWindow', 'HoppingWindow',
                         'SlidingWindow', 'SessionWindow', 'JoiningWindow'],
    'minibatch.contrib.mongodb': ['MongoReplicasetSource', 'MongoSink', 'MongoSource'],
    'minibatch.contrib.kafka': ['KafkaSource', 'KafkaSink'],
    'minibatch.contrib.mqtt': ['MQTTSource', 'MQTTSink'],
    'minibatch.contrib.celery': ['CeleryEventSource'],
    'minibatch.contrib.redis': ['RedisSource', 'RedisSink'],
    'minibatch.contrib.apps': ['StreamingApp'],
    'minibatch.contrib.apps.omegaml': ['StreamingApp'],
    'minibatch.contrib.base': ['Source', 'Sink'],
    'minibatch.contrib.codecs': ['Avro', 'Base64', 'Codec', 'Gzip', 'Json', 'Msgpack', 'Pickle', 'Raw', 'Text', 'codec',
                                 'register', 'registered'],
    'minibatch.contrib.files': ['FileSource', 'FileSink'],
    'minibatch.contrib.inlet': ['Inlet', 'Stopped'],
    'minibatch.contrib.omegaml': ['DatasetSource', 'DatasetSink'],
    'minibatch.contrib.reconnect': ['persist'],
    'minibatch.contrib.schemas': ['checker'],
    'minibatch.app': ['Agent', 'App', 'AppStream', 'Windows'],
    'minibatch.logs': ['JsonFormatter', 'TextFormatter', 'from_environment'],
    'minibatch.clock': ['Clock', 'ManualClock'],
    'minibatch.embedded': ['start', 'stop', 'status'],
    'minibatch.cli': ['main'],
    'minibatch.testing': ['Consumed', 'Later', 'ManualClock', 'MemorySink', 'consume', 'database', 'wait_until'],
}


def part_of(path: Path) -> str:
    """The name of the part that a module belongs to: ``store`` for ``minibatch/store/cut.py``."""
    return path.relative_to(PACKAGE).with_suffix('').parts[0]


def named(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imports(path: Path, *, functions: bool = True) -> Iterator[str]:
    """What a module imports, as dotted names; what is there for the type checker only does not count.

    :param functions: also what functions import when they are called
    """
    package = named(path) if path.name == '__init__.py' else named(path).rpartition('.')[0]
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding='utf-8'))]
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not functions:
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith('TYPE_CHECKING'):
            todo.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                above = package.split('.')[:len(package.split('.')) - node.level + 1]
                base = '.'.join([*above, base] if base else above)
            yield from (f'{base}.{alias.name}' for alias in node.names)
        todo.extend(ast.iter_child_nodes(node))


def own(name: str) -> str | None:
    """The part of minibatch that an imported name comes from; ``None`` if it is not ours."""
    first, *rest = name.split('.')
    if first != 'minibatch':
        return None
    return rest[0] if rest and rest[0] in RANK else ''


def each_module(*, of: str | None = None, but: str | None = None) -> list[object]:
    """Test parameters: all modules, or those of one part, or all but those of one part."""
    return [pytest.param(path, id=named(path)) for path in MODULES
            if part_of(path) != but and of in (None, part_of(path))]


@pytest.mark.parametrize('path', each_module(but='__init__'))
def test_imports_point_down(path: Path) -> None:
    part = part_of(path)
    assert part in RANK, f'{named(path)} has no place in LAYERS: give it one, here and in docs/design'
    for name in imports(path, functions=False):
        other = own(name)
        if other:
            assert RANK[other] <= RANK[part], f'{named(path)} imports {name}, which is above it'
            beside = RANK[other] == RANK[part] and other != part
            assert not (beside and part == 'window'), f'{named(path)} imports {name}'


@pytest.mark.parametrize('path', each_module())
def test_only_the_store_and_its_like_talk_to_the_driver(path: Path) -> None:
    used = {name.split('.')[0] for name in imports(path)} & DRIVER
    allowed = part_of(path) in MAY_USE_DRIVER or named(path).startswith(MONGO_BRIDGES)
    assert allowed or not used, f'{named(path)} imports {used}: a query belongs into minibatch/store'


@pytest.mark.parametrize('path', each_module(of='window'))
def test_a_window_strategy_does_no_io(path: Path) -> None:
    forbidden = DRIVER | {'socket', 'subprocess', 'multiprocessing'}
    for name in imports(path):
        assert name.split('.')[0] not in forbidden, f'{named(path)} imports {name}'
        assert own(name) not in ('runner', 'housekeeping', 'api', 'connection', 'embedded')


@pytest.mark.parametrize('path', each_module(of='contrib'))
def test_contrib_uses_the_public_surface(path: Path) -> None:
    for name in imports(path):
        if name.split('.')[0] != 'minibatch':
            continue
        _, *rest = name.split('.')
        if rest and rest[0] in RANK:  # a module of ours, so: which?
            door = BRIDGEHEAD.get(bridge(path), ())
            small = ('errors', 'clock', 'logs', 'signals', 'states', 'tracing')
            assert rest[0] in ('contrib', *small, *door), f'{named(path)} imports {name}'
            if rest[0] == 'contrib':
                same = name.split('.')[:3] == named(path).split('.')[:3]
                assert same or name.startswith(tuple(BRIDGEHEAD)), f'{named(path)} imports {name}'


def bridge(path: Path) -> str:
    """The bridge that a module belongs to: ``minibatch.contrib.codecs`` for ``minibatch/contrib/codecs/json.py``."""
    return '.'.join(named(path).split('.')[:3])


@pytest.mark.parametrize('path', each_module())
def test_no_module_is_long(path: Path) -> None:
    lines = len(path.read_text(encoding='utf-8').splitlines())
    assert lines <= MOST_LINES, f'{named(path)} has {lines} lines: it does more than one thing'


def test_the_top_has_names_and_nothing_else() -> None:
    tree = ast.parse((PACKAGE / '__init__.py').read_text(encoding='utf-8'))
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr)
    assert [ast.unparse(node) for node in tree.body if not isinstance(node, allowed)] == []


def test_the_public_names_are_these() -> None:
    assert sorted(minibatch.__all__) == sorted(PUBLIC)
    for name in PUBLIC:
        assert hasattr(minibatch, name), name


def test_every_error_is_public() -> None:
    errors = [name for name, thing in vars(importlib.import_module('minibatch.errors')).items()
              if isinstance(thing, type) and issubclass(thing, minibatch.MinibatchError)]
    assert [name for name in errors if name not in PUBLIC] == []


@pytest.mark.parametrize(('module', 'name'), [(module, name) for module, names in PROMISED.items() for name in names])
def test_a_promised_name_is_there(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


def test_the_options_of_streaming_are_described() -> None:
    """Those of the design, each in the docstring that ``help(minibatch.streaming)`` shows."""
    designed = {'size', 'within', 'interval', 'relaxed', 'emitter', 'keep', 'url', 'sink', 'source', 'queue', 'workers',
                'max_workers', 'executor', 'blocking', 'background', 'lease', 'max_attempts', 'backoff', 'timeout',
                'emit_empty', 'as_'}
    text = inspect.getdoc(minibatch.streaming) or ''
    described = set(re.findall(r':param (\w+):', text)) | set(re.findall(r'``(\w+)``', text))
    assert designed - described == set()


def public_things(path: Path) -> Iterator[tuple[str, bool]]:
    """The public classes, functions and methods of a module, and whether ``help()`` has something to say about them."""
    module = importlib.import_module(named(path))
    yield named(path), bool(module.__doc__)
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or node.name.startswith('_'):
            continue
        thing = getattr(module, node.name)
        yield node.name, bool(thing.__doc__)
        if isinstance(node, ast.ClassDef) and not any('Protocol' in ast.unparse(base) for base in node.bases):
            for each in node.body:
                if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)) and not each.name.startswith('_'):
                    # The docstring of the method that it overrides, with its contract, will do.
                    own_one = ast.get_docstring(each)
                    yield f'{node.name}.{each.name}', bool(own_one or inspect.getdoc(getattr(thing, each.name)))


@pytest.mark.parametrize('path', each_module(but='__main__'))
def test_whatever_is_public_says_what_it_is(path: Path) -> None:
    assert [name for name, documented in public_things(path) if not documented] == []


def tracked() -> list[Path]:
    """The files of the project, as git knows them; as they lie there where there is no git."""
    listed = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        return [path for top in ('minibatch', 'tests', 'docs') for path in (ROOT / top).rglob('*') if path.is_file()]
    return [ROOT / name for name in listed.stdout.split('\0') if name]


def test_no_file_names_the_host_of_a_package_registry() -> None:
    hosts = [name + '.' + end for name, end in (
        ('py' + 'pi', 'org'), ('python' + 'hosted', 'org'), ('registry.npm' + 'js', 'org'), ('deb.de' + 'bian', 'org'))]
    guilty = []
    for path in tracked():
        if not path.is_file():
            continue
        text = path.read_bytes()
        guilty += [(str(path.relative_to(ROOT)), host) for host in hosts if host.encode() in text]
    assert guilty == []
