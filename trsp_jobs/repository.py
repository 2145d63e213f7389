"""All SQL. Times are the database's own, so that no worker's clock decides about a lease."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import chain
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Double,
    Executable,
    Interval,
    Select,
    String,
    and_,
    any_,
    bindparam,
    cast,
    delete,
    func,
    literal,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased
from sqlalchemy.orm.util import AliasedClass

from trsp_jobs.key_repository import may_run
from trsp_jobs.leases import Claim, WorkerOffer
from trsp_jobs.lifecycle import ACTIVE, Status
from trsp_jobs.models import Artifact, Attempt, Event, Job, WorkerNode

BATCH = 100
"""Most rows that one round of upkeep takes at a time."""


def get_job(session: Session, job_id: str) -> Job | None:
    """Return a job as the database has it now."""
    return session.get(Job, job_id, populate_existing=True)


def owner_of(session: Session, job_id: str) -> str | None:
    """Return whose a job is; None if there is none."""
    return session.scalar(select(Job.owner).where(Job.id == job_id))


def lock_job(session: Session, job_id: str) -> Job | None:
    """Return a job and keep others from changing it until the transaction ends."""
    return _locked(session, select(Job).where(Job.id == job_id))


def lock_claimed(session: Session, claim: Claim) -> Job | None:
    """Return the job of a claim and lock it; None if the claim no longer holds."""
    return _locked(session, select(Job).where(_held(claim)))


def lock_expired(session: Session) -> Sequence[Job]:
    """Return jobs whose lease has run out, locked; those that somebody else has locked are left out."""
    query = select(Job).where(Job.lease_until < func.now()).order_by(Job.lease_until).limit(BATCH)
    return session.scalars(query.with_for_update(skip_locked=True)).all()


def lock_overdue(session: Session) -> Sequence[Job]:
    """Return queued jobs whose queue deadline or run deadline has passed, locked."""
    waited = func.extract("epoch", func.now() - Job.queued_at)
    ran = func.extract("epoch", func.now() - Job.started_at)
    late = or_(and_(Job.started_at.is_(None), waited > Job.queue_deadline), ran > Job.run_deadline)
    query = select(Job).where(Job.status == Status.QUEUED, late).order_by(Job.id).limit(BATCH)
    return session.scalars(query.with_for_update(skip_locked=True)).all()


def _locked(session: Session, query: Select[Job]) -> Job | None:
    return session.scalars(query.with_for_update().execution_options(populate_existing=True)).one_or_none()


def _held(claim: Claim) -> ColumnElement[bool]:
    return and_(
        Job.id == claim.job_id,
        Job.attempt == claim.attempt,
        Job.lease_owner == claim.owner,
        Job.status.in_(ACTIVE),
    )


def take(session: Session, job_id: str, owner: str, lease_seconds: float) -> Job | None:
    """Claim a queued job, with its attempt and its event, in one statement; None if it is not queued (any more)."""
    asked = {"job": job_id, "by": owner, "lease": timedelta(seconds=lease_seconds)}
    found: Job | None = session.scalar(_TAKE, asked, execution_options={"populate_existing": True})
    return found


def _take() -> Executable:
    taken = (
        update(Job)
        .where(Job.id == bindparam("job"), Job.status == Status.QUEUED)
        .values(
            status=Status.STARTING,
            attempt=Job.attempt + 1,
            lease_owner=bindparam("by"),
            lease_until=func.now() + bindparam("lease", type_=Interval),
            started_at=func.coalesce(Job.started_at, func.now()),
            reason=func.format("attempt %s was taken by a worker", Job.attempt + 1),
            last_event=Job.last_event + 1,
            version=Job.version + 1,
        )
        .returning(*Job.__table__.columns)
        .cte("taken")
    )
    row = taken.c
    attempt = select(row.id, row.attempt, row.lease_owner, literal(""))
    change = {"from": str(Status.QUEUED), "to": str(Status.STARTING)}
    said = func.jsonb_build_object(*chain(*change.items()), "reason", row.reason)
    event = select(row.id, row.last_event, row.attempt, literal("status"), said)
    whole = select(taken).add_cte(
        insert(Attempt).from_select(["job_id", "number", "owner", "reason"], attempt).cte("attempt"),
        insert(Event).from_select(["job_id", "sequence", "attempt", "kind", "data"], event).cte("event"),
    )
    return select(Job).from_statement(whole)


_TAKE = _take()


def extend_lease(session: Session, claim: Claim, lease_seconds: float) -> tuple[str, float | None] | None:
    """Renew a lease by one UPDATE.

    Returns:
        The job's status and the seconds left to its run deadline; None if the claim no longer holds.
    """
    query = (
        update(Job)
        .where(_held(claim))
        .values(lease_until=func.now() + timedelta(seconds=lease_seconds))
        .returning(Job.status, _seconds_left())
    )
    row = session.execute(query, execution_options={"synchronize_session": False}).one_or_none()
    return None if row is None else (row[0], row[1])


def read_orders(session: Session, claim: Claim) -> tuple[str, float | None] | None:
    """Return what `extend_lease` returns, without renewing."""
    row = session.execute(select(Job.status, _seconds_left()).where(_held(claim))).one_or_none()
    return None if row is None else (row[0], row[1])


def _seconds_left() -> ColumnElement[float | None]:
    left = Job.run_deadline - func.extract("epoch", func.now() - Job.started_at)
    return cast(left, Double)


def best_queued(session: Session, offer: WorkerOffer, preferred: str) -> str | None:
    """Return the id of the queued job that is to go first: by priority, then `preferred`, then oldest.

    Only jobs that a worker with this offer can do are looked at. The job is locked, and one that somebody else
    has locked is passed over, so that any number of workers find different jobs at once. Where all are locked the
    first one is waited for: it may be left in the queue.
    """
    asked = {**_asked(offer), "preferred": preferred}
    found = session.scalar(_WANTED, asked) or session.scalar(_FIRST_FREE, asked)
    while found is None and session.scalar(_FIRST, asked) is not None:
        found = _freed(session, asked)
    return found


def _freed(session: Session, asked: Mapping[str, Any]) -> str | None:
    """Wait for the first job; if it was taken meanwhile, let go of its lock, which others would wait for in turn."""
    with session.begin_nested() as waiting:
        found = session.scalar(_FIRST_FREED, asked)
        if found is None:
            waiting.rollback()
    return found


def _asked(offer: WorkerOffer) -> dict[str, Any]:
    """Return what `_suits` asks for."""
    return {"classes": list(offer.device_classes), "memory": offer.memory_bytes}


def _suits(job: type[Job] | AliasedClass[Job]) -> ColumnElement[bool]:
    """Return the condition that a worker which takes `classes` and has `memory` can do a job."""
    device = job.device_class == any_(bindparam("classes", type_=ARRAY(String)))
    fits = or_(job.memory_bytes.is_(None), job.memory_bytes <= bindparam("memory", type_=BigInteger))
    return and_(device, fits)


def _able(job: type[Job] | AliasedClass[Job]) -> ColumnElement[bool]:
    """Return the condition that such a worker may claim a job."""
    return and_(job.status == Status.QUEUED, _suits(job), may_run(job))


_OTHER = aliased(Job)
_OUTRANKED = select(_OTHER.id).where(_able(_OTHER), _OTHER.priority > Job.priority).exists()
_FIRST = select(Job.id).where(_able(Job)).order_by(Job.priority.desc(), Job.id).limit(1)
_FIRST_FREE = _FIRST.with_for_update(skip_locked=True, of=Job)
_FIRST_FREED = _FIRST.with_for_update(of=Job)
_WANTED = (
    select(Job.id)
    .where(Job.id == bindparam("preferred"), _able(Job), ~_OUTRANKED)
    .with_for_update(skip_locked=True, of=Job)
)


def left_to_others(session: Session, offer: WorkerOffer) -> str | None:
    """Return the id of a queued job that this offer does not suit, but that of an idle worker does."""
    device = or_(Job.device_class == "any", WorkerNode.device == "cuda")
    fits = or_(Job.memory_bytes.is_(None), Job.memory_bytes <= WorkerNode.memory_bytes)
    idle = and_(WorkerNode.gone_after > func.now(), WorkerNode.current_job.is_(None))
    able = select(WorkerNode.id).where(idle, device, fits).exists()
    query = select(Job.id).where(Job.status == Status.QUEUED, not_(_suits(Job)), may_run(), able)
    return session.scalar(query.order_by(Job.priority.desc(), Job.id).limit(1), _asked(offer))


def count_queued(session: Session) -> int:
    """Return how many jobs wait."""
    return session.scalar(select(func.count()).where(Job.status == Status.QUEUED)) or 0


def never_rung(session: Session) -> Sequence[str]:
    """Return ids of queued jobs whose ring has not reached the broker, oldest first."""
    query = select(Job.id).where(Job.status == Status.QUEUED, Job.rung_at.is_(None))
    return session.scalars(query.order_by(Job.id).limit(BATCH)).all()


def rung_before(session: Session, seconds: float, limit: int) -> Sequence[str]:
    """Return ids of queued jobs that were rung at least so many seconds ago, the longest ago first."""
    old = Job.rung_at < func.now() - timedelta(seconds=seconds)
    query = select(Job.id).where(Job.status == Status.QUEUED, old)
    return session.scalars(query.order_by(Job.rung_at).limit(min(limit, BATCH))).all()


def mark_rung(session: Session, job_id: str) -> None:
    """Note that the broker has taken the job's id just now."""
    session.execute(_MARK_RUNG, {"job_id": job_id})


