"""A MongoDB as it should be in production: a replica set that asks for a user and a password, and speaks TLS only."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from minibatch import authenticated_url
from tests.support.mongod import die_with_parent, find_mongod, free_port
from tests.support.waiting import wait_until

#: With all that has a meaning in a URL. It must not be seen anywhere, in neither way to write it.
PASSWORD = 'kör/b:ch?n#1@%41'


@dataclass
class Guarded:
    """The server.

    :ivar place: where its files are: ``ca.pem``, and ``client.pem``, the certificate of the user ``CN=ann``
    """

    place: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def plain(self) -> str:
        """A URL without anything that opens the door."""
        return f'mongodb://127.0.0.1:{self.port}/shop?replicaSet=rs0'

    @property
    def tls(self) -> str:
        """With what makes the connection safe."""
        return f'{self.plain}&tls=true&tlsCAFile={self.place / "ca.pem"}'

    @property
    def url(self) -> str:
        """The whole: user, password, certificate authority."""
        return authenticated_url(self.tls, 'ann', PASSWORD)

    @property
    def by_certificate(self) -> str:
        """The same with a certificate in place of a password."""
        return (f'{self.tls}&tlsCertificateKeyFile={self.place / "client.pem"}'
                '&authMechanism=MONGODB-X509&authSource=%24external')

    def start(self) -> None:
        """Start it, or start it again; it may take a moment until it is primary."""
        (self.place / 'db').mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [str(find_mongod()), '--dbpath', str(self.place / 'db'), '--port', str(self.port), '--bind_ip', '127.0.0.1',
             '--nounixsocket', '--networkMessageCompressors', 'disabled', '--wiredTigerCacheSizeGB', '0.25',
             '--logpath', str(self.place / 'log'), '--logappend', '--replSet', 'rs0', '--oplogSize', '256',
             '--setParameter', 'diagnosticDataCollectionEnabled=false', '--keyFile', str(self.place / 'key'),
             '--tlsMode', 'requireTLS', '--tlsCertificateKeyFile', str(self.place / 'server.pem'),
             '--tlsCAFile', str(self.place / 'ca.pem'), '--tlsAllowConnectionsWithoutCertificates'],
            stdout=subprocess.DEVNULL, preexec_fn=die_with_parent)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(20)

    def client(self, **options: Any) -> MongoClient[dict[str, Any]]:
        return MongoClient('127.0.0.1', self.port, directConnection=True, tls=True, serverSelectionTimeoutMS=500,
                           tlsCAFile=str(self.place / 'ca.pem'), **options)

    def prepare(self) -> None:
        """Make the replica set and the users."""
        def initiated() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, (self.place / 'log').read_text()[-2000:]
            with suppress(PyMongoError), self.client() as client:  # from this machine, until there is a user
                client.admin.command('replSetInitiate', {'_id': 'rs0', 'members': [
                    {'_id': 0, 'host': f'127.0.0.1:{self.port}'}]})
                return True
            return False
        wait_until(initiated, 30, what='mongod to be initiated')
        with self.client() as client:
            wait_until(lambda: client.admin.command('hello')['isWritablePrimary'], 30, what='a primary')
            client.admin.command('createUser', 'root', pwd=PASSWORD, roles=['root'])
        with self.client(username='root', password=PASSWORD) as client:
            role = [{'role': 'readWrite', 'db': 'shop'}]  # which is all that the documentation asks for
            client.admin.command('createUser', 'ann', pwd=PASSWORD, roles=role)
            client['$external'].command('createUser', 'CN=ann,O=shop', roles=role)


def _certificates(place: Path) -> None:
    openssl = shutil.which('openssl')
    if openssl is None:
        if os.environ.get('CI'):
            pytest.fail('openssl is not installed')
        pytest.skip('openssl is not installed')

    def call(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=place, check=True, capture_output=True)

    key = ('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes')
    call('req', '-x509', *key, '-days', '2', '-subj', '/CN=authority', '-keyout', 'ca.key', '-out', 'ca.pem')
    for name, subject, more in (('server', '/CN=127.0.0.1', 'subjectAltName=IP:127.0.0.1'),
                                ('client', '/O=shop/CN=ann', 'extendedKeyUsage=clientAuth')):
        (place / f'{name}.ext').write_text(more)
        call('req', *key, '-subj', subject, '-keyout', f'{name}.key', '-out', f'{name}.csr')
        call('x509', '-req', '-days', '2', '-in', f'{name}.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial',
             '-extfile', f'{name}.ext', '-out', f'{name}.crt')
        (place / f'{name}.pem').write_text((place / f'{name}.crt').read_text() + (place / f'{name}.key').read_text())


@contextmanager
def guarded(place: Path) -> Iterator[Guarded]:
    """Start one, in the directory *place*; it ends with the context."""
    _certificates(place)
    (place / 'key').write_text('SharedByTheMembersOfTheSet')
    (place / 'key').chmod(0o600)
    server = Guarded(place, free_port())
    server.start()
    try:
        server.prepare()
        yield server
    finally:
        server.kill()
