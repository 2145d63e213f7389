"""The ten-second answer: what was removed, what it cost, what it won."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from trsp_core.report.facts import Fact, Facts, pointer
from trsp_core.results import CompressionReport, PerplexityResult


@dataclass(frozen=True, slots=True)
class Headline:
    """One figure and one sentence. `kind` is the class that gives the accent."""

    title: str
    kind: str
    figure: Fact | str
    unit: str
    sentence: Markup


def headlines(report: CompressionReport, facts: Facts) -> tuple[Headline, Headline, Headline]:
    """Return removed, cost and won, in this order."""
    return _removed(facts), _cost(report, facts), _won(report, facts)


def _removed(facts: Facts) -> Headline:
    sentence = Markup(
        "With them went {} of the parameters: {} → {}. The model is now {} layers deep."
    ).format(
        facts.quotient("/size/pruned_parameters", "/size/dense_parameters", "percent", less=True),
        facts.show("/size/dense_parameters", "parameters"),
        facts.show("/size/pruned_parameters", "parameters"),
        facts.show("/plan/kept_layers", "whole"),
    )
    figure = Markup("{} of {}").format(
        facts.show("/plan/removed_layers", "whole"), facts.show("/plan/layers", "whole")
    )
    return Headline("Removed", "r-is-removed", figure, "layers", sentence)


def _cost(report: CompressionReport, facts: Facts) -> Headline:
    name = told_by(report)
    if name is None:
        sentence = Markup("No perplexity was measured, so what the removal cost is not known.")
        return Headline("Cost", "r-is-cost", "–", "not measured", sentence)
    pruned, dense = (pointer("perplexity", name, which) for which in ("pruned", "dense"))
    sentence = Markup("Perplexity on {} went from {} to {}, over {} windows of {}.").format(
        name,
        facts.show(dense),
        facts.show(pruned),
        facts.show(pointer("perplexity", name, "windows"), "whole"),
        _seen(report.perplexity[name]),
    )
    ratio = facts.quotient(pruned, dense, "ratio")
    return Headline("Cost", "r-is-cost", ratio or "–", "the perplexity", sentence)


def _seen(result: PerplexityResult) -> str:
    if result.calibration_text:
        return "the very text that it was calibrated on, which flatters it"
    return "text that calibration did not see"


def told_by(report: CompressionReport) -> str | None:
    """Return the set that tells the cost: the one that grew most, of those that calibration did not see."""
    both = {name: item for name, item in report.perplexity.items() if item.ratio is not None}
    unseen = {name: item for name, item in both.items() if not item.calibration_text}
    candidates = unseen or both
    return max(candidates, key=lambda name: candidates[name].ratio or 0.0, default=None)


def _won(report: CompressionReport, facts: Facts) -> Headline:
    smaller = Markup("The weights take {} instead of {}.").format(
        facts.show("/size/pruned_bytes", "size"), facts.show("/size/dense_bytes", "size")
    )
    if not report.speed:
        share = facts.quotient("/size/pruned_bytes", "/size/dense_bytes", "percent", less=True)
        return Headline("Won", "r-is-won", share or "–", "smaller", smaller + " Speed was not measured.")
    name = next(iter(report.speed))
    parts = [_speed_words(report, facts, name) for name in report.speed]
    sentence = Markup("{}. {}").format(Markup(", ").join(parts), smaller)
    figure = facts.show(pointer("speed", name, "ratio"), "ratio")
    unit = {"prompt": "prompt speed", "generation": "generation speed"}.get(name, "speed")
    return Headline("Won", "r-is-won", figure or "–", unit, sentence)


def _speed_words(report: CompressionReport, facts: Facts, name: str) -> Markup:
    words = Markup("{} {} of at most {}").format(
        {"prompt": "Prompts", "generation": "generation"}.get(name, name),
        facts.show(pointer("speed", name, "ratio"), "ratio"),
        facts.show(pointer("speed", name, "ceiling"), "ratio"),
    )
    flagged = report.speed[name].above_ceiling
    return words + Markup(" (above its ceiling, so not to be trusted)") if flagged else words
