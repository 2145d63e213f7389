"""All SQL about slots."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from trsp_jobs.slots.rows import Publication, Slot, SlotDecision

_other = aliased(Publication)


def lock_slot(session: Session, name: str, owner: str) -> Slot:
    """Return a slot, made if it is new, and keep others from changing it until the transaction ends."""
    made = insert(Slot).values(name=name, owner=owner, version=0)
    session.execute(made.on_conflict_do_nothing())
    return session.get_one(Slot, name, populate_existing=True, with_for_update=True)


def get_slot(session: Session, name: str) -> Slot | None:
    """Return a slot as the database has it now."""
    return session.get(Slot, name, populate_existing=True)


def current(session: Session, slot: str) -> Publication | None:
    """Return what is published under a slot now."""
    query = select(Publication).where(Publication.slot == slot).order_by(Publication.place.desc())
    return session.scalars(query.limit(1)).one_or_none()


def slots_of(session: Session, job_id: str) -> Sequence[str]:
    """Return the slots whose current result is a job's."""
    top = select(func.max(_other.place)).where(_other.slot == Publication.slot).scalar_subquery()
    query = select(Publication.slot).where(Publication.place == top)
    return session.scalars(query.where(Publication.job_id == job_id).order_by(Publication.slot)).all()


def holding(session: Session, job_id: str) -> Sequence[str]:
    """Return the slots that a job's result is current in, or that can go back to it."""
    query = select(Publication.slot).where(Publication.job_id == job_id).distinct()
    return session.scalars(query.order_by(Publication.slot)).all()


def list_slots(
    session: Session, after: str | None, limit: int, owner: str | None = None
) -> Sequence[tuple[Slot, Publication | None]]:
    """Return slots of an owner (None: of any) by name, those after the name `after`, with current results."""
    top = select(func.max(_other.place)).where(_other.slot == Slot.name).correlate(Slot).scalar_subquery()
    query = (
        select(Slot, Publication)
        .outerjoin(Publication, and_(Publication.slot == Slot.name, Publication.place == top))
        .order_by(Slot.name)
        .limit(limit)
    )
    owned = query if owner is None else query.where(Slot.owner == owner)
    rows = session.execute(owned if after is None else owned.where(Slot.name > after))
    return [(slot, publication) for slot, publication in rows]


def decisions(session: Session, slot: str, before: int | None, limit: int) -> Sequence[SlotDecision]:
    """Return a slot's history, latest first, the decisions numbered below `before`."""
    query = select(SlotDecision).where(SlotDecision.slot == slot).order_by(SlotDecision.number.desc())
    wanted = query if before is None else query.where(SlotDecision.number < before)
    return session.scalars(wanted.limit(limit)).all()


def delete_publication(session: Session, publication: Publication) -> None:
    """Take a result off its slot."""
    session.execute(
        delete(Publication).where(
            Publication.slot == publication.slot, Publication.place == publication.place
        )
    )


def forget_below(session: Session, slot: str, place: int) -> None:
    """Take the results below a place off a slot, so that a rollback no longer reaches them."""
    session.execute(delete(Publication).where(Publication.slot == slot, Publication.place < place))
