"""The Dockerfile, compose.yaml, the systemd unit and the Kubernetes manifest: read, held against each other, and run.

There need be no Docker, systemd or Kubernetes for this: what their files name (what is copied, commands, environment,
ports, health checks) is taken from them and done, beside one MongoDB. What only an engine can do, building the image
and starting its containers, is not.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.mongod import free_port
from tests.support.scripts import Person, Script, get
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / 'docs/services'
UNIT = SERVICES / 'minibatch-visits.service'


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, in order."""
    text = re.sub(r'\\\n', ' ', (ROOT / 'Dockerfile').read_text(encoding='utf-8'))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith('#')]
    return [(name, rest.strip()) for name, _, rest in (line.partition(' ') for line in lines)]


def of_docker(name: str) -> list[str]:
    return [rest for each, rest in instructions() if each == name]


def image_environment() -> dict[str, str]:
    return dict(pair.split('=', 1) for line in of_docker('ENV') for pair in shlex.split(line))


def health_check() -> list[str]:
    line, = of_docker('HEALTHCHECK')
    return list(json.loads(line.partition('CMD ')[2]))


def compose() -> Any:
    return yaml.safe_load((ROOT / 'compose.yaml').read_text(encoding='utf-8'))


def manifest() -> list[Any]:
    return list(yaml.safe_load_all((SERVICES / 'kubernetes.yaml').read_text(encoding='utf-8')))


