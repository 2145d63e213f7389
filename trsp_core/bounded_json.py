"""JSON of a stranger, read within bounds of time and memory.

What two readers could take for two things (a key that is there twice, UTF-16, a byte order mark) is refused:
the one that checks and the one that loads would each see their own.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

_MOST_DIGITS = 40


class BadJson(ValueError):
    """A text is no JSON, or more than will be read; the message follows the file's name."""


def parse(raw: bytes, *, most_items: int) -> Any:
    """Return the value of a JSON text in UTF-8.

    Args:
        raw: The text.
        most_items: Values that it may hold; an object of Python takes a hundred times the room of its text.

    Raises:
        BadJson: Saying what is wrong.
    """
    if sum(raw.count(mark) for mark in (b",", b"[", b"{")) > most_items:
        raise BadJson(f"holds more than {most_items} values")
    try:
        text = raw.decode("utf-8")
        return json.loads(text, object_pairs_hook=_object, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise BadJson(f"is no UTF-8 text: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise BadJson("is nested too deep") from error
    except json.JSONDecodeError as error:
        raise BadJson(f"is no valid JSON: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise BadJson(f"has the key {twice!r} twice; drop one")
    return result


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise BadJson(f"holds a number of {len(text)} digits; at most {_MOST_DIGITS} are read")
    return int(text)
