"""One compression from spec to report.

resolve -> preflight -> calibrate -> stage 1 -> stage 2 -> surgery -> round trip -> evaluate -> report. Every
arrow is a value that is written down in the workspace; a run that is killed at any point goes on from the
last one with the same result.
"""

from __future__ import annotations

import errno
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from trsp_core.assembly import assemble, deliver, resources
from trsp_core.config import CompressionSpec
from trsp_core.device import Placement, free_bytes, place
from trsp_core.errors import InputRefused, OutOfMemory, StorageFull
from trsp_core.job import CompressionJob, Prepared
from trsp_core.optimizer import check_device
from trsp_core.preflight import Preflight, preflight
from trsp_core.progress import ProgressFn, StopFn, ignore, never
from trsp_core.reporting import Reporter
from trsp_core.residence import streams
from trsp_core.results import CompressionReport, PruningPlan, Resources
from trsp_core.scarcity import wants_memory
from trsp_core.sources import SourcePolicy
from trsp_core.workspace import Workspace


def compress(
    spec: CompressionSpec,
    *,
    workdir: Path,
    on_progress: ProgressFn | None = None,
    should_stop: StopFn | None = None,
    policy: SourcePolicy | None = None,
) -> CompressionReport:
    """Make a model shallower.

    Args:
        spec: What to do.
        workdir: Output folder; new, empty, or one that the same spec began (then it goes on) or finished
            (then its report is returned).
        on_progress: Called after every step.
        should_stop: Asked before every step; when it says so, `Cancelled` is raised and the folder keeps
            the checkpoint.
        policy: Which models and files may be read; by default any local file, the hub only if the
            environment allows it.

    Raises:
        InputRefused: Before any work, if something asked for cannot be done.
        WorkFailed: If the work could not be finished.
        Cancelled: If it was asked to stop.
    """
    job = _open(spec, workdir, on_progress, should_stop, policy)
    finished = job.space.finished_report()
    if finished:
        job.space.finish()
        return CompressionReport.from_dict(finished)
    with named_failures():
        prepared = _prepare(job)
        cut = job.cut(prepared)
        gc.collect()
        report = assemble(job, prepared, cut, job.judge(prepared, cut))
        deliver(job, report, prepared)
        return report


def make_plan(
    spec: CompressionSpec,
    *,
    workdir: Path,
    on_progress: ProgressFn | None = None,
    should_stop: StopFn | None = None,
    policy: SourcePolicy | None = None,
) -> tuple[PruningPlan, Resources]:
    """Run only the choice of layers; arguments and errors as for `compress`, which can go on from `workdir`."""
    job = _open(spec, workdir, on_progress, should_stop, policy)
    with named_failures():
        work, method = job.load(_prepare(job, judged=False))
        plan = job.plan(work, method)
        job.reporter.finish()
        return plan, resources(job, work.tokens)


def _open(
    spec: CompressionSpec,
    workdir: Path,
    on_progress: ProgressFn | None,
    should_stop: StopFn | None,
    policy: SourcePolicy | None,
) -> CompressionJob:
    """Check everything that can be refused, then take the output folder."""
    policy = policy or SourcePolicy.from_environment()
    checked = preflight(spec, policy)
    placement = _placed(spec, checked)
    check_device(spec.method.options, placement.device)
    space = Workspace.open(workdir, spec)
    reporter = Reporter(on_progress or ignore, space)
    return CompressionJob(spec, policy, checked, placement, space, reporter, should_stop or never)


def _placed(spec: CompressionSpec, checked: Preflight) -> Placement:
    """Decide device and precision, and whether the model is streamed there."""
    placement = place(spec.device, spec.dtype, checked.facts)
    needed = checked.memory_bytes * placement.dtype.itemsize // torch.float32.itemsize
    return replace(placement, streamed=streams(spec, needed, free_bytes(placement.device)))


def _prepare(job: CompressionJob, *, judged: bool = True) -> Prepared:
    """Read model and texts; a refusal, which only the tokens could tell, leaves no folder behind."""
    try:
        return job.prepare(judged=judged)
    except InputRefused:
        job.space.abandon()
        raise


@contextmanager
def named_failures() -> Iterator[None]:
    """Give the machine's own refusals their names and say what helps."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if isinstance(error, torch.OutOfMemoryError) or wants_memory(error):
            raise _out_of_memory(error) from error
        if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" at {error.filename}" if error.filename else ""
        message = f"the disk is full{where}; free some room and give the same command again: it goes on"
        raise StorageFull(message) from error


def _out_of_memory(error: BaseException) -> OutOfMemory:
    message = "memory ran out; shorter sequences, fewer batch_sequences or trainable=lora need less"
    return OutOfMemory(f"{message} ({str(error).splitlines()[0] if str(error) else 'no detail'})")
