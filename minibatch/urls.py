"""The text of a connection string: taken apart, checked before it is used, and shown without its password.

Every mistake is one :class:`OptionError` that says what to write instead. The driver's own texts are not passed on
where they could quote a piece of the password, which they do when it was not percent-encoded.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

from pymongo import common
from pymongo.errors import ConfigurationError, PyMongoError
from pymongo.uri_parser import parse_uri, validate_options

from minibatch.errors import OptionError, did_you_mean

SCHEMES = ('mongodb', 'mongodb+srv', 'embedded')
SECRET = ('tlscertificatekeyfilepassword', 'authmechanismproperties')

#: Options of connection strings as MongoDB's manual writes them; the driver knows them in lower case only.
OPTIONS = (
    'appName', 'authMechanism', 'authMechanismProperties', 'authSource', 'compressors', 'connectTimeoutMS',
    'directConnection', 'heartbeatFrequencyMS', 'journal', 'loadBalanced', 'localThresholdMS', 'maxConnecting',
    'maxIdleTimeMS', 'maxPoolSize', 'maxStalenessSeconds', 'minPoolSize', 'readConcernLevel', 'readPreference',
    'readPreferenceTags', 'replicaSet', 'retryReads', 'retryWrites', 'serverMonitoringMode',
    'serverSelectionTimeoutMS', 'socketTimeoutMS', 'srvMaxHosts', 'srvServiceName', 'ssl', 'timeoutMS', 'tls',
    'tlsAllowInvalidCertificates', 'tlsAllowInvalidHostnames', 'tlsCAFile', 'tlsCRLFile', 'tlsCertificateKeyFile',
    'tlsCertificateKeyFilePassword', 'tlsDisableOCSPEndpointCheck', 'tlsInsecure', 'tz_aware', 'uuidRepresentation',
    'w', 'waitQueueTimeoutMS', 'wTimeoutMS', 'zlibCompressionLevel',
)  # fmt: skip
_NAMES = {name.lower(): name for name in OPTIONS}
_NAMES.update({name: name for name in common.URI_OPTIONS_VALIDATOR_MAP if name not in _NAMES})
_NOT_ESCAPED = (
    'the user name and the password in a MongoDB URL must be percent-encoded; '
    'minibatch.authenticated_url(url, user, password) does it'
)


class Parts(NamedTuple):
    """A connection string, taken apart at its delimiters; each part as it was written."""

    scheme: str
    credentials: str
    hosts: str
    path: str
    query: str

    def __str__(self) -> str:
        login = f'{self.credentials}@' if self.credentials else ''
        slashes = '' if self.scheme == 'embedded' and not self.hosts and not self.path else '//'
        path = self.path or ('/' if self.query and slashes else '')
        return f'{self.scheme}:{slashes}{login}{self.hosts}{path}{"?" if self.query else ""}{self.query}'

    def option(self, name: str) -> str | None:
        """The value of an option, however its name is spelt; None if it is not given."""
        for key, value in parse_qsl(self.query, keep_blank_values=True):
            if key.lower() == name.lower():
                return value
        return None

    def without(self, *names: str) -> Parts:
        """The same less some options."""
        drop = {name.lower() for name in names}
        pairs = (pair for pair in self.query.split('&') if pair)
        return self._replace(query='&'.join(pair for pair in pairs if pair.partition('=')[0].lower() not in drop))

    def having(self, **options: Any) -> Parts:
        """The same with some options set; booleans as connection strings write them."""
        new = '&'.join(
            f'{name}={quote_plus(str(value).lower() if isinstance(value, bool) else str(value), safe="/:,")}'
            for name, value in options.items()
        )
        rest = self.without(*options)
        return rest._replace(query='&'.join(filter(None, (rest.query, new))))

    def on(self, database: str) -> Parts:
        """The same for another database."""
        if self.scheme == 'embedded':
            return self.having(database=database)
        return self._replace(path='/' + quote(database, safe=''))

    @property
    def database(self) -> str:
        """The database it names, empty if none."""
        if self.scheme == 'embedded':
            return self.option('database') or ''
        return unquote(self.path.lstrip('/'))


def parts_of(url: str) -> Parts:
    """Take a connection string apart, without any judgement on the parts.

    >>> parts_of('mongodb://ann:x@a:1,b:2/shop?w=majority')
    Parts(scheme='mongodb', credentials='ann:x', hosts='a:1,b:2', path='/shop', query='w=majority')
    """
    scheme, _, rest = url.partition(':')
    rest, _, query = rest.partition('?')
    if rest.startswith('//'):
        authority, slash, path = rest[2:].partition('/')
    else:
        authority, slash, path = '', '', rest
    credentials, _, hosts = authority.rpartition('@')
    return Parts(scheme, credentials, hosts, slash + path, query)


def masked(url: str) -> str:
    """*url* fit to be shown: with ``***`` for its password and for any other secret in it.

    >>> masked('mongodb://ann:s3cret@db.example/shop')
    'mongodb://ann:***@db.example/shop'
    """
    # to the last @ of all: a password that was not percent-encoded may hold an @, a slash or a question mark
    url = re.sub(r'^([^:/?]+:)?(//)?([^:/@]*):.*@', r'\1\2\3:***@', url, flags=re.DOTALL)
    return re.sub(rf'(?i)\b({"|".join(SECRET)})=[^&;]*', r'\1=***', url)


def authenticated_url(url: str, user: str | None = None, password: str | None = None, authSource: str = 'admin') -> str:
    """Put credentials into a MongoDB URL, percent-encoded.

    As in earlier versions, ``authenticated_url(url)`` and ``authenticated_url(url, authSource)`` only add the
    database in which the user is defined, where the URL does not name it yet.

    :param url: a ``mongodb://`` or ``mongodb+srv://`` URL
    :param user: the user's name
    :param password: the user's password
    :param authSource: the database in which the user is defined

    >>> authenticated_url('mongodb://db.example/shop', 'ann', 'p@ss/word')
    'mongodb://ann:p%40ss%2Fword@db.example/shop?authSource=admin'
    >>> authenticated_url('mongodb://ann:x@db.example/shop')
    'mongodb://ann:x@db.example/shop?authSource=admin'
    """
    if not url:
        return url
    if password is None and user is not None:
        authSource, user = user, None
    parts = parts_of(url)
    if user is not None:
        parts = parts._replace(credentials=f'{quote_plus(user)}:{quote_plus(password or "")}')
    # a seed list's DNS record says itself where its users are
    known = parts.scheme == 'mongodb+srv' or parts.option('authSource') is not None
    return str(parts if known else parts.having(authSource=authSource))


def checked(url: object) -> Parts:
    """Take a connection string apart, or say in one sentence what is wrong with it.

    The engine's promises need acknowledged writes. So ``w=0`` and ``journal=false`` are refused, and so are
    write concerns other than ``majority``, except for ``w=1``: the driver's old default, which many URLs carry,
    is raised to ``majority``.

    :raises OptionError: it cannot be used
    """
    if not isinstance(url, str):
        raise OptionError(f'the URL of a MongoDB is a str, not {type(url).__name__}')
    shown = repr(masked(url))
    scheme = url.partition(':')[0]
    if ':' not in url or scheme not in SCHEMES:
        nearest = did_you_mean(scheme, SCHEMES)
        raise OptionError(f'{shown} is no URL of a MongoDB: it must begin with mongodb://, mongodb+srv:// or '
                          f'embedded:{nearest}')  # fmt: skip
    parts = parts_of(url)
    if scheme != 'embedded':
        _check_form(url, parts, shown)
    check_options(parse_qsl(parts.query, keep_blank_values=True), shown, own=('database',) * (scheme == 'embedded'))
    if scheme != 'embedded':
        _check_whole(parts, shown)
    return parts


def _check_form(url: str, parts: Parts, shown: str) -> None:
    if not url.startswith(f'{parts.scheme}://'):
        raise OptionError(f'{shown} is no URL of a MongoDB: write {parts.scheme}:// with two slashes')
    # an at sign after the host, or more than one before: a password that was cut in two. Nothing of it is to be quoted
    # as a database or an option that does not exist
    if '@' in parts.credentials + parts.path + parts.query or parts.credentials.count(':') > 1:
        raise OptionError(f'{shown}: {_NOT_ESCAPED}')
    if not parts.hosts.strip(','):
        raise OptionError(f'{shown} names no host: write {parts.scheme}://HOST/DATABASE')
    check_database(parts.database, shown)
    wrong = [pair for pair in parts.query.split('&') if pair and '=' not in pair]
    if wrong:
        raise OptionError(f'{shown}: options are written name=value, joined by &')


def check_database(name: str, shown: str) -> None:
    """Refuse what cannot be the name of a database."""
    if re.search(r'[\s/\\."$\0]', name) or len(name.encode()) > 63:
        raise OptionError(f'{shown}: {name!r} cannot be the name of a database: no spaces, none of / \\ . " $, '
                          'and no more than 63 bytes')  # fmt: skip


def check_options(pairs: list[tuple[str, Any]], where: str, own: tuple[str, ...] = ()) -> None:
    """Refuse options that the driver would only warn of, and those that would break the engine's promises."""
    seen: set[str] = set()
    for given, value in pairs:
        key = given.lower()
        if given in own:
            if given == 'database':
                check_database(value, where)
            continue
        if key not in _NAMES:
            raise OptionError(f'{where}: there is no option {given}{did_you_mean(given, [*OPTIONS, *own])}')
        if key in seen and key != 'readpreferencetags':
            raise OptionError(f'{where}: the option {given} is given twice')
        seen.add(key)
        _check_value(_NAMES[key], value, where)


