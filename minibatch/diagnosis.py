"""Why a MongoDB cannot be used, in one sentence that says what to change.

The driver reports what each of its attempts ran into, in its own words. Here that becomes the one reason a person
can act on; where the words leave it open, the server is asked once more, directly.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any, NamedTuple

from pymongo import MongoClient
from pymongo.errors import (
    ConfigurationError,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.server_description import ServerDescription
from pymongo.topology_description import TopologyDescription
from pymongo.uri_parser import parse_uri

from minibatch.urls import Parts

PROBE = 0.4  # seconds for one question to one server
_UNKNOWN_HOST = ('name or service not known', 'nodename nor servname', 'temporary failure in name', 'no address associ',
                 'getaddrinfo failed')  # fmt: skip

_NOT_INITIATED = 'it waits for its replica set to be initiated (rs.initiate() in mongosh)'


class Reason(NamedTuple):
    """Why; whether waiting cannot help; whether it is the user name or the password."""

    text: str
    final: bool
    login: bool = False


def reason(exc: Exception, url: Parts, client: MongoClient[Any] | None = None) -> Reason:
    """Find the reason why *exc* came when *client* was used, or when it was made."""
    if isinstance(exc, OperationFailure):
        return _refusal(exc, url)
    if isinstance(exc, ConfigurationError) or client is None:
        return Reason(_seed_list(exc) if url.scheme == 'mongodb+srv' else _first_sentence(exc), True)
    topology = client.topology_description
    servers = topology.server_descriptions()
    if isinstance(exc, (ServerSelectionTimeoutError, NetworkTimeout)):
        failed = [server for server in servers.values() if server.error is not None]
        if failed:
            found = [_unreachable(server, url, client) for server in failed]
            # one that waiting cannot help decides only if it holds for all
            final = all(one.final for one in found) and len(failed) == len(servers)
            return Reason('; '.join(dict.fromkeys(one.text for one in found)), final)
        if not servers:  # the driver drops a server that is not of the set it was told
            return _wrong_set(url, topology)
        if any(server.server_type_name == 'RSGhost' for server in servers.values()):
            return Reason(_NOT_INITIATED, False)
        if not topology.has_known_servers:
            return Reason('it does not answer', False)
        return Reason('it has no primary at the moment (an election, or too few of its members are up)', False)
    return Reason(_first_sentence(exc), False)


def _refusal(exc: OperationFailure, url: Parts) -> Reason:
    if exc.code == 18:
        user = url.credentials.partition(':')[0]
        source = url.option('authSource') or url.database or 'admin'
        return Reason(f'it refuses the user {user}: the password is wrong, or there is no such user in the database '
                      f'{source} (authSource= names another one)', True, login=True)  # fmt: skip
    if exc.code == 13:
        known = url.credentials.partition(':')[0]
        if known:
            return Reason(f'the user {known} may not read and write the database', True)
        return Reason('it wants a user and a password: write mongodb://USER:PASSWORD@HOST/DATABASE', True)
    return Reason(_first_sentence(exc), False)


def _seed_list(exc: Exception) -> str:
    text = str(exc)
    if 'does not exist' in text or 'NXDOMAIN' in text or 'does not contain an answer' in text:
        return 'there is no such host: the DNS has no mongodb+srv record of that name'
    return f'its mongodb+srv record cannot be looked up: {_first_sentence(exc)}'


def _unreachable(server: ServerDescription, url: Parts, client: MongoClient[Any]) -> Reason:
    host, port = server.address[0], server.address[1] or 27017
    where = f'{host}:{port}'
    text = str(server.error).lower()
    if any(known in text for known in _UNKNOWN_HOST):
        heals = 'temporary' in text or bool(_announced(server, url))
        return Reason(f'the host name {host} is not known{_announced(server, url)}', not heals)
    if 'refused' in text:
        return Reason(f'nothing listens at {where}{_announced(server, url)}', False)
    wants_tls = client.options._options.get('tls', False)
    if wants_tls and ('ssl' in text or 'closed' in text or 'reset' in text):
        if _ask(host, port) is not None:
            return Reason(f'{where} does not speak TLS: leave tls=true out, or use a server that does', True)
        return Reason(f'the TLS handshake with {where} failed: {_tls_reason(server.error)}', True)
    if not wants_tls and ('closed' in text or 'reset' in text) and _speaks_tls(host, port):
        return Reason(f'{where} speaks TLS only: add tls=true to the URL', True)
    if 'configured to connect to a replica set' in text:
        return Reason(f'{where}: {_first_sentence(server.error)}', True)
    if 'response id' in text or 'opcode' in text or 'message length' in text:
        return Reason(f'what listens at {where} is no MongoDB', True)
    if 'timed out' in text or 'timeout' in text:
        return Reason(f'{where} does not answer{_announced(server, url)}', False)
    return Reason(f'{where}: {_first_sentence(server.error)}{_announced(server, url)}', False)


def _announced(server: ServerDescription, url: Parts) -> str:
    """A remark on an address that is not in the URL: the members of the set gave it to us."""
    if url.scheme != 'mongodb' or server.address[0].lower() in url.hosts.lower():
        return ''
    return ' (so its replica set calls that member; if the name is of no use here, add directConnection=true)'


def _wrong_set(url: Parts, topology: TopologyDescription) -> Reason:
    wanted = topology.replica_set_name
    for host, port in _seeds(url):
        hello = _ask(host, port or 27017)
        if hello is None:
            continue
        where = f'{host}:{port or 27017}'
        actual = hello.get('setName')
        if actual and actual != wanted:
            text = f'{where} belongs to the replica set {actual}, not to {wanted}: write replicaSet={actual}'
            return Reason(text, True)
        if hello.get('isreplicaset'):
            return Reason(_NOT_INITIATED, False)
        if not actual:
            return Reason(f'{where} belongs to no replica set: leave replicaSet={wanted} out of the URL', True)
    return Reason('no server of it answers', False)


def _seeds(url: Parts) -> list[tuple[str, int | None]]:
    with contextlib.suppress(PyMongoError, ValueError):
        return list(parse_uri(str(url.without('replicaSet')))['nodelist'])[:2]
    return []


def _ask(host: str, port: int) -> dict[str, Any] | None:
    """What a server says of itself to anybody, without TLS; None if it does not answer so."""
    try:
        with MongoClient[dict[str, Any]](
            host, port, directConnection=True, serverSelectionTimeoutMS=PROBE * 1000, connectTimeoutMS=PROBE * 1000
        ) as client:
            return client.admin.command('hello')
    except (PyMongoError, OSError):
        return None


def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), timeout=PROBE) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as exc:
        # a server that asks for our certificate has spoken TLS, too
        return 'alert' in str(exc).lower() or 'certificate' in str(exc).lower()
    except OSError:
        return False


def _tls_reason(error: Exception | None) -> str:
    text = str(error).lower()
    if 'self-signed' in text or 'self signed' in text or 'unable to get' in text:
        return 'its certificate is not signed by an authority known here; name it with tlsCAFile='
    if 'hostname mismatch' in text or "doesn't match" in text or 'ip address mismatch' in text:
        return 'its certificate is for another host name'
    if 'expired' in text:
        return 'its certificate has expired'
    if 'alert' in text and 'certificate' in text:
        return 'it asks for a certificate of ours; name it with tlsCertificateKeyFile='
    return _first_sentence(error)


def _first_sentence(exc: object) -> str:
    """The driver's words up to where it starts to list its settings and servers."""
    text = str(exc).partition(', full error:')[0].partition(' (configured timeouts')[0].partition(', Timeout:')[0]
    return text.strip().rstrip('.')
