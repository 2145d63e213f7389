"""Ids that sort by the time of their creation."""

from __future__ import annotations

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_CHARACTERS = 10
_RANDOM_CHARACTERS = 16


def new_job_id() -> str:
    """Return the id of a new job, `job_…`."""
    return new_id("job")


def new_id(kind: str) -> str:
    """Return `KIND_` and 26 characters: the time in milliseconds, then 80 random bits, in Crockford's base 32.

    Ids made in the same millisecond, or on machines whose clocks differ, sort in any order.
    """
    moment = _encode(time.time_ns() // 1_000_000, _TIME_CHARACTERS)
    return f"{kind}_{moment}{_encode(secrets.randbits(5 * _RANDOM_CHARACTERS), _RANDOM_CHARACTERS)}"


def _encode(number: int, length: int) -> str:
    return "".join(_ALPHABET[(number >> 5 * place) & 31] for place in reversed(range(length)))
