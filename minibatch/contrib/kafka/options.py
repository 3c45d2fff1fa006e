"""What both ends of Kafka are given: addresses, topics, and options that kafka-python is to get as they are."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from minibatch.errors import OptionError, did_you_mean

Topic = str | re.Pattern[str]


def addresses(urls: str | Sequence[str]) -> list[str]:
    """The brokers to ask first, as ``host:port``.

    >>> addresses('kafka://one:9092,two')
    ['one:9092', 'two:9092']
    >>> addresses('http://one')
    Traceback (most recent call last):
    minibatch.errors.OptionError: urls: 'http://one' is no address of a Kafka broker; give host:port, or a list of them
    """
    given: list[object] = [*urls.split(',')] if isinstance(urls, str) else list(urls)
    found = []
    for each in given:
        plain = each.strip().removeprefix('kafka://').rstrip('/') if isinstance(each, str) else ''
        match = re.fullmatch(r'([\w.-]+|\[[0-9a-fA-F:.]+\])(?::(\d{1,5}))?', plain)
        if match is None or not 0 < int(match[2] or 9092) < 65536:
            raise OptionError(f'urls: {each!r} is no address of a Kafka broker; give host:port, or a list of them')
        found.append(f'{match[1]}:{match[2] or 9092}')
    if not found:
        raise OptionError('urls is empty; give host:port of a Kafka broker, or a list of them')
    return found


def check_topic(topic: object) -> str:
    """The name of one topic.

    :raises OptionError: it cannot be one
    """
    if not isinstance(topic, str) or not re.fullmatch(r'[a-zA-Z0-9._-]{1,249}', topic) or topic in ('.', '..'):
        raise OptionError(f'{topic!r} is no name of a Kafka topic: 1 to 249 letters, digits, dots, _ and -')
    return topic


def subscription(topic: Topic | Sequence[Topic]) -> dict[str, Any]:
    """What ``KafkaConsumer.subscribe`` is given for names and patterns of topics.

    >>> subscription('clicks')
    {'topics': ['clicks']}
    >>> subscription(['clicks', re.compile('sensor-.*', re.I)])
    {'pattern': '(?:clicks|(?i:sensor-.*))\\\\Z'}
    """
    given = [topic] if isinstance(topic, (str, re.Pattern)) else list(topic)
    if not given:
        raise OptionError('topic is an empty list; give the name of a topic, or a compiled pattern')
    if not any(isinstance(each, re.Pattern) for each in given):
        return {'topics': [check_topic(each) for each in given]}
    parts = []
    for each in given:
        if isinstance(each, re.Pattern):
            if not isinstance(each.pattern, str) or each.flags & ~(re.IGNORECASE | re.UNICODE):
                raise OptionError(f'topic: {each!r} has flags; of those only re.IGNORECASE can be kept')
            parts.append(f'(?{"i" if each.flags & re.IGNORECASE else ""}:{each.pattern})')
        else:
            parts.append(re.escape(check_topic(each)))
    return {'pattern': f'(?:{"|".join(parts)})\\Z'}


def check_options(who: str, options: Mapping[str, Any], known: Collection[str], ours: Mapping[str, str]) -> None:
    """Refuse what kafka-python would not know, and what is said in another way here.

    :param who: the class, for the error
    :param options: as given
    :param known: names of kafka-python's options
    :param ours: names that are not taken, and what to do instead
    :raises OptionError: there is one of either
    """
    for name in options:
        if name in ours:
            raise OptionError(f'{who} does not take {name}: {ours[name]}')
        if name not in known:
            raise OptionError(f'{who} has no option {name!r}{did_you_mean(name, known)}')
