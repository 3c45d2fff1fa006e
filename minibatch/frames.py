"""Windows as data frames, and data frames as rows.

What a column becomes, by the values that it has in the window (a field that a message lacks counts as ``None``):

====================  ==========================  ==============================  ================================
values                pandas                      Arrow                           polars
====================  ==========================  ==============================  ================================
int                   ``int64``                   ``int64``                       ``Int64``
int and ``None``      ``Int64``                   ``int64`` with nulls            ``Int64`` with nulls
float, or with int    ``float64``                 ``double``                      ``Float64``
bool                  ``bool``                    ``bool``                        ``Boolean``
bool and ``None``     ``boolean``                 ``bool`` with nulls             ``Boolean`` with nulls
str                   ``str`` (pandas 2: object)  ``string``                      ``String``
datetime              ``datetime64[us, UTC]``     ``timestamp[us, tz=UTC]``       ``Datetime('us', 'UTC')``
``ObjectId``, UUID    text                        text                            text
``Decimal128``        objects: ``Decimal``        ``decimal128``, if it fits      ``Decimal``
bytes                 objects                     ``binary``                      ``Binary``
dict                  objects: the dicts          ``struct`` of all fields        ``Struct``
list                  objects: the lists          ``list``                        ``List``
``None`` only         objects                     ``null``                        ``Null``
all else, mixtures    objects, as they are        text; if not str, as JSON       ``String``
====================  ==========================  ==============================  ================================

Nothing here raises because of what a message holds: what does not fit an Arrow type becomes text. Columns come in the
order in which fields are first seen. A message that is no dict is a row with the column ``value``.

What a column is does not depend on the order of its values, nor on whether ``window.data`` was looked at before.
docs/dataframes.md says why this is done by pyarrow, and not by pymongoarrow, which would read the window's BSON faster.
"""

from __future__ import annotations

import datetime as dt
import inspect
import math
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial, update_wrapper
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import bson
from bson import json_util

from minibatch.coerce import in_utc
from minibatch.errors import MissingExtra, OptionError, did_you_mean

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Column = Sequence[Any]
#: What has a plain type of its own, in both; a ``bson.Int64`` is how BSON's wider integers are read.
_INT, _NUMBER, _BOOL, _TEXT = {int, bson.Int64}, {int, bson.Int64, float}, {bool}, {str}
_TIME, _BYTES, _ID = {dt.datetime}, {bytes}, {bson.ObjectId, uuid.UUID}
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


def columns(rows: Sequence[Any]) -> dict[str, Column]:
    """The values of each field of messages, in the order in which fields are first seen.

    >>> columns([{'n': 1}, {'n': 2, 'user': 'ann'}])
    {'n': (1, 2), 'user': (None, 'ann')}
    >>> columns([1, 2])
    {'value': [1, 2]}
    """
    if not all(isinstance(row, Mapping) for row in rows):
        rows = [row if isinstance(row, Mapping) else {'value': row} for row in rows]
        if all(len(row) == 1 and 'value' in row for row in rows):
            return {'value': [row['value'] for row in rows]}
    names = list(dict.fromkeys(chain.from_iterable(rows)))
    try:
        if len(names) > 1:
            return dict(zip(names, zip(*map(itemgetter(*names), rows), strict=True), strict=True))
    except KeyError:
        pass
    return {name: tuple([row.get(name) for row in rows]) for name in names}


def to_pandas(rows: Sequence[Any]) -> pandas.DataFrame:
    """A DataFrame of messages, one row each; see the table above.

    :param rows: dicts
    :raises minibatch.errors.MissingExtra: pandas is not installed

    >>> to_pandas([{'user': 'ann', 'ms': 12}, {'user': None, 'ms': 30}]).dtypes['ms'].name
    'int64'
    """
    pd = _package('pandas')
    found = {name: _series(pd, values) for name, values in columns(rows).items()}
    return pd.DataFrame(found, index=pd.RangeIndex(len(rows)))


def to_arrow(rows: Sequence[Any]) -> pyarrow.Table:
    """An Arrow table of messages, one row each; see the table above.

    :param rows: dicts
    :raises minibatch.errors.MissingExtra: pyarrow is not installed

    >>> to_arrow([{'user': 'ann', 'ms': 12}, {'user': None, 'ms': 30}]).column_names
    ['user', 'ms']
    """
    pa = _package('pyarrow')
    return pa.table({name: _array(pa, values) for name, values in columns(rows).items()})


