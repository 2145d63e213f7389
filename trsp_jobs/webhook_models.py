"""The rows of webhooks and of what is to be delivered to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from trsp_jobs.models import Base

FIRST_GENERATION = 1
"""Which secret a new webhook has."""


class Webhook(Base):
    """An address that wants to hear of jobs.

    Attributes:
        id: `wh_` and 26 characters.
        owner: Whose jobs it hears of.
        url: Where deliveries go.
        events: Kinds of event that it hears of all the owner's jobs; empty for only the ends of the jobs that
            name it.
        generation: Grows when the secret is rotated; the secret follows from it.
        former_until: Until when the secret before signs as well; None where there is none.
        disabled_reason: Why nothing is sent any more; None while it is.
    """

    __tablename__ = "webhooks"

    id: Mapped[str] = mapped_column(String(30), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    url: Mapped[str] = mapped_column(String(2000))
    events: Mapped[list[str]] = mapped_column(ARRAY(String(32)))
    generation: Mapped[int] = mapped_column(default=FIRST_GENERATION)
    former_until: Mapped[datetime | None]
    disabled_reason: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Delivery(Base):
    """One event on its way to one webhook.

    Attributes:
        id: `msg_` and 26 characters: the `webhook-id`, the same at every try.
        event: Its kind, `job.succeeded`.
        body: What is sent.
        status: `pending`, `delivered`, or `failed` once the tries are used up.
        tries: How often it was sent, or begun to be.
        due_at: When the next try may begin; while a node sends it, when another one may take it over.
        answer: HTTP status of the last try; None where there was none.
        error: What went wrong the last time; empty if nothing.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("status IN ('pending', 'delivered', 'failed')", name="status_known"),
        Index("ix_webhook_deliveries_due_at", "due_at", postgresql_where=text("status = 'pending'")),
        Index("ix_webhook_deliveries_webhook_id_id", "webhook_id", "id"),
        Index("ix_webhook_deliveries_created_at", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(30), primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    event: Mapped[str] = mapped_column(String(32))
    body: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(16), default="pending")
    tries: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    answer: Mapped[int | None]
    error: Mapped[str] = mapped_column(String(500), default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    delivered_at: Mapped[datetime | None]