def _check_value(name: str, value: Any, where: str) -> None:
    try:
        validate_options({name.lower(): value})
        problem = ''
    except (ValueError, TypeError, OSError, ConfigurationError) as exc:
        shown = '***' if name.lower() in SECRET else repr(value)
        reason = '' if name.lower() in SECRET else f': {_plain(exc)}'
        problem = f'{where}: the option {name} cannot be {shown}{reason}'
    if problem:
        raise OptionError(problem)
    if name == 'w' and str(value) not in ('1', 'majority'):
        raise OptionError(f'{where}: w={value} would let acknowledged messages be lost; leave it out, minibatch '
                          'always writes with w=majority')  # fmt: skip
    if name == 'journal' and str(value).lower() == 'false':
        raise OptionError(f'{where}: journal=false would let acknowledged messages be lost; leave it out')


def _check_whole(parts: Parts, shown: str) -> None:
    """What only the driver knows: escapes, ports, options that exclude each other."""
    # a seed list is taken for a plain one here: its records are looked up later, and once
    plain = parts._replace(scheme='mongodb')
    if parts.scheme == 'mongodb+srv' and ('srvMaxHosts' in parts.query or 'srvServiceName' in parts.query):
        plain = plain.without('srvMaxHosts', 'srvServiceName')
    try:
        parse_uri(str(plain))
        problem = ''
    except (PyMongoError, ValueError, TypeError, OSError) as exc:
        problem = _plain(exc)
    if not problem:
        return
    if 'escaped' in problem and 'digit' not in problem:
        problem = _NOT_ESCAPED
    elif 'ort contains' in problem or 'ort must' in problem:
        problem = 'a port is a number from 1 to 65535'
    elif 'username' in problem:
        problem = 'its user name is empty'
    secret = unquote_plus(parts.credentials.partition(':')[2])
    raise OptionError(f'{shown}: {_NOT_ESCAPED if len(secret) > 3 and secret in problem else problem}')


def _plain(exc: Exception) -> str:
    """The first sentence of the driver's text."""
    text = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return text.partition('. Hint')[0].rstrip('.')
