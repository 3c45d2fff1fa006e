"""Typed records: what fits, what it becomes, and how what does not fit is named."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import pickle
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, NewType

import pydantic
import pytest

from minibatch.contrib.schemas import checker
from minibatch.errors import InvalidMessage, OptionError, Unfit

UserId = NewType('UserId', int)


class Color(enum.Enum):
    RED = 'red'
    BLUE = 'blue'


@dataclasses.dataclass
class Reading:
    room: str
    celsius: float
    n: int = 0
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Place:
    name: str
    inside: Place | None = None


@dataclasses.dataclass
class Everything:
    any: Any = None
    at: dt.datetime | None = None
    day: dt.date | None = None
    time: dt.time | None = None
    key: uuid.UUID | None = None
    price: Decimal | None = None
    color: Color | None = None
    size: Literal['s', 'm', 1] = 's'
    user: UserId = UserId(0)
    pair: tuple[int, str] = (0, '')
    row: tuple[int, ...] = ()
    loose: tuple = ()  # type: ignore[type-arg]
    bag: set[int] = dataclasses.field(default_factory=set)
    seq: Sequence[int] = ()
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    by: Mapping[str, Reading] = dataclasses.field(default_factory=dict)
    free: dict = dataclasses.field(default_factory=dict)  # type: ignore[type-arg]
    some: list = dataclasses.field(default_factory=list)  # type: ignore[type-arg]
    either: float | str = ''
    raw: bytes = b''
    flag: bool = False
    places: list[Place] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Positive:
    n: int
    double: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError('n is below 0\nand more')
        self.double = 2 * self.n


class Model(pydantic.BaseModel):
    room: str
    celsius: float
    tags: list[str] = []


JSON_SCHEMA = {
    'type': 'object', 'required': ['room', 'celsius'],
    'properties': {'room': {'type': 'string', 'minLength': 1}, 'celsius': {'type': 'number'},
                   'tags': {'type': 'array', 'items': {'type': 'string'}}},
}


# -- all kinds


@pytest.mark.parametrize('schema', [Reading, Model, JSON_SCHEMA], ids=['dataclass', 'pydantic', 'json schema'])
@pytest.mark.parametrize(('message', 'field'), [
    ({'room': 'attic'}, None),
    ({'room': 'attic', 'celsius': 'hot'}, 'celsius'),
    ({'room': 3, 'celsius': 1.0}, 'room'),
    ({'room': 'attic', 'celsius': 1.0, 'tags': ['a', 3]}, 'tags[1]'),
    ({}, None), ([], ''), (None, ''), ('text', ''), (3, ''),
])
def test_what_does_not_fit_is_named(schema: Any, message: Any, field: str | None) -> None:
    with pytest.raises(Unfit) as caught:
        checker(schema)(message)
    error = caught.value
    if field is not None:  # what is missing is a field to some and the message to others
        assert error.field == field
        assert error.path == (f'data.{field}' if field else 'data')
    assert error.reason
    assert error.reason in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.field, again.reason, again.path) == (str(error), error.field, error.reason, error.path)


@pytest.mark.parametrize('schema', [Reading, Model, JSON_SCHEMA], ids=['dataclass', 'pydantic', 'json schema'])
def test_what_fits_comes_back_as_a_dict_of_its_own(schema: Any) -> None:
    message = {'room': 'attic', 'celsius': 31.5, 'tags': ['a']}
    before = dict(message)
    checked = checker(schema)(message)
    assert checked == {**checked, **before}
    assert type(checked) is dict
    assert checked is not message
    assert message == before


@pytest.mark.parametrize('schema', [Reading, Model, JSON_SCHEMA], ids=['dataclass', 'pydantic', 'json schema'])
def test_a_reason_does_not_repeat_a_long_message(schema: Any) -> None:
    with pytest.raises(Unfit) as caught:
        checker(schema)({'room': 'x', 'celsius': 'hot ' * 10_000})
    assert len(str(caught.value)) < 400


def test_an_unfit_message_is_an_invalid_one() -> None:
    assert issubclass(Unfit, InvalidMessage)


@pytest.mark.parametrize('schema', [None, 3, 'Reading', int, Reading('a', 1), ['type'], lambda message: message])
def test_what_is_no_schema(schema: Any) -> None:
    with pytest.raises(OptionError, match='give a dataclass, a pydantic model or a JSON Schema'):
        checker(schema)


# -- dataclasses


def test_defaults_are_filled_in_and_not_shared() -> None:
    check = checker(Reading)
    one = check({'room': 'a', 'celsius': 1})
    one['tags'].append('x')
    assert check({'room': 'a', 'celsius': 1}) == {'room': 'a', 'celsius': 1.0, 'n': 0, 'tags': []}


@pytest.mark.parametrize(('given', 'kept'), [
    ({'any': object}, object),
    ({'at': '2026-01-31T12:00:00Z'}, dt.datetime(2026, 1, 31, 12, tzinfo=dt.timezone.utc)),
    ({'at': '2026-01-31 12:00:00'}, dt.datetime(2026, 1, 31, 12)),
    ({'at': dt.datetime(2026, 1, 31)}, dt.datetime(2026, 1, 31)),
    ({'at': None}, None),
    ({'day': '2026-01-31'}, dt.date(2026, 1, 31)),
    ({'time': '12:30'}, dt.time(12, 30)),
    ({'key': str(uuid.UUID(int=1))}, uuid.UUID(int=1)),
    ({'price': '1.50'}, Decimal('1.50')),
    ({'price': 2}, Decimal(2)),
    ({'color': 'red'}, Color.RED),
    ({'color': Color.BLUE}, Color.BLUE),
    ({'size': 1}, 1),
    ({'user': 7}, 7),
    ({'pair': [1, 'a']}, (1, 'a')),
    ({'row': [1, 2, 3]}, (1, 2, 3)),
    ({'loose': [1, 'a']}, (1, 'a')),
    ({'bag': [1, 2, 1]}, {1, 2}),
    ({'seq': (1, 2)}, [1, 2]),
    ({'counts': {'a': 1}}, {'a': 1}),
    ({'by': {'x': {'room': 'a', 'celsius': 1}}}, {'x': {'room': 'a', 'celsius': 1.0, 'n': 0, 'tags': []}}),
    ({'by': {'x': Reading('a', 1.0)}}, {'x': {'room': 'a', 'celsius': 1.0, 'n': 0, 'tags': []}}),
    ({'free': {'a': [1]}}, {'a': [1]}),
    ({'some': [1, 'a']}, [1, 'a']),
    ({'either': 'x'}, 'x'),
    ({'either': 3}, 3.0),
    ({'raw': b'a'}, b'a'),
    ({'flag': True}, True),
    ({'places': [{'name': 'a', 'inside': {'name': 'b'}}]}, [{'name': 'a', 'inside': {'name': 'b', 'inside': None}}]),
])
def test_what_fits_a_dataclass(given: dict[str, Any], kept: Any) -> None:
    (name,) = given
    checked = checker(Everything)(given)[name]
    assert checked == kept
    assert type(checked) is type(kept)


@pytest.mark.parametrize(('given', 'field', 'reason'), [
    ({'at': 'noon'}, 'at', 'cannot be read as one'),
    ({'at': 3}, 'at', 'is an int, and Everything wants'),
    ({'day': '2026-13-01'}, 'day', 'cannot be read as one'),
    ({'key': 'x'}, 'key', 'cannot be read as one'),
    ({'price': 'dear'}, 'price', 'cannot be read as one'),
    ({'price': 1.5}, 'price', 'is a float'),
    ({'color': 'green'}, 'color', 'is a str'),
    ({'size': 'xl'}, 'size', "wants one of 's', 'm', 1"),
    ({'size': True}, 'size', 'is a bool'),
    ({'user': True}, 'user', 'is a bool, and Everything wants int'),
    ({'user': 1.0}, 'user', 'is a float, and Everything wants int'),
    ({'pair': [1]}, 'pair', 'has 1 items'),
    ({'pair': [1, 2]}, 'pair[1]', 'is an int'),
    ({'row': [1, 'a']}, 'row[1]', 'is a str'),
    ({'row': 'abc'}, 'row', 'is a str'),
    ({'loose': 3}, 'loose', 'is an int'),
    ({'bag': ['a']}, 'bag[0]', 'is a str'),
    ({'seq': 'abc'}, 'seq', 'is a str'),
    ({'counts': {'a': 'b'}}, 'counts.a', 'is a str'),
    ({'counts': [1]}, 'counts', 'is a list'),
    ({'by': {'x': {'room': 'a'}}}, 'by.x.celsius', 'is missing, and Reading requires it'),
    ({'raw': 'a'}, 'raw', 'is a str'),
    ({'flag': 1}, 'flag', 'is an int'),
    ({'either': None}, 'either', 'is None'),
    ({'places': [{'name': 'a', 'inside': {'name': 3}}]}, 'places[0].inside.name', 'is an int, and Place wants str'),
    ({'colour': 'red'}, 'colour', 'is no field of Everything; did you mean color?'),
    ({3: 'red'}, '3', 'is no field of Everything'),
])
def test_what_does_not_fit_a_dataclass(given: Any, field: str, reason: str) -> None:
    with pytest.raises(Unfit) as caught:
        checker(Everything)(given)
    assert caught.value.field == field
    assert reason in caught.value.reason


def test_a_dataclass_may_have_the_last_word() -> None:
    check = checker(Positive)
    assert check({'n': 2}) == {'n': 2, 'double': 4}
    assert check(Positive(3)) == {'n': 3, 'double': 6}
    with pytest.raises(Unfit, match=r'^the message is refused by Positive: n is below 0$'):
        check({'n': -1})
    with pytest.raises(Unfit, match='double is no field of Positive'):
        check({'n': 1, 'double': 3})


def test_annotations_that_cannot_be_checked_are_refused_at_once() -> None:
    @dataclasses.dataclass
    class Odd:
        calls: type[int]

    @dataclasses.dataclass
    class Unreadable:
        what: NoSuchName  # type: ignore[name-defined]  # noqa: F821
    with pytest.raises(OptionError, match=r'Odd.calls is annotated as type\[int\], which cannot be checked; use Any'):
        checker(Odd)
    with pytest.raises(OptionError, match='the annotations of Unreadable cannot be read'):
        checker(Unreadable)


# -- pydantic


def test_a_model_converts_and_drops_as_it_says() -> None:
    class Strict(Model):
        model_config = pydantic.ConfigDict(extra='forbid')
        model: int = pydantic.Field(0, alias='m')
    check = checker(Model)
    assert check({'room': 'a', 'celsius': '3.5', 'extra': 1}) == {'room': 'a', 'celsius': 3.5, 'tags': []}
    assert check(Model(room='a', celsius=1)) == {'room': 'a', 'celsius': 1.0, 'tags': []}
    assert checker(Strict)({'room': 'a', 'celsius': 1, 'm': 2})['model'] == 2
    with pytest.raises(Unfit, match=r'extra: Extra inputs are not permitted'):
        checker(Strict)({'room': 'a', 'celsius': 1, 'extra': 1})
    with pytest.raises(Unfit, match=r'room: Field required \(and 1 more\)'):
        check({})


def test_a_model_that_is_no_mapping() -> None:
    class Numbers(pydantic.RootModel[list[int]]):
        pass
    with pytest.raises(Unfit, match='the message: becomes a list, and a message is a mapping'):
        checker(Numbers)([1, 2])


# -- JSON Schema


def test_a_json_schema_changes_nothing() -> None:
    message = {'room': 'a', 'celsius': 1, 'more': [1]}
    assert checker(JSON_SCHEMA)(message) == message


def test_references_inside_of_a_schema_work_and_others_are_not_fetched() -> None:
    inside = {'$defs': {'n': {'type': 'integer'}}, 'properties': {'n': {'$ref': '#/$defs/n'}}}
    assert checker(inside)({'n': 1}) == {'n': 1}
    with pytest.raises(Unfit) as caught:
        checker(inside)({'n': 'x'})
    assert caught.value.field == 'n'
    elsewhere = {'properties': {'n': {'$ref': 'http://127.0.0.1:9/schema.json'}}}
    with pytest.raises(OptionError, match=r"refers to 'http://127.0.0.1:9/schema.json', which is not in it"):
        checker(elsewhere)({'n': 1})


def test_the_draft_is_the_one_that_the_schema_names() -> None:
    # In draft 4 exclusiveMinimum is a flag, since draft 6 a number.
    old = {'$schema': 'http://json-schema.org/draft-04/schema#',
           'properties': {'n': {'minimum': 0, 'exclusiveMinimum': True}}}
    assert checker(old)({'n': 1}) == {'n': 1}
    with pytest.raises(Unfit):
        checker(old)({'n': 0})
    with pytest.raises(OptionError, match=r'this is not a JSON Schema: properties.n.exclusiveMinimum'):
        checker({'properties': {'n': {'exclusiveMinimum': True}}})


def test_jsonschema_missing() -> None:
    """In an interpreter of its own, where it cannot be imported; dataclasses need nothing."""
    code = """
import dataclasses, sys
sys.modules['jsonschema'] = None
from minibatch.contrib.schemas import checker
print(checker(dataclasses.make_dataclass('N', [('n', int)]))({'n': 1}))
try:
    checker({})
except ImportError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, '-c', code], check=True, timeout=30, capture_output=True, text=True).stdout
    assert said == "{'n': 1}\njsonschema is not installed; install it with: pip install 'minibatch[jsonschema]'\n"
