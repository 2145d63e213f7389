"""A few SVG elements with classes and presentation attributes only: no style, no script, no reference."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """Return one element, everything escaped; `class_` is `class`, other `_` become `-`, None is left out."""
    marks = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _plain(value))
        for key, value in attributes.items()
        if value is not None
    )
    inside = Markup("").join(children)  # type: ignore[arg-type]
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), marks, inside)  # noqa: S704 - names are ours


def _plain(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def picture(width: float, height: float, label: str, *children: object) -> Markup:
    """Return an `svg` that scales with its box and says in words what it shows."""
    return tag(
        "svg",
        *children,
        class_="r-chart",
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=label,
        xmlns="http://www.w3.org/2000/svg",
    )


def text(x: float, y: float, words: object, *, anchor: str = "start", kind: str = "r-text") -> Markup:
    """Return a line of text; `anchor` is start, middle or end."""
    return tag("text", words, x=x, y=y, text_anchor=anchor, class_=kind)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """Return a straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def polyline(points: Iterable[tuple[float, float]], kind: str) -> Markup:
    """Return a line through points."""
    return tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=kind, fill="none")


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps figures `low … high` to places `start … end`, in equal steps or equal factors."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (
            math.log(item) if self.logarithmic else item for item in (self.low, self.high, value)
        )
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Return round figures within the range, about `count` of them."""
        if self.logarithmic:
            found = _log_ticks(self.low, self.high)
            if len(found) >= 3:
                return found[:: max(1, round(len(found) / count))]
        return _even_ticks(self.low, self.high, count)


def _even_ticks(low: float, high: float, count: int) -> list[float]:
    if high - low < count * sys.float_info.min:
        return [low]
    raw = (high - low) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [
        item
        for power in powers
        for item in (10.0**power, 2 * 10.0**power, 5 * 10.0**power)
        if low <= item <= high
    ]
