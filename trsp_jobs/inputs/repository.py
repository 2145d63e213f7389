"""All SQL about registered models and uploaded texts. Times are the database's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ARRAY, Boolean, Select, String, and_, any_, bindparam, delete, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from trsp_jobs.inputs.rows import CalibrationSet, CalibrationUse, RegisteredModel, TokenCount
from trsp_jobs.lifecycle import FINAL
from trsp_jobs.models import Job
from trsp_jobs.repository import BATCH


def get_model(session: Session, name: str) -> RegisteredModel | None:
    """Return a registered model as the database has it now."""
    return session.get(RegisteredModel, name, populate_existing=True)


def add_model(session: Session, values: dict[str, Any]) -> bool:
    """Store a registered model; return False if the name is taken."""
    made = insert(RegisteredModel).values(**values).on_conflict_do_nothing()
    return session.scalar(made.returning(RegisteredModel.name)) is not None


def find_model(session: Session, reference: str, owners: Sequence[str] | None) -> RegisteredModel | None:
    """Return a registered model of some owners (None: of any) by its pinned reference."""
    asked = {"reference": reference, "anybody": owners is None, "owners": list(owners or ())}
    return session.scalars(_BY_REFERENCE, asked).one_or_none()


_BY_REFERENCE = (
    select(RegisteredModel)
    .where(
        RegisteredModel.reference == bindparam("reference"),
        or_(
            bindparam("anybody", type_=Boolean),
            RegisteredModel.owner == any_(bindparam("owners", type_=ARRAY(String))),
        ),
    )
    .order_by(RegisteredModel.name)
    .limit(1)
)
"""Made once: it is asked with every job that is submitted."""


def _of(query: Select[RegisteredModel], owners: Sequence[str] | None) -> Select[RegisteredModel]:
    return query if owners is None else query.where(RegisteredModel.owner.in_(owners))


def list_models(
    session: Session, after: str | None, limit: int, *, owners: Sequence[str] | None = None
) -> Sequence[RegisteredModel]:
    """Return registered models of some owners (None: of any) by name, those after the name `after`."""
    query = _of(select(RegisteredModel), owners).order_by(RegisteredModel.name).limit(limit)
    return session.scalars(query if after is None else query.where(RegisteredModel.name > after)).all()


def delete_model(session: Session, name: str) -> bool:
    """Forget a registered model; return whether there was one."""
    query = delete(RegisteredModel).where(RegisteredModel.name == name).returning(RegisteredModel.name)
    return session.scalar(query) is not None


def get_set(session: Session, set_id: str, *, lock: bool = False) -> CalibrationSet | None:
    """Return an uploaded text, deleted or not; with `lock`, keep others from using or changing it."""
    return session.get(CalibrationSet, set_id, populate_existing=True, with_for_update=lock or None)


def find_content(session: Session, owner: str, sha256: str, kind: str) -> CalibrationSet | None:
    """Return the text of these bytes that jobs may use."""
    query = select(CalibrationSet).where(
        CalibrationSet.owner == owner,
        CalibrationSet.sha256 == sha256,
        CalibrationSet.kind == kind,
        CalibrationSet.stored_at.is_not(None),
        CalibrationSet.deleted_at.is_(None),
    )
    return session.scalars(query).one_or_none()


def usable_sets(
    session: Session, ids: Sequence[str], owner: str, *, share: bool = False
) -> Sequence[CalibrationSet]:
    """Return those of the texts that an owner's jobs may use; with `share`, keep others from deleting them."""
    query = select(CalibrationSet).where(
        CalibrationSet.id.in_(ids),
        CalibrationSet.owner == owner,
        CalibrationSet.stored_at.is_not(None),
        CalibrationSet.deleted_at.is_(None),
    )
    ordered = query.order_by(CalibrationSet.id)
    return session.scalars(ordered.with_for_update(read=True) if share else ordered).all()


def list_sets(
    session: Session, after: str | None, limit: int, *, deleted: bool, owner: str | None = None
) -> Sequence[CalibrationSet]:
    """Return uploaded texts of an owner (None: of any), newest first, those older than the id `after`."""
    gone = CalibrationSet.deleted_at.is_not(None) if deleted else CalibrationSet.deleted_at.is_(None)
    query = select(CalibrationSet).where(CalibrationSet.stored_at.is_not(None), gone)
    owned = query if owner is None else query.where(CalibrationSet.owner == owner)
    wanted = owned if after is None else owned.where(CalibrationSet.id < after)
    return session.scalars(wanted.order_by(CalibrationSet.id.desc()).limit(limit)).all()


def sets_to_erase(session: Session, abandoned_seconds: float) -> Sequence[CalibrationSet]:
    """Return texts whose bytes are to go: deleted ones, and uploads that never came to their end."""
    old = CalibrationSet.created_at < func.now() - timedelta(seconds=abandoned_seconds)
    query = select(CalibrationSet).where(
        CalibrationSet.erased_at.is_(None),
        or_(CalibrationSet.deleted_at.is_not(None), and_(CalibrationSet.stored_at.is_(None), old)),
    )
    return session.scalars(query.order_by(CalibrationSet.id).limit(BATCH)).all()


def add_use(session: Session, set_id: str, job_id: str) -> None:
    """Note that a job names an uploaded text."""
    session.execute(insert(CalibrationUse).values(set_id=set_id, job_id=job_id).on_conflict_do_nothing())


def users_of(session: Session, set_id: str) -> Sequence[str]:
    """Return the ids of the jobs that named a text, oldest first."""
    query = select(CalibrationUse.job_id).where(CalibrationUse.set_id == set_id)
    return session.scalars(query.order_by(CalibrationUse.job_id)).all()


def unfinished_users(session: Session, set_id: str) -> Sequence[str]:
    """Return the ids of the unfinished jobs that name a text, oldest first."""
    query = select(Job.id).join(CalibrationUse, CalibrationUse.job_id == Job.id)
    wanted = query.where(CalibrationUse.set_id == set_id, Job.status.not_in(FINAL))
    return session.scalars(wanted.order_by(Job.id)).all()


def get_count(session: Session, set_id: str, revision: str, field: str) -> TokenCount | None:
    """Return how many tokens a text has for a model, if that was counted."""
    return session.get(TokenCount, (set_id, revision, field))


def save_count(session: Session, values: dict[str, Any]) -> None:
    """Keep how many tokens a text has for a model."""
    session.execute(insert(TokenCount).values(**values).on_conflict_do_nothing())
