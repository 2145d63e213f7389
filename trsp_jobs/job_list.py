"""Lists of jobs: filtered, in any of a few orders, page by page with cursors that inserts do not shift."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    SQLColumnExpression,
    String,
    cast,
    literal,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import Session

from trsp_jobs.errors import WrongCursor
from trsp_jobs.models import ENDED, Job

NEWEST = "-created_at"
_TIME = TIMESTAMP(timezone=True)
_NEVER = "infinity"
"""What stands in a cursor for the end of a job that has not ended."""
_COLUMNS: Mapping[str, SQLColumnExpression[Any]] = {
    "created_at": Job.created_at,
    "finished_at": literal_column(ENDED, _TIME),
    "priority": Job.priority,
}
SORTS: tuple[str, ...] = tuple(f"{sign}{name}" for name in _COLUMNS for sign in ("-", ""))
"""Orders of a list; `-` puts the largest first. Jobs with the same value go by their ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs a list shows; None and empty for any.

    Attributes:
        statuses: Any of these.
        labels: All of these, each `NAME` or `NAME=VALUE`.
        created_after, created_before: Later, and earlier, than this; neither includes the moment itself.
        owner: Whose.
        schedule: Made by this schedule.
    """

    statuses: Sequence[str] = ()
    model: str | None = None
    labels: Sequence[str] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None
    owner: str | None = None
    schedule: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the filter as conditions on `Job`."""
        found = [_labelled(label) for label in self.labels]
        if self.owner is not None:
            found.append(Job.owner == self.owner)
        if self.schedule is not None:
            found.append(Job.schedule_id == self.schedule)
        if self.statuses:
            found.append(Job.status.in_(self.statuses))
        if self.model is not None:
            found.append(Job.spec["model"].astext == self.model)
        if self.created_after is not None:
            found.append(Job.created_at > self.created_after)
        if self.created_before is not None:
            found.append(Job.created_at < self.created_before)
        return found


def _labelled(label: str) -> ColumnElement[bool]:
    name, given, value = label.partition("=")
    return Job.labels.contains({name: value}) if given else Job.labels.has_key(name)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended: the order, and value and id of its last job. Opaque to clients."""

    sort: str
    value: str
    job_id: str

    def encode(self) -> str:
        """Return the cursor as clients get it."""
        data = json.dumps([self.sort, self.value, self.job_id], separators=(",", ":"))
        return base64.urlsafe_b64encode(data.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str, sort: str) -> Cursor:
        """Read what `encode` wrote.

        Raises:
            WrongCursor: If it is none, or belongs to a list in another order.
        """
        try:
            data = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            found = cls(*map(str, data))
        except (ValueError, TypeError) as error:
            raise WrongCursor("is no next_cursor of a page") from error
        if found.sort != sort:
            raise WrongCursor(f"belongs to a list sorted by {found.sort[:20]!r}, not by {sort!r}")
        if "\0" in found.job_id or not found.job_id.isascii():
            raise WrongCursor("is no next_cursor of a page")
        return found

    def bound(self) -> ColumnElement[Any]:
        """Return the value as the database compares it.

        Raises:
            WrongCursor: If a client made it up and it is none.
        """
        try:
            if self.sort.lstrip("-") == "priority":
                return literal(_small(self.value), Integer())
            if self.value == _NEVER:
                return literal_column(f"'{_NEVER}'::timestamp with time zone", _TIME)
            return literal(datetime.fromisoformat(self.value), _TIME)
        except ValueError as error:
            raise WrongCursor("is no next_cursor of a page") from error


def _small(text: str) -> int:
    number = int(text)
    if abs(number) >= 2**31:
        raise ValueError(f"{number} is out of range")
    return number


def list_jobs(
    session: Session, chosen: JobFilter, sort: str, after: Cursor | None, limit: int
) -> tuple[Sequence[Job], str | None]:
    """Return a page of jobs, and the cursor that the next one starts after; None at the end."""
    column = _COLUMNS[sort.lstrip("-")]
    query = select(Job, cast(column, String).label("place")).where(*chosen.conditions())
    if after is not None:
        query = query.where(_beyond(column, after))
    ends = (column.desc(), Job.id.desc()) if sort.startswith("-") else (column, Job.id)
    rows = session.execute(query.order_by(*ends).limit(limit + 1)).all()
    items = [job for job, _ in rows[:limit]]
    more = len(rows) > limit
    return items, Cursor(sort, rows[limit - 1][1], items[-1].id).encode() if more else None


def _beyond(column: SQLColumnExpression[Any], after: Cursor) -> ColumnElement[bool]:
    here, there = tuple_(column, Job.id), tuple_(after.bound(), literal(after.job_id))
    return here < there if after.sort.startswith("-") else here > there
