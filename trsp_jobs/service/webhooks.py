"""Webhooks: who wants to hear of jobs, what is to be sent to them, and how the sending went."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Session

from trsp_jobs import webhook_repository
from trsp_jobs.callers import Caller
from trsp_jobs.errors import WebhookNotFound
from trsp_jobs.ids import new_id
from trsp_jobs.lifecycle import FINAL, Status
from trsp_jobs.models import Job
from trsp_jobs.webhook_models import Delivery, Webhook
from trsp_jobs.webhooks import Answer, Message, secret_of

EVENTS: tuple[str, ...] = tuple(f"job.{status}" for status in Status)
"""Kinds of event: a job has got this status."""
PAUSES = (5, 30, 120, 600, 1800, 3600, 10_800, 21_600, 43_200)
"""Seconds from one try to the next; a delivery that fails after the last is given up, a day after the first."""
JITTER = 0.2
"""Share by which a pause is longer or shorter, so that a receiver that comes back is not run over."""
OVERLAP_HOURS = 24
KEEP_DAYS = 30
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Sending:
    """A delivery that this node has taken, as it is to be sent; `tries` names the try."""

    webhook_id: str
    tries: int
    message: Message


def create_webhook(session: Session, caller: Caller, url: str, events: Sequence[str]) -> Webhook:
    """Store a webhook; its address is checked already."""
    webhook = Webhook(id=new_id("wh"), owner=caller.owner, url=url, events=sorted(set(events)))
    session.add(webhook)
    session.flush()
    return webhook


def get_webhook(session: Session, webhook_id: str, caller: Caller) -> Webhook:
    """Return a webhook that the caller reaches.

    Raises:
        WebhookNotFound: If there is none.
    """
    webhook = webhook_repository.get_webhook(session, webhook_id)
    if webhook is None or not caller.sees(webhook.owner):
        raise WebhookNotFound(f"there is no webhook {webhook_id!r}")
    return webhook


def list_webhooks(session: Session, caller: Caller) -> Sequence[Webhook]:
    """Return the webhooks that the caller reaches, newest first."""
    return webhook_repository.list_webhooks(session, caller.visible_owner)


def delete_webhook(session: Session, webhook_id: str, caller: Caller) -> None:
    """Remove a webhook with its deliveries."""
    session.delete(get_webhook(session, webhook_id, caller))


def rotate_secret(session: Session, webhook_id: str, caller: Caller) -> Webhook:
    """Give a webhook a new secret; the one before signs as well for `OVERLAP_HOURS`, no older one does."""
    webhook = get_webhook(session, webhook_id, caller)
    webhook.generation += 1
    webhook.former_until = func.now() + timedelta(hours=OVERLAP_HOURS)
    session.flush()
    return webhook


def list_deliveries(
    session: Session,
    webhook_id: str,
    caller: Caller,
    *,
    after: str | None,
    status: str | None,
    limit: int,
) -> Sequence[Delivery]:
    """Return a webhook's deliveries, newest first."""
    get_webhook(session, webhook_id, caller)
    return webhook_repository.list_deliveries(session, webhook_id, after=after, status=status, limit=limit)


def redeliver(session: Session, webhook_id: str, delivery_id: str, caller: Caller) -> Delivery:
    """Send a delivery again under its id, as if for the first time; a disabled webhook is tried again."""
    webhook = get_webhook(session, webhook_id, caller)
    delivery = webhook_repository.get_delivery(session, webhook_id, delivery_id)
    if delivery is None:
        raise WebhookNotFound(f"the webhook {webhook_id} has no delivery {delivery_id!r}")
    webhook.disabled_reason = None
    delivery.status, delivery.tries, delivery.error = "pending", 0, ""
    delivery.answer = delivery.delivered_at = None
    delivery.due_at = func.now()
    session.flush()
    return delivery


def announce_job(session: Session, job: Job, status: Status, before: str | None) -> None:
    """Note what is to be sent of a job's new status, in the transaction that gives it."""
    event = f"job.{status}"
    with session.no_autoflush:
        hearing = webhook_repository.listeners(session, job, event, named=status in FINAL)
    body = _body(job, status, before, event) if hearing else {}
    session.add_all(
        Delivery(id=new_id("msg"), webhook_id=webhook_id, event=event, body=body) for webhook_id in hearing
    )


def _body(job: Job, status: Status, before: str | None, event: str) -> dict[str, Any]:
    data = {
        "job_id": job.id,
        "status": str(status),
        "before": before,
        "reason": job.reason,
        "attempt": job.attempt,
        "labels": job.labels,
        "url": f"/v1/jobs/{job.id}",
    }
    return {"type": event, "timestamp": datetime.now(UTC).isoformat(), "data": data}


def take_due(session: Session, *, secret: str, limit: int, seconds: float) -> Sequence[Sending]:
    """Take deliveries whose time has come; nobody else takes them for so many seconds."""
    found = webhook_repository.take_due(session, limit, seconds)
    return [_sending(delivery, webhook, former, secret) for delivery, webhook, former in found]


def _sending(delivery: Delivery, webhook: Webhook, former: bool, secret: str) -> Sending:
    generations = (webhook.generation, webhook.generation - 1) if former else (webhook.generation,)
    secrets = [secret_of(secret, webhook.id, number) for number in generations]
    return Sending(webhook.id, delivery.tries, Message(delivery.id, webhook.url, delivery.body, secrets))


def end_try(session: Session, sending: Sending, answer: Answer) -> None:
    """Write how a try ended; a receiver that is gone hears nothing any more."""
    values: dict[str, Any] = {"answer": answer.status, "error": answer.error[:500]}
    if answer.taken:
        values |= {"status": "delivered", "delivered_at": func.now()}
    elif sending.tries > len(PAUSES):
        values["status"] = "failed"
    else:
        values["due_at"] = func.now() + timedelta(seconds=pause_after(sending.tries))
    written = webhook_repository.end_try(session, sending.message.id, sending.tries, values)
    if written and answer.gone:
        _disable(session, sending.webhook_id, "the receiver answered 410: it wants nothing any more")


def _disable(session: Session, webhook_id: str, reason: str) -> None:
    webhook = webhook_repository.get_webhook(session, webhook_id)
    if webhook is not None:
        webhook.disabled_reason = reason
        webhook_repository.give_up(session, webhook_id, reason)


def pause_after(tries: int) -> float:
    """Return the seconds from try number `tries` to the next, with jitter."""
    return PAUSES[tries - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret


def forget_deliveries(session: Session) -> int:
    """Remove deliveries that ended more than `KEEP_DAYS` ago; return how many."""
    return webhook_repository.remove_deliveries(session, KEEP_DAYS, _BATCH)
