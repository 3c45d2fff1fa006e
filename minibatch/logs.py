"""What minibatch writes to the log, and a way to write it that machines can read.

It logs with the standard library, under the name ``minibatch`` and those below it, and sets nothing up: without any
configuration Python shows warnings and errors on standard error, which are one line for each thing that somebody
should know of, and no more. An ``ERROR`` is something that a person must act on (a window is dead), a ``WARNING``
something that goes on by itself (an attempt failed, MongoDB is away), ``INFO`` and ``DEBUG`` are for those who look
for something.

Records have fields beside their text: ``stream``, and where there is one ``window``, ``attempt``, ``error`` and more.
:class:`JsonFormatter` writes them; where a service is started, ``MINIBATCH_LOG=json`` in the environment asks for it.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from minibatch.errors import OptionError, did_you_mean

#: What every record has: not fields of ours.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {'message', 'asctime', 'taskName'}
#: A password in a URL, up to the last at sign of the word: it may not have been percent-encoded.
_SECRET = re.compile(r'(\b[a-zA-Z][\w+.-]*://[^\s:/@]*):\S*@')
_LEVELS = ('debug', 'info', 'warning', 'error')


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON: ``time``, ``level``, ``logger``, ``message``, its fields, ``traceback``.

    Whatever has been given as ``extra=`` is a field. Passwords in URLs are masked, whoever logged them.

    >>> record = logging.makeLogRecord({'name': 'minibatch', 'levelname': 'ERROR', 'msg': 'window %s is dead',
    ...                                 'args': ('clicks:7',), 'created': 0.0, 'stream': 'clicks'})
    >>> print(JsonFormatter().format(record))
    {"time": "1970-01-01T00:00:00.000Z", "level": "error", "logger": "minibatch", "message": "window clicks:7 is dead",
    "process": ..., "stream": "clicks"}
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {'time': _time(record), 'level': record.levelname.lower(), 'logger': record.name,
                                'message': hidden(record.getMessage()), 'process': record.process}
        line |= {name: _field(value) for name, value in vars(record).items() if name not in _USUAL}
        if record.exc_info:
            line['traceback'] = hidden(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Writes a record for people: time, level, and what happened; passwords in URLs are masked.

    >>> record = logging.makeLogRecord({'levelname': 'WARNING', 'msg': 'away: %s', 'created': 0.0,
    ...                                 'args': ('mongodb://ann:geheim@db/shop',)})
    >>> TextFormatter().format(record)
    '1970-01-01T00:00:00.000Z WARNING away: mongodb://ann:***@db/shop'
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, and a traceback below it if there is one."""
        text = f'{_time(record)} {record.levelname} {record.getMessage()}'
        if record.exc_info:
            text += '\n' + self.formatException(record.exc_info)
        return hidden(text)


def line(text: str | None) -> str:
    """*text* on one line, whatever an exception's message holds: a line in the log is one event.

    >>> line("ValueError: no\\n  number")
    'ValueError: no number'
    """
    return ' '.join(hidden(text or '').split())


def hidden(text: str) -> str:
    """*text* with ``***`` for passwords in URLs.

    >>> hidden('from redis://:geheim@cache/0 to mongodb://ann:x@y@db/')
    'from redis://:***@cache/0 to mongodb://ann:***@db/'
    """
    return _SECRET.sub(r'\1:***@', text)


def from_environment(environ: Mapping[str, str] = os.environ, *, otherwise: str = '') -> bool:
    """Log as ``MINIBATCH_LOG`` says: ``json`` or ``text``, with a level after a colon (``json:debug``), or a level.

    Called where a process is ours to set up: by the commands that run consumers, by
    :meth:`minibatch.contrib.apps.StreamingApp.run`, and in the processes of its consumers. Without the variable, and
    where somebody has set up logging already, it does nothing. The level is minibatch's (``info`` if it is not given);
    others log warnings and errors.

    :param otherwise: what counts where the variable is not set
    :return: whether it did something
    :raises minibatch.errors.OptionError: the variable says something else

    >>> from_environment({})
    False
    """
    given = environ.get('MINIBATCH_LOG', '').strip().lower() or otherwise
    if not given:
        return False
    form, _, level = given.partition(':') if ':' in given or given not in _LEVELS else ('text', '', given)
    level = level or 'info'
    if form not in ('json', 'text') or level not in _LEVELS:
        word, known = (form, ('json', 'text', *_LEVELS)) if form not in ('json', 'text') else (level, _LEVELS)
        raise OptionError(f'MINIBATCH_LOG is json or text, and may have a level after it, as in json:debug '
                          f'({", ".join(_LEVELS)}); {given!r} is not{did_you_mean(word, known)}')
    if logging.getLogger().handlers:
        return False
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == 'json' else TextFormatter())
    logging.getLogger().addHandler(handler)
    logging.getLogger('minibatch').setLevel(level.upper())
    return True


def for_command(level: str | None = None, *, as_json: bool = False) -> None:
    """Log as a command does that runs somebody's consumers: as ``MINIBATCH_LOG`` says, or as its options do.

    Without either it tells people what minibatch does, and of others what they warn of. What the consumers' own code
    has set up stays.

    :param level: of all there is to tell, whoever tells it
    :param as_json: lines of JSON, whatever the variable says
    """
    _, _, said = os.environ.get('MINIBATCH_LOG', '').partition(':')
    from_environment({'MINIBATCH_LOG': f'json:{said or "info"}'} if as_json else os.environ, otherwise='info')
    if level:
        for name in ('', 'minibatch'):
            logging.getLogger(name).setLevel(level.upper())


def writes_json() -> bool:
    """Whether this process logs in lines of JSON."""
    return any(isinstance(each.formatter, JsonFormatter) for each in logging.getLogger().handlers)


def _field(value: Any) -> Any:
    """A field as JSON has it, with what is in it.

    >>> _field({'from': ['redis://:geheim@cache/0', 7], 'at': {1}})
    {'from': ['redis://:***@cache/0', 7], 'at': '{1}'}
    """
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {hidden(str(name)): _field(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_field(each) for each in value]
    return hidden(str(value))


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, timezone.utc)
    return at.isoformat(timespec='milliseconds').replace('+00:00', 'Z')
