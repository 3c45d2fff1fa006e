"""Codecs for bytes that stay bytes or become text."""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from typing import Any

from minibatch.contrib.codecs.plain import as_bytes, to_bytes, why
from minibatch.errors import OptionError, Undecodable, Unencodable

_URLSAFE = bytes.maketrans(b'-_', b'+/')


class Raw:
    """The bytes as they are.

    >>> Raw().decode(b'abc')
    b'abc'
    """

    def __repr__(self) -> str:
        return 'raw'

    def decode(self, data: bytes) -> bytes:
        """*data*.

        :raises Undecodable: it is not bytes
        """
        return as_bytes(data, 'raw')

    def encode(self, message: Any) -> bytes:
        """*message*.

        :raises Unencodable: it is not bytes
        """
        return to_bytes(message, 'raw')


class Text:
    """Text.

    :param encoding: any that Python knows

    >>> Text('latin-1').decode(b'caf\\xe9')
    'café'
    """

    makes_messages = True

    def __init__(self, encoding: str = 'utf-8') -> None:
        try:
            ''.encode(encoding)
        except LookupError as error:
            raise OptionError(f'encoding={encoding!r} is none that Python knows') from error
        self.encoding = encoding

    def __repr__(self) -> str:
        return 'text' if self.encoding == 'utf-8' else f'Text({self.encoding!r})'

    def decode(self, data: bytes) -> str:
        """The text.

        :raises Undecodable: it is not in this encoding
        """
        data = as_bytes(data, 'text')
        try:
            return data.decode(self.encoding)
        except UnicodeError as error:
            at = f' at byte {error.start} of {len(data)}' if isinstance(error, UnicodeDecodeError) else ''
            raise Undecodable(f'not text: no {self.encoding}{at}') from error

    def encode(self, message: Any) -> bytes:
        """The bytes of a ``str``.

        :raises Unencodable: it is no ``str``, or has characters that the encoding has not
        """
        if not isinstance(message, str):
            raise Unencodable(f'text writes a str, and got a value of type {type(message).__name__}')
        try:
            return message.encode(self.encoding)
        except UnicodeError as error:
            raise Unencodable(f'text cannot write this in {self.encoding}: {why(error)}') from error


class Base64:
    """Base64: reads the standard and the URL-safe alphabet, over any number of lines; writes the standard one.

    >>> Base64().decode(b'YWJj')
    b'abc'
    """

    def __repr__(self) -> str:
        return 'base64'

    def decode(self, data: bytes) -> bytes:
        """What was encoded.

        :raises Undecodable: it is not base64
        """
        data = as_bytes(data, 'base64').translate(_URLSAFE, b' \t\r\n')
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise Undecodable(f'not base64: {why(error)}') from error

    def encode(self, message: Any) -> bytes:
        """Base64 in one line.

        :raises Unencodable: it is not bytes
        """
        return base64.b64encode(to_bytes(message, 'base64'))


class Gzip:
    """gzip.

    :param limit: bytes up to which a payload is unpacked; a few kilobytes can hold gigabytes of zeros

    >>> Gzip().decode(Gzip().encode(b'abc'))
    b'abc'
    """

    def __init__(self, limit: int = 64 * 1024 * 1024) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise OptionError(f'limit must be a number of bytes, 1 or more, not {limit!r}')
        self.limit = limit

    def __repr__(self) -> str:
        return 'gzip'

    def decode(self, data: bytes) -> bytes:
        """What was packed.

        :raises Undecodable: it is not gzip, is cut off, or is larger than the limit
        """
        data = as_bytes(data, 'gzip')
        parts, size = [], 0
        while True:
            unpack = zlib.decompressobj(wbits=31)
            try:
                parts.append(unpack.decompress(data, self.limit - size + 1))
            except zlib.error as error:
                raise Undecodable(f'not gzip: {why(error)}') from error
            size += len(parts[-1])
            if size > self.limit:
                raise Undecodable(f'gzip of more than {self.limit:,} bytes, which is the limit')
            if not unpack.eof:
                raise Undecodable('not gzip: it is cut off')
            data = unpack.unused_data.lstrip(b'\0')  # another member may follow, or padding
            if not data:
                return b''.join(parts)

    def encode(self, message: Any) -> bytes:
        """The packed bytes; the same for the same message, at any time.

        :raises Unencodable: it is not bytes
        """
        return gzip.compress(to_bytes(message, 'gzip'), mtime=0)
