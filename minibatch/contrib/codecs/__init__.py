"""Codecs: how bytes from outside become messages, and messages bytes, by name.

A source decodes what it receives and a sink encodes what it sends, both with the same ``codec=``:

>>> from minibatch.contrib.codecs import codec
>>> codec('json').decode(b'{"room": "attic", "celsius": 31.5}')
{'room': 'attic', 'celsius': 31.5}
>>> codec('json').encode({'room': 'attic', 'celsius': 31.5})
b'{"room":"attic","celsius":31.5}'

=============================  ============================================  ========================================
codec                          reads                                         writes
=============================  ============================================  ========================================
``'json'``                     UTF-8 JSON (RFC 8259)                         the same; orjson does it where installed
``'text'``                     UTF-8 text, as ``str``                        a ``str``
``'raw'``                      the bytes as they are                         bytes
``'msgpack'``                  MessagePack                                   the same (``minibatch[msgpack]``)
``Avro(schema)``               one Avro datum without a header               the same (``minibatch[avro]``)
``Pickle(allow_pickle=True)``  a pickle, from people you trust with a shell  a pickle
``'base64'``                   base64, with either alphabet                  base64, standard alphabet
``'gzip'``                     gzip, within a limit once unpacked            gzip
=============================  ============================================  ========================================

They can be chained. Decoding goes from left to right, encoding from right to left: with ``'base64|json'`` the JSON is
inside of the base64. The last one makes the message; those before it turn bytes into bytes.

>>> codec('base64|json').decode(b'eyJuIjogMX0=')
{'n': 1}
>>> codec('base64|json').encode({'n': 1})
b'eyJuIjoxfQ=='

What cannot be read raises :class:`~minibatch.errors.Undecodable`, what cannot be written
:class:`~minibatch.errors.Unencodable`; both say why and neither repeats the payload.
"""

from __future__ import annotations

from minibatch.contrib.codecs.avro import Avro
from minibatch.contrib.codecs.binary import Base64, Gzip, Raw, Text
from minibatch.contrib.codecs.chain import Codec, codec, register, registered
from minibatch.contrib.codecs.json import Json
from minibatch.contrib.codecs.objects import Msgpack, Pickle

__all__ = ['Avro', 'Base64', 'Codec', 'Gzip', 'Json', 'Msgpack', 'Pickle', 'Raw', 'Text', 'codec', 'register',
           'registered']
