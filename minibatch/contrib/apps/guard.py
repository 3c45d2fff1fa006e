"""Tokens that requests have to bring, as ``Authorization: Bearer TOKEN``."""

from __future__ import annotations

import hmac
import re
from typing import Any

from flask import request

from minibatch.contrib.apps.bodies import Refusal
from minibatch.errors import OptionError

_TOKEN = re.compile(r'[\x21-\x7e]+(?: [\x21-\x7e]+)*')


def tokens_of(token: Any, option: str) -> tuple[bytes, ...]:
    """The tokens that an option gives.

    :param token: one, several (to change from one to the next), or ``None``
    :param option: the name of what takes it, for the error
    :raises OptionError: it is something else

    >>> tokens_of('change-me', 'ingest')
    (b'change-me',)
    """
    if token is None:
        return ()
    given = [token] if isinstance(token, str) else list(token) if isinstance(token, (list, tuple, set)) else []
    if not given or not all(isinstance(each, str) and _TOKEN.fullmatch(each) for each in given):
        raise OptionError(f'{option}: token must be a text of printable ASCII characters, or a list of such; None asks '
                          'for none')
    return tuple(each.encode() for each in given)


def authorize(tokens: tuple[bytes, ...]) -> None:
    """Let the request under way through if it brings one of *tokens*.

    :raises Refusal: it does not (401)
    """
    scheme, _, given = request.headers.get('Authorization', '').partition(' ')
    said = given.strip().encode(errors='replace')
    # All of them, and each in constant time: how long it takes tells nothing about any.
    right = [hmac.compare_digest(said, token) for token in tokens]
    if scheme.lower() != 'bearer' or not any(right):
        raise Refusal(401, 'send a valid token: Authorization: Bearer TOKEN', {
            'WWW-Authenticate': 'Bearer realm="minibatch"'})
