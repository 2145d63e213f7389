"""Each picture with its title, its one-line reading and the table of its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from trsp_core.report import charts
from trsp_core.report.facts import Fact, Facts, pointer
from trsp_core.results import CompressionReport, SpeedResult, StepRecord

MOST_ROWS = 200
"""Rows of a table of steps; a longer run shows every n-th, and report.json has all."""

_TESTS = {"prompt": "Prompt", "generation": "Generation"}


@dataclass(frozen=True, slots=True)
class Table:
    """Column names and rows of facts and words."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Fact | str | None, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture and what it shows."""

    title: str
    reading: str
    picture: Markup
    table: Table


def speed(report: CompressionReport, facts: Facts) -> Figure | None:
    """Return the speed tests against their ceilings; None where none was made."""
    if not report.speed:
        return None
    label = "Speed of the pruned model as a multiple of the dense one"
    picture = charts.speedups([_speed_bar(name, facts) for name in report.speed], label)
    reading = (
        "Bar: the median ratio. Whisker: its quartiles. "
        "Dashed: the most that the removed layers' share of the time allows."
    )
    columns = ("test", "dense", "pruned", "ratio", "quartile", "quartile", "ceiling", "verdict", "repeats")
    sizes = tuple(dict.fromkeys(size for item in report.speed.values() for size in item.sizes))
    names = (*columns, *(size.replace("_", " ") for size in sizes))
    rows = tuple(
        (*_speed_cells(name, item, facts), *_sizes(name, item, sizes, facts))
        for name, item in report.speed.items()
    )
    return Figure("Against the ceiling", reading, picture, Table(names, rows))


def _speed_bar(name: str, facts: Facts) -> charts.SpeedRow:
    at = pointer("speed", name)
    low, high = facts.raw(f"{at}/spread")
    ratio, ceiling = facts.figure(f"{at}/ratio", "ratio"), facts.figure(f"{at}/ceiling", "ratio")
    return charts.SpeedRow(_TESTS.get(name, name), ratio, low, high, ceiling)


def _speed_cells(name: str, item: SpeedResult, facts: Facts) -> tuple[Fact | str | None, ...]:
    at = pointer("speed", name)
    how = item.unit if item.unit in ("ms", "tokens/s") else "number"
    ratios = ("ratio", "spread/0", "spread/1", "ceiling")
    return (
        _TESTS.get(name, name),
        *(facts.show(f"{at}/{part}", how) for part in ("dense", "pruned")),
        *(facts.show(f"{at}/{part}", "ratio") for part in ratios),
        "above its ceiling" if item.above_ceiling else "within its ceiling",
        facts.show(f"{at}/repeats", "whole"),
    )


def _sizes(name: str, item: SpeedResult, sizes: Sequence[str], facts: Facts) -> tuple[Fact | None, ...]:
    return tuple(
        facts.show(pointer("speed", name, "sizes", size), "whole") if size in item.sizes else None
        for size in sizes
    )


def curve(report: CompressionReport, facts: Facts) -> Figure | None:
    """Return perplexity against layers removed; None where there is no curve to draw."""
    if len(report.curve) < 2:
        return None
    points = tuple((float(item.removed), item.perplexity) for item in report.curve)
    label = "Perplexity of the calibration text against the number of removed layers"
    drawn = charts.lines(
        [charts.Series("perplexity", "r-kept", points)],
        label=label,
        x_label="layers removed",
        y_label="perplexity (log scale)",
        logarithmic=True,
    )
    rows = tuple(
        (
            facts.show(f"/curve/{index}/removed", "whole"),
            facts.show(f"/curve/{index}/layer", "whole"),
            facts.show(f"/curve/{index}/perplexity"),
            facts.show(f"/curve/{index}/parameters", "parameters"),
        )
        for index in range(len(report.curve))
    )
    reading = (
        "Each point is a plan that this run gives too: the first layers of its order. "
        "Calibration text, before the layers that stay learn anything."
    )
    columns = ("removed", "last to go", "perplexity", "parameters")
    return Figure("Depth against quality", reading, drawn, Table(columns, rows))


def scores(report: CompressionReport, facts: Facts) -> Figure | None:
    """Return the score of each candidate in each round; None where the method kept none."""
    rounds = report.plan.rounds
    if not rounds or not all(item.scores for item in rounds):
        return None
    layers = sorted({layer for item in rounds for layer in item.scores})
    rows = tuple(_round_row(facts, index, layers) for index in range(len(rounds)))
    label = f"Score of each layer in each of {len(rounds)} rounds; the chosen one is ringed"
    reading = "Fainter means that the layer mattered less in that round. The ring marks the layer that went."
    table = Table(("went", "loss after", "gate steps", *(f"layer {layer}" for layer in layers)), rows)
    return Figure("Scores by round", reading, charts.score_map(rounds, report.plan.layers, label), table)


