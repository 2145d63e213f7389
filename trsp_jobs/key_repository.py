"""The SQL of keys, of what counts for them, and of the audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    ScalarSelect,
    Select,
    bindparam,
    cast,
    func,
    or_,
    select,
)
from sqlalchemy.orm import Session
from sqlalchemy.orm.util import AliasedClass

from trsp_jobs.access_models import ApiKey, AuditEntry
from trsp_jobs.lifecycle import ACTIVE, Status
from trsp_jobs.models import Artifact, Attempt, Job
from trsp_jobs.scopes import Scope

_OVER = func.coalesce(ApiKey.expires_at <= func.now(), False)
_BY_DIGEST = select(ApiKey, _OVER).where(ApiKey.digest == bindparam("digest"))
"""Made once: it is asked with every request, and making it takes as long as the answer."""


def find_key(session: Session, digest: str) -> tuple[ApiKey, bool] | None:
    """Return the key with this digest, and whether its time is over."""
    row = session.execute(_BY_DIGEST, {"digest": digest}).one_or_none()
    return None if row is None else (row[0], row[1])


def get_key(session: Session, key_id: str) -> ApiKey | None:
    """Return a key."""
    return session.get(ApiKey, key_id)


def why_ended(session: Session, key_id: str) -> str | None:
    """Return why a key lets nobody in any more, None if it does."""
    row = session.execute(select(ApiKey.revoked_at, _OVER).where(ApiKey.id == key_id)).one()
    return "was revoked" if row[0] else "has expired" if row[1] else None


def lock_limited(session: Session, job_id: str) -> str | None:
    """Return the key of a job and lock it as `lock_quotas` does, if the jobs that it has at work are limited."""
    return session.scalar(_LOCK_LIMITED, {"job_id": job_id})


_LOCK_LIMITED = (
    select(ApiKey.id)
    .join(Job, Job.key_id == ApiKey.id)
    .where(Job.id == bindparam("job_id"), ApiKey.max_running.is_not(None))
    .with_for_update(key_share=True, of=ApiKey)
)


def lock_quotas(session: Session, key_id: str) -> ApiKey | None:
    """Return a key with a quota on new jobs, and keep others from counting for it until the transaction ends.

    None for a key without: those who submit with it do not wait for one another.
    """
    limited = or_(ApiKey.max_queued.is_not(None), ApiKey.max_stored_bytes.is_not(None))
    query = select(ApiKey).where(ApiKey.id == key_id, limited).with_for_update(key_share=True)
    return session.scalars(query.execution_options(populate_existing=True)).one_or_none()


def list_keys(session: Session, owner: str | None) -> Sequence[ApiKey]:
    """Return the keys of an owner, or of all, newest first."""
    query = select(ApiKey).order_by(ApiKey.id.desc())
    return session.scalars(query if owner is None else query.where(ApiKey.owner == owner)).all()


def has_admin(session: Session) -> bool:
    """Tell whether there is a valid key that may make keys."""
    valid = ApiKey.revoked_at.is_(None) & or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now())
    query = select(ApiKey.id).where(valid, ApiKey.scopes.contains([Scope.KEYS_ADMIN]))
    return session.scalar(query.limit(1)) is not None


def count_queued(session: Session, key_id: str) -> int:
    """Return how many jobs of a key wait."""
    query = select(func.count()).where(Job.key_id == key_id, Job.status == Status.QUEUED)
    return session.scalar(query) or 0


def stored_bytes(session: Session, key_id: str) -> int:
    """Return the bytes of the published files that count for a key."""
    query = select(func.coalesce(func.sum(Artifact.size), 0)).join(Job, Job.id == Artifact.job_id)
    return int(session.scalar(query.where(Job.key_id == key_id)) or 0)


def may_run(job: type[Job] | AliasedClass[Job] = Job) -> ColumnElement[bool]:
    """Return the condition that a job's key has not as many jobs at work as it may."""
    return or_(job.key_id.is_(None), job.key_id.not_in(full_keys()))


def is_full(session: Session, key_id: str) -> bool:
    """Tell whether a key has as many jobs at work as it may."""
    return session.scalar(full_keys().where(ApiKey.id == key_id)) is not None


def full_keys() -> Select[str]:
    """Return the ids of the keys that have as many jobs at work as they may."""
    at_work = select(func.count()).where(Job.key_id == ApiKey.id, Job.status.in_(ACTIVE)).correlate(ApiKey)
    return select(ApiKey.id).where(ApiKey.max_running <= at_work.scalar_subquery())


def usage(session: Session, owner: str | None) -> Sequence[Mapping[str, Any]]:
    """Return what each key of an owner, or of all, has used; a key without jobs is not among them.

    The row of the operator's own key has None for its id.
    """
    seconds = func.extract("epoch", func.coalesce(Attempt.finished_at, func.now()) - Attempt.started_at)
    tokens = cast(Job.result["gradient_tokens"].astext, Double)
    query = select(
        Job.key_id.label("key_id"),
        Job.owner.label("owner"),
        func.max(ApiKey.name).label("name"),
        func.count().label("jobs"),
        func.count().filter(Job.status == Status.SUCCEEDED).label("succeeded"),
        cast(func.coalesce(func.sum(tokens), 0), BigInteger).label("gradient_tokens"),
        cast(func.coalesce(func.sum(_per_job(func.sum(seconds), Attempt)), 0), Double).label(
            "device_seconds"
        ),
        cast(func.coalesce(func.sum(_per_job(func.sum(Artifact.size), Artifact)), 0), BigInteger).label(
            "stored_bytes"
        ),
    ).outerjoin(ApiKey, ApiKey.id == Job.key_id)
    query = query.group_by(Job.key_id, Job.owner).order_by(Job.owner, Job.key_id)
    rows = session.execute(query if owner is None else query.where(Job.owner == owner))
    return [dict(row._mapping) for row in rows]


def _per_job(figure: ColumnElement[Any], table: type[Attempt] | type[Artifact]) -> ScalarSelect[Any]:
    return select(figure).where(table.job_id == Job.id).correlate(Job).scalar_subquery()


def list_audit(
    session: Session, owner: str | None, after: int | None, subject: str | None, limit: int
) -> Sequence[AuditEntry]:
    """Return changes by an owner's keys, or by all, newest first, those before the entry `after`."""
    query: Select[AuditEntry] = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
    if owner is not None:
        query = query.where(AuditEntry.owner == owner)
    if after is not None:
        query = query.where(AuditEntry.id < after)
    return session.scalars(query if subject is None else query.where(AuditEntry.subject == subject)).all()
