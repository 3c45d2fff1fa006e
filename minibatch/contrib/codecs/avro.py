"""Avro: one datum in binary, by a schema that both sides know."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Mapping
from typing import Any

from minibatch.contrib.codecs.plain import as_bytes, in_utc, plainer, why
from minibatch.errors import MissingExtra, OptionError, Undecodable, Unencodable

_NATIVE = (str, int, float, bytes, dt.date, dt.time, dt.timedelta, type(None))


class Avro:
    """Avro data without a container, as messages on Kafka and MQTT carry it: neither header nor schema inside.

    :param schema: a schema as a dict or list, or its JSON
    :raises minibatch.errors.OptionError: it is no schema
    :raises minibatch.errors.MissingExtra: fastavro is not installed

    >>> reading = Avro({'type': 'record', 'name': 'Reading', 'fields': [
    ...     {'name': 'room', 'type': 'string'}, {'name': 'celsius', 'type': 'double'}]})
    >>> reading.decode(reading.encode({'room': 'attic', 'celsius': 31.5}))
    {'room': 'attic', 'celsius': 31.5}

    A record is written if it has the fields of the schema and no others (those with a default may be missing), each
    of its type: nothing is dropped or rounded to fit. A datetime without a zone is taken to be in UTC.
    """

    makes_messages = True

    def __init__(self, schema: Mapping[str, Any] | list[Any] | str) -> None:
        fastavro = _fastavro()
        try:
            given = json.loads(schema) if isinstance(schema, str) and schema.lstrip()[:1] in ('{', '[', '"') else schema
            self._schema = fastavro.parse_schema(given)
        except Exception as error:
            raise OptionError(f'this is not an Avro schema: {type(error).__name__}: {why(error)}') from error

    def __repr__(self) -> str:
        name = self._schema.get('name') if isinstance(self._schema, dict) else None
        return f'Avro({name or "schema"})'

    def decode(self, data: bytes) -> Any:
        """The value.

        :raises Undecodable: it was not written with this schema
        """
        data = as_bytes(data, 'avro')
        file = io.BytesIO(data)
        try:
            value = _fastavro().schemaless_reader(file, self._schema, None)
        except Exception as error:  # a wrong schema reads nonsense until something breaks, whatever it is
            raise Undecodable(f'not Avro of this schema: {type(error).__name__}: {why(error)}') from error
        if file.tell() != len(data):
            raise Undecodable(f'not Avro of this schema: it ends at byte {file.tell()} of {len(data)}')
        return value

    def encode(self, message: Any) -> bytes:
        """Avro.

        :raises Unencodable: it does not fit the schema
        """
        fastavro = _fastavro()
        file = io.BytesIO()
        try:
            value = _rebuilt(message)
            fastavro.validation.validate(value, self._schema, raise_errors=True)
            fastavro.schemaless_writer(file, self._schema, value, strict_allow_default=True)
        except Exception as error:
            raise Unencodable(f'this does not fit the Avro schema: {_reason(error)}') from error
        return file.getvalue()


def _fastavro() -> Any:
    try:
        import fastavro
        import fastavro.validation
    except ImportError as error:
        raise MissingExtra('avro', 'fastavro') from error
    return fastavro


def _reason(error: Exception) -> str:
    """What is wrong; the validator says it in JSON, one line for each field."""
    try:
        said = json.loads(str(error))
        return why(ValueError(f'{said[0].strip()}')) if isinstance(said, list) else why(error)
    except (ValueError, IndexError, AttributeError):
        return why(error)


def _rebuilt(value: Any) -> Any:
    """The same in types that fastavro knows."""
    if isinstance(value, dt.datetime):
        return in_utc(value)
    if isinstance(value, Mapping):
        return {key: _rebuilt(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rebuilt(item) for item in value]
    if type(value).__name__ in ('Decimal', 'UUID') or type(value) is bool or type(value) in _NATIVE:
        return value
    if isinstance(value, dt.date):
        return value
    return _rebuilt(plainer(value))
