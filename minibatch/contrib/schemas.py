"""Typed records: what a message has to look like, said by a dataclass, a pydantic model or a JSON Schema.

>>> from dataclasses import dataclass, field
>>> from minibatch.contrib.schemas import checker
>>> @dataclass
... class Reading:
...     room: str
...     celsius: float
...     tags: list[str] = field(default_factory=list)
>>> check = checker(Reading)
>>> check({'room': 'attic', 'celsius': 31})
{'room': 'attic', 'celsius': 31.0, 'tags': []}
>>> check({'room': 'attic', 'celsius': 'hot'})
Traceback (most recent call last):
minibatch.errors.Unfit: celsius is a str, and Reading wants float

=================  ============================================================================================
schema             what it does
=================  ============================================================================================
a dataclass        checks the types of its fields, fills in defaults, refuses fields that it has not, and runs
                   ``__post_init__``, whose ``ValueError`` is a reason too. It converts what loses nothing: int to
                   float, ISO text to datetime, date and time, text to UUID and Decimal, a value to its Enum
a pydantic model   what the model says, conversions and fields it does not know included; the message becomes
                   what ``model_dump()`` answers
a JSON Schema      checks by the draft that ``$schema`` names (2020-12 if it names none) and changes nothing;
                   ``format`` is a comment, as the standard has it, and a ``$ref`` is never fetched
=================  ============================================================================================
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from minibatch.contrib.records import record
from minibatch.errors import MissingExtra, OptionError, Unfit

Check = Callable[[Any], dict[str, Any]]


def checker(schema: Any) -> Check:
    """The function that checks messages by *schema*, and answers what is to be stored.

    The function raises :class:`~minibatch.errors.Unfit`, which names the first field that does not fit and why, and
    never changes what it was given.

    :param schema: a dataclass, a pydantic model (version 2), or a JSON Schema as a dict
    :raises minibatch.errors.OptionError: it is none of these, or one that cannot be used
    :raises minibatch.errors.MissingExtra: it is a JSON Schema and jsonschema is not installed

    >>> checker({'type': 'object', 'required': ['room']})({'celsius': 31.5})
    Traceback (most recent call last):
    minibatch.errors.Unfit: the message: 'room' is a required property
    """
    if isinstance(schema, type):
        if hasattr(schema, 'model_validate') and hasattr(schema, 'model_dump'):
            return _by_model(schema)
        if dataclasses.is_dataclass(schema):
            return record(schema)
    if isinstance(schema, Mapping):
        return _by_json_schema(dict(schema))
    raise OptionError(f'schema is {_short(repr(schema))}; give a dataclass, a pydantic model or a JSON Schema (a dict)')


def _by_model(model: Any) -> Check:
    from pydantic import ValidationError

    def check(message: Any) -> dict[str, Any]:
        try:
            found = model.model_validate(message)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            raise _unfit(_dotted(first['loc']), first['msg'], error.error_count() - 1) from error
        dumped = found.model_dump()
        if not isinstance(dumped, dict):
            raise _unfit('', f'becomes a {type(dumped).__name__}, and a message is a mapping')
        return dumped

    return check


def _by_json_schema(schema: dict[str, Any]) -> Check:
    try:
        from jsonschema import SchemaError
        from jsonschema.exceptions import best_match
        from jsonschema.validators import Draft202012Validator, validator_for
        from referencing import Registry
        from referencing.exceptions import Unresolvable
    except ImportError as error:
        raise MissingExtra('jsonschema', 'jsonschema') from error
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise OptionError(f'this is not a JSON Schema: {_dotted(error.absolute_path) or "it"}: '
                          f'{_short(error.message)}') from error
    registry: Registry[Any] = Registry()  # an empty one: nothing is fetched from anywhere
    validator = kind(schema, registry=registry)

    def check(message: Any) -> dict[str, Any]:
        try:
            errors = list(validator.iter_errors(message))
        except Unresolvable as error:
            raise OptionError(f'the JSON Schema refers to {error.ref!r}, which is not in it; put it under '
                              '$defs') from error
        if errors:
            best = best_match(errors)
            raise _unfit(_dotted(best.absolute_path), best.message, len(errors) - 1)
        if not isinstance(message, Mapping):
            raise _unfit('', f'is a {type(message).__name__}, and a message is a mapping')
        return dict(message)

    return check


def _unfit(where: str, reason: str, more: int = 0) -> Unfit:
    reason = _short(reason)
    others = f' (and {more} more)' if more else ''
    return Unfit(f'{where or "the message"}: {reason}{others}', field=where, reason=reason)


def _dotted(path: Any) -> str:
    """The name of a field from its keys and indexes.

    >>> _dotted(['user', 'tags', 3])
    'user.tags[3]'
    """
    name = ''
    for part in path:
        name += f'[{part}]' if isinstance(part, int) else f'.{part}' if name else str(part)
    return name


def _short(text: str, most: int = 200) -> str:
    """The beginning of what a library says, which may quote the message."""
    text = ' '.join(text.split())
    return text if len(text) <= most else text[:most - 3] + '...'


