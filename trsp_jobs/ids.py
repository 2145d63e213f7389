"""Ids that sort by the time of their creation."""

from __future__ import annotations

import secrets
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: without the letters that are taken for others."""
_TIME_CHARACTERS = 10
_RANDOM_CHARACTERS = 16


def new_id(kind: str) -> str:
    """Return `KIND_` and 26 characters: the time in milliseconds, then 80 random bits, in base 32.

    Ids made in the same millisecond, or on machines whose clocks differ, sort in any order.
    """
    moment = encode(time.time_ns() // 1_000_000, _TIME_CHARACTERS)
    return f"{kind}_{moment}{encode(secrets.randbits(5 * _RANDOM_CHARACTERS), _RANDOM_CHARACTERS)}"


def new_job_id() -> str:
    """Return the id of a new job."""
    return new_id("job")


def encode(number: int, length: int) -> str:
    """Return the lowest `5 * length` bits of a number in base 32."""
    return "".join(ALPHABET[(number >> 5 * place) & 31] for place in reversed(range(length)))
