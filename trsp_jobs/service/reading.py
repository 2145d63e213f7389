"""What can be read of jobs and workers."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from trsp_jobs import job_list, repository
from trsp_jobs.errors import ArtifactNotFound, JobNotFound
from trsp_jobs.job_list import NEWEST, Cursor, JobFilter
from trsp_jobs.lifecycle import Status
from trsp_jobs.models import Artifact, Attempt, Event, Job, WorkerNode
from trsp_jobs.paging import Page
from trsp_jobs.standings import MOST_AHEAD, Standing, standings


def get_job(session: Session, job_id: str) -> Job:
    """Return a job.

    Raises:
        JobNotFound: If there is none.
    """
    job = repository.get_job(session, job_id)
    if job is None:
        raise JobNotFound(job_id)
    return job


def owner_of(session: Session, job_id: str) -> str:
    """Return whose a job is.

    Raises:
        JobNotFound: If there is none.
    """
    owner = repository.owner_of(session, job_id)
    if owner is None:
        raise JobNotFound(job_id)
    return owner


def list_jobs(
    session: Session,
    *,
    after: str | None = None,
    limit: int = 20,
    sort: str = NEWEST,
    chosen: JobFilter = JobFilter(),
) -> Page[Job]:
    """Return a page of jobs; it stays the same when jobs are added.

    Args:
        session: An open transaction.
        after: The `next_cursor` of the page before, of a list in the same order.
        limit: Most jobs of a page.
        sort: One of `SORTS`.
        chosen: Which jobs.

    Raises:
        WrongCursor: If `after` is no cursor of this order.
    """
    cursor = None if after is None else Cursor.decode(after, sort)
    return Page(*job_list.list_jobs(session, chosen, sort, cursor, limit))


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
    return waiting_reasons(session, [job])[0]


def waiting_reasons(session: Session, jobs: Sequence[Job]) -> list[str]:
    """Return the reasons of several jobs; where one waits, the database is asked once for all that do."""
    waiting = [job.id for job in jobs if job.status == Status.QUEUED]
    found = standings(session, waiting) if waiting else {}
    return [_reason(job, found[job.id]) if job.id in found else job.reason for job in jobs]


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _reason(job: Job, standing: Standing) -> str:
    if job.device_class == "cuda" and not standing.gpu_workers:
        return "waiting: no GPU worker online"
    if not standing.workers:
        return "waiting: no worker online"
    most = standing.most_gpu_memory if job.device_class == "cuda" else standing.most_memory
    if job.memory_bytes is not None and most is not None and job.memory_bytes > most:
        return f"waiting: needs {_gib(job.memory_bytes)}, the largest worker has {_gib(most)}"
    if standing.held_back:
        return "waiting: its key has as many jobs at work as it may"
    if standing.ahead is None:
        return f"waiting: more than {MOST_AHEAD} jobs ahead"
    if standing.ahead:
        return f"waiting: {standing.ahead} {'job' if standing.ahead == 1 else 'jobs'} ahead"
    if not standing.idle_workers:
        return "waiting: next in line, every worker is busy"
    return "waiting: next in line" if job.rung_at else "waiting: the broker has not taken it yet"
