"""The contract of a calibration or evaluation set.

A set is a class that takes a `SetReference` and a `SourcePolicy`; registered by one line in
`trsp_core.registry`. Torch-free.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar, Literal, Protocol, cast

from trsp_core.errors import CalibrationRefused, Problem
from trsp_core.registry import CALIBRATION_SETS, find, load
from trsp_core.sets import SetReference
from trsp_core.sources import SourcePolicy

Split = Literal["calibration", "evaluation"]
DEFAULT_POINTER = "/calibration/set"


class TextSet(Protocol):
    """Texts to learn from and texts to be judged on.

    Attributes:
        separator: What joins its documents to one text, by the custom of those who measured on it.
        held_out: Whether the two splits are different texts; where not, a perplexity on the evaluation split
            of a set that was calibrated on is flattered, and the report says so.
    """

    @property
    def separator(self) -> str: ...

    held_out: ClassVar[bool]

    def __init__(self, reference: SetReference, policy: SourcePolicy) -> None: ...

    def documents(self, split: Split) -> Iterator[str]:
        """Yield the documents of a split, always in the same order.

        Raises:
            CalibrationRefused: If the text is not there or cannot be read.
        """
        ...

    def check(self, least_bytes: int) -> None:
        """Refuse, cheaply and before any work, what cannot hold `least_bytes` bytes of text.

        Raises:
            CalibrationRefused: If the text is not there, not allowed or too small.
        """
        ...


def open_set(reference: SetReference, policy: SourcePolicy) -> TextSet:
    """Return the set that a reference names; nothing is read yet."""
    entry = find(CALIBRATION_SETS, reference.kind, "/calibration/set", "calibration set")
    return cast(TextSet, load(entry.target)(reference, policy))


def refused(message: str, value: object = None, **more: object) -> CalibrationRefused:
    """Return the refusal of a text, to be raised."""
    return CalibrationRefused(Problem(DEFAULT_POINTER, message, value, **more))  # type: ignore[arg-type]


@contextmanager
def pointing_to(pointer: str) -> Iterator[None]:
    """Let refusals of texts name the field that asked for them, such as `/evaluation/perplexity/0`."""
    try:
        yield
    except CalibrationRefused as error:
        raise CalibrationRefused(*(replace(item, pointer=pointer) for item in error.problems)) from error


def check_text(
    reference: SetReference, length: int, policy: SourcePolicy, *, pointer: str = DEFAULT_POINTER
) -> None:
    """Refuse, without torch and without a tokenizer, a text that cannot give one window.

    A token is at least one byte of text, so fewer bytes than a window has tokens are never enough.

    Args:
        reference: The set.
        length: Tokens of a window.
        policy: Which files and whether the hub may be used.
        pointer: The field that asks for the text.

    Raises:
        CalibrationRefused: Saying what is wrong and what would be right.
    """
    with pointing_to(pointer):
        open_set(reference, policy).check(length)
