"""Text that a stranger chose, made fit for a message: short, and without a character that a terminal obeys."""

from __future__ import annotations

import reprlib
from typing import Any

_MOST = 1000
_MOST_IN_VALUE = 200
_LARGEST = 2**63

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = _MOST_IN_VALUE // 2


def printable(text: str, most: int = _MOST) -> str:
    """Return `text` with control characters and lone surrogates escaped, its middle left out where it is long.

    The end stays, since a refusal says there what would be right.
    """
    if len(text) > most:
        text = f"{text[: most // 2]} […] {text[-most // 2 :]}"
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def quoted(value: Any) -> str:
    """Return a short `repr` of a value, however large or deep it is."""
    return printable(_repr.repr(value), _MOST_IN_VALUE)


def plain(value: Any) -> Any:
    """Return a value as a problem may carry it: a number of at most 64 bits, a short text, or a short `repr`."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return printable(value, _MOST_IN_VALUE)
    if isinstance(value, int | float) and -_LARGEST <= value < _LARGEST:
        return value
    return quoted(value)
