"""How results come into slots and leave them. Each change and its line of history are one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from trsp_jobs import repository as jobs
from trsp_jobs.errors import Conflict, JobNotFound, ResourceNotFound
from trsp_jobs.lifecycle import Status
from trsp_jobs.models import Job
from trsp_jobs.paging import Page
from trsp_jobs.slots import repository
from trsp_jobs.slots.figures import Figures
from trsp_jobs.slots.gate import Offer, Verdict, compare
from trsp_jobs.slots.rows import Publication, Slot, SlotDecision

KEPT = 10
"""Results of a slot that a rollback can reach, the current one among them; none of them can be deleted."""

GATE = "gate"
_REASON_CHARACTERS = 500


def offer(session: Session, job: Job, report: Mapping[str, Any]) -> SlotDecision | None:
    """Let the gate decide whether the result of a locked job that has just succeeded takes its slot.

    Returns:
        The decision; None for a job that names no slot, or one of somebody else.
    """
    if job.publish is None:
        return None
    wanted, figures = Offer.from_dict(job.publish), Figures.from_report(report)
    slot = repository.lock_slot(session, wanted.slot, job.owner)
    if slot.owner != job.owner:
        return None
    verdict = compare(wanted, _figures(repository.current(session, slot.name)), figures)
    if verdict.accepted:
        return _publish(session, slot, job.id, figures, verdict, verdict.reason, by=GATE)
    current = repository.current(session, slot.name)
    return _decide(
        session, slot, "rejected", job.id, current.job_id if current else None, verdict, verdict.reason, GATE
    )


def publish(
    session: Session, job_id: str, slot_name: str, report: Mapping[str, Any], *, by: str
) -> SlotDecision:
    """Publish a result because a person wants it; the comparison is written down, and binds nobody.

    Raises:
        JobNotFound: If there is no such job.
        Conflict: If it has not succeeded, or is current already, or the slot is somebody else's.
    """
    job = jobs.lock_job(session, job_id)
    if job is None:
        raise JobNotFound(job_id)
    if job.status != Status.SUCCEEDED:
        raise Conflict(f"{job_id} is {job.status}; only a job that succeeded has a result to publish")
    slot = repository.lock_slot(session, slot_name, job.owner)
    if slot.owner != job.owner:
        raise Conflict(f"somebody else has a slot {slot_name}; take another name")
    current, figures = repository.current(session, slot_name), Figures.from_report(report)
    if current is not None and current.job_id == job_id:
        raise Conflict(f"{job_id} is the current result of {slot_name} already")
    verdict = compare(Offer.from_dict({"slot": slot_name}), _figures(current), figures)
    return _publish(session, slot, job_id, figures, verdict, "published by hand", by=by)


def rollback(session: Session, job_id: str, slot_name: str | None, *, by: str) -> SlotDecision:
    """Take a current result off its slot; the one before it becomes current again.

    Args:
        session: An open transaction.
        job_id: The result that is current.
        slot_name: The slot; may be left out for a result that is current in one only.
        by: Who asks.

    Raises:
        Conflict: If the result is not current there, or there is none before it.
    """
    name = slot_name or _only_slot(session, job_id)
    slot = repository.lock_slot(session, name, jobs.owner_of(session, job_id) or "")
    top = repository.current(session, slot.name)
    if top is None or top.job_id != job_id:
        raise Conflict(f"{job_id} is not the current result of {slot.name}")
    repository.delete_publication(session, top)
    before = repository.current(session, slot.name)
    if before is None:
        raise Conflict(f"{slot.name} has no result before {job_id} to go back to")
    verdict = compare(Offer.from_dict({"slot": slot.name}), _figures(top), Figures.from_dict(before.figures))
    reason = f"rolled back by hand to {before.job_id}"
    return _decide(session, slot, "rolled_back", job_id, before.job_id, verdict, reason, by)


def _only_slot(session: Session, job_id: str) -> str:
    found = repository.slots_of(session, job_id)
    if len(found) != 1:
        said = f"in several slots ({', '.join(found)}); name one" if found else "in no slot"
        raise Conflict(f"{job_id} is current {said}")
    return found[0]


def _publish(
    session: Session, slot: Slot, job_id: str, figures: Figures, verdict: Verdict, reason: str, *, by: str
) -> SlotDecision:
    top = repository.current(session, slot.name)
    place = top.place + 1 if top else 1
    session.add(Publication(slot=slot.name, place=place, job_id=job_id, figures=figures.to_dict()))
    repository.forget_below(session, slot.name, place - KEPT + 1)
    return _decide(session, slot, "published", job_id, job_id, verdict, reason, by)


def _decide(
    session: Session,
    slot: Slot,
    decision: str,
    job_id: str,
    current_job: str | None,
    verdict: Verdict,
    reason: str,
    by: str,
) -> SlotDecision:
    slot.version += 1
    row = SlotDecision(
        slot=slot.name,
        number=slot.version,
        decision=decision,
        job_id=job_id,
        current_job=current_job,
        reason=reason[:_REASON_CHARACTERS],
        comparison=verdict.to_dict(),
        decided_by=by,
    )
    session.add(row)
    session.flush()
    return row


def _figures(publication: Publication | None) -> Figures | None:
    return None if publication is None else Figures.from_dict(publication.figures)


def get_slot(session: Session, name: str) -> tuple[Slot, Publication | None]:
    """Return a slot and what is published under it.

    Raises:
        ResourceNotFound: If nothing was ever offered to a slot of that name.
    """
    slot = repository.get_slot(session, name)
    if slot is None:
        raise ResourceNotFound("slot", name)
    return slot, repository.current(session, name)


def list_slots(
    session: Session, *, after: str | None = None, limit: int = 20, owner: str | None = None
) -> Page[tuple[Slot, Publication | None]]:
    """Return slots of an owner (None: of any) by name, each with what is published under it."""
    found = repository.list_slots(session, after, limit + 1, owner)
    return Page(found[:limit], found[limit - 1][0].name if len(found) > limit else None)


def history(
    session: Session, name: str, *, before: int | None = None, limit: int = 20
) -> tuple[Sequence[SlotDecision], int | None]:
    """Return the decisions about a slot, latest first, and the `before` of the next part.

    Raises:
        ResourceNotFound: If there is no such slot.
    """
    get_slot(session, name)
    found = repository.decisions(session, name, before, limit + 1)
    return found[:limit], found[limit - 1].number if len(found) > limit else None
