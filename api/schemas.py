"""Requests and responses as OpenAPI shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, RootModel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from api.submission import submission_schema
from trsp_core.config import CompressionSpec
from trsp_core.preflight import Preflight
from trsp_jobs import models


class JobRequest(RootModel[dict[str, Any]]):
    """A job spec with the service's own fields; read by `api.submission`, whose schema this shows."""

    @classmethod
    def __get_pydantic_json_schema__(cls, _: CoreSchema, __: GetJsonSchemaHandler) -> JsonSchemaValue:
        return submission_schema()


class FromRow(BaseModel):
    """A response that is read from a row."""

    model_config = ConfigDict(from_attributes=True)


class JobLinks(BaseModel):
    """Where the rest of a job is."""

    events: str
    stream: str
    logs: str
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
    attempt: int = Field(description="Number of the latest attempt, 0 before the first.")
    max_attempts: int
    error: dict[str, Any] | None = Field(description="Code, message, problems and suggestion of the failure.")
    result: dict[str, Any] | None = Field(description="Headline figures of the report.")
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
    """One page of jobs, newest first."""

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
            href=href,
        )


class ArtifactList(BaseModel):
    """The files of a job."""

    items: list[ArtifactOut]


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
    sequence_length: int = Field(description="Tokens of a calibration window.")
    window_length: int = Field(description="Tokens of an evaluation window.")
    memory_bytes: int = Field(description="Estimate of the peak memory, bytes, in float32 on a CPU.")

    @classmethod
    def of(cls, spec: CompressionSpec, found: Preflight) -> Self:
        """Return what a preflight found of a spec."""
        data = found.to_dict()
        return cls(spec=spec.to_dict(), model=data.pop("facts"), **data)


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
    memory_bytes: int
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
