"""What can be read of jobs and workers."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from trsp_jobs import repository
from trsp_jobs.errors import ArtifactNotFound, JobNotFound
from trsp_jobs.lifecycle import Status
from trsp_jobs.models import Artifact, Attempt, Event, Job, WorkerNode
from trsp_jobs.paging import Page


def get_job(session: Session, job_id: str) -> Job:
    """Return a job.

    Raises:
        JobNotFound: If there is none.
    """
    job = repository.get_job(session, job_id)
    if job is None:
        raise JobNotFound(job_id)
    return job


def list_jobs(
    session: Session,
    *,
    after: str | None = None,
    limit: int = 20,
    status: str | None = None,
    model: str | None = None,
    label: str | None = None,
) -> Page[Job]:
    """Return jobs, newest first; a page stays the same when jobs are added.

    Args:
        session: An open transaction.
        after: The `next_cursor` of the page before.
        limit: Most jobs of a page.
        status: Only jobs of this status.
        model: Only jobs whose spec names this model.
        label: Only jobs with this label, `NAME` or `NAME=VALUE`.
    """
    chosen = repository.JobFilter(status, model, label)
    found = repository.list_jobs(session, chosen, after, limit + 1)
    items = found[:limit]
    return Page(items, items[-1].id if len(found) > limit else None)


def events_after(session: Session, job_id: str, after: int, limit: int = 500) -> Sequence[Event]:
    """Return a job's events numbered above `after`, in order, without a gap."""
    return repository.events_after(session, job_id, after, limit)


def list_attempts(session: Session, job_id: str) -> Sequence[Attempt]:
    """Return a job's attempts, first to last."""
    return repository.list_attempts(session, job_id)


def list_artifacts(session: Session, job_id: str) -> Sequence[Artifact]:
    """Return a job's published files by path; none before it has succeeded."""
    return repository.list_artifacts(session, job_id)


def get_artifact(session: Session, job_id: str, path: str) -> Artifact:
    """Return one published file of a job.

    Raises:
        ArtifactNotFound: If the job has no such file.
    """
    artifact = repository.get_artifact(session, job_id, path)
    if artifact is None:
        raise ArtifactNotFound(path)
    return artifact


def list_workers(session: Session) -> Sequence[WorkerNode]:
    """Return the workers that are there now."""
    return repository.list_workers(session)


def waiting_reason(session: Session, job: Job) -> str:
    """Return why a job is where it is; for one that waits, what it waits for."""
    if job.status != Status.QUEUED:
        return job.reason
    workers = repository.list_workers(session)
    if job.device_class == "cuda" and not any(worker.device == "cuda" for worker in workers):
        return "waiting: no GPU worker online"
    if not workers:
        return "waiting: no worker online"
    ahead = repository.count_ahead(session, job)
    if ahead:
        return f"waiting: {ahead} {'job' if ahead == 1 else 'jobs'} ahead"
    if all(worker.current_job is not None for worker in workers):
        return "waiting: next in line, every worker is busy"
    return "waiting: next in line" if job.rung_at else "waiting: the broker has not taken it yet"
