"""What became of each layer of the source model."""

from __future__ import annotations

from dataclasses import dataclass

from trsp_core.report.facts import Fact, Facts, pointer
from trsp_core.report.numbers import ordinal
from trsp_core.results import CompressionReport


@dataclass(frozen=True, slots=True)
class Cell:
    """One layer of the map.

    Attributes:
        layer: Source index.
        fate: kept, refitted, protected or removed.
        mark: The few letters in the cell.
        words: What became of it, for pointing and for readers that speak.
        score: Its score in the round that decided, where it had one.
        part_scores: The scores of its parts in that round by the part's name, where parts were scored.
    """

    layer: int
    fate: str
    mark: str
    words: str
    score: Fact | None
    part_scores: tuple[tuple[str, Fact], ...] = ()


def cells(report: CompressionReport, facts: Facts) -> tuple[Cell, ...]:
    """Return one cell a layer, in the source's order."""
    places = {layer: place for place, layer in enumerate(report.plan.order)}
    return tuple(_cell(report, facts, layer, places.get(layer)) for layer in range(report.plan.layers))


def legend(report: CompressionReport) -> dict[str, str]:
    """Return what each fate that occurs means, in words."""
    trained = ", trained with the rest" if report.stage2 else " as it was"
    words = {
        "kept": f"kept{trained}",
        "refitted": "kept, MLP output refitted",
        "protected": "kept, protected by the options",
        "removed": "removed, with its place in the order",
    }
    places = {layer: place for place, layer in enumerate(report.plan.order)}
    found = {_fate(report, layer, places.get(layer)) for layer in range(report.plan.layers)}
    return {fate: meaning for fate, meaning in words.items() if fate in found}


def _cell(report: CompressionReport, facts: Facts, layer: int, place: int | None) -> Cell:
    fate = _fate(report, layer, place)
    mark, words = _words(fate, place)
    score, parts = _score(report, facts, layer, place or 0), _part_scores(report, facts, layer, place or 0)
    return Cell(layer, fate, mark, words, score, parts)


def _fate(report: CompressionReport, layer: int, place: int | None) -> str:
    if place is not None:
        return "removed"
    if layer in report.refitted_layers:
        return "refitted"
    method = report.spec.get("method") or {}
    first, last = method.get("protect_first", 0), method.get("protect_last", 0)
    return "protected" if layer < first or layer >= report.plan.layers - last else "kept"


def _words(fate: str, place: int | None) -> tuple[str, str]:
    if place is not None:
        return ordinal(place + 1), f"removed as the {ordinal(place + 1)}"
    return {"refitted": ("refit", "kept, refitted"), "protected": ("fixed", "kept, protected")}.get(
        fate, ("", "kept")
    )


def _score(report: CompressionReport, facts: Facts, layer: int, place: int) -> Fact | None:
    if place >= len(report.plan.rounds) or layer not in report.plan.rounds[place].scores:
        return None
    return facts.show(pointer("plan", "rounds", place, "scores", layer), "short")


def _part_scores(
    report: CompressionReport, facts: Facts, layer: int, place: int
) -> tuple[tuple[str, Fact], ...]:
    parts = report.plan.rounds[place].part_scores if place < len(report.plan.rounds) else {}
    at = pointer("plan", "rounds", place, "part_scores")
    return tuple(
        (name, facts.figure(f"{at}{pointer(name, layer)}", "short"))
        for name, scores in parts.items()
        if layer in scores
    )
