"""The SQL of webhooks and their deliveries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import any_, bindparam, delete, func, or_, select, update
from sqlalchemy.orm import Session

from trsp_jobs.models import Job
from trsp_jobs.webhook_models import Delivery, Webhook


def get_webhook(session: Session, webhook_id: str) -> Webhook | None:
    """Return a webhook."""
    return session.get(Webhook, webhook_id)


def list_webhooks(session: Session, owner: str | None) -> Sequence[Webhook]:
    """Return the webhooks of an owner, or of all, newest first."""
    query = select(Webhook).order_by(Webhook.id.desc())
    return session.scalars(query if owner is None else query.where(Webhook.owner == owner)).all()


def listeners(session: Session, job: Job, event: str, *, named: bool) -> Sequence[str]:
    """Return the webhooks that hear of an event of a job.

    Args:
        session: An open transaction.
        job: The job.
        event: Kind of the event.
        named: Whether the webhook that the job names hears of it too, whatever it listens to.
    """
    asked = {"owner": job.owner, "event": event, "named": job.webhook_id if named else None}
    return session.scalars(_LISTENERS, asked).all()


_LISTENERS = select(Webhook.id).where(
    or_(
        (Webhook.owner == bindparam("owner")) & (bindparam("event") == any_(Webhook.events)),
        Webhook.id == bindparam("named"),
    ),
    Webhook.disabled_reason.is_(None),
)
"""Made once: it is asked with every change of a job."""


def get_delivery(session: Session, webhook_id: str, delivery_id: str) -> Delivery | None:
    """Return one delivery of a webhook, locked."""
    query = select(Delivery).where(Delivery.id == delivery_id, Delivery.webhook_id == webhook_id)
    return session.scalars(query.with_for_update()).one_or_none()


def list_deliveries(
    session: Session, webhook_id: str, *, after: str | None, status: str | None, limit: int
) -> Sequence[Delivery]:
    """Return a webhook's deliveries, newest first, those older than `after`."""
    query = select(Delivery).where(Delivery.webhook_id == webhook_id)
    if after is not None:
        query = query.where(Delivery.id < after)
    if status is not None:
        query = query.where(Delivery.status == status)
    return session.scalars(query.order_by(Delivery.id.desc()).limit(limit)).all()


def take_due(session: Session, limit: int, seconds: float) -> Sequence[tuple[Delivery, Webhook, bool]]:
    """Take deliveries whose time has come, each for so many seconds; what others have taken is left out.

    Returns:
        Each with its webhook, and whether the webhook's former secret still signs.
    """
    query = select(Delivery.id).where(Delivery.status == "pending", Delivery.due_at <= func.now())
    chosen = query.order_by(Delivery.due_at).limit(limit).with_for_update(skip_locked=True)
    taken = session.scalars(chosen).all()
    taking = (
        update(Delivery)
        .where(Delivery.id.in_(taken))
        .values(due_at=func.now() + timedelta(seconds=seconds), tries=Delivery.tries + 1)
    )
    session.execute(taking, execution_options={"synchronize_session": False})
    former = func.coalesce(Webhook.former_until > func.now(), False)
    rows = select(Delivery, Webhook, former).join(Webhook, Webhook.id == Delivery.webhook_id)
    found = session.execute(rows.where(Delivery.id.in_(taken)).order_by(Delivery.id))
    return [(row[0], row[1], row[2]) for row in found]


def end_try(session: Session, delivery_id: str, tries: int, values: Mapping[str, Any]) -> bool:
    """Write how a try ended, if no other node has begun one since; return whether it was written."""
    query = (
        update(Delivery)
        .where(Delivery.id == delivery_id, Delivery.tries == tries, Delivery.status == "pending")
        .values(**values)
        .returning(Delivery.id)
    )
    return session.scalar(query, execution_options={"synchronize_session": False}) is not None


def give_up(session: Session, webhook_id: str, error: str) -> None:
    """End all deliveries of a webhook that wait."""
    query = update(Delivery).where(Delivery.webhook_id == webhook_id, Delivery.status == "pending")
    session.execute(
        query.values(status="failed", error=error), execution_options={"synchronize_session": False}
    )


def remove_deliveries(session: Session, days: int, limit: int) -> int:
    """Remove deliveries that ended, made more than so many days ago; return how many."""
    old = select(Delivery.id).where(
        Delivery.status != "pending", Delivery.created_at < func.now() - timedelta(days=days)
    )
    chosen = session.scalars(old.limit(limit).with_for_update(skip_locked=True)).all()
    query = delete(Delivery).where(Delivery.id.in_(chosen)).returning(Delivery.id)
    return len(session.scalars(query, execution_options={"synchronize_session": False}).all())
