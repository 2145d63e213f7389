"""What somebody is told whose command line could not be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trsp_core.errors import Problem

_KINDS = {"integer": "a whole number", "float": "a number", "number": "a number"}
"""What is meant, by a word of typer's own message; it tells no value and, from version to version, no same words."""


def problem_of(error: Any, arguments: Sequence[str]) -> Problem:
    """Return what is wrong with a command line: the option, its value, and what would be right.

    Args:
        error: What typer raised.
        arguments: The command line.
    """
    words = error.format_message() if hasattr(error, "format_message") else str(error)
    parameter = getattr(error, "param", None)
    if parameter is None:
        return Problem("", words)
    flag, given = _given(parameter.opts, arguments)
    kind = next((kind for word, kind in _KINDS.items() if word in words), None)
    if given is not None and kind is not None:
        return Problem(flag, f"is {given!r}; it must be {kind}.", given, kind)
    about = (getattr(parameter, "help", None) or "").replace("\\[", "[")
    return Problem("", f"{words} {about}".strip())


def _given(flags: Sequence[str], arguments: Sequence[str]) -> tuple[str, str | None]:
    """Return an option's flag and the value that it was given last."""
    found: tuple[str, str | None] = ("", None)
    for place, item in enumerate(arguments):
        flag, equals, value = item.partition("=")
        if flag in flags and equals:
            found = (flag, value)
        elif item in flags and place + 1 < len(arguments):
            found = (item, arguments[place + 1])
    return found
