"""comparison.html: one file that needs nothing else, in the look of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from trsp_core.compare.pictures import Mark, cost_floor, cost_panel, layers_taken
from trsp_core.compare.ranking import Contender, Figure, best_places, contenders, frontier, ranked
from trsp_core.compare.results import Comparison, Row, RowResult
from trsp_core.report.facts import Fact, Facts, pointer
from trsp_core.report.html import flat, moment, style_sheet, template
from trsp_core.report.numbers import seconds

_MOST_HEADLINES = 3
_COSTS: tuple[tuple[str, str, str], ...] = (
    ("choosing", "choosing_seconds", "seconds"),
    ("transfer", "transfer_seconds", "seconds"),
    ("gradient tokens", "gradient_tokens", "whole"),
    ("forward tokens", "forward_tokens", "whole"),
    ("peak memory", "peak_rss_bytes", "size"),
)
"""Column, field and format of what a row costs."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of the table, with a second one under it, and whether it is the best of its column."""

    fact: Fact | None
    under: Fact | None = None
    best: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: its cells, or in their place the reason why there are none."""

    row: Row
    layers: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Headline:
    """Who is best on a text, and how far ahead."""

    text: str
    where: str
    winner: str
    change: Fact | None
    sentence: Markup


@dataclass(frozen=True, slots=True)
class Panel:
    """Quality against cost on one text."""

    text: str
    where: str
    picture: Markup


def render_page(comparison: Comparison) -> str:
    """Return a whole page: style sheet inside, no script, no request to anywhere."""
    return _View(comparison).rendered()


class _View:
    """What the template is given; every figure is read out of `comparison.json` by its pointer."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.facts = Facts(comparison.to_dict())
        self.contenders = contenders(comparison)

    def rendered(self) -> str:
        """Return the page."""
        comparison = self.comparison
        return template("comparison.html").render(
            comparison=comparison,
            facts=self.facts,
            css=style_sheet(),
            finished=moment(comparison.finished_at),
            removed=self._removed(),
            headlines=self._headlines(),
            panels=[self._panel(name) for name in comparison.texts],
            columns=(*comparison.texts, *(name for name, _, _ in _COSTS)),
            lines=[self._line(place, row) for place, row in enumerate(comparison.rows)],
            layers=self._layers(),
            floor=seconds(cost_floor([item.result.seconds for item in self.contenders])),
            notes=self._notes(),
            spec_rows=flat(comparison.spec),
            environment_rows=flat(comparison.environment),
            pointer=pointer,
        )

    def _removed(self) -> str:
        counts = sorted({len(item.result.order) for item in self.contenders})
        most = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else "".join(map(str, counts))
        return f"{most or 'none'} of {self.comparison.model.layers} layers removed"

    def _headlines(self) -> tuple[Headline, ...]:
        if not self.contenders:
            return ()
        names = list(self.comparison.texts)[:_MOST_HEADLINES]
        return tuple(self._headline(name) for name in names)

    def _headline(self, name: str) -> Headline:
        first, *others = ranked(self.contenders, _on(name))
        sentence = Markup("Perplexity {}, dense {}.").format(
            self._perplexity(first.place, name), self._perplexity(0, name)
        )
        if others:
            sentence += Markup(" Next is {} with {}.").format(
                others[0].row.label, self._perplexity(others[0].place, name)
            )
        change = self.facts.show(pointer("rows", first.place, "result", "against_dense", name), "ratio")
        return Headline(name, self._where(name), first.row.label, change, sentence)

    def _where(self, name: str) -> str:
        facts = self.comparison.texts[name]
        flattered = ", calibration text" if facts.calibration_text else ""
        return ("in-domain" if facts.in_domain else "off-domain") + flattered

    def _perplexity(self, place: int, name: str) -> Fact:
        return self.facts.figure(pointer("rows", place, "result", "perplexity", name))

    def _panel(self, name: str) -> Panel:
        marks = {
            place: self._mark(place, row, name)
            for place, row in enumerate(self.comparison.rows)
            if place and row.result is not None
        }
        front = frontier(self.contenders, lambda result: result.seconds, _on(name))
        drawn = cost_panel(
            list(marks.values()),
            [marks[item.place] for item in front],
            self._perplexity(0, name),
            label=f"Perplexity on {name} against seconds for choosing and transfer",
        )
        return Panel(name, self._where(name), drawn)

    def _mark(self, place: int, row: Row, name: str) -> Mark:
        gradients = row.result is not None and row.result.gradient_tokens > 0
        kind = "r-reference" if row.reference else "r-gradient" if gradients else "r-forward"
        cost = self.facts.figure(pointer("rows", place, "result", "seconds"), "seconds")
        return Mark(row.label, kind, cost, self._perplexity(place, name))

    def _line(self, place: int, row: Row) -> Line:
        if row.result is None:
            return Line(row, "", ())
        texts = [self._text_cell(place, name) for name in self.comparison.texts]
        costs = [self._cost_cell(place, field, how) for _, field, how in _COSTS]
        return Line(row, ", ".join(map(str, row.result.order)), (*texts, *costs))

    def _text_cell(self, place: int, name: str) -> Cell:
        change = pointer("rows", place, "result", "against_dense", name)
        under = self.facts.figure(change, "ratio") if place else None
        return Cell(self._perplexity(place, name), under, self._is_best(place, _on(name)))

    def _cost_cell(self, place: int, field: str, how: str) -> Cell:
        fact = self.facts.show(pointer("rows", place, "result", field), how)
        return Cell(fact, best=self._is_best(place, lambda result: float(getattr(result, field))))

    def _is_best(self, place: int, figure: Figure) -> bool:
        return place in best_places(self.contenders, figure)

    def _layers(self) -> Markup | None:
        if not self.contenders:
            return None
        rows = [(item.row.label, item.result.order) for item in self.contenders]
        label = "Which layers each method removed"
        return layers_taken(rows, self.comparison.model.layers, label=label)

    def _notes(self) -> Sequence[str]:
        return [f"{item.row.label}: {words}" for item in self.contenders for words in _notes_of(item)]


def _notes_of(item: Contender) -> tuple[str, ...]:
    return item.result.notes


def _on(name: str) -> Figure:
    def perplexity(result: RowResult) -> float:
        return result.perplexity[name]

    return perplexity
