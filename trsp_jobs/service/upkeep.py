"""What housekeeping and the workers' signs of life do. Any number of callers may run at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy.orm import Session

from trsp_jobs import log_pieces, repository
from trsp_jobs.leases import AttemptEnd, JobError
from trsp_jobs.lifecycle import Status
from trsp_jobs.service.changes import move
from trsp_jobs.service.execution import close_attempt

_SIGNS_MISSED = 3


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a worker says of itself: id, host name, `cuda` or `cpu`, the memory that a job may take there, bytes."""

    id: str
    host: str
    device: str
    memory_bytes: int


def expire_leases(session: Session) -> Sequence[str]:
    """Take jobs from workers that gave no sign of life; return their ids.

    Each goes back to the queue while it has attempts left, else it fails with `lease_lost`; one that was
    to be canceled is canceled.
    """
    expired = repository.lock_expired(session)
    for job in expired:
        message = f"the worker of attempt {job.attempt} gave no sign of life"
        error = JobError("lease_lost", message, suggestion="look at the worker's log and at its memory")
        close_attempt(session, job, error, outcome="lease_lost", retryable=True, end=AttemptEnd())
    return [job.id for job in expired]


def time_out_queued(session: Session) -> Sequence[str]:
    """End the queued jobs whose deadline has passed; return their ids."""
    overdue = repository.lock_overdue(session)
    for job in overdue:
        started = job.started_at is not None
        kind, seconds = ("run", job.run_deadline) if started else ("queue", job.queue_deadline)
        reason = f"its {kind} deadline of {seconds:g} seconds passed while it waited for a worker"
        job.error = JobError(
            "timed_out", reason, suggestion=f"retry it with a longer {kind}_deadline"
        ).to_dict()
        move(session, job, Status.TIMED_OUT, reason)
    session.flush()
    return [job.id for job in overdue]


def due_rings(session: Session, *, pending: int, ring_again_seconds: float) -> Sequence[str]:
    """Return the jobs to ring: those never rung, and as many others as the broker holds too few rings for.

    Args:
        session: An open transaction.
        pending: Rings that wait in the broker.
        ring_again_seconds: A job rung less long ago is left out, since a worker may just be taking it.
    """
    new = repository.never_rung(session)
    missing = repository.count_queued(session) - pending - len(new)
    again = repository.rung_before(session, ring_again_seconds, missing) if missing > 0 else ()
    return [*new, *again]


def see_worker(session: Session, facts: WorkerFacts, *, seconds: float) -> None:
    """Write a worker's sign of life; it counts as gone after it has missed three, `seconds` apart."""
    repository.save_worker(session, asdict(facts), _SIGNS_MISSED * seconds)


def set_current_job(session: Session, worker_id: str, job_id: str) -> None:
    """Note what a worker works on; the note goes when the job is no longer at work, whoever ends that."""
    repository.assign_worker(session, worker_id, job_id)


def forget_worker(session: Session, worker_id: str) -> None:
    """Remove a worker that said goodbye."""
    repository.remove_worker(session, worker_id)


def forget_gone_workers(session: Session) -> int:
    """Remove the workers that count as gone; return how many."""
    return repository.remove_gone_workers(session)


def forget_log(session: Session, job_id: str, attempts: Sequence[int]) -> None:
    """Take the logs of ended attempts out of the database: they lie in the store."""
    log_pieces.forget(session, job_id, attempts)
