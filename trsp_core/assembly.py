"""The end of a compression: everything that was found out becomes one report, and the folder becomes final."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

from trsp_core.evaluation.memory import environment, peak_cuda_bytes, peak_rss_bytes
from trsp_core.files import write_json_atomically
from trsp_core.job import MODEL, CompressionJob, Cut, Judged, Prepared
from trsp_core.manifest import build_manifest
from trsp_core.methods.base import TokenCount
from trsp_core.report import write_reports
from trsp_core.residence import RESIDENT, STREAMED
from trsp_core.results import (
    CompressionReport,
    CurvePoint,
    ModelFacts,
    PruningPlan,
    Resources,
    SizeResult,
)
from trsp_core.sources import Source, inspect
from trsp_core.workspace import MANIFEST


def assemble(job: CompressionJob, prepared: Prepared, cut: Cut, judged: Judged) -> CompressionReport:
    """Return the report of a job whose result is saved, proved and measured."""
    job.reporter.begin("report", 1, "the report is written")
    job.reporter.finish()
    return CompressionReport(
        spec=job.spec.to_dict(),
        spec_fingerprint=job.spec.fingerprint(),
        model=job.checked.facts,
        plan=cut.plan,
        perplexity=judged.perplexity,
        speed=judged.speed,
        size=sizes(prepared.folder, job.space.folder / MODEL),
        round_trip=cut.trip,
        curve=curve(cut.plan, job.checked.facts),
        identity_gap=cut.transfer.identity_gap,
        stage2=cut.transfer.records,
        refitted_layers=tuple(refit.layer for refit in cut.transfer.refits),
        timings=job.reporter.timings,
        resources=resources(job, cut.tokens),
        environment={**environment(job.placement.device), **_placed(job)},
        seed=job.spec.seed,
        started_at=job.space.started_at,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=(*cut.transfer.notes, *(item.note for item in cut.exported)),
    )


def _placed(job: CompressionJob) -> dict[str, str]:
    memory = STREAMED if job.placement.streamed else RESIDENT
    return {"dtype": str(job.placement.dtype), "memory": memory}


def deliver(job: CompressionJob, report: CompressionReport, prepared: Prepared) -> None:
    """Write the reports and, last of all, the manifest; then drop the checkpoint."""
    write_reports(report, job.space.folder)
    manifest = build_manifest(
        job.space.folder,
        source=job.checked.source,
        source_files=job.source_files(),
        facts=job.checked.facts,
        plan=report.plan,
        calibration_sha256=prepared.calibration.sha256,
        spec=job.spec.to_dict(),
        seed=job.spec.seed,
        environment=report.environment,
        round_trip=report.to_dict()["round_trip"],
    )
    write_json_atomically(job.space.folder / MANIFEST, manifest)
    job.space.finish()


def resources(job: CompressionJob, tokens: TokenCount) -> Resources:
    """Return what the job used so far; the peak is that of this process, not of earlier attempts."""
    return Resources(
        peak_rss_bytes=peak_rss_bytes(),
        peak_cuda_bytes=peak_cuda_bytes(job.placement.device),
        gradient_tokens=tokens.gradient,
        forward_tokens=tokens.forward,
    )


def sizes(dense: Path, pruned: Path) -> SizeResult:
    """Return weights and bytes of two model folders, from their headers."""
    before, after = _facts(dense), _facts(pruned)
    return SizeResult(before.parameters, after.parameters, before.stored_bytes, after.stored_bytes)


def _facts(folder: Path) -> ModelFacts:
    return inspect(Source(str(folder), "folder", folder, ""))


def curve(plan: PruningPlan, facts: ModelFacts) -> tuple[CurvePoint, ...]:
    """Return the nested curve that the rounds measured on the calibration text; empty where they did not."""
    losses = [plan.dense_loss, *(item.loss for item in plan.rounds)]
    points, left = [], facts.parameters
    for removed, loss in enumerate(losses):
        layer = plan.order[removed - 1] if removed else None
        left -= facts.layer_parameters[layer] if layer is not None else 0
        if loss is not None:
            points.append(CurvePoint(removed, layer, _perplexity(loss), left))
    return tuple(points)


def _perplexity(loss: float) -> float:
    """Return exp of a loss, kept finite: beyond 1e12 the exact figure says nothing."""
    return min(math.exp(min(loss, 50.0)), 1e12)
