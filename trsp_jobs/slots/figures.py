"""The figures by which results are compared, read from a report. Nothing in a report is believed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MOST_FIGURES = 100


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Perplexity of the pruned model, and the hash of the tokens that it was measured on."""

    pruned: float
    text_sha256: str


@dataclass(frozen=True, slots=True)
class Speed:
    """How many times faster the pruned model is, and the sizes of the test."""

    ratio: float
    sizes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Figures:
    """What is compared: perplexity by set, speed by test."""

    perplexity: Mapping[str, Perplexity]
    speed: Mapping[str, Speed]

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> Figures:
        """Take the figures from a `report.json`; what is not a finite number above 0 is left out."""
        perplexity = {
            name: Perplexity(float(item["pruned"]), str(item.get("text_sha256")))
            for name, item in _entries(report, "perplexity")
            if _is_figure(item.get("pruned"))
        }
        speed = {
            name: Speed(float(item["ratio"]), _sizes(item.get("sizes")))
            for name, item in _entries(report, "speed")
            if _is_figure(item.get("ratio"))
        }
        return cls(perplexity, speed)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Figures:
        """Read what `to_dict` wrote."""
        return cls(
            {name: Perplexity(**item) for name, item in data["perplexity"].items()},
            {name: Speed(**item) for name, item in data["speed"].items()},
        )


def _entries(report: Mapping[str, Any], part: str) -> list[tuple[str, Mapping[str, Any]]]:
    found = report.get(part)
    items = list(found.items())[:MOST_FIGURES] if isinstance(found, Mapping) else []
    return [(str(name), item) for name, item in items if isinstance(item, Mapping)]


def _is_figure(value: Any) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and 0 < value < 1e300
        and math.isfinite(value)
    )


def _sizes(value: Any) -> dict[str, int]:
    items = value.items() if isinstance(value, Mapping) else ()
    return {str(name): size for name, size in items if isinstance(size, int) and abs(size) < 2**53}
