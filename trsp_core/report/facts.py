"""Figures that know where in `report.json` they come from.

Every number that the HTML shows is a `Fact`: read through a JSON pointer, written with its exact value and
that pointer beside the rounded text, so that a reader, a script and a test can follow it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from trsp_core.report.numbers import FORMATS


def pointer(*parts: object) -> str:
    """Return the JSON pointer (RFC 6901) of a path."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


@dataclass(frozen=True, slots=True)
class Fact:
    """One shown figure.

    Attributes:
        value: Exact.
        text: As shown.
        source: Pointer of its value, or of the list whose length it is.
        over: Pointer of the figure that it was divided by, where it is a quotient.
        less: It is one minus that quotient.
    """

    value: float
    text: str
    source: str
    over: str | None = None
    less: bool = False

    def attributes(self) -> dict[str, str]:
        """Return the marks that lead back to the JSON, as attributes of an HTML or SVG element."""
        marks = {"data-value": repr(self.value), "data-fact": self.source}
        if self.over is not None:
            marks["data-less" if self.less else "data-over"] = self.over
        return marks

    def __html__(self) -> Markup:
        marks = Markup("").join(Markup(' {}="{}"').format(*item) for item in self.attributes().items())
        return Markup('<data value="{}"{}>{}</data>').format(repr(self.value), marks, self.text)

    def __str__(self) -> str:
        return self.text


class Facts:
    """Reads figures out of a `report.json` by pointer."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def raw(self, source: str) -> Any:
        """Return the value at a pointer."""
        value: Any = self._data
        for part in source.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            value = value[int(key)] if isinstance(value, list) else value[key]
        return value

    def figure(self, source: str, how: str = "number") -> Fact:
        """Return the figure at a pointer, or the length of the list there."""
        value = self.raw(source)
        value = len(value) if isinstance(value, list) else value
        return Fact(value, FORMATS[how](value), source)

    def show(self, source: str, how: str = "number") -> Fact | None:
        """Return the figure at a pointer; None where the report has none."""
        return None if self.raw(source) is None else self.figure(source, how)

    def quotient(self, source: str, over: str, how: str, *, less: bool = False) -> Fact | None:
        """Return one figure over another, or with `less` one minus that; None where it means nothing."""
        above, below = self.show(source), self.show(over)
        if above is None or below is None or not below.value:
            return None
        value = above.value / below.value
        value = 1 - value if less else value
        return Fact(value, FORMATS[how](value), source, over, less)
