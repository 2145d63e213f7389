"""All SQL about schedules. Times are the database's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from trsp_jobs.lifecycle import FINAL
from trsp_jobs.models import Job
from trsp_jobs.repository import BATCH
from trsp_jobs.schedules.rows import Fire, Schedule


def now(session: Session) -> datetime:
    """Return the database's time at the start of the transaction."""
    return session.scalars(select(func.now())).one()


def get_schedule(session: Session, schedule_id: str, *, lock: bool = False) -> Schedule | None:
    """Return a schedule as the database has it now; with `lock`, keep others from changing it."""
    return session.get(Schedule, schedule_id, populate_existing=True, with_for_update=lock or None)


def list_schedules(session: Session, after: str | None, limit: int, owner: str | None) -> Sequence[Schedule]:
    """Return schedules of an owner (None: of any), newest first, those older than the id `after`."""
    query = select(Schedule).order_by(Schedule.id.desc()).limit(limit)
    owned = query if owner is None else query.where(Schedule.owner == owner)
    return session.scalars(owned if after is None else owned.where(Schedule.id < after)).all()


def due_schedules(session: Session) -> Sequence[Schedule]:
    """Return schedules with a time that has come, the longest waiting first; nothing is locked."""
    query = select(Schedule).where(Schedule.next_fire_at <= func.now())
    return session.scalars(query.order_by(Schedule.next_fire_at).limit(BATCH)).all()


def lock_due(session: Session, schedule: Schedule) -> Schedule | None:
    """Return a due schedule locked; None if somebody has changed it, dealt with it, or is about to."""
    query = (
        select(Schedule)
        .where(
            Schedule.id == schedule.id,
            Schedule.version == schedule.version,
            Schedule.next_fire_at == schedule.next_fire_at,
        )
        .with_for_update(skip_locked=True)
    )
    return session.scalars(query, execution_options={"populate_existing": True}).one_or_none()


def unfinished_job(session: Session, schedule_id: str) -> str | None:
    """Return the id of an unfinished job of a schedule."""
    query = select(Job.id).where(Job.schedule_id == schedule_id, Job.status.not_in(FINAL))
    return session.scalars(query.order_by(Job.id).limit(1)).first()


def list_fires(session: Session, schedule_id: str, before: datetime | None, limit: int) -> Sequence[Fire]:
    """Return what came of a schedule's times, latest first, those before the time `before`."""
    query = select(Fire).where(Fire.schedule_id == schedule_id).order_by(Fire.fire_at.desc()).limit(limit)
    return session.scalars(query if before is None else query.where(Fire.fire_at < before)).all()


def delete_schedule(session: Session, schedule_id: str) -> None:
    """Remove a schedule with its history; its jobs stay."""
    session.execute(delete(Schedule).where(Schedule.id == schedule_id))
