"""The regression gate: whether a result is no worse than the one that is current, by stated margins.

Perplexities are compared set by set, and only over the very same tokens; speeds test by test, and only in the
same sizes. What the current result has and the new one lacks counts as worse: a figure that nobody measured
must not pass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trsp_core.errors import InvalidSpec, Problem
from trsp_core.options import Rule, convert, option, read
from trsp_jobs.slots.figures import Figures, Perplexity, Speed

SLOT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
SLOT_FORM = "1 to 64 lower-case letters, digits, '.', '_' or '-', the first a letter or digit"
MOST_SETS = 32


def read_slot_name(value: Any, pointer: str) -> str:
    """Return a slot's name.

    Raises:
        InvalidSpec: If it is none.
    """
    if isinstance(value, str) and SLOT_NAME.fullmatch(value):
        return value
    raise InvalidSpec(Problem(pointer, f"is no slot's name; give {SLOT_FORM}.", str(value)[:80], SLOT_FORM))


def _read_margins(value: Any, pointer: str) -> dict[str, float] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or len(value) > MOST_SETS:
        allowed = f"an object of at most {MOST_SETS} numbers"
        raise InvalidSpec(Problem(pointer, f"must be {allowed}, by the names of sets.", None, allowed))
    return {
        name: convert(share, float, _MARGIN, f"{pointer}/{_escape(name)}") for name, share in value.items()
    }


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


_MARGIN = Rule(about="Margin of one set, as a share.", at_least=0, at_most=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The slot that a result is offered to, and how much worse than the current one it may be."""

    slot: str = option(
        about=f"Name of the slot: {SLOT_FORM}.",
        reader=read_slot_name,
        shape={"type": "string", "pattern": f"^{SLOT_NAME.pattern}$"},
    )
    perplexity: float = option(
        0.01,
        about="Most that the perplexity of a set may lie above the current result's, as a share of it; the"
        " default is about what another seed changes.",
        at_least=0,
        at_most=10,
    )
    perplexity_of: Mapping[str, float] | None = option(
        None,
        about="Other margins for single sets, by name.",
        reader=_read_margins,
        shape={
            "anyOf": [
                {"type": "object", "additionalProperties": {"type": "number", "minimum": 0, "maximum": 10}},
                {"type": "null"},
            ]
        },
    )
    speed: float = option(
        0.05,
        about="Most that a speed ratio may lie below the current result's, as a share of it.",
        at_least=0,
        below=1,
    )

    @classmethod
    def from_dict(cls, data: Any, pointer: str = "") -> Offer:
        """Read the JSON form.

        Raises:
            InvalidSpec: With one problem for every wrong field.
        """
        return read(cls, data, pointer)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, every margin with its value."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Line:
    """One figure beside the current one's.

    Attributes:
        figure: `perplexity/SET` or `speed/TEST`.
        current, new: The two; None where the new result was not measured, or not on the same ground.
        limit: The worst value that passes.
        ok: Whether it passes.
        note: Why the two cannot be compared; empty where they can.
    """

    figure: str
    current: float
    new: float | None
    limit: float
    ok: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a result may take the slot, why in one line, and the figures that decided."""

    accepted: bool
    reason: str
    lines: tuple[Line, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON types."""
        return {**asdict(self), "lines": [asdict(line) for line in self.lines]}


def compare(offer: Offer, current: Figures | None, new: Figures) -> Verdict:
    """Judge a result by the margins of an offer.

    Args:
        offer: The margins.
        current: What the slot has now; None for an empty slot, which takes anything.
        new: The result's figures.
    """
    if current is None:
        return Verdict(True, "the slot was empty")
    lines = (
        *(
            _perplexity(offer, name, item, new.perplexity.get(name))
            for name, item in current.perplexity.items()
        ),
        *(_speed(offer, name, item, new.speed.get(name)) for name, item in current.speed.items()),
    )
    worse = [line for line in lines if not line.ok]
    if not worse:
        return Verdict(True, "no worse than the current result by the margins", lines)
    return Verdict(False, "; ".join(map(_say, worse)), lines)


def _perplexity(offer: Offer, name: str, current: Perplexity, new: Perplexity | None) -> Line:
    limit = current.pruned * (1 + (offer.perplexity_of or {}).get(name, offer.perplexity))
    figure = f"perplexity/{name}"
    if new is None:
        return Line(figure, current.pruned, None, limit, False, "was not measured")
    if new.text_sha256 != current.text_sha256:
        return Line(figure, current.pruned, None, limit, False, "was measured on other tokens")
    return Line(figure, current.pruned, new.pruned, limit, new.pruned <= limit)


def _speed(offer: Offer, name: str, current: Speed, new: Speed | None) -> Line:
    limit = current.ratio * (1 - offer.speed)
    figure = f"speed/{name}"
    if new is None:
        return Line(figure, current.ratio, None, limit, False, "was not measured")
    if new.sizes != current.sizes:
        return Line(figure, current.ratio, None, limit, False, "was measured in other sizes")
    return Line(figure, current.ratio, new.ratio, limit, new.ratio >= limit)


def _say(line: Line) -> str:
    if line.note:
        return f"{line.figure} {line.note}"
    way = "above" if line.figure.startswith("perplexity") else "below"
    return f"{line.figure} is {line.new:.4g}, {way} the limit of {line.limit:.4g}"