_JOBS = Job.metadata.tables["jobs"]
_MARK_RUNG = update(_JOBS).where(_JOBS.c.id == bindparam("job_id")).values(rung_at=func.clock_timestamp())


def events_after(session: Session, job_id: str, after: int, limit: int) -> Sequence[Event]:
    """Return a job's events with a number above `after`, in order."""
    query = select(Event).where(Event.job_id == job_id, Event.sequence > after)
    return session.scalars(query.order_by(Event.sequence).limit(limit)).all()


def list_attempts(session: Session, job_id: str) -> Sequence[Attempt]:
    """Return a job's attempts, first to last."""
    return session.scalars(select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number)).all()


def get_attempt(session: Session, job_id: str, number: int) -> Attempt | None:
    """Return one attempt."""
    return session.get(Attempt, (job_id, number))


def list_artifacts(session: Session, job_id: str) -> Sequence[Artifact]:
    """Return a job's published files by path."""
    return session.scalars(select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.path)).all()


def get_artifact(session: Session, job_id: str, path: str) -> Artifact | None:
    """Return one published file."""
    return session.get(Artifact, (job_id, path))


def remove_artifacts(session: Session, job_id: str) -> None:
    """Take a job's files out of its list."""
    session.execute(delete(Artifact).where(Artifact.job_id == job_id))


