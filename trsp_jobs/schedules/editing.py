"""What a person does to a schedule: create, read, change, suspend, resume, delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Session

from trsp_jobs.callers import OPERATOR, Caller
from trsp_jobs.errors import ResourceNotFound, VersionConflict
from trsp_jobs.ids import new_id
from trsp_jobs.paging import Page
from trsp_jobs.schedules import repository
from trsp_jobs.schedules.cron import Cron
from trsp_jobs.schedules.rows import Fire, Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """All that a person says of a schedule; checked by whoever made it.

    Attributes:
        name: What it is called.
        cron: When its jobs are made.
        misfire, overlap: See `policy`.
        spec: The job spec, as `CompressionSpec.to_dict` gives it.
        options: What the service does with its jobs, by the names of `service.submit`.
    """

    name: str
    cron: Cron
    misfire: str
    overlap: str
    spec: Mapping[str, Any]
    options: Mapping[str, Any]


def create(session: Session, caller: Caller, terms: Terms) -> Schedule:
    """Store a schedule; its first time is the next one of its cron."""
    schedule = Schedule(id=new_id("sch"), owner=caller.owner, key_id=caller.key_id)
    _apply(session, schedule, terms)
    session.add(schedule)
    session.flush()
    return schedule


def change(
    session: Session, schedule_id: str, terms: Terms, *, version: int, caller: Caller = OPERATOR
) -> Schedule:
    """Give a schedule other terms; from now on they hold, and times before now are not made good.

    Its jobs count for the caller's key from now on, if the schedule is its owner's.

    Raises:
        ResourceNotFound: If there is none.
        VersionConflict: If it is no longer at `version`.
    """
    schedule = _locked(session, schedule_id)
    if schedule.version != version:
        raise VersionConflict(f"the schedule is at version {schedule.version}, not {version}; read it again")
    _apply(session, schedule, terms)
    if caller.owner == schedule.owner:
        schedule.key_id = caller.key_id
    return _touched(session, schedule)


def _apply(session: Session, schedule: Schedule, terms: Terms) -> None:
    moved = (schedule.cron, schedule.zone) != (terms.cron.expression, terms.cron.zone)
    schedule.name = terms.name
    schedule.cron, schedule.zone = terms.cron.expression, terms.cron.zone
    schedule.misfire, schedule.overlap = terms.misfire, terms.overlap
    schedule.spec, schedule.options = dict(terms.spec), dict(terms.options)
    if moved and not schedule.suspended:
        schedule.next_fire_at = terms.cron.next(repository.now(session))


def suspend(session: Session, schedule_id: str) -> Schedule:
    """Let no time make a job until it is resumed; saying it again changes nothing.

    Raises:
        ResourceNotFound: If there is none.
    """
    schedule = _locked(session, schedule_id)
    if schedule.suspended:
        return schedule
    schedule.suspended, schedule.next_fire_at = True, None
    return _touched(session, schedule)


def resume(session: Session, schedule_id: str) -> Schedule:
    """Go on with the next time from now; the times in between are not made good.

    Raises:
        ResourceNotFound: If there is none.
    """
    schedule = _locked(session, schedule_id)
    if not schedule.suspended:
        return schedule
    schedule.suspended = False
    schedule.next_fire_at = cron_of(schedule).next(repository.now(session))
    return _touched(session, schedule)


def delete(session: Session, schedule_id: str) -> None:
    """Remove a schedule with its history; its jobs stay.

    Raises:
        ResourceNotFound: If there is none.
    """
    _locked(session, schedule_id)
    repository.delete_schedule(session, schedule_id)


def get_schedule(session: Session, schedule_id: str) -> Schedule:
    """Return a schedule.

    Raises:
        ResourceNotFound: If there is none.
    """
    return _found(repository.get_schedule(session, schedule_id), schedule_id)


def list_schedules(
    session: Session, *, after: str | None = None, limit: int = 20, owner: str | None = None
) -> Page[Schedule]:
    """Return schedules of an owner (None: of any), newest first, those after the cursor `after`."""
    found = repository.list_schedules(session, after, limit + 1, owner)
    return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)


def list_fires(
    session: Session, schedule_id: str, *, before: datetime | None = None, limit: int = 20
) -> tuple[Sequence[Fire], datetime | None]:
    """Return what came of a schedule's times, latest first, and the `before` of the next part.

    Raises:
        ResourceNotFound: If there is no such schedule.
    """
    get_schedule(session, schedule_id)
    found = repository.list_fires(session, schedule_id, before, limit + 1)
    return found[:limit], found[limit - 1].fire_at if len(found) > limit else None


def cron_of(schedule: Schedule) -> Cron:
    """Return a schedule's times."""
    return Cron(schedule.cron, schedule.zone)


def preview(session: Session, schedule: Schedule) -> list[datetime]:
    """Return the next times of a schedule, those that it would have if it is suspended."""
    return cron_of(schedule).preview(repository.now(session))


def _locked(session: Session, schedule_id: str) -> Schedule:
    return _found(repository.get_schedule(session, schedule_id, lock=True), schedule_id)


def _found(schedule: Schedule | None, schedule_id: str) -> Schedule:
    if schedule is None:
        raise ResourceNotFound("schedule", schedule_id)
    return schedule


def _touched(session: Session, schedule: Schedule) -> Schedule:
    schedule.version += 1
    schedule.updated_at = func.now()
    session.flush()
    return schedule
