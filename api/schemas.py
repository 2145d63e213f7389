"""Requests and responses as OpenAPI shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, RootModel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from api.submission import clone_schema, retry_schema, submission_schema
from trsp_core.config import CompressionSpec
from trsp_core.preflight import Preflight
from trsp_jobs import models
from trsp_jobs.estimates import Estimate


class JobRequest(RootModel[dict[str, Any]]):
    """A job spec with the service's own fields; read by `api.submission`, whose schema this shows."""

    @classmethod
    def __get_pydantic_json_schema__(cls, _: CoreSchema, __: GetJsonSchemaHandler) -> JsonSchemaValue:
        return submission_schema()


class CloneRequest(RootModel[dict[str, Any]]):
    """What is to be different in the new job: a merge patch of the body that made the old one."""

    @classmethod
    def __get_pydantic_json_schema__(cls, _: CoreSchema, __: GetJsonSchemaHandler) -> JsonSchemaValue:
        return clone_schema()


class RetryRequest(RootModel[dict[str, Any]]):
    """How to try again; read by `api.submission`, whose schema this shows."""

    @classmethod
    def __get_pydantic_json_schema__(cls, _: CoreSchema, __: GetJsonSchemaHandler) -> JsonSchemaValue:
        return retry_schema()


class FromRow(BaseModel):
    """A response that is read from a row."""

    model_config = ConfigDict(from_attributes=True)


class JobLinks(BaseModel):
    """Where the rest of a job is."""

    events: str
    stream: str
    logs: str
    log_stream: str
    report: str
    artifacts: str
    page: str

    @classmethod
    def of(cls, job_id: str) -> Self:
        """Return the addresses of a job."""
        base = f"/v1/jobs/{job_id}"
        return cls(
            events=f"{base}/events",
            stream=f"{base}/events/stream",
            logs=f"{base}/logs",
            log_stream=f"{base}/logs/stream",
            report=f"{base}/report",
            artifacts=f"{base}/artifacts",
            page=f"/jobs/{job_id}",
        )