def to_polars(rows: Sequence[Any]) -> polars.DataFrame:
    """A polars DataFrame of messages, one row each; see the table above.

    :param rows: dicts
    :raises minibatch.errors.MissingExtra: polars, or pyarrow, is not installed

    >>> to_polars([{'user': 'ann', 'ms': 12}, {'user': None, 'ms': 30}]).shape
    (2, 2)
    """
    pl = _package('polars')
    table = to_arrow(rows)
    frame: polars.DataFrame = pl.from_arrow(table)
    frame.columns = table.column_names  # it has given a name to what has none
    return frame


#: The frames that there are, by what ``as_=`` calls them.
KINDS: dict[str, Callable[[Sequence[Any]], Any]] = {'pandas': to_pandas, 'polars': to_polars, 'arrow': to_arrow}


def framed(fn: Callable[..., Any], as_: str | None) -> Callable[[Any], Any]:
    """A function of a window, made of one of a frame; coroutine functions alike.

    :param fn: gets the frame; if it has a second parameter without a default, it gets the window for that
    :param as_: ``'pandas'``, ``'polars'`` or ``'arrow'``; with ``None`` *fn* gets the window itself
    :raises minibatch.errors.OptionError: there is no such kind of frame
    :raises minibatch.errors.MissingExtra: its package is not installed

    >>> mean = framed(lambda frame: float(frame['ms'].mean()), 'pandas')
    >>> mean([{'ms': 12}, {'ms': 30}])
    21.0
    """
    if as_ is None:
        return fn
    if as_ not in KINDS:
        raise OptionError(f"as_ must be 'pandas', 'polars' or 'arrow', not {as_!r}{did_you_mean(str(as_), KINDS)}")
    _package({'arrow': 'pyarrow'}.get(as_, as_))
    call = partial(_with_frame, fn, as_, _wants_window(fn))
    return update_wrapper(call, fn)


def _with_frame(fn: Callable[..., Any], as_: str, wants_window: bool, window: Any) -> Any:
    frame = KINDS[as_](getattr(window, 'data', window))
    return fn(frame, window) if wants_window else fn(frame)


def _wants_window(fn: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return False
    needed = [each for each in parameters
              if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) and each.default is each.empty]
    return len(needed) > 1


def rows(value: Any) -> Any:
    """A result as a sink is to get it: a frame as a list of dicts, all else as it is.

    Of pandas, a frame's index counts if it has a name, as that of a ``groupby`` has; missing values are ``None``,
    numbers are Python's, and datetimes are naive, in UTC, as in messages. Names of several levels are joined by ``_``.
    A Series is a frame with one column, called ``value`` if it has no name; a Series whose labels are texts, and that
    has no name for them, such as ``frame.mean()``, is one row.

    :raises minibatch.errors.OptionError: two columns have the same name

    >>> import pandas
    >>> rows(pandas.DataFrame({'user': ['ann', 'ann', 'bob'], 'ms': [1, 2, 3]}).groupby('user').sum())
    [{'user': 'ann', 'ms': 3}, {'user': 'bob', 'ms': 3}]
    >>> rows([1, 2])
    [1, 2]
    """
    # Who has a frame has imported its package; nothing is imported for looking.
    pd, pl, pa = (sys.modules.get(each) for each in ('pandas', 'polars', 'pyarrow'))
    if pd is not None and isinstance(value, pd.Series):
        if value.index.names == [None] and len(value) and all(isinstance(label, str) for label in value.index):
            value = value.to_frame().T
        else:
            value = value.to_frame(name='value' if value.name is None else value.name)
    if pd is not None and isinstance(value, pd.DataFrame):
        return _rows_of_pandas(pd, value)
    if pl is not None and isinstance(value, pl.LazyFrame):
        value = value.collect()
    if pl is not None and isinstance(value, pl.DataFrame):
        return [_plain_row(row) for row in value.to_dicts()]
    if pa is not None and isinstance(value, (pa.Table, pa.RecordBatch)):
        return [_plain_row(row) for row in value.to_pylist()]
    return value


def _rows_of_pandas(pd: Any, frame: pandas.DataFrame) -> list[dict[str, Any]]:
    levels = [(name, frame.index.get_level_values(at)) for at, name in enumerate(frame.index.names) if name is not None]
    labels = [*levels, *((label, frame.iloc[:, at]) for at, label in enumerate(frame.columns))]
    names = [_name(label) for label, _ in labels]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OptionError(f'the frame that the function returned has {twice} more than once among its columns and '
                          'index levels, and a row has each name once: rename them')
    values = [[_plain(pd, item) for item in column.tolist()] for _, column in labels]
    if not values:
        return [{} for _ in range(len(frame))]
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def _name(label: Any) -> str:
    return '_'.join(str(each) for each in label if each != '') if isinstance(label, tuple) else str(label)


