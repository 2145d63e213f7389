"""Webhooks as OpenAPI shows them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from api.schemas import FromRow
from trsp_jobs.lifecycle import FINAL
from trsp_jobs.service import EVENTS
from trsp_jobs.webhook_models import Webhook

EventKind = StrEnum("EventKind", {name.partition(".")[2]: name for name in EVENTS})  # type: ignore[misc]
_ENDS = sorted(EventKind(f"job.{status}") for status in FINAL)


class WebhookBody(BaseModel):
    """A webhook as it is asked for."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=2000, description="https://HOST/PATH, on the public internet.")
    events: list[EventKind] = Field(
        _ENDS,
        max_length=len(EVENTS),
        description="What it hears of all your jobs; none for only the ends of the jobs that name it.",
    )


class WebhookOut(FromRow):
    """A webhook, without its secret."""

    id: str
    owner: str
    url: str
    events: list[str]
    former_until: datetime | None = Field(description="Until when the secret before signs as well.")
    disabled_reason: str | None = Field(description="Why nothing is sent any more; null while it is.")
    created_at: datetime


class WebhookSecretOut(WebhookOut):
    """A webhook with its secret, which is shown when it is made and when it is rotated."""

    secret: str = Field(description="whsec_…: verify deliveries with it, by the Standard Webhooks libraries.")

    @classmethod
    def of(cls, row: Webhook, secret: str) -> Self:
        """Return a row with its secret."""
        return cls(**WebhookOut.model_validate(row).model_dump(), secret=secret)


class WebhookList(BaseModel):
    """Webhooks, newest first."""

    items: list[WebhookOut]


class DeliveryOut(FromRow):
    """One event on its way to a webhook."""

    id: str = Field(description="The webhook-id, the same at every try.")
    event: str
    status: str = Field(description="pending, delivered, or failed once the tries are used up.")
    tries: int
    due_at: datetime = Field(description="When the next try may begin, while it is pending.")
    answer: int | None = Field(description="HTTP status of the last try; null if it was not answered.")
    error: str
    created_at: datetime
    delivered_at: datetime | None
    body: dict[str, Any]


class DeliveryPage(BaseModel):
    """One page of deliveries, newest first."""

    items: list[DeliveryOut]
    next_cursor: str | None = Field(description="Send it as `after` for the next page; null on the last.")
