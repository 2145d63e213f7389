"""The pictures of a comparison: quality against cost for each text, and which layers each method took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from trsp_core.compare.labels import Box, Label, placed
from trsp_core.report.charts import WIDTH, tick
from trsp_core.report.facts import Fact
from trsp_core.report.numbers import ordinal
from trsp_core.report.svg import Scale, line, picture, polyline, tag, text

_HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 330.0, 52.0, WIDTH - 12, 34.0, 286.0
LEAST_SHARE = 1e-3
"""Costs below this share of the largest are drawn there: a method that costs nothing has no place on a log axis."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A row in the picture; `kind` is the class that gives its colour."""

    name: str
    kind: str
    cost: Fact
    perplexity: Fact


def cost_floor(costs: Sequence[float]) -> float:
    """Return the least cost that is drawn where it is, seconds."""
    return max(0.01, LEAST_SHARE * max(costs, default=0.0))


def cost_panel(marks: Sequence[Mark], front: Sequence[Mark], dense: Fact, *, label: str) -> Markup:
    """Return perplexity over seconds, both logarithmic, with the best that each cost buys joined by steps."""
    floor = cost_floor([mark.cost.value for mark in marks])
    values = [dense.value, *(mark.perplexity.value for mark in marks)]
    x = Scale(floor * 0.8, max([floor * 2, *(mark.cost.value for mark in marks)]) * 1.4, _LEFT, _RIGHT, True)
    y = Scale(min(values) / 1.1, max(values) * 1.15, _BOTTOM, _TOP, True)
    spots = {mark.name: (x(max(floor, mark.cost.value)), y(mark.perplexity.value)) for mark in marks}
    labels = placed([(name, *spot) for name, spot in spots.items()], Box(_LEFT, 20, WIDTH, _BOTTOM))
    parts = [_axes(x, y), _dense(dense, y), _steps([spots[mark.name] for mark in front])]
    parts += [_leader(item, spots[item.words]) for item in labels if item.far]
    parts += [_mark(mark, spots[mark.name]) for mark in marks]
    parts += [text(item.x, item.y, item.words, anchor=item.anchor, kind="r-text r-halo") for item in labels]
    return picture(WIDTH, _HEIGHT, label, *parts)


def _axes(x: Scale, y: Scale) -> Markup:
    parts = [text(4, 16, "perplexity (log scale)", kind="r-text r-axis")]
    for value in y.ticks(5):
        parts.append(line(x.start, y(value), x.end, y(value), "r-grid"))
        parts.append(text(x.start - 7, y(value) + 4, tick(value), anchor="end"))
    for value in x.ticks(6):
        parts.append(text(x(value), _BOTTOM + 18, tick(value), anchor="middle"))
    words = "seconds for choosing and transfer (log scale)"
    parts.append(text((x.start + x.end) / 2, _HEIGHT - 6, words, anchor="middle", kind="r-text r-axis"))
    return tag("g", *parts)


def _dense(dense: Fact, y: Scale) -> Markup:
    level = y(dense.value)
    figure = tag("tspan", dense.text, **dense.attributes())
    return tag(
        "g",
        line(_LEFT, level, _RIGHT, level, "r-dense"),
        text(_RIGHT, level + 15, Markup("dense {}").format(figure), anchor="end", kind="r-text r-axis"),
    )


def _steps(spots: Sequence[tuple[float, float]]) -> Markup:
    """Join the best at each cost: flat until the next better one."""
    corners = []
    for place, (x, y) in enumerate(spots):
        corners += [(x, spots[place - 1][1])] if place else []
        corners.append((x, y))
    return polyline([*corners, (_RIGHT, corners[-1][1])] if corners else [], "r-front")


def _leader(label: Label, spot: tuple[float, float]) -> Markup:
    return line(*spot, label.x, label.y - 4, "r-leader")


def _mark(mark: Mark, spot: tuple[float, float]) -> Markup:
    words = f"{mark.name}: {mark.perplexity.text} after {mark.cost.text}"
    marks = mark.perplexity.attributes()
    return tag(
        "circle", tag("title", words), cx=spot[0], cy=spot[1], r=5.5, class_=f"r-spot {mark.kind}", **marks
    )


def layers_taken(rows: Sequence[tuple[str, Sequence[int]]], layers: int, *, label: str) -> Markup:
    """Return rows × layers: full where a layer went, the darker the earlier."""
    left = min(170.0, 14 + 6.5 * max(len(name) for name, _ in rows))
    column, height = (WIDTH - left - 4) / layers, 20.0
    bottom = 8 + height * len(rows)
    parts = [
        _layers_row(name, order, layers, 8 + height * place, left, column)
        for place, (name, order) in enumerate(rows)
    ]
    every = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if layers / step <= 12)
    for layer in range(0, layers, every):
        parts.append(text(left + (layer + 0.5) * column, bottom + 16, str(layer), anchor="middle"))
    parts.append(
        text(left + layers * column / 2, bottom + 34, "layer", anchor="middle", kind="r-text r-axis")
    )
    return picture(WIDTH, bottom + 40, label, *parts)


def _layers_row(
    name: str, order: Sequence[int], layers: int, top: float, left: float, column: float
) -> Markup:
    shade = Scale(0, max(1, len(order) - 1), 1.0, 0.45)
    gap = min(2.0, 0.15 * column)
    parts = [text(left - 8, top + 14, name, anchor="end")]
    for layer in range(layers):
        went = order.index(layer) if layer in order else None
        words = f"layer {layer} stays" if went is None else f"layer {layer}, {ordinal(went + 1)} to go"
        parts.append(
            tag(
                "rect",
                tag("title", words),
                x=left + layer * column + gap / 2,
                y=top + 2,
                width=column - gap,
                height=16,
                rx=min(2.0, column / 4),
                class_="r-stays" if went is None else "r-went",
                fill_opacity=None if went is None else shade(went),
            )
        )
    return tag("g", *parts)
