"""What a person does to a job: submit, cancel, retry, delete."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Session

from trsp_core.config import CompressionSpec
from trsp_jobs import lifecycle, repository, slots
from trsp_jobs.callers import OPERATOR, Caller
from trsp_jobs.errors import Conflict, IllegalTransition, JobNotFound, VersionConflict
from trsp_jobs.ids import new_job_id
from trsp_jobs.inputs import calibration_sets
from trsp_jobs.lifecycle import FINAL, RETRYABLE, Status
from trsp_jobs.models import Job
from trsp_jobs.service.changes import announce, move
from trsp_jobs.service.keys import admit
from trsp_jobs.settings import Settings


def submit(
    session: Session,
    spec: CompressionSpec,
    *,
    labels: Mapping[str, str] | None = None,
    priority: int = 0,
    queue_deadline: float | None = None,
    run_deadline: float | None = None,
    cloned_from: str | None = None,
    webhook: str | None = None,
    caller: Caller = OPERATOR,
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
        cloned_from: The job that it was made from.
        webhook: The webhook that hears of its end.
        caller: Whose it is and which key it counts for.
        publish: The slot that its result is offered to and the margins, as `Offer.to_dict` gives them.
        schedule_id: The schedule that makes it.
        settings: Says how many attempts it has.

    Raises:
        QuotaExceeded: If the caller's key holds as much as it may.
        CalibrationRefused: If it names an uploaded text that its owner does not have (any more).
    """
    admit(session, caller.key_id)
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
        cloned_from=cloned_from,
        max_attempts=settings.max_attempts,
        owner=caller.owner,
        key_id=caller.key_id,
        webhook_id=webhook,
        publish=dict(publish) if publish else None,
        schedule_id=schedule_id,
    )
    session.add(job)
    session.flush()
    calibration_sets.record_uses(session, job, spec)
    announce(session, job, None, Status.QUEUED, "submitted; waits for a worker")
    session.flush()
    return job


def cancel(session: Session, job_id: str, *, versions: Collection[int] | None = None) -> Job:
    """Ask a job to stop: at once where it waits, else its worker is told. Asking again changes nothing.

    Args:
        session: An open transaction.
        job_id: The job.
        versions: Versions of the job that the caller knows; any if None.

    Raises:
        JobNotFound: If there is none.
        VersionConflict: If it has another version.
        IllegalTransition: If it has ended in another way.
    """
    job = _locked(session, job_id, versions)
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


def retry(
    session: Session, job_id: str, *, from_scratch: bool = False, versions: Collection[int] | None = None
) -> Job:
    """Put a job that failed, timed out or was canceled back into the queue. The caller commits, then rings.

    Its attempts, deadlines and crashes count anew.

    Args:
        session: An open transaction.
        job_id: The job.
        from_scratch: Whether to begin again; else it goes on from its checkpoint where that still lies on
            the worker's disk.
        versions: Versions of the job that the caller knows; any if None.

    Raises:
        JobNotFound: If there is none.
        VersionConflict: If it has another version.
        IllegalTransition: If its status does not allow it.
        QuotaExceeded: If its key holds as much as it may.
    """
    job = _locked(session, job_id, versions)
    if job.status not in RETRYABLE:
        raise IllegalTransition(job.status, "retry")
    admit(session, job.key_id)
    lifecycle.check(Status(job.status), Status.QUEUED, "retry")
    job.crashes = 0
    job.cancel_requested_at = job.started_at = job.finished_at = job.error = None
    if from_scratch:
        _forget_progress(job)
    move(session, job, Status.QUEUED, "retried on request; waits for a worker")
    session.flush()
    return job


def _forget_progress(job: Job) -> None:
    job.fresh_after = job.attempt
    job.stage = job.stage_step = job.stage_total = None
    job.progress = 0.0


def remove(session: Session, job_id: str, *, versions: Collection[int] | None = None) -> None:
    """Remove a job that has ended, with its events and the list of its files.

    The caller commits, then removes the files: what is left of them if that fails belongs to no job.
    Errors and `versions` are those of `cancel`.

    Raises:
        Conflict: If a slot can still go back to its result.
    """
    job = _locked(session, job_id, versions)
    if job.status not in FINAL:
        raise IllegalTransition(job.status, "delete")
    held = slots.holding(session, job_id)
    if held:
        raise Conflict(
            f"{job_id} is a result that the slot {', '.join(held)} can go back to; it can be deleted once"
            " later results have pushed it out, or after a rollback"
        )
    repository.remove_job(session, job_id)


def mark_rung(session: Session, job_id: str) -> None:
    """Note that the broker took the job's id; a job without this note is rung by housekeeping."""
    repository.mark_rung(session, job_id)


def _locked(session: Session, job_id: str, versions: Collection[int] | None) -> Job:
    job = repository.lock_job(session, job_id)
    if job is None:
        raise JobNotFound(job_id)
    if versions is not None and job.version not in versions:
        raise VersionConflict(f"{job_id} has changed since: it is {job.status} now")
    return job
