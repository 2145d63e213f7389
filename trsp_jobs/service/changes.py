"""The few ways in which a job's row changes: every one checks the lifecycle and leaves an event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Session

from trsp_jobs import lifecycle, repository
from trsp_jobs.leases import AttemptEnd
from trsp_jobs.lifecycle import ACTIVE, FINAL, Status
from trsp_jobs.models import Attempt, Event, Job
from trsp_jobs.service.webhooks import announce_job

_REASON_CHARACTERS = 500


def add_event(session: Session, job: Job, kind: str, data: Mapping[str, Any]) -> None:
    """Append an event with the job's next number; the job's row must be locked by this transaction."""
    job.last_event += 1
    job.version += 1
    _write(session, job, kind, data)


def _write(session: Session, job: Job, kind: str, data: Mapping[str, Any]) -> None:
    session.add(
        Event(job_id=job.id, sequence=job.last_event, attempt=job.attempt, kind=kind, data=dict(data))
    )


def begin(session: Session, job: Job, reason: str) -> None:
    """Store a new job with its first event."""
    job.reason = reason[:_REASON_CHARACTERS]
    job.last_event, job.version, job.attempt = 1, 2, 0
    session.add(job)
    session.flush()
    tell(session, job, None)


def tell(session: Session, job: Job, before: str | None) -> None:
    """Leave the event of a change of status that stands in the row, and is counted there, already."""
    _write(session, job, "status", {"from": before, "to": job.status, "reason": job.reason})
    announce_job(session, job, Status(job.status), before)


def move(session: Session, job: Job, status: Status, reason: str) -> None:
    """Give a locked job its next status, with what belongs to it, and leave an event.

    Raises:
        IllegalTransition: If the lifecycle does not list the change.
    """
    lifecycle.check(Status(job.status), status)
    announce(session, job, job.status, status, reason)
    job.status = status
    if status not in ACTIVE:
        job.lease_owner = job.lease_until = job.eta_seconds = None
        repository.release_workers(session, job.id)
    if status in FINAL:
        job.finished_at = func.now()
    if status is Status.QUEUED:
        job.queued_at = func.now()
        job.rung_at = None


def announce(session: Session, job: Job, before: str | None, status: Status, reason: str) -> None:
    """Set the reason, leave the event of a change of status and note it for the webhooks that listen."""
    job.reason = reason[:_REASON_CHARACTERS]
    add_event(session, job, "status", {"from": before, "to": str(status), "reason": job.reason})
    if before != status:
        announce_job(session, job, status, before)


def end_attempt(session: Session, job: Job, outcome: str, reason: str, end: AttemptEnd) -> None:
    """Write how the job's latest attempt ended."""
    attempt = session.get_one(Attempt, (job.id, job.attempt))
    attempt.finished_at = func.now()
    attempt.outcome = outcome
    attempt.reason = reason[:_REASON_CHARACTERS]
    attempt.exit_code = end.exit_code
    attempt.peak_rss_bytes = end.peak_rss_bytes
    attempt.checkpoint = None if end.checkpoint is None else dict(end.checkpoint)
