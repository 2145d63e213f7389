"""Requests and responses about slots, as OpenAPI shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field

from api.schemas import FromRow
from trsp_jobs.slots.gate import SLOT_NAME
from trsp_jobs.slots.rows import Publication, Slot

SLOT_PATTERN = f"^{SLOT_NAME.pattern}$"


class PublishRequest(BaseModel):
    """Where a result is to be published."""

    slot: str = Field(description="Name of the slot; it is made if it is new.", pattern=SLOT_PATTERN)


class RollbackRequest(BaseModel):
    """Where a result is to be taken back."""

    slot: str | None = Field(
        None, description="May be left out for a result that is current in one slot.", pattern=SLOT_PATTERN
    )


class CurrentOut(BaseModel):
    """What is published under a slot."""

    job_id: str
    published_at: datetime
    figures: dict[str, Any] = Field(description="What the next result is compared with.")


class SlotOut(BaseModel):
    """A slot and its current result."""

    name: str
    version: int = Field(description="Number of its latest decision.")
    created_at: datetime
    current: CurrentOut | None

    @classmethod
    def of(cls, slot: Slot, top: Publication | None) -> Self:
        """Return a row as the client sees it."""
        shown = (
            None if top is None else CurrentOut(job_id=top.job_id, published_at=top.at, figures=top.figures)
        )
        return cls(name=slot.name, version=slot.version, created_at=slot.created_at, current=shown)


class SlotPage(BaseModel):
    """One page of slots, by name."""

    items: list[SlotOut]
    next_cursor: str | None = Field(description="Send it as `after` for the next page; null on the last.")


class DecisionOut(FromRow):
    """One line of a slot's history."""

    slot: str
    number: int
    decision: str = Field(description="published, rejected or rolled_back.")
    job_id: str = Field(description="The result that it is about.")
    current_job: str | None = Field(description="The result that was current afterwards.")
    reason: str
    comparison: dict[str, Any] = Field(description="Each figure beside the current one's, with its limit.")
    decided_by: str
    at: datetime


class DecisionPage(BaseModel):
    """A slot's history, latest first."""

    items: list[DecisionOut]
    next_before: int | None = Field(description="Send it as `before` for the next page; null on the last.")
