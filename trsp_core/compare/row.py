"""One row: choose, transfer, and judge with the chosen layers switched off, by the parts of a compression."""

from __future__ import annotations

from trsp_core.compare.inputs import load_inputs
from trsp_core.compare.results import RowResult
from trsp_core.compare.space import ComparisonSpace
from trsp_core.compare.task import RowTask
from trsp_core.decoder import switched_off
from trsp_core.device import place
from trsp_core.evaluation.memory import peak_cuda_bytes, peak_rss_bytes
from trsp_core.job import CompressionJob, Prepared
from trsp_core.judge import Surroundings, perplexities
from trsp_core.methods.base import Method, Work
from trsp_core.progress import ProgressFn, never
from trsp_core.reporting import Reporter
from trsp_core.results import PruningPlan
from trsp_core.sources import SourcePolicy
from trsp_core.workspace import Workspace


def run_row(task: RowTask, on_progress: ProgressFn) -> RowResult:
    """Do one row's work in this process, whose peak memory is then the row's.

    Raises:
        InputRefused: If the method turns out to be none for this model.
        WorkFailed: If the work could not be finished.
    """
    space = Workspace.open(task.workdir / "job", task.spec)
    job = CompressionJob(
        task.spec,
        SourcePolicy(),
        task.checked,
        place(task.spec.device, task.spec.dtype, task.checked.facts),
        space,
        Reporter(on_progress, space),
        never,
    )
    prepared = _inputs(task)
    work, method = job.load(prepared)
    plan = _plan(task, job, work, method)
    transfer, tokens = job.transfer(work, method, plan)
    perplexity = _judge(job, prepared, work, plan)
    job.reporter.finish()
    return RowResult(
        order=plan.order,
        perplexity=perplexity,
        gradient_tokens=tokens.gradient,
        forward_tokens=tokens.forward,
        choosing_seconds=job.reporter.timings.get("stage1", 0.0),
        transfer_seconds=job.reporter.timings["stage2"],
        peak_rss_bytes=peak_rss_bytes(),
        peak_cuda_bytes=peak_cuda_bytes(job.placement.device),
        notes=transfer.notes,
    )


def _inputs(task: RowTask) -> Prepared:
    saved = load_inputs(ComparisonSpace(task.folder))
    if saved is None:
        raise FileNotFoundError(f"{task.folder} holds no inputs of a comparison")
    return saved[0]


def _plan(task: RowTask, job: CompressionJob, work: Work, method: Method) -> PruningPlan:
    if task.reference:
        return PruningPlan(task.spec.method.name, len(work.decoder), ())
    return job.plan(work, method)


def _judge(job: CompressionJob, prepared: Prepared, work: Work, plan: PruningPlan) -> dict[str, float]:
    """Return the perplexity of each text without the chosen layers, as the saved model would have it."""
    total = sum(len(text.input_ids) for text in prepared.texts)
    job.reporter.begin("evaluate", total, "judged on held-out text")
    done = 0

    def tell(windows: int, message: str) -> None:
        nonlocal done
        done += windows
        job.reporter.step(done, total, message)

    around = Surroundings(job.placement, tell, never)
    with switched_off(work.decoder, plan.removed):
        return perplexities(work.decoder.model, prepared.texts, around, who="compared")