def unit() -> dict[str, dict[str, list[str]]]:
    """The unit's sections; an option may be given more than once."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in UNIT.read_text(encoding='utf-8').splitlines():
        if line.startswith('['):
            options = sections.setdefault(line.strip('[]'), {})
        elif line and not line.startswith('#'):
            name, _, value = line.partition('=')
            options.setdefault(name, []).append(value)
    return sections


def containers() -> dict[str, Any]:
    """The containers of the deployments, by what they are."""
    pods = [each['spec']['template']['spec'] for each in manifest() if each['kind'] == 'Deployment']
    return {container['name']: container for pod in pods for container in pod['containers']}


def commands() -> dict[str, list[str]]:
    """What each file starts the app with."""
    services = compose()['services']
    start, = unit()['Service']['ExecStart']
    return {
        'Dockerfile': json.loads(of_docker('CMD')[-1]),
        'compose app': services['app']['command'], 'compose consumer': services['consumer']['command'],
        'Kubernetes web': containers()['web']['args'], 'Kubernetes consumer': containers()['consumer']['args'],
        'systemd': shlex.split(start),
    }


# -- what the files say


def test_the_image_is_small_and_nobody_in_it_is_root() -> None:
    assert all(base.split()[0].endswith('-slim') for base in of_docker('FROM'))
    assert len(of_docker('FROM')) == 2, 'what builds is not what is shipped'
    user, = of_docker('USER')
    assert re.fullmatch(r'[1-9]\d+:[1-9]\d+', user), 'by number: Kubernetes looks at it with runAsNonRoot'
    ignored = (ROOT / '.dockerignore').read_text(encoding='utf-8').splitlines()
    assert '*' in ignored
    copied = {name for line in of_docker('COPY') if not line.startswith('--from') for name in line.split()[:-1]}
    assert {line[1:] for line in ignored if line.startswith('!')} == {name.rstrip('/') for name in copied}
    assert all((ROOT / name).exists() for name in copied)
    assert image_environment()['HOST'] == '0.0.0.0', 'it is the container that decides who reaches it'


def test_compose_has_a_replica_set_an_app_and_a_consumer() -> None:
    services = compose()['services']
    assert set(services) == {'mongo', 'app', 'consumer'}
    name = re.search(r"_id: '(\w+)'", services['mongo']['healthcheck']['test'][-1])
    assert name is not None
    assert services['mongo']['command'][1:3] == ['--replSet', name[1]]
    assert 'ports' not in services['mongo'], 'it has no password'
    for each in (services['app'], services['consumer']):
        assert each['environment']['MINIBATCH_MONGO_URL'] == f'mongodb://mongo:27017/minibatch?replicaSet={name[1]}'
        assert each['depends_on']['mongo']['condition'] == 'service_healthy'
        assert each['read_only'] is True
        assert each['cap_drop'] == ['ALL']
    published, = services['app']['ports']
    assert published == f'127.0.0.1:5000:{image_environment()["PORT"]}', 'to this machine only'
    assert 'ports' not in services['consumer'], 'so that there may be many'


def test_kubernetes_gets_the_url_from_a_secret_and_no_root() -> None:
    assert [each['kind'] for each in manifest()] == ['Deployment', 'Deployment', 'Service']
    for deployment in manifest()[:2]:
        spec = deployment['spec']
        assert spec['selector']['matchLabels'] == spec['template']['metadata']['labels']
        assert spec['template']['spec']['securityContext']['runAsNonRoot'] is True
        for container in spec['template']['spec']['containers']:
            reference, = container['env']
            assert reference['name'] == 'MINIBATCH_MONGO_URL'
            assert 'value' not in reference
            assert reference['valueFrom']['secretKeyRef']['key'] == 'url'
            assert container['ports'] == [{'name': 'http', 'containerPort': int(image_environment()['PORT'])}]
            assert container['readinessProbe']['httpGet'] == {'path': '/health', 'port': 'http'}
            assert container['livenessProbe'] == {'tcpSocket': {'port': 'http'}, 'periodSeconds': 10}, (
                'a MongoDB that is away is no reason to kill')
            assert container['securityContext']['readOnlyRootFilesystem'] is True
    service = manifest()[2]['spec']
    assert service['selector'] == manifest()[0]['spec']['selector']['matchLabels']
    assert service['ports'][0]['targetPort'] == 'http'


@pytest.mark.skipif(shutil.which('systemd-analyze') is None, reason='systemd is not installed')
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    start, = unit()['Service']['ExecStart']
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text(encoding='utf-8').replace(start.split()[0], sys.executable))
    found = subprocess.run(['systemd-analyze', 'verify', str(copy)], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, '')


def test_the_unit_keeps_the_url_to_itself_and_lets_windows_finish() -> None:
    service = unit()['Service']
    assert service['EnvironmentFile'] == ['/etc/minibatch-visits.env']
    assert not any('MINIBATCH' in line for line in service['Environment'])
    assert service['KillMode'] == ['mixed'], 'the app stops its consumers in order, and the others are not told'
    assert service['DynamicUser'] == ['yes']


# -- what they start


class Container:
    """What a container holds: a directory with what the Dockerfile copies into it, and nothing of this process."""

    def __init__(self, person: Person, command: list[str], name: str) -> None:
        port = str(free_port())
        self.page = f'http://127.0.0.1:{port}'
        self.env = image_environment() | {'PATH': person.env['PATH'], 'HOST': '127.0.0.1', 'PORT': port}
        self.person = person
        (person.home / 'app.py').write_text((ROOT / 'examples/app.py').read_text(encoding='utf-8'), encoding='utf-8')
        self.script: Script = person.call([sys.executable, *command[1:]], name, **self.env)

    def healthy(self) -> bool:
        """What Docker finds."""
        command = [sys.executable, *health_check()[1:]]
        return not subprocess.run(command, env=self.person.env | self.env, capture_output=True, check=False).returncode

    def wait(self) -> None:
        self.script.wait_until(lambda: get(f'{self.page}/health')[0] == 200)


def test_every_file_starts_the_app_in_a_way_that_it_knows() -> None:
    assert {Path(command[0]).name for command in commands().values()} == {'python'}
    assert {tuple(command[1:]) for command in commands().values()} == {
        ('app.py',), ('app.py', 'web'), ('app.py', 'consumer')}


def test_a_web_server_and_a_consumer_as_compose_and_kubernetes_have_them(tmp_path: Path, url: str) -> None:
    """Address from the environment, health checks, metrics by one of them, SIGTERM at the end."""
    person = Person(tmp_path, url)
    try:
        web = Container(person, commands()['compose app'], 'web')
        consumer = Container(person, commands()['systemd'], 'consumer')
        web.wait()
        for user in ('ann', 'bob', 'cid'):
            assert get(f'{web.page}/visit/{user}') == (200, f'hello {user}\n')
        web.script.wait_until(lambda: json.loads(get(f'{web.page}/')[1]) == {'visits': 3})
        consumer.wait()
        assert [web.healthy(), consumer.healthy()] == [True, True]
        wait_until(lambda: 'minibatch_messages_committed_total{stream="visits"} 3.0' in get(f'{web.page}/metrics')[1])
        assert 'minibatch_consumers{stream="visits"} 1.0' in get(f'{web.page}/metrics')[1]
        pid = json.loads(get(f'{consumer.page}/status')[1])['consumers'][0]['pid']
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not consumer.healthy(), what='the health check to see that its consumer is dead')
        assert web.healthy(), 'nothing is wrong there'
        for each in (web, consumer):
            os.kill(each.script.process.pid, signal.SIGTERM)
        for each in (web, consumer):
            each.script.end()
        wait_until(lambda: not person.processes(), 60, what='the consumer to end')
    finally:
        person.leave()


def test_what_a_service_cannot_do_is_said(person: Person) -> None:
    container = Container(person, ['python', 'app.py', 'wbe'], 'wrong')
    container.script.end(code=1)
    assert 'usage: python app.py [web] [consumer]' in container.script.said
