"""How the dashboard says things: a status, a target, a duration, a time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from trsp_core.report import numbers

STATUS: Mapping[str, tuple[str, str]] = {
    "queued": ("clock", "Waiting"),
    "starting": ("play", "Starting"),
    "running": ("play", "Running"),
    "finalizing": ("upload", "Saving"),
    "canceling": ("stop", "Stopping"),
    "succeeded": ("check", "Succeeded"),
    "failed": ("cross", "Failed"),
    "canceled": ("stop", "Canceled"),
    "timed_out": ("clock", "Timed out"),
}
"""Icon and word of each status."""

STAGES: Mapping[str, tuple[str, str]] = {
    "resolve": ("Find the model", "Locating the weights and reading what is known of them."),
    "preflight": ("Check the plan", "Checking the layers, the text and the memory before any work."),
    "calibrate": ("Read the text", "Cutting the calibration text into windows."),
    "stage1": ("Choose layers", "Learning a gate for each layer and verifying which ones matter least."),
    "stage2": ("Move knowledge", "Teaching the layers that stay what the chosen ones know."),
    "surgery": ("Remove layers", "Writing the shallower model."),
    "round_trip": ("Load it back", "Loading the result in a fresh process and comparing it."),
    "evaluate": ("Measure", "Measuring perplexity and speed, dense and pruned."),
    "report": ("Report", "Writing the report."),
}
"""Name and meaning of each stage of the work."""

METRICS: Mapping[str, str] = {
    "loss": "Loss",
    "lm": "Language-model loss",
    "distill": "Distillation loss",
    "identity_gap": "Identity gap",
    "perplexity": "Perplexity",
}


def metric(name: str) -> str:
    """Return a metric's name for a person."""
    return METRICS.get(name, name.replace("_", " ").capitalize())


def target(spec: Mapping[str, Any]) -> str:
    """Return how far a job goes."""
    kind, value = next(iter(spec["target"].items()))
    texts = {
        "sparsity": f"remove {100 * value:g} % of the layers",
        "layers_to_remove": f"remove {value} layer{'' if value == 1 else 's'}",
        "max_params": f"at most {numbers.parameters(value)} parameters",
        "speedup": f"{value:g}× as fast",
        "max_perplexity_ratio": f"perplexity at most {value:g}×",
    }
    return texts[kind]


def ago(moment: datetime, now: datetime | None = None) -> str:
    """Return how long ago a moment was, in its largest unit."""
    seconds = max(0.0, ((now or datetime.now(UTC)) - moment).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return "just now" if seconds < 10 else f"{seconds:.0f} s ago"


def duration(seconds: float | None) -> str:
    """Return a duration; empty where there is none."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"<{numbers.NO_BREAK}1{numbers.NO_BREAK}s"
    return f"{seconds:.0f}{numbers.NO_BREAK}s" if seconds < 60 else numbers.seconds(seconds)


def clock(moment: datetime | None) -> str:
    """Return a moment in UTC, to the second; a dash where there is none."""
    return "–" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
