"""Lists of jobs: filtered, in any of a few orders, page by page with cursors that inserts do not shift."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVarTuple

from sqlalchemy import (
    ColumnElement,
    Integer,
    Row,
    Select,
    SQLColumnExpression,
    String,
    asc,
    cast,
    desc,
    func,
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
NEAR = 1000
"""So many jobs in order are looked at for a label before the jobs with the label are looked up."""
Ts = TypeVarTuple("Ts")
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
        found = [_labelled(Job.labels, label) for label in self.labels]
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


def _labelled(labels: Any, label: str) -> ColumnElement[bool]:
    name, given, value = label.partition("=")
    found: ColumnElement[bool] = labels.contains({name: value}) if given else labels.has_key(name)
    return found


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
    rows = _rows(session, chosen, sort, after, limit + 1)
    items = [job for job, _ in rows[:limit]]
    more = len(rows) > limit
    return items, Cursor(sort, rows[limit - 1][1], items[-1].id).encode() if more else None


def _rows(
    session: Session, chosen: JobFilter, sort: str, after: Cursor | None, most: int
) -> Sequence[Row[Job, str]]:
    """Return so many jobs with their places, by that way through the table that cannot take long.

    Which jobs have a label is known by an index without an order, and nothing tells how labels go together
    with owners and orders. A common label is soon found among the next jobs in order. One that is not is
    rare, or lies elsewhere; then all jobs that have it are looked up and sorted, unless no more were left to look
    at: an owner with few jobs must not pay for a label that others use much.
    """
    if not chosen.labels:
        return session.execute(page_query(chosen, sort, after, most)).all()
    near = session.execute(near_query(chosen, sort, after, most)).all()
    if len(near) == most or session.scalars(count_query(chosen, sort, after)).one() < NEAR:
        return near
    return session.execute(far_query(chosen, sort, after, most)).all()


def page_query(chosen: JobFilter, sort: str, after: Cursor | None, most: int) -> Select[Job, str]:
    """Return the query of jobs that an index has in order."""
    return _following(_placed(sort).where(*chosen.conditions()), sort, after).limit(most)


def near_query(chosen: JobFilter, sort: str, after: Cursor | None, most: int) -> Select[Job, str]:
    """Return the query of jobs with the labels among the next `NEAR` in order."""
    columns: Any = select(Job.id, Job.labels, _column(sort).label("place"))
    following = _next(columns, chosen, sort, after).subquery()
    labelled = (_labelled(following.c.labels, label) for label in chosen.labels)
    found = select(following.c.id).where(*labelled).order_by(*_ends(sort, following.c.place, following.c.id))
    return _only(found.limit(most), sort)


def count_query(chosen: JobFilter, sort: str, after: Cursor | None) -> Select[int]:
    """Return the query of how many jobs `near_query` looks at: `NEAR`, or all that are left."""
    return select(func.count()).select_from(_next(select(Job.id), chosen, sort, after).subquery())


def _next(columns: Select[*Ts], chosen: JobFilter, sort: str, after: Cursor | None) -> Select[*Ts]:
    others = replace(chosen, labels=()).conditions()
    return _following(columns.where(*others), sort, after).limit(NEAR)


def far_query(chosen: JobFilter, sort: str, after: Cursor | None, most: int) -> Select[Job, str]:
    """Return the query of jobs that are all looked up by their labels first, and sorted then."""
    columns: Any = select(Job.id, _column(sort).label("place")).where(*chosen.conditions())
    every = _beyond(columns, sort, after).cte("every").prefix_with("MATERIALIZED")
    return _only(select(every.c.id).order_by(*_ends(sort, every.c.place, every.c.id)).limit(most), sort)


def _only(ids: Select[str], sort: str) -> Select[Job, str]:
    return _placed(sort).where(Job.id.in_(ids)).order_by(*_ends(sort, _column(sort), Job.id))


def _placed(sort: str) -> Select[Job, str]:
    return select(Job, cast(_column(sort), String).label("place"))


def _column(sort: str) -> SQLColumnExpression[Any]:
    return _COLUMNS[sort.lstrip("-")]


def _ends(sort: str, *columns: SQLColumnExpression[Any]) -> list[Any]:
    return [desc(column) if sort.startswith("-") else asc(column) for column in columns]


def _following(query: Select[*Ts], sort: str, after: Cursor | None) -> Select[*Ts]:
    return _beyond(query, sort, after).order_by(*_ends(sort, _column(sort), Job.id))


def _beyond(query: Select[*Ts], sort: str, after: Cursor | None) -> Select[*Ts]:
    if after is None:
        return query
    here, there = tuple_(_column(sort), Job.id), tuple_(after.bound(), literal(after.job_id))
    return query.where(here < there if sort.startswith("-") else here > there)
