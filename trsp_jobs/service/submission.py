"""What a person does to a job: submit, cancel, retry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Session

from trsp_core.config import CompressionSpec
from trsp_jobs import lifecycle, repository
from trsp_jobs.errors import IllegalTransition, JobNotFound
from trsp_jobs.ids import new_job_id
from trsp_jobs.inputs import calibration_sets
from trsp_jobs.lifecycle import FINAL, RETRYABLE, Status
from trsp_jobs.models import Job
from trsp_jobs.service.changes import announce, move
from trsp_jobs.settings import Settings


def submit(
    session: Session,
    spec: CompressionSpec,
    *,
    labels: Mapping[str, str] | None = None,
    priority: int = 0,
    queue_deadline: float | None = None,
    run_deadline: float | None = None,
    publish: Mapping[str, Any] | None = None,
    schedule_id: str | None = None,
    settings: Settings,
) -> Job:
    """Store a job and its first event. The caller commits, then rings.

    Args:
        session: An open transaction.
        spec: What is to be done; already validated.
        labels: The sender's own marks.
        priority: The higher goes first among those that wait.
        queue_deadline: Seconds that the job may wait before its first start.
        run_deadline: Seconds that it may take from its first start on.
        publish: The slot that its result is offered to and the margins, as `Offer.to_dict` gives them.
        schedule_id: The schedule that makes it.
        settings: Says how many attempts it has.

    Raises:
        CalibrationRefused: If it names an uploaded text that has been deleted.
    """
    job = Job(
        id=new_job_id(),
        spec=spec.to_dict(),
        fingerprint=spec.fingerprint(),
        status=Status.QUEUED,
        labels=dict(labels or {}),
        priority=priority,
        device_class="cuda" if spec.device.startswith("cuda") else "any",
        queue_deadline=queue_deadline,
        run_deadline=run_deadline,
        max_attempts=settings.max_attempts,
        publish=dict(publish) if publish else None,
        schedule_id=schedule_id,
    )
    session.add(job)
    session.flush()
    calibration_sets.record_uses(session, job.id, spec)
    announce(session, job, None, Status.QUEUED, "submitted; waits for a worker")
    session.flush()
    return job


def cancel(session: Session, job_id: str) -> Job:
    """Ask a job to stop: at once where it waits, else its worker is told. Asking again changes nothing.

    Raises:
        JobNotFound: If there is none.
        IllegalTransition: If it has ended in another way.
    """
    job = _locked(session, job_id)
    if job.status in (Status.CANCELED, Status.CANCELING):
        return job
    if job.status in FINAL:
        raise IllegalTransition(job.status, "cancel")
    job.cancel_requested_at = func.now()
    if job.status == Status.QUEUED:
        move(session, job, Status.CANCELED, "canceled on request before it started")
    else:
        move(session, job, Status.CANCELING, "asked to stop; waits for the worker to confirm")
    session.flush()
    return job


def retry(session: Session, job_id: str) -> Job:
    """Put a job that failed, timed out or was canceled back into the queue. The caller commits, then rings.

    It goes on from its checkpoint where that still lies on the worker's disk; its attempts, deadlines and
    crashes count anew.

    Raises:
        JobNotFound: If there is none.
        IllegalTransition: If its status does not allow it.
    """
    job = _locked(session, job_id)
    if job.status not in RETRYABLE:
        raise IllegalTransition(job.status, "retry")
    lifecycle.check(Status(job.status), Status.QUEUED, "retry")
    job.crashes = 0
    job.cancel_requested_at = job.started_at = job.finished_at = job.error = None
    move(session, job, Status.QUEUED, "retried on request; waits for a worker")
    session.flush()
    return job


def mark_rung(session: Session, job_id: str) -> None:
    """Note that the broker took the job's id; a job without this note is rung by housekeeping."""
    repository.mark_rung(session, job_id)


def _locked(session: Session, job_id: str) -> Job:
    job = repository.lock_job(session, job_id)
    if job is None:
        raise JobNotFound(job_id)
    return job