def _plain(pd: Any, item: Any) -> Any:
    kind = type(item)
    if kind is float:
        return None if math.isnan(item) else item
    if kind in (int, str, bool, dict, list, type(None)):
        return item
    if item is pd.NaT or item is pd.NA:
        return None
    if isinstance(item, pd.Timestamp):
        item = item.to_pydatetime(warn=False)
    elif isinstance(item, pd.Timedelta):
        item = item.to_pytimedelta()
    elif hasattr(item, 'dtype') and hasattr(item, 'tolist'):  # of numpy
        return _plain(pd, item.tolist())
    elif isinstance(item, (pd.Period, pd.Interval)):
        return str(item)
    return in_utc(item) if type(item) is dt.datetime and item.tzinfo is not None else item


def _plain_row(row: dict[str, Any]) -> dict[str, Any]:
    for name, item in row.items():
        if type(item) is dt.datetime and item.tzinfo is not None:
            row[name] = in_utc(item)
    return row


def _package(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise MissingExtra('dataframe', name) from error


def _kinds(values: Column) -> tuple[set[type], bool]:
    kinds = set(map(type, values))
    missing = type(None) in kinds
    return kinds - {type(None)}, missing


def _times(values: Column) -> list[dt.datetime | None]:
    return [None if each is None else in_utc(each) if each.tzinfo is not None else each for each in values]


def _series(pd: Any, values: Column) -> Any:
    kinds, missing = _kinds(values)
    if kinds and kinds <= _INT and _small(values):
        return pd.Series(values, dtype='Int64' if missing else 'int64')
    if kinds == _BOOL:
        return pd.Series(values, dtype='boolean' if missing else 'bool')
    if kinds and kinds <= _NUMBER and float in kinds:
        return pd.Series(values, dtype='float64')
    if kinds == _TIME:
        return pd.Series(_times(values), dtype='datetime64[us]').dt.tz_localize('UTC')
    if kinds and kinds <= _ID:
        return pd.Series(_texts(values))
    if kinds == _TEXT:
        return pd.Series(values)
    if kinds == {bson.Decimal128}:
        values = [None if each is None else each.to_decimal() for each in values]
    return pd.Series(values, dtype=object)


def _array(pa: Any, values: Column) -> Any:
    kinds, _ = _kinds(values)
    if kinds and kinds <= _INT and _small(values):
        return pa.array(values, pa.int64())
    if kinds and kinds <= _NUMBER and float in kinds:
        return pa.array([None if each is None else float(each) for each in values] if len(kinds) > 1 else values,
                        pa.float64())
    if kinds == _TIME:
        return pa.array(_times(values), pa.timestamp('us', tz='UTC'))
    if kinds in (set(), _BOOL, _TEXT, _BYTES):
        return pa.array(values)
    if kinds <= {dict, list, bson.Decimal128}:
        try:
            array = pa.array([_nested(each) for each in values])
            array.validate(full=True)  # bytes beside texts are taken for texts
            if 'decimal256' not in str(array.type):  # those other packages cannot read; polars ends the process on one
                return array
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            pass  # of several types inside, or a decimal that is too wide
    return pa.array(_texts(values), pa.string())


def _small(values: Column) -> bool:
    """Whether integers fit into 64 bits; all do that come from MongoDB."""
    given = [each for each in values if each is not None]
    return bool(min(given) >= _LEAST and max(given) <= _MOST)


def _nested(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {name: _nested(each) for name, each in value.items()}
    if kind is list:
        return [_nested(each) for each in value]
    if kind is bson.Decimal128:
        return value.to_decimal()
    if kind is dt.datetime:
        return value.replace(tzinfo=dt.timezone.utc) if value.tzinfo is None else value
    if kind in (str, int, bson.Int64, float, bool, bytes, type(None)):
        return value
    return _text(value)


def _texts(values: Column) -> list[str | None]:
    return [None if each is None else _text(each) for each in values]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bson.ObjectId, uuid.UUID, bson.Decimal128)):
        return str(value)
    try:
        return json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS, ensure_ascii=False)
    except (TypeError, ValueError, OverflowError):  # what no message holds, but a window made by hand may
        return repr(value)