class JobOut(FromRow):
    """A job."""

    id: str
    status: str = Field(
        description="queued, starting, running, finalizing, canceling or a final one: succeeded, failed, "
        "canceled, timed_out."
    )
    stage: str | None = Field(description="Where the algorithm is; null before it began.")
    reason: str = Field(description="Why the job is where it is, one line for a person.")
    progress: float = Field(description="Share of the whole job that is done, 0 to 1.")
    stage_step: int | None = Field(description="Steps of the stage that are done.")
    stage_total: int | None = Field(description="Steps of the stage.")
    eta_seconds: float | None = Field(description="Seconds left in the stage, judged by its steps so far.")
    spec: dict[str, Any] = Field(description="The full job spec: no shorthand, every option with its value.")
    fingerprint: str = Field(description="Hash of the spec: equal specs, equal fingerprints.")
    labels: dict[str, str]
    priority: int
    queue_deadline: float | None
    run_deadline: float | None
    publish: dict[str, Any] | None = Field(
        description="The slot that the result is offered to, and the margins of the gate."
    )
    schedule_id: str | None = Field(description="The schedule that made it.")
    memory_bytes: int | None = Field(
        description="Least memory that a worker must have for it, bytes; null where nobody estimated it."
    )
    files_removed_at: datetime | None = Field(
        description="When its files were removed because it had ended long ago."
    )
    attempt: int = Field(description="Number of the latest attempt, 0 before the first.")
    max_attempts: int
    error: dict[str, Any] | None = Field(description="Code, message, problems and suggestion of the failure.")
    result: dict[str, Any] | None = Field(description="Headline figures of the report.")
    cloned_from: str | None = Field(description="The job that it was made from.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: JobLinks

    @classmethod
    def of(cls, job: models.Job, reason: str) -> Self:
        """Return a row as the client sees it, with the reason as it is at the moment."""
        names = [name for name in cls.model_fields if name not in ("reason", "links")]
        values = {name: getattr(job, name) for name in names}
        return cls(**values, reason=reason, links=JobLinks.of(job.id))


class JobPage(BaseModel):
    """One page of jobs."""

    items: list[JobOut]
    next_cursor: str | None = Field(description="Send it as `after` for the next page; null on the last.")


class EventOut(FromRow):
    """Something that happened to a job; the stream sends the same object as its data."""

    sequence: int = Field(description="1, 2, 3 … within the job, without a gap.")
    kind: str = Field(description="`status` or `progress`.")
    attempt: int
    at: datetime
    data: dict[str, Any]


class EventPage(BaseModel):
    """Events in order."""

    items: list[EventOut]
    next_after: int = Field(description="Send it as `after` for the events that follow.")
    final: bool = Field(description="The job is final and there are no further events.")


class AttemptOut(FromRow):
    """One worker's try at a job."""

    number: int
    owner: str
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    reason: str
    exit_code: int | None
    peak_rss_bytes: int | None
    checkpoint: dict[str, Any] | None = Field(
        description="What a retry can go on from: files, bytes, written_at, host, and stored, the hash of its "
        "manifest if it lies in the store too; null where nothing was left."
    )


class AttemptList(BaseModel):
    """The attempts of a job, first to last."""

    items: list[AttemptOut]


class ArtifactOut(FromRow):
    """A published file of a job."""

    path: str
    size: int = Field(description="Bytes.")
    sha256: str
    media_type: str
    attempt: int
    missing_since: datetime | None = Field(
        description="When the store was found not to hold it; null while it does."
    )
    href: str

    @classmethod
    def of(cls, row: models.Artifact) -> Self:
        """Return a row with its address."""
        href = f"/v1/jobs/{row.job_id}/artifacts/{row.path}"
        return cls(
            path=row.path,
            size=row.size,
            sha256=row.sha256,
            media_type=row.media_type,
            attempt=row.attempt,
            missing_since=row.missing_since,
            href=href,
        )


class ArtifactList(BaseModel):
    """The files of a job."""

    items: list[ArtifactOut]


class SpanOut(FromRow):
    """Lowest, middle and highest of what the finished jobs make one expect."""

    low: float
    likely: float
    high: float


class StageEstimateOut(FromRow):
    """What one stage will take."""

    stage: str = Field(description="stage1, stage2 with the refit, evaluate, or rest for all others.")
    tokens: float | None = Field(
        description="Tokens that pass through the model, a backward pass counted twice; null if unknown."
    )
    seconds: SpanOut | None = Field(description="Null if no finished job had a stage of this kind.")
    microseconds: float | None = Field(description="Likely cost of one token in one layer.")
    jobs: int = Field(description="Finished jobs with a stage of this kind: the range is theirs.")


class EstimateOut(FromRow):
    """What the job will take, judged by those that succeeded here."""

    device: str = Field(description="cpu or cuda; jobs on the other are not compared.")
    stages: list[StageEstimateOut]
    seconds: SpanOut | None = Field(description="The whole job without waiting; null if a stage is unknown.")
    memory_bytes: SpanOut | None = Field(
        description="Peak memory, bytes: the formula's, by what finished jobs took of it; null if none tells."
    )
    jobs: int = Field(description="Finished jobs that were looked at.")


class PreflightOut(BaseModel):
    """What a job would do."""

    spec: dict[str, Any] = Field(description="The full job spec, as it would be stored.")
    model: dict[str, Any] = Field(description="What is known of the model without loading it.")
    layers_to_remove: int = Field(
        description="Decoder layers that would go, at most if decided by measurement."
    )
    decided_by_measurement: bool = Field(
        description="Whether the job measures the model to find how many layers go (speedup, max_perplexity_ratio)."
    )
    removable_layers: int = Field(description="Layers that the protection leaves to choose from.")
    protected_layers: list[int] = Field(description="Layers that stay whatever is found, 0-based.")
    sequence_length: int = Field(description="Tokens of a calibration window.")
    window_length: int = Field(description="Tokens of an evaluation window.")
    memory_bytes: int = Field(description="Estimate of the peak memory, bytes, in float32 on a CPU.")
    least_memory_bytes: int = Field(
        description="Memory without which it cannot be done, bytes; workers that have less leave it to others."
    )
    estimate: EstimateOut = Field(description="Time and memory by the jobs that have succeeded here.")

    @classmethod
    def of(cls, spec: CompressionSpec, found: Preflight, estimate: Estimate) -> Self:
        """Return what a preflight found of a spec."""
        data, options, layers = found.to_dict(), spec.method.options, found.facts.layers
        ends = {*range(options.protect_first), *range(layers - options.protect_last, layers)}
        return cls(
            spec=spec.to_dict(),
            model=data.pop("facts"),
            protected_layers=sorted(ends),
            estimate=EstimateOut.model_validate(estimate),
            **data,
        )


class ComparedJob(FromRow):
    """A job among others."""

    id: str
    model: str
    method: str
    target: dict[str, Any]
    labels: dict[str, str]
    removed_layers: list[int] | None = Field(description="0-based, ascending.")

    @classmethod
    def of(cls, job: models.Job) -> Self:
        """Return a row as the comparison shows it."""
        return cls(
            id=job.id,
            model=job.spec["model"],
            method=job.spec["method"]["name"],
            target=job.spec["target"],
            labels=job.labels,
            removed_layers=(job.result or {}).get("removed_layers"),
        )


class ComparisonRow(FromRow):
    """One figure of each job."""

    name: str = Field(description="Such as `perplexity/wikitext2`.")
    unit: str
    better: str = Field(description="lower, higher or neither.")
    values: list[float | None] = Field(description="In the order of the jobs; null where not measured.")
    best: list[int] = Field(description="Places of the jobs with the best value.")


class ComparisonOut(BaseModel):
    """Jobs side by side."""

    jobs: list[ComparedJob]
    figures: list[ComparisonRow]


class MethodOut(BaseModel):
    """A registered method."""

    name: str
    summary: str
    options: dict[str, Any] = Field(description="JSON Schema of its options.")


class MethodList(BaseModel):
    """The registered methods."""

    items: list[MethodOut]


class WorkerOut(FromRow):
    """A worker's last sign of life."""

    id: str
    host: str
    device: str
    memory_bytes: int = Field(description="Memory that a job may take there.")
    current_job: str | None
    started_at: datetime
    last_seen: datetime


class WorkerList(BaseModel):
    """The workers that are online."""

    items: list[WorkerOut]


class Check(BaseModel):
    """One part that the service leans on."""

    status: str = Field(description="ok or down.")
    detail: str = ""


class Ready(BaseModel):
    """Whether the service can work."""

    status: str = Field(description="ready, degraded (it accepts jobs, they start later) or unready.")
    checks: dict[str, Check]


class Version(BaseModel):
    """What runs here."""

    name: str
    version: str
    api: str


class Health(BaseModel):
    """The process answers."""

    status: str


class ProblemItem(BaseModel):
    """One thing that is wrong with the request."""

    pointer: str = Field(description="JSON pointer of the field.")
    message: str
    value: Any = None
    allowed: str | list[str] | None = None
    suggestion: str | None = None


class ProblemOut(BaseModel):
    """RFC 9457 problem+json."""

    type: str = Field(description="Stable: compare it. The address is a page that explains it.")
    title: str
    status: int
    detail: str
    instance: str
    advice: str
    request_id: str
    errors: list[ProblemItem]
