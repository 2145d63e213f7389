"""What a SET of the command line and the job spec means: `name`, `kind:FILE#FIELD`, `upload:ID`, joined by `+`."""

from __future__ import annotations

from dataclasses import dataclass

from trsp_core.errors import InvalidSpec, Problem
from trsp_core.registry import CALIBRATION_SETS, find


@dataclass(frozen=True, slots=True)
class SetReference:
    """One calibration or evaluation set.

    Attributes:
        kind: Registered name.
        argument: The file or the upload's id, for kinds that take one; else None.
        field: Field or column of the file that holds the text; None for the kind's default.
    """

    kind: str
    argument: str | None = None
    field: str | None = None

    def __str__(self) -> str:
        name = self.kind if self.argument is None else f"{self.kind}:{self.argument}"
        return name if self.field is None else f"{name}#{self.field}"


def parse_sets(text: str, pointer: str, *, joined: bool = True) -> tuple[SetReference, ...]:
    """Read a SET; with `joined`, several by `+`.

    Raises:
        InvalidSpec: On an unknown kind, a missing or superfluous argument, or a join where none may be.
    """
    parts = _split(text) if joined else [text]
    return tuple(_parse(part, pointer) for part in parts)


def _split(text: str) -> list[str]:
    """Split at each `+` that a known kind follows, so that a file's name may hold one."""
    parts: list[str] = []
    for piece in text.split("+"):
        known = piece.partition(":")[0] in CALIBRATION_SETS
        if parts and not known and ":" in parts[-1]:
            parts[-1] += "+" + piece
        else:
            parts.append(piece)
    return parts


def _parse(text: str, pointer: str) -> SetReference:
    kind, colon, rest = text.partition(":")
    entry = find(CALIBRATION_SETS, kind, pointer, "calibration set")
    if entry.argument and not rest:
        message = f"is {text!r}; it must name one: {kind}:{entry.argument}."
        raise InvalidSpec(Problem(pointer, message, text))
    if colon and not entry.argument:
        raise InvalidSpec(Problem(pointer, f"is {text!r}; {kind} takes no argument.", text))
    if not entry.argument:
        return SetReference(kind)
    argument, _, field = rest.partition("#") if kind != "text" else (rest, "", "")
    return SetReference(kind, argument, field or None)
