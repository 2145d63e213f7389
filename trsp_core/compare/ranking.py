"""Who is best: in a column, and at a cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trsp_core.compare.results import Comparison, Row, RowResult

Figure = Callable[[RowResult], float]
"""Reads one figure of a row; less is better."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A row with figures in which layers went, and its place in the table."""

    place: int
    row: Row
    result: RowResult


def contenders(comparison: Comparison) -> tuple[Contender, ...]:
    """Return the rows that compete: no reference, no row without figures."""
    return tuple(
        Contender(place, row, row.result)
        for place, row in enumerate(comparison.rows)
        if row.result is not None and not row.reference
    )


def ranked(found: Sequence[Contender], figure: Figure) -> tuple[Contender, ...]:
    """Return the contenders, the least figure first; equals stay in the order of the table."""
    return tuple(sorted(found, key=lambda item: figure(item.result)))


def best_places(found: Sequence[Contender], figure: Figure) -> frozenset[int]:
    """Return the places of the least figure; none where all are equal, since nobody is then ahead."""
    values = {item.place: figure(item.result) for item in found}
    least = min(values.values(), default=0.0)
    best = frozenset(place for place, value in values.items() if value == least)
    return best if len(best) < len(values) else frozenset()


def frontier(found: Sequence[Contender], cost: Figure, figure: Figure) -> tuple[Contender, ...]:
    """Return the contenders that no other beats in both, the cheapest first."""
    kept: list[Contender] = []
    for item in sorted(found, key=lambda item: (cost(item.result), figure(item.result))):
        if not kept or figure(item.result) < figure(kept[-1].result):
            kept.append(item)
    return tuple(kept)
