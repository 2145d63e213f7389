"""What a job will take, judged by the jobs that have succeeded here; unknown where there were none like it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from trsp_core.config import CompressionSpec
from trsp_core.preflight import Preflight
from trsp_core.workload import Part, workload
from trsp_jobs import repository
from trsp_jobs.lifecycle import Status
from trsp_jobs.models import Job

RECENT = 200
"""Jobs that are looked at, the latest."""
_STAGES = ("stage1", "stage2", "evaluate")


@dataclass(frozen=True, slots=True)
class Span:
    """Lowest, middle and highest of what the finished jobs make one expect."""

    low: float
    likely: float
    high: float

    @classmethod
    def of(cls, amount: float, rates: Sequence[float]) -> Span:
        """Return an amount at each of some rates."""
        return cls(amount * min(rates), amount * median(rates), amount * max(rates))

    def plus(self, other: Span) -> Span:
        """Return the sum of two spans, bound by bound."""
        return Span(self.low + other.low, self.likely + other.likely, self.high + other.high)


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """What one stage has to do, and the seconds that it will take.

    Attributes:
        stage: `stage1`, `stage2` with the refit, `evaluate`, or `rest` for all others.
        tokens: Tokens that pass through the model, a backward pass counted twice; None if unknown.
        seconds: None if unknown.
        microseconds: Likely cost of a token in one layer; None where no tokens count or it is unknown.
        jobs: Finished jobs with a stage of this kind.
    """

    stage: str
    tokens: float | None
    seconds: Span | None
    microseconds: float | None
    jobs: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job will take.

    Attributes:
        device: `cpu` or `cuda`: jobs on the other are not compared.
        stages: The stages that cost time.
        seconds: The whole job; None if a stage is unknown.
        memory_bytes: Peak of the job's process; None if no finished job tells.
        jobs: Finished jobs that were looked at.
    """

    device: str
    stages: tuple[StageEstimate, ...]
    seconds: Span | None
    memory_bytes: Span | None
    jobs: int


def estimate(session: Session, spec: CompressionSpec, found: Preflight) -> Estimate:
    """Judge a job by those that succeeded in one attempt, so that their timings are whole."""
    device = _device(session, spec)
    costs = [cost for cost in _costs(session) if cost["device"] == device]
    windows = _windows(spec, costs)
    parts = workload(spec, found.facts, count=found.layers_to_remove, windows=windows)
    names = [name for name in _STAGES if name in parts or name == "evaluate"]
    stages = tuple(_stage(name, parts.get(name), found, costs) for name in (*names, "rest"))
    ratios = [cost["peak"] / cost["memory_needed"] for cost in costs if cost["peak"]]
    memory = Span.of(found.memory_bytes, ratios) if ratios else None
    return Estimate(device, stages, _sum(stages), memory, len(costs))


def _device(session: Session, spec: CompressionSpec) -> str:
    if spec.device != "auto":
        return spec.device.partition(":")[0]
    return "cuda" if any(worker.device == "cuda" for worker in repository.list_workers(session)) else "cpu"


def _costs(session: Session) -> list[dict[str, Any]]:
    """Return what the latest jobs had to do and took, the latest first."""
    query = (
        select(Job.result)
        .where(Job.status == Status.SUCCEEDED, Job.attempt == 1, Job.result.has_key("cost"))
        .order_by(Job.created_at.desc())
        .limit(RECENT)
    )
    return [
        {**result["cost"], "peak": result.get("peak_rss_bytes")}
        for result in session.scalars(query)
        if result
    ]


def _windows(spec: CompressionSpec, costs: Sequence[Mapping[str, Any]]) -> dict[str, int] | None:
    """Return the evaluation windows of each set: those asked for, else as many as the last job had."""
    if spec.evaluation.windows is not None:
        return dict.fromkeys(spec.evaluation.perplexity, spec.evaluation.windows)
    known = {name: count for cost in reversed(costs) for name, count in cost["windows"].items()}
    if not set(spec.evaluation.perplexity) <= known.keys():
        return None
    return {name: known[name] for name in spec.evaluation.perplexity}


def _stage(
    name: str, part: Part | None, found: Preflight, costs: Sequence[Mapping[str, Any]]
) -> StageEstimate:
    if part is None:
        return StageEstimate(name, None, None, None, 0)
    rates = [rate for cost in costs if (rate := _rate(name, part.kind, cost)) is not None]
    tokens = part.tokens or None
    if not rates:
        return StageEstimate(name, tokens, None, None, 0)
    seconds = Span.of(part.work, rates)
    each = 1e6 * seconds.likely / tokens / found.facts.layers if tokens else None
    return StageEstimate(name, tokens, seconds, each, len(rates))


def _rate(name: str, kind: str, cost: Mapping[str, Any]) -> float | None:
    """Return the seconds that a finished job took for a unit of work; None if it did none of this kind."""
    part = cost["parts"].get(name)
    if part is None or part["kind"] != kind or not part["work"]:
        return None
    if name == "rest":
        return float(
            sum(took for stage, took in cost["timings"].items() if stage not in _STAGES) / part["work"]
        )
    took = cost["timings"].get(name)
    return None if took is None else float(took / part["work"])


def _sum(stages: Sequence[StageEstimate]) -> Span | None:
    total = Span(0, 0, 0)
    for stage in stages:
        if stage.seconds is None:
            return None
        total = total.plus(stage.seconds)
    return total
