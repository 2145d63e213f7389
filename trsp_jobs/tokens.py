"""The text of an API key: `trsp_`, 26 random characters and a checksum of 6 that catches a typing mistake.

Only an HMAC of it is stored, so neither a copy of the database nor one of its backups opens the service.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib

from trsp_jobs.ids import ALPHABET, encode

PREFIX = "trsp_"
HINT_CHARACTERS = len(PREFIX) + 4
_RANDOM, _CHECK = 26, 6
_FORM = re.compile(f"{PREFIX}[{ALPHABET}]{{{_RANDOM + _CHECK}}}")


def new_token() -> str:
    """Return a new key with 130 random bits."""
    body = PREFIX + encode(secrets.randbits(5 * _RANDOM), _RANDOM)
    return body + _checksum(body)


def is_whole(token: str) -> bool:
    """Tell whether a text has the form of a key and the checksum that belongs to it."""
    return _FORM.fullmatch(token) is not None and _checksum(token[:-_CHECK]) == token[-_CHECK:]


def digest(secret: str, token: str) -> str:
    """Return what is stored of a key: its HMAC-SHA-256 under the server's secret, hexadecimal."""
    return hmac.new(secret.encode(), token.encode(), hashlib.sha256).hexdigest()


def _checksum(body: str) -> str:
    return encode(zlib.crc32(body.encode()) & (1 << 5 * _CHECK) - 1, _CHECK)