def _round_row(facts: Facts, index: int, layers: Sequence[int]) -> tuple[Fact | None, ...]:
    at = pointer("plan", "rounds", index)
    known = facts.raw(f"{at}/scores")
    scored = (
        facts.show(f"{at}/scores/{layer}", "short") if str(layer) in known else None for layer in layers
    )
    return (
        facts.show(f"{at}/layer", "whole"),
        facts.show(f"{at}/loss"),
        facts.show(f"{at}/steps", "whole"),
        *scored,
    )


def losses(report: CompressionReport, facts: Facts) -> Figure | None:
    """Return the loss of each logged step of stage 2 with its parts; None where there was no step."""
    steps = report.stage2
    if not steps:
        return None
    series = [_of_steps("loss", "r-kept", steps, "loss")]
    parts = [("lm", "text", "r-refit"), ("distill", "distilled", "r-gone")]
    series += [
        _of_steps(name, kind, steps, part)
        for part, name, kind in parts
        if all(getattr(step, part) is not None for step in steps) and _has_both(steps)
    ]
    drawn = charts.lines(series, label="Loss of stage 2 by step", x_label="step", y_label="nats a token")
    reading = "What the layers that stay are trained on, step by step."
    return Figure("Loss of stage 2", reading, drawn, _steps_table(facts, len(steps)))


def _has_both(steps: Sequence[StepRecord]) -> bool:
    return all(step.lm is not None and step.distill is not None for step in steps)


def _of_steps(name: str, kind: str, steps: Sequence[StepRecord], part: str) -> charts.Series:
    points = ((float(step.step), float(getattr(step, part))) for step in steps)
    return charts.Series(name, kind, tuple(points))


def _steps_table(facts: Facts, count: int) -> Table:
    every = -(-count // MOST_ROWS)
    fields = ("loss", "lm", "distill", "identity_gap", "learning_rate")
    rows = tuple(
        (
            facts.show(f"/stage2/{index}/step", "whole"),
            *(facts.show(f"/stage2/{index}/{field}") for field in fields),
        )
        for index in range(0, count, every)
    )
    note = f"Every {every}th logged step; report.json has them all." if every > 1 else ""
    return Table(("step", "loss", "text", "distilled", "identity gap", "learning rate"), rows, note)


def gap_by_step(report: CompressionReport, facts: Facts) -> Figure | None:
    """Return the mean identity gap of the chosen layers by step; None where there was no step."""
    if not report.stage2:
        return None
    drawn = charts.lines(
        [_of_steps("gap", "r-gone", report.stage2, "identity_gap")],
        label="Mean identity gap of the chosen layers by step",
        x_label="step",
        y_label="identity gap",
        from_nought=True,
    )
    reading = "How much the chosen layers still do, on average. At nought they can go unnoticed."
    return Figure("Identity gap by step", reading, drawn, _steps_table(facts, len(report.stage2)))


def gap_by_layer(report: CompressionReport, facts: Facts) -> Figure | None:
    """Return the identity gap of each removed layer before and after stage 2; None where it was not taken."""
    if not report.identity_gap:
        return None
    chosen = sorted(report.identity_gap)
    drawn = charts.gaps(
        [(f"layer {layer}", *report.identity_gap[layer]) for layer in chosen],
        label="Identity gap of each chosen layer before and after stage 2",
        x_label="identity gap",
    )
    rows = tuple(
        (
            str(layer),
            facts.show(pointer("identity_gap", layer, 0)),
            facts.show(pointer("identity_gap", layer, 1)),
            facts.quotient(pointer("identity_gap", layer, 1), pointer("identity_gap", layer, 0), "percent"),
        )
        for layer in chosen
    )
    reading = "The nearer to nought at removal, the less there was left to lose."
    return Figure("Identity gap by layer", reading, drawn, Table(("layer", "before", "after", "left"), rows))


def timings(report: CompressionReport, facts: Facts) -> Figure | None:
    """Return how long each stage took; None where nothing was timed."""
    if not report.timings:
        return None
    known = [
        (name.replace("_", " "), facts.figure(pointer("timings", name), "seconds")) for name in report.timings
    ]
    drawn = charts.bars(known, "Duration of each stage")
    return Figure(
        "Time by stage", "Wall-clock time of this run.", drawn, Table(("stage", "time"), tuple(known))
    )
