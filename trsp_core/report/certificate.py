"""The round trip's certificate as a table: every check, whether it held, and its figure."""

from __future__ import annotations

from trsp_core.report.facts import Fact, Facts, pointer
from trsp_core.report.figures import Table
from trsp_core.results import Check, CompressionReport

_WORDS = {
    "no_warnings": "loads without a warning",
    "logits": "logits of the model in memory",
    "cached_generation": "generation with and without cache",
    "left_padded": "left-padded batch and each prompt alone",
    "second_save_tensors": "saved and loaded again: tensors",
    "second_save_logits": "saved and loaded again: logits",
    "sdpa_and_eager": "SDPA and eager attention",
    "vllm": "vLLM and transformers",
}
_VERDICTS = {True: "held", False: "failed", None: "does not apply"}


def certificate(report: CompressionReport, facts: Facts) -> Table | None:
    """Return the checks; None of a report that kept none."""
    checks = report.round_trip.checks
    if not checks:
        return None
    rows = tuple(
        _row(item, pointer("round_trip", "checks", place), facts) for place, item in enumerate(checks)
    )
    return Table(("check", "verdict", "found", "allowed", "measure", "remark"), rows)


def _row(item: Check, at: str, facts: Facts) -> tuple[Fact | str | None, ...]:
    return (
        _WORDS.get(item.name, item.name),
        _VERDICTS[item.ok],
        facts.show(f"{at}/figure", "short"),
        facts.show(f"{at}/tolerance", "short"),
        item.unit or None,
        item.detail or None,
    )
