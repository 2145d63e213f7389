"""Requests and responses about schedules, as OpenAPI shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field, GetJsonSchemaHandler, RootModel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from api.schedule_body import change_schema, schedule_schema
from api.schemas import FromRow
from trsp_jobs.schedules.cron import LONGEST
from trsp_jobs.schedules.rows import Schedule


class ScheduleRequest(RootModel[dict[str, Any]]):
    """A schedule; read by `api.schedule_body`, whose schema this shows."""

    @classmethod
    def __get_pydantic_json_schema__(cls, _: CoreSchema, __: GetJsonSchemaHandler) -> JsonSchemaValue:
        return schedule_schema()


class ScheduleChange(RootModel[dict[str, Any]]):
    """What is to change of a schedule."""

    @classmethod
    def __get_pydantic_json_schema__(cls, _: CoreSchema, __: GetJsonSchemaHandler) -> JsonSchemaValue:
        return change_schema()


class PreviewRequest(BaseModel):
    """Times to try out."""

    cron: str = Field(description="Minute, hour, day of month, month, day of week.", max_length=LONGEST)
    zone: str = Field("UTC", description="IANA time zone.", max_length=100)


class PreviewOut(BaseModel):
    """The next times."""

    times: list[datetime] = Field(description="At most five, ascending, in UTC.")


class FireOut(FromRow):
    """What came of one time of a schedule."""

    fire_at: datetime
    outcome: str = Field(description="fired, missed, overlapped or failed (the job spec is no longer valid).")
    by_hand: bool = Field(description="A person asked for it.")
    job_id: str | None = Field(description="The job that was made, while it is kept.")
    reason: str
    problems: list[dict[str, Any]] = Field(description="What is wrong with the job spec, where it failed.")
    at: datetime = Field(description="When it was dealt with.")


class FirePage(BaseModel):
    """What came of a schedule's times, latest first."""

    items: list[FireOut]
    next_before: datetime | None = Field(description="Send it as `before` for the next page.")


class ScheduleOut(BaseModel):
    """A schedule."""

    id: str
    name: str
    cron: str
    zone: str
    misfire: str
    overlap: str
    suspended: bool
    next_fire_at: datetime | None = Field(description="Null while suspended.")
    job: dict[str, Any] = Field(description="The full job: no shorthand, every option with its value.")
    created_at: datetime
    updated_at: datetime
    version: int

    @classmethod
    def of(cls, row: Schedule) -> Self:
        """Return a row as the client sees it."""
        names = [name for name in cls.model_fields if name != "job"]
        return cls(**{name: getattr(row, name) for name in names}, job={**row.spec, **row.options})


class SchedulePage(BaseModel):
    """One page of schedules, newest first."""

    items: list[ScheduleOut]
    next_cursor: str | None = Field(description="Send it as `after` for the next page; null on the last.")
