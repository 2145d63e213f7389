"""A figure and what it is held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Limit:
    """One of the limits.

    Attributes:
        name: What is limited.
        found: What was measured.
        bound: The most that it may be; the least where `least` says so.
        least: Whether more is better.
    """

    name: str
    found: float
    bound: float
    least: bool = False

    @property
    def ok(self) -> bool:
        """Whether the limit is kept."""
        return self.found >= self.bound if self.least else self.found <= self.bound

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        bound = "at_least" if self.least else "at_most"
        return {"name": self.name, bound: self.bound, "found": self.found, "ok": self.ok}
