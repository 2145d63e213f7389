"""The pictures of a report, drawn as SVG by hand: text stays text, colours come from the style sheet.

Every picture is 440 units wide, so that its writing is readable on a phone and two
stand side by side on a desk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from trsp_core.report.facts import Fact
from trsp_core.report.numbers import significant
from trsp_core.report.svg import Scale, line, picture, polyline, tag, text
from trsp_core.results import ChoiceRound

WIDTH = 440.0
_MOST_MARKERS = 40


@dataclass(frozen=True, slots=True)
class Series:
    """A named line; `kind` is the class that gives its colour."""

    name: str
    kind: str
    points: tuple[tuple[float, float], ...]


def lines(
    series: Sequence[Series],
    *,
    label: str,
    x_label: str,
    y_label: str,
    logarithmic: bool = False,
    from_nought: bool = False,
) -> Markup:
    """Return a line chart; the y axis starts at nought if asked to or where the figures come near it."""
    height, x, y = 250.0, _x_scale(series), _y_scale(series, logarithmic, from_nought)
    parts = [_frame(x, y, x_label, y_label, height)]
    parts += [_drawn(item, x, y) for item in series]
    parts += [_legend(series)] if len(series) > 1 else []
    return picture(WIDTH, height, label, *parts)


def _x_scale(series: Sequence[Series]) -> Scale:
    xs = [x for item in series for x, _ in item.points]
    return Scale(min(xs), max(xs), 52, WIDTH - 14)


def _y_scale(series: Sequence[Series], logarithmic: bool, from_nought: bool) -> Scale:
    ys = [y for item in series for _, y in item.points]
    low, high = min(ys), max(ys)
    if logarithmic:
        return Scale(low / 1.08, high * 1.08, 206, 34, True)
    low = 0.0 if from_nought or 0 <= low < 0.5 * high else low - 0.08 * (high - low or abs(low) or 1)
    return Scale(low, high + 0.06 * (high - low or 1), 206, 34)


def _frame(x: Scale, y: Scale, x_label: str, y_label: str, height: float) -> Markup:
    parts = [text(4, 16, y_label, kind="r-text r-axis")]
    for value in y.ticks(4):
        parts.append(line(x.start, y(value), x.end, y(value), "r-grid"))
        parts.append(text(x.start - 7, y(value) + 4, tick(value), anchor="end"))
    for value in x.ticks(6):
        if value == int(value):
            parts.append(text(x(value), 224, tick(value), anchor="middle"))
    parts.append(text((x.start + x.end) / 2, height - 6, x_label, anchor="middle", kind="r-text r-axis"))
    return tag("g", *parts)


def tick(value: float) -> str:
    """Return a figure as it stands at an axis."""
    return f"{value:,.10g}" if 1e-4 <= abs(value) < 1e7 or value == 0 else f"{value:.0e}"


def _drawn(series: Series, x: Scale, y: Scale) -> Markup:
    places = [(x(left), y(up)) for left, up in series.points]
    parts = [polyline(places, f"r-line {series.kind}")]
    if len(places) <= _MOST_MARKERS:
        parts += [
            tag(
                "circle",
                tag("title", f"{significant(left)}: {significant(up)}"),
                cx=place[0],
                cy=place[1],
                r=3.2,
                class_=f"r-dot {series.kind}",
            )
            for place, (left, up) in zip(places, series.points, strict=True)
        ]
    return tag("g", *parts)


def _legend(series: Sequence[Series]) -> Markup:
    parts, right = [], WIDTH - 14
    for item in reversed(series):
        parts.append(line(right - 18, 12, right, 12, f"r-line {item.kind}"))
        parts.append(text(right - 25, 16, item.name, anchor="end"))
        right -= 45 + 6.4 * len(item.name)
    return tag("g", *parts)


def score_map(rounds: Sequence[ChoiceRound], layers: int, label: str) -> Markup:
    """Return rounds × layers: the fainter a cell, the less the layer mattered; a ring marks what went."""
    row = max(8.0, min(16.0, 300 / len(rounds)))
    column = (WIDTH - 40) / layers
    parts = [text(4, 14, "round", kind="r-text r-axis")]
    for index, item in enumerate(rounds):
        parts.append(_score_row(item, index, 22 + index * row, column, row))
    bottom = 22 + len(rounds) * row
    every = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if layers / step <= 14)
    for layer in range(0, layers, every):
        parts.append(text(30 + (layer + 0.5) * column, bottom + 15, str(layer), anchor="middle"))
    parts.append(text(30 + layers * column / 2, bottom + 33, "layer", anchor="middle", kind="r-text r-axis"))
    return picture(WIDTH, bottom + 40, label, *parts)


def _score_row(item: ChoiceRound, index: int, top: float, column: float, row: float) -> Markup:
    low, high = min(item.scores.values()), max(item.scores.values())
    shade = Scale(low, high, 0.12, 1.0)
    gap = min(1.0, 0.12 * column)
    parts = [text(24, top + row / 2 + 4, str(index + 1), anchor="end")] if row >= 12 or index % 2 == 0 else []
    for layer, score in item.scores.items():
        parts.append(
            tag(
                "rect",
                tag("title", f"round {index + 1}, layer {layer}: {significant(score)}"),
                x=30 + layer * column + gap / 2,
                y=top + gap / 2,
                width=column - gap,
                height=row - gap,
                fill_opacity=shade(score),
                class_="r-score r-chosen" if layer == item.layer else "r-score",
            )
        )
    return tag("g", *parts)


def gaps(rows: Sequence[tuple[str, float, float]], *, label: str, x_label: str) -> Markup:
    """Return one line a layer from where its gap was (hollow) to where it came (full)."""
    step, top = 22.0, 30.0
    x = Scale(0, max(max(start, end) for _, start, end in rows) * 1.08 or 1, 74, WIDTH - 14)
    bottom = top + step * len(rows)
    parts = [_upright_grid(x, top - 6, bottom)]
    for index, (name, start, end) in enumerate(rows):
        y = top + step * (index + 0.5)
        parts.append(text(66, y + 4, name, anchor="end"))
        parts.append(line(x(start), y, x(end), y, "r-stem"))
        parts.append(
            tag("circle", tag("title", significant(start)), cx=x(start), cy=y, r=4.5, class_="r-hollow")
        )
        parts.append(tag("circle", tag("title", significant(end)), cx=x(end), cy=y, r=4.5, class_="r-full"))
    parts.append(_gap_legend())
    parts.append(text((x.start + x.end) / 2, bottom + 36, x_label, anchor="middle", kind="r-text r-axis"))
    return picture(WIDTH, bottom + 44, label, *parts)


def _gap_legend() -> Markup:
    return tag(
        "g",
        tag("circle", cx=WIDTH - 134, cy=12, r=4.5, class_="r-hollow"),
        text(WIDTH - 124, 16, "before"),
        tag("circle", cx=WIDTH - 66, cy=12, r=4.5, class_="r-full"),
        text(WIDTH - 56, 16, "after"),
    )


def _upright_grid(x: Scale, top: float, bottom: float) -> Markup:
    parts = []
    for value in x.ticks(5):
        parts.append(line(x(value), top, x(value), bottom, "r-grid"))
        parts.append(text(x(value), bottom + 16, tick(value), anchor="middle"))
    return tag("g", *parts)


@dataclass(frozen=True, slots=True)
class SpeedRow:
    """One speed test: what was had, how far it spread, what could be had."""

    name: str
    ratio: Fact
    low: float
    high: float
    ceiling: Fact


def speedups(rows: Sequence[SpeedRow], label: str) -> Markup:
    """Return a bar a test from 1× to its ratio, a whisker for the quartiles, a mark for the ceiling."""
    step, top = 62.0, 10.0
    figures = [value for row in rows for value in (row.ratio.value, row.high, row.low, row.ceiling.value)]
    x = Scale(min(1.0, *figures), max(1.05, *figures) * 1.02, 14, WIDTH - 60)
    bottom = top + step * len(rows)
    parts = [_upright_grid(x, top, bottom)]
    parts += [_speed_bar(row, top + step * index, x) for index, row in enumerate(rows)]
    parts.append(
        text(
            WIDTH / 2, bottom + 34, "times as fast as the dense model", anchor="middle", kind="r-text r-axis"
        )
    )
    return picture(WIDTH, bottom + 42, label, *parts)


def _speed_bar(row: SpeedRow, top: float, x: Scale) -> Markup:
    left, right = sorted((x(1.0), x(row.ratio.value)))
    middle, ceiling = top + 36, x(row.ceiling.value)
    return tag(
        "g",
        text(x.start, top + 16, row.name, kind="r-text r-strong"),
        tag("rect", x=left, y=top + 25, width=max(1.0, right - left), height=22, class_="r-bar"),
        line(x(row.low), middle, x(row.high), middle, "r-whisker"),
        line(x(row.low), middle - 5, x(row.low), middle + 5, "r-whisker"),
        line(x(row.high), middle - 5, x(row.high), middle + 5, "r-whisker"),
        line(ceiling, top + 20, ceiling, top + 52, "r-ceiling"),
        text(WIDTH - 4, middle + 5, _fact(row.ratio), anchor="end", kind="r-text r-strong"),
        text(ceiling, top + 16, Markup("ceiling {}").format(_fact(row.ceiling)), anchor="end"),
    )


def bars(rows: Sequence[tuple[str, Fact]], label: str) -> Markup:
    """Return a bar a row, from nought, with its figure at the end."""
    step, top = 24.0, 4.0
    x = Scale(0, max(fact.value for _, fact in rows) or 1, 92, WIDTH - 96)
    parts = []
    for index, (name, fact) in enumerate(rows):
        y = top + step * index
        parts.append(text(84, y + 16, name, anchor="end"))
        parts.append(
            tag("rect", x=92.0, y=y + 4, width=max(1.0, x(fact.value) - 92), height=15, class_="r-bar")
        )
        parts.append(text(x(fact.value) + 7, y + 16, _fact(fact)))
    return picture(WIDTH, top + step * len(rows) + 4, label, *parts)


def _fact(fact: Fact) -> Markup:
    return tag("tspan", fact.text, **fact.attributes())