def remove_job(session: Session, job_id: str) -> None:
    """Remove a job with everything that belongs to it."""
    session.execute(delete(Job).where(Job.id == job_id))


def existing(session: Session, job_ids: Sequence[str]) -> Sequence[str]:
    """Return those of the ids that are jobs'."""
    return session.scalars(select(Job.id).where(Job.id.in_(job_ids))).all()


def save_worker(session: Session, values: dict[str, Any], seconds: float) -> None:
    """Write a worker's sign of life, good for so many seconds.

    The first one notes what the worker has begun to work on before its row was there.
    """
    now = func.clock_timestamp()
    seen = {"last_seen": now, "gone_after": now + timedelta(seconds=seconds)}
    begun = select(Job.id).where(Job.status.in_(ACTIVE), Job.lease_owner.startswith(f"{values['id']}/"))
    query = insert(WorkerNode).values(**values, **seen, current_job=begun.limit(1).scalar_subquery())
    session.execute(query.on_conflict_do_update(index_elements=["id"], set_=seen))


def assign_worker(session: Session, worker_id: str, job_id: str) -> None:
    """Note what a worker works on; a worker without a row is passed over."""
    session.execute(_ASSIGN, {"worker": worker_id, "job": job_id})


_NODES = WorkerNode.metadata.tables["worker_nodes"]
_ASSIGN = update(_NODES).where(_NODES.c.id == bindparam("worker")).values(current_job=bindparam("job"))


def release_workers(session: Session, job_id: str) -> None:
    """Note that no worker works on a job any more."""
    query = update(WorkerNode).where(WorkerNode.current_job == job_id).values(current_job=None)
    session.execute(query, execution_options={"synchronize_session": False})


def list_workers(session: Session) -> Sequence[WorkerNode]:
    """Return the workers that are there, by id."""
    query = select(WorkerNode).where(WorkerNode.gone_after > func.now())
    return session.scalars(query.order_by(WorkerNode.id)).all()


def is_idle(session: Session, worker_id: str) -> bool:
    """Tell whether a worker is there and works on nothing."""
    query = select(WorkerNode.id).where(WorkerNode.id == worker_id, WorkerNode.current_job.is_(None))
    return session.scalar(query) is not None


def remove_worker(session: Session, worker_id: str) -> None:
    """Forget a worker."""
    session.execute(delete(WorkerNode).where(WorkerNode.id == worker_id))


def remove_gone_workers(session: Session) -> int:
    """Forget the workers that count as gone; return how many."""
    query = delete(WorkerNode).where(WorkerNode.gone_after < func.now()).returning(WorkerNode.id)
    return len(session.scalars(query).all())


def finished_before(session: Session, job_ids: Sequence[str], seconds: float) -> Sequence[str]:
    """Return those of the given jobs that ended at least so many seconds ago, or do not exist."""
    living = select(Job.id).where(
        Job.id.in_(job_ids),
        or_(Job.finished_at.is_(None), Job.finished_at > func.now() - timedelta(seconds=seconds)),
    )
    kept = set(session.scalars(living))
    return [job_id for job_id in job_ids if job_id not in kept]
