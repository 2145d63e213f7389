"""The SQL that holds rows against the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from trsp_jobs.inputs.rows import CalibrationSet
from trsp_jobs.models import Artifact, Job, Turn
from trsp_jobs.slots.rows import Publication


def take_turn(session: Session, name: str, seconds: float) -> bool:
    """Tell whether it is time for something that one node does for all; nobody else is told so then."""
    now = func.clock_timestamp()
    due = Turn.at <= now - timedelta(seconds=seconds)
    query = insert(Turn).values(name=name, at=now)
    taking = query.on_conflict_do_update(index_elements=["name"], set_={"at": now}, where=due)
    return session.scalar(taking.returning(Turn.name)) is not None


def now(session: Session) -> datetime:
    """Return the database's time."""
    found: datetime = session.scalars(select(func.clock_timestamp())).one()
    return found


def jobs_of(session: Session, job_ids: Sequence[str]) -> Mapping[str, Job]:
    """Return those of the jobs that there are."""
    return {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(job_ids)))}


def jobs_with_files(session: Session, after: str, limit: int) -> Sequence[str]:
    """Return ids of jobs that have published files, those beyond `after`, in order."""
    query = select(Artifact.job_id).where(Artifact.job_id > after).distinct()
    return session.scalars(query.order_by(Artifact.job_id).limit(limit)).all()


def artifacts_of(session: Session, job_id: str) -> Sequence[Artifact]:
    """Return the published files of a job."""
    return session.scalars(select(Artifact).where(Artifact.job_id == job_id)).all()


def mark_missing(
    session: Session, job_ids: Sequence[str], sizes: Mapping[str, int], asked_at: datetime
) -> Sequence[str]:
    """Write into the rows of published files whether the store holds them in their size.

    Args:
        session: An open transaction.
        job_ids: The jobs whose files were asked for.
        sizes: What the store held, by path.
        asked_at: When it was asked; jobs that ended later are left out.

    Returns:
        The paths in the store that were not known to be gone.
    """
    settled = Artifact.job_id.in_(job_ids) & (Job.finished_at < asked_at)
    gone = []
    for row in session.scalars(select(Artifact).join(Job, Job.id == Artifact.job_id).where(settled)):
        if sizes.get(row.store_path) == row.size:
            row.missing_since = None
        elif row.missing_since is None:
            row.missing_since = func.now()
            gone.append(row.store_path)
    return gone


def stored_texts(session: Session) -> Sequence[str]:
    """Return the uploaded texts that jobs may use."""
    usable = CalibrationSet.stored_at.is_not(None) & CalibrationSet.deleted_at.is_(None)
    return session.scalars(select(CalibrationSet.id).where(usable)).all()


def texts_with_bytes(session: Session) -> Sequence[str]:
    """Return the uploaded texts whose bytes have not been erased, half-uploaded ones among them."""
    return session.scalars(select(CalibrationSet.id).where(CalibrationSet.erased_at.is_(None))).all()


def lock_old(session: Session, days: float) -> Job | None:
    """Return a job whose files have been kept long enough, locked; None if there is none that is free."""
    published = select(Publication.job_id).where(Publication.job_id == Job.id).exists()
    query = select(Job).where(
        Job.finished_at < func.now() - timedelta(days=days), Job.files_removed_at.is_(None), ~published
    )
    query = query.order_by(Job.finished_at).limit(1).with_for_update(skip_locked=True)
    return session.scalars(query).one_or_none()


def forget_files(session: Session, job: Job) -> None:
    """Take a locked job's files out of its list, for good."""
    session.execute(delete(Artifact).where(Artifact.job_id == job.id))
    job.files_removed_at = func.now()
    job.version += 1
    session.flush()
