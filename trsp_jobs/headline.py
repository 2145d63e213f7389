"""The few figures of a report that a list of jobs shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from trsp_core.config import CompressionSpec
from trsp_core.preflight import memory_needed
from trsp_core.results import ModelFacts
from trsp_core.workload import workload


def headline(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of `report.json` that stand in the job's row.

    Args:
        report: A `CompressionReport.to_dict()`; parts that it lacks are left out.
    """
    plan, size = report.get("plan", {}), report.get("size", {})
    found = {
        "model_type": report.get("model", {}).get("model_type"),
        "layers": plan.get("layers"),
        "removed_layers": plan.get("removed_layers"),
        "parameters": {"dense": size.get("dense_parameters"), "pruned": size.get("pruned_parameters")},
        "perplexity": {
            name: {"dense": item.get("dense"), "pruned": item.get("pruned")}
            for name, item in report.get("perplexity", {}).items()
        },
        "speed": {name: item.get("ratio") for name, item in report.get("speed", {}).items()},
        "round_trip_ok": report.get("round_trip", {}).get("ok"),
        "seconds": sum(report.get("timings", {}).values()),
        "gradient_tokens": report.get("resources", {}).get("gradient_tokens"),
        "peak_rss_bytes": report.get("resources", {}).get("peak_rss_bytes"),
        "cost": _cost(report) if {"spec", "model", "timings", "perplexity"} <= report.keys() else None,
    }
    return {name: value for name, value in found.items() if value not in (None, {})}


def _cost(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the job had to do and what it took, by which jobs to come are judged."""
    spec, facts = CompressionSpec.from_dict(report["spec"]), ModelFacts.from_dict(report["model"])
    windows = {name: item["windows"] for name, item in report["perplexity"].items()}
    parts = workload(spec, facts, count=len(report["plan"]["removed_layers"]), windows=windows)
    return {
        "device": report.get("environment", {}).get("device", "cpu").partition(":")[0],
        "parts": {stage: asdict(part) for stage, part in parts.items()},
        "timings": report["timings"],
        "memory_needed": memory_needed(spec, facts),
        "windows": windows,
    }
