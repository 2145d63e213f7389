"""Every error that the core raises on purpose.

TrspError
├── InputRefused            what was asked cannot be done; nothing was started (exit code 2)
│   ├── InvalidSpec         a field of the job spec is wrong
│   ├── ModelRefused        the model is unsupported, unsafe or not there
│   ├── CalibrationRefused  the text is empty, too short or not there
│   └── OutputRefused       the output folder cannot be used
├── WorkFailed              the work was begun and could not be finished (exit code 1)
│   ├── NumericalFailure    a loss or a weight stopped being finite
│   ├── TargetOutOfReach    what was asked turned out, by measurement, to be out of reach
│   ├── OutOfMemory         the device or the machine had too little memory
│   ├── StorageFull         the disk had too little room
│   └── RoundTripFailed     the saved model is not the model that was made
└── Cancelled               somebody asked the work to stop; it can go on from its checkpoint
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the input, said so that its sender can mend it.

    Attributes:
        pointer: JSON pointer (RFC 6901) of the field in the job spec; empty for the whole.
        message: What is wrong and what would be right, one sentence.
        value: The refused value, as far as it is JSON.
        allowed: The values or the range that would be taken, where there is one.
        suggestion: The allowed value that was probably meant.
    """

    pointer: str
    message: str
    value: Any = None
    allowed: str | tuple[str, ...] | None = None
    suggestion: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set, as JSON types."""
        return {key: value for key, value in asdict(self).items() if value is not None or key == "value"}

    def __str__(self) -> str:
        text = f"{self.pointer}: {self.message}" if self.pointer else self.message
        return f"{text} Did you mean {self.suggestion!r}?" if self.suggestion else text


class TrspError(Exception):
    """Base of all errors raised on purpose."""

    code = "error"


class InputRefused(TrspError):
    """What was asked cannot be done; nothing was started."""

    code = "input_refused"
    default_pointer = ""

    def __init__(self, *problems: Problem | str) -> None:
        self.problems: tuple[Problem, ...] = tuple(
            Problem(self.default_pointer, item) if isinstance(item, str) else item for item in problems
        )
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.problems


class InvalidSpec(InputRefused):
    """A field of the job spec is wrong."""

    code = "invalid_spec"


class ModelRefused(InputRefused):
    """The model is unsupported, unsafe or not there."""

    code = "model_refused"
    default_pointer = "/model"


class CalibrationRefused(InputRefused):
    """The text is empty, too short or not there."""

    code = "calibration_refused"
    default_pointer = "/calibration"


class OutputRefused(InputRefused):
    """The output folder cannot be used."""

    code = "output_refused"


class WorkFailed(TrspError):
    """The work was begun and could not be finished."""

    code = "work_failed"


class NumericalFailure(WorkFailed):
    """A loss or a weight stopped being finite."""

    code = "numerical_failure"


class TargetOutOfReach(WorkFailed):
    """What was asked turned out, by measurement, to be out of reach."""

    code = "target_out_of_reach"


class OutOfMemory(WorkFailed):
    """The device or the machine had too little memory."""

    code = "out_of_memory"


class StorageFull(WorkFailed):
    """The disk had too little room."""

    code = "storage_full"


class RoundTripFailed(WorkFailed):
    """The saved model is not the model that was made."""

    code = "round_trip_failed"


class Cancelled(TrspError):
    """Somebody asked the work to stop; it can go on from its checkpoint."""

    code = "cancelled"


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that `word` most resembles, or None where none comes near."""
    matches = difflib.get_close_matches(word.lower(), sorted(known), n=1, cutoff=0.6)
    return matches[0] if matches else None
