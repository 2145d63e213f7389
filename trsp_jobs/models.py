"""The rows."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, MetaData, String, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from trsp_jobs.callers import OPERATOR_OWNER
from trsp_jobs.lifecycle import Status

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
ENDED = "COALESCE(finished_at, 'infinity'::timestamp with time zone)"
"""When a job ended, in SQL: one that has not ended sorts behind all that have."""
_STATUSES = ", ".join(f"'{status}'" for status in Status)


class Base(DeclarativeBase):
    """Base of all rows: times carry their zone, JSON is binary, constraints have stable names."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a plain class attribute
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        dict[str, str]: JSONB(none_as_null=True),
        list[dict[str, Any]]: JSONB(none_as_null=True),
    }


class Job(Base):
    """One compression. The row is the queue of record.

    Attributes:
        id: `job_` and 26 lowercase characters that sort by time of creation.
        spec: The full job spec, as `CompressionSpec.to_dict` gives it.
        fingerprint: The spec's hash: equal specs, equal fingerprints.
        status: Where the job is, a `Status`.
        stage: Where the algorithm is; None before it began.
        reason: One line for a person: why the job is where it is.
        progress: Share of the whole job that is done, 0 to 1; never falls.
        stage_step, stage_total: Steps of the stage that are done, and that there are.
        eta_seconds: Seconds left in the stage as the last progress judged; None while unknown.
        labels: The sender's own marks.
        priority: The higher goes first among those that wait.
        device_class: `cuda` for a job that asked for CUDA, else `any`.
        attempt: Number of the latest attempt, 0 before the first.
        crashes: Attempts since the submit or the last retry that ended in a crash or a lost worker.
        max_attempts: Number of crashes at which the job fails.
        lease_owner, lease_until: Who works on it, and until when that holds without a sign of life.
        cancel_requested_at: When somebody asked it to stop.
        queue_deadline: Seconds that it may wait in the queue before its first start.
        run_deadline: Seconds that it may take from its first start on, waiting between attempts included.
        error: `code`, `message`, `problems`, `suggestion` of the last failure.
        result: Headline figures of the report.
        fresh_after: What attempts up to this number left on a worker's disk is not gone on from.
        cloned_from: The job that this one was made from; it may be gone.
        queued_at: Since when it waits, or waited last.
        rung_at: When the broker last took its id; None while no ring has reached it.
        last_event: Number of its latest event.
        version: Grows with every change that a reader can see; the ETag.
        owner: Whose it is; nobody else sees it.
        key_id: The key that it counts for; None for the operator's.
        webhook_id: The webhook that hears of its end whatever else it listens to.
        schedule_id: The schedule that made it; it keeps its name when the schedule is deleted.
        publish: The slot that its result is offered to and the margins, as `Offer.to_dict` gives them.
        memory_bytes: Least memory that a worker must have for it; None where nobody estimated it.
        files_removed_at: When its files were removed because it had ended long ago.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"status IN ({_STATUSES})", name="status_known"),
        CheckConstraint("progress >= 0 AND progress <= 1", name="progress_is_share"),
        CheckConstraint("(lease_owner IS NULL) = (lease_until IS NULL)", name="lease_whole"),
        Index("ix_jobs_queued", text("priority DESC"), "id", postgresql_where=text("status = 'queued'")),
        Index("ix_jobs_lease_until", "lease_until", postgresql_where=text("lease_until IS NOT NULL")),
        Index("ix_jobs_labels", "labels", postgresql_using="gin"),
        Index("ix_jobs_created_at_id", "created_at", "id"),
        Index("ix_jobs_priority_id", "priority", "id"),
        Index("ix_jobs_finished_at_id", text(ENDED), "id"),
        Index("ix_jobs_status_created_at_id", "status", "created_at", "id"),
        Index("ix_jobs_model_created_at_id", text("(spec ->> 'model')"), "created_at", "id"),
        Index("ix_jobs_status_priority_id", "status", "priority", "id"),
        Index("ix_jobs_status_finished_at_id", "status", text(ENDED), "id"),
        Index("ix_jobs_owner_created_at_id", "owner", "created_at", "id"),
        Index("ix_jobs_owner_priority_id", "owner", "priority", "id"),
        Index("ix_jobs_owner_finished_at_id", "owner", text(ENDED), "id"),
        Index("ix_jobs_owner_status_created_at_id", "owner", "status", "created_at", "id"),
        Index("ix_jobs_owner_model_created_at_id", "owner", text("(spec ->> 'model')"), "created_at", "id"),
        Index("ix_jobs_key_id_status", "key_id", "status"),
        Index(
            "ix_jobs_schedule_created_at_id",
            "schedule_id",
            "created_at",
            "id",
            postgresql_where=text("schedule_id IS NOT NULL"),
        ),
    )
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - SQLAlchemy reads it as a plain class attribute

    id: Mapped[str] = mapped_column(String(30), primary_key=True)
    spec: Mapped[dict[str, Any]]
    fingerprint: Mapped[str] = mapped_column(String(64), index=True)
    status: Mapped[str] = mapped_column(String(16), default=Status.QUEUED)
    stage: Mapped[str | None] = mapped_column(String(32))
    reason: Mapped[str] = mapped_column(String(500), default="")
    progress: Mapped[float] = mapped_column(default=0.0)
    stage_step: Mapped[int | None] = mapped_column(BigInteger)
    stage_total: Mapped[int | None] = mapped_column(BigInteger)
    eta_seconds: Mapped[float | None]
    labels: Mapped[dict[str, str]] = mapped_column(default=dict)
    priority: Mapped[int] = mapped_column(default=0)
    device_class: Mapped[str] = mapped_column(String(8), default="any")
    attempt: Mapped[int] = mapped_column(default=0)
    crashes: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=3)
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    queue_deadline: Mapped[float | None]
    run_deadline: Mapped[float | None]
    error: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    queued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    rung_at: Mapped[datetime | None]
    fresh_after: Mapped[int] = mapped_column(default=0, server_default="0")
    cloned_from: Mapped[str | None] = mapped_column(String(30))
    last_event: Mapped[int] = mapped_column(BigInteger, default=0)
    version: Mapped[int] = mapped_column(BigInteger, default=1)
    owner: Mapped[str] = mapped_column(String(64), default=OPERATOR_OWNER, server_default=OPERATOR_OWNER)
    key_id: Mapped[str | None] = mapped_column(ForeignKey("api_keys.id"))
    webhook_id: Mapped[str | None] = mapped_column(ForeignKey("webhooks.id", ondelete="SET NULL"))
    schedule_id: Mapped[str | None] = mapped_column(String(30))
    publish: Mapped[dict[str, Any] | None]
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    files_removed_at: Mapped[datetime | None]


class Attempt(Base):
    """One worker's try at a job.

    Attributes:
        number: 1 for the first.
        owner: The lease owner that made it.
        outcome: None while it runs; else `succeeded`, `failed`, `crashed`, `lease_lost`, `canceled`,
            `timed_out` or `handed_over`.
        reason: One line for a person: how it ended.
        exit_code: The child's; negative for the signal that killed it.
        peak_rss_bytes: Most memory that the child's process group held, as the worker saw it.
        checkpoint: What a retry can go on from: `files`, `bytes`, `written_at`, `host`, `stored` if it lies
            in the store too; None where nothing was left.
    """

    __tablename__ = "attempts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(200))
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(String(500), default="")
    exit_code: Mapped[int | None]
    peak_rss_bytes: Mapped[int | None] = mapped_column(BigInteger)
    checkpoint: Mapped[dict[str, Any] | None]


class Event(Base):
    """Something that happened to a job.

    Attributes:
        sequence: 1, 2, 3 … within the job, without a gap, in the order of commit: it is given out under the
            job row's lock.
        attempt: The attempt that it belongs to, 0 before the first.
        kind: `status` (`from`, `to`, `reason`) or `progress` (a `Progress` as JSON).
    """

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    attempt: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    data: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Artifact(Base):
    """One published file of a job.

    Attributes:
        attempt: The attempt that made it; its folder in the store is `jobs/{job_id}/attempts/{attempt}/`.
        path: Where it lies in that folder, `/` between the parts.
        size: Bytes.
        sha256: Hash of its content, hexadecimal.
        missing_since: When housekeeping found that the store does not hold it; None while it does.
    """

    __tablename__ = "artifacts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    path: Mapped[str] = mapped_column(String(500), primary_key=True)
    attempt: Mapped[int]
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    media_type: Mapped[str] = mapped_column(String(100))
    missing_since: Mapped[datetime | None]

    @property
    def store_path(self) -> str:
        """The file's path in the store."""
        return f"jobs/{self.job_id}/attempts/{self.attempt}/{self.path}"


class Turn(Base):
    """When housekeeping last did something that one node does for all.

    Attributes:
        name: What is done.
        at: When a node last took its turn.
    """

    __tablename__ = "turns"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class WorkerNode(Base):
    """A worker's sign of life.

    Attributes:
        id: Host name and a random part, new with each start.
        device: `cuda` or `cpu`.
        memory_bytes: Memory that a job may take there: the GPU's, the machine's, or what the operator said.
        current_job: The job that it works on.
        last_seen: When it last said that it is there.
        gone_after: When it counts as gone unless it says so again.
    """

    __tablename__ = "worker_nodes"

    id: Mapped[str] = mapped_column(String(120), primary_key=True)
    host: Mapped[str] = mapped_column(String(100))
    device: Mapped[str] = mapped_column(String(8))
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    current_job: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_seen: Mapped[datetime] = mapped_column(server_default=func.now())
    gone_after: Mapped[datetime] = mapped_column(index=True)
