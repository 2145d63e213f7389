"""What a worker does with a job. Each function but `pick` and `claim` raises `LeaseLost` for a claim that
no longer holds, and then writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from trsp_core.progress import Progress
from trsp_jobs import log_pieces, repository, slots
from trsp_jobs.errors import LeaseLost
from trsp_jobs.headline import headline
from trsp_jobs.leases import AttemptEnd, Claim, JobError, Orders, PublishedFile, WorkerOffer
from trsp_jobs.lifecycle import Status
from trsp_jobs.log_pieces import Said
from trsp_jobs.models import Artifact, Job
from trsp_jobs.service.changes import add_event, announce, end_attempt, move
from trsp_jobs.service.keys import may_start
from trsp_jobs.service.webhooks import announce_job


def pick(session: Session, job_id: str, offer: WorkerOffer) -> str | None:
    """Return the job that a worker should claim when it hears a ring: the queued one that is to go first.

    A ring says that there is work, not which: so a job of high priority does not wait behind older rings,
    and a repeated ring finds either other work or none.

    Args:
        session: An open transaction.
        job_id: The job that was rung; preferred among jobs of equal priority.
        offer: What the worker offers; a job that needs another device or more memory is left to others.
    """
    return repository.best_queued(session, offer, preferred=job_id)


def left_to_others(session: Session, offer: WorkerOffer) -> str | None:
    """Return a queued job that this worker cannot do and an idle one can; the ring is to be passed on."""
    return repository.left_to_others(session, offer)


def work_for_idle(session: Session, worker_id: str, offer: WorkerOffer) -> str | None:
    """Return a job that waits although this worker is idle and can do it: its ring was lost, or came too early."""
    if not repository.is_idle(session, worker_id):
        return None
    return repository.best_queued(session, offer, preferred="")


def claim(session: Session, job_id: str, *, owner: str, lease_seconds: float) -> Claim | None:
    """Take a queued job; None if it is not queued (any more), or may not run yet."""
    if not may_start(session, job_id):
        return None
    job = repository.take(session, job_id, owner, lease_seconds)
    if job is None:
        return None
    announce_job(session, job, Status.STARTING, Status.QUEUED)
    session.flush()
    return Claim(job.id, job.attempt, owner, job.spec, job.fresh_after)


def heartbeat(session: Session, claim: Claim, *, lease_seconds: float) -> Orders:
    """Renew the lease and hear the orders."""
    found = repository.extend_lease(session, claim, lease_seconds)
    if found is None:
        raise LeaseLost(claim.job_id, claim.attempt)
    return Orders(found[0] == Status.CANCELING, found[1])


def orders(session: Session, claim: Claim) -> Orders:
    """Hear the orders without renewing the lease."""
    found = repository.read_orders(session, claim)
    if found is None:
        raise LeaseLost(claim.job_id, claim.attempt)
    return Orders(found[0] == Status.CANCELING, found[1])


def record_progress(session: Session, claim: Claim, events: Sequence[Progress]) -> None:
    """Write signs of life, one event each; the first one of an attempt makes the job `running`."""
    job = _held(session, claim)
    if job.status == Status.STARTING:
        move(session, job, Status.RUNNING, "running")
    for event in events:
        job.stage, job.stage_step, job.stage_total = event.stage, event.step, event.total
        job.eta_seconds = event.eta_seconds
        job.progress = max(job.progress, min(max(event.overall, 0.0), 1.0))
        add_event(session, job, "progress", event.to_dict())
    session.flush()


def record_news(session: Session, claim: Claim, events: Sequence[Progress], said: Sequence[Said]) -> None:
    """Write signs of life, and output that the child has added to its log."""
    if events:
        record_progress(session, claim, events)
    else:
        orders(session, claim)
    if said:
        log_pieces.add(session, claim.job_id, claim.attempt, said)


def begin_finalizing(session: Session, claim: Claim) -> None:
    """Note that the work is done and that its files are being stored.

    Raises:
        IllegalTransition: If the job is to be canceled.
    """
    job = _held(session, claim)
    if job.status != Status.FINALIZING:
        move(session, job, Status.FINALIZING, "the work is done; storing its files")
        session.flush()


def explain(session: Session, claim: Claim, reason: str) -> None:
    """Change the reason of a job without changing its status: why it still is where it is."""
    job = _held(session, claim)
    if job.reason != reason:
        announce(session, job, job.status, Status(job.status), reason)
        session.flush()


def succeed(
    session: Session,
    claim: Claim,
    report: Mapping[str, Any],
    artifacts: Sequence[PublishedFile],
    end: AttemptEnd = AttemptEnd(),
) -> None:
    """Publish the result: files, figures, the slot's decision and the last event in one transaction.

    Said again after the commit's answer was lost, it changes nothing.

    Raises:
        IllegalTransition: If the job is to be canceled.
    """
    if _already_succeeded(session, claim):
        return
    job = _held(session, claim)
    reason = "the result is published"
    move(session, job, Status.SUCCEEDED, reason)
    job.result = headline(report)
    job.progress = 1.0
    _publish(session, job, artifacts)
    end_attempt(session, job, "succeeded", reason, end)
    session.flush()
    decision = slots.offer(session, job, report)
    if decision is not None:
        shown = {"slot": decision.slot, "decision": decision.decision, "reason": decision.reason}
        job.result = {**job.result, "publication": shown}
        session.flush()


def fail(
    session: Session, claim: Claim, error: JobError, *, retryable: bool, end: AttemptEnd = AttemptEnd()
) -> None:
    """End the attempt with an error: back to the queue if another try may help and is left, else `failed`.

    A job that is to be canceled is canceled instead.
    """
    job = _held(session, claim)
    outcome = "crashed" if retryable else "failed"
    close_attempt(session, job, error, outcome=outcome, retryable=retryable, end=end)


def acknowledge_cancel(session: Session, claim: Claim, end: AttemptEnd = AttemptEnd()) -> None:
    """Confirm that the work has stopped on request."""
    job = _held(session, claim)
    end_attempt(session, job, "canceled", "stopped on request", end)
    move(session, job, Status.CANCELED, "stopped on request")
    session.flush()


def time_out(
    session: Session, claim: Claim, artifacts: Sequence[PublishedFile] = (), end: AttemptEnd = AttemptEnd()
) -> None:
    """End the job because its run deadline has passed, and publish what it had made by then.

    A job that is to be canceled is canceled instead.
    """
    job = _held(session, claim)
    if job.status == Status.CANCELING:
        acknowledge_cancel(session, claim, end)
        return
    reason = f"took longer than its run deadline of {job.run_deadline:g} seconds"
    job.error = JobError("timed_out", reason, suggestion="retry it with a longer run_deadline").to_dict()
    _publish(session, job, artifacts)
    end_attempt(session, job, "timed_out", reason, end)
    move(session, job, Status.TIMED_OUT, reason)
    session.flush()


def hand_over(session: Session, claim: Claim, end: AttemptEnd = AttemptEnd()) -> None:
    """Give the job back because the worker shuts down; it goes on elsewhere, and this counts as no crash."""
    job = _held(session, claim)
    if job.status == Status.CANCELING:
        acknowledge_cancel(session, claim, end)
        return
    reason = "the worker shut down; goes on from its checkpoint when another one is free"
    end_attempt(session, job, "handed_over", reason, end)
    move(session, job, Status.QUEUED, reason)
    session.flush()


def close_attempt(
    session: Session, job: Job, error: JobError, *, outcome: str, retryable: bool, end: AttemptEnd
) -> None:
    """End a locked job's attempt with an error and decide how the job goes on."""
    end_attempt(session, job, outcome, error.message, end)
    if job.status == Status.CANCELING:
        move(session, job, Status.CANCELED, "stopped on request")
    else:
        job.error = error.to_dict()
        job.crashes += 1 if retryable else 0
        if retryable and job.crashes < job.max_attempts:
            move(session, job, Status.QUEUED, f"attempt {job.attempt} ended early: {error.message}")
        else:
            move(session, job, Status.FAILED, error.message)
    session.flush()


def _publish(session: Session, job: Job, artifacts: Sequence[PublishedFile]) -> None:
    """Give a locked job its files, in place of those that an earlier attempt had got."""
    repository.remove_artifacts(session, job.id)
    session.add_all(
        Artifact(
            job_id=job.id,
            attempt=job.attempt,
            path=item.path,
            size=item.size,
            sha256=item.sha256,
            media_type=item.media_type,
        )
        for item in artifacts
    )


def _held(session: Session, claim: Claim) -> Job:
    job = repository.lock_claimed(session, claim)
    if job is None:
        raise LeaseLost(claim.job_id, claim.attempt)
    return job


def _already_succeeded(session: Session, claim: Claim) -> bool:
    job = repository.get_job(session, claim.job_id)
    attempt = repository.get_attempt(session, claim.job_id, claim.attempt)
    return (
        job is not None
        and attempt is not None
        and (job.status, job.attempt, attempt.owner) == (Status.SUCCEEDED, claim.attempt, claim.owner)
    )
