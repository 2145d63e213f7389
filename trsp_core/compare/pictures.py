"""The pictures of a comparison: quality against cost for each text, and which layers each method took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from trsp_core.compare.labels import Box, Label, along, placed
from trsp_core.report.charts import WIDTH, tick
from trsp_core.report.facts import Fact
from trsp_core.report.numbers import ordinal
from trsp_core.report.svg import Scale, line, picture, polyline, tag, text

_HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 330.0, 52.0, WIDTH - 12, 34.0, 286.0
_AREA = Box(_LEFT, 20, WIDTH, _BOTTOM)
LEAST_SHARE = 1e-3
"""Costs below this share of the largest are drawn there: a method that costs nothing has no place on a log axis."""
WORTH_SEEING = 20.0
"""Multiples of the dense perplexity, or of the best where that is more, above which a row stands at the edge."""


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
    costs = [mark.cost.value for mark in marks]
    floor, edge = cost_floor(costs), perplexity_edge([mark.perplexity.value for mark in marks], dense.value)
    x = Scale(floor * 0.8, max([floor * 2, *costs]) * 1.4, _LEFT, _RIGHT, True)
    least = min([dense.value, *(mark.perplexity.value for mark in marks)])
    y = Scale(least / 1.3, edge * 1.1, _BOTTOM, _TOP, True)
    spots = [(x(max(floor, mark.cost.value)), y(min(edge, mark.perplexity.value))) for mark in marks]
    names = [_name(mark, edge) for mark in marks]
    steps = _steps([spots[marks.index(mark)] for mark in front])
    note = Label(f"dense {dense.text}", _LEFT + 4, y(dense.value) + 15, "start", far=False)
    clear = [*along(steps), *along([(_LEFT, y(dense.value)), (_RIGHT, y(dense.value))]), note.box]
    labels = placed([(name, *spot) for name, spot in zip(names, spots, strict=True)], _AREA, clear)
    parts = [_axes(x, y), _dense(dense, note), polyline(steps, "r-front")]
    parts += [_leader(item, spot) for item, spot in zip(labels, spots, strict=True) if item.far]
    parts += [_mark(mark, spot, edge) for mark, spot in zip(marks, spots, strict=True)]
    parts += [text(item.x, item.y, item.words, anchor=item.anchor, kind="r-text r-halo") for item in labels]
    return picture(WIDTH, _HEIGHT, label, *parts)


def perplexity_edge(values: Sequence[float], dense: float) -> float:
    """Return the largest perplexity that is drawn where it is, so that one ruined model does not flatten the rest."""
    worth = WORTH_SEEING * max(dense, min(values, default=dense))
    return min(max([dense, *values]), worth)


def _name(mark: Mark, edge: float) -> str:
    """Return a mark's name; beyond the edge with the figure that its place no longer tells."""
    return f"{mark.name} ({mark.perplexity.text})" if mark.perplexity.value > edge else mark.name


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


def _dense(dense: Fact, note: Label) -> Markup:
    """Draw the level of the dense model, its name below the line."""
    figure = tag("tspan", dense.text, **dense.attributes())
    level = note.y - 15
    return tag(
        "g",
        line(_LEFT, level, _RIGHT, level, "r-dense"),
        text(note.x, note.y, Markup("dense {}").format(figure), kind="r-text r-axis"),
    )


def _steps(spots: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the corners that join the best at each cost: flat until the next better one."""
    corners: list[tuple[float, float]] = []
    for place, (x, y) in enumerate(spots):
        corners += [(x, spots[place - 1][1])] if place else []
        corners.append((x, y))
    return [*corners, (_RIGHT, corners[-1][1])] if corners else []


def _leader(label: Label, spot: tuple[float, float]) -> Markup:
    return line(*spot, label.x, label.y - 4, "r-leader")


def _mark(mark: Mark, spot: tuple[float, float], edge: float) -> Markup:
    """Draw a circle, or at the edge an arrow that points to where the row would be."""
    words = f"{mark.name}: {mark.perplexity.text} after {mark.cost.text}"
    about = {"class_": f"r-spot {mark.kind}", **mark.perplexity.attributes()}
    x, y = spot
    if mark.perplexity.value > edge:
        arrow = f"{x:.1f},{y - 7:.1f} {x + 6:.1f},{y + 4:.1f} {x - 6:.1f},{y + 4:.1f}"
        return tag("polygon", tag("title", words), points=arrow, **about)
    return tag("circle", tag("title", words), cx=x, cy=y, r=5.5, **about)


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
