"""The rows of schedules and of what came of each of their times."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from trsp_jobs.models import Base
from trsp_jobs.schedules.policy import Outcome

_OUTCOMES = ", ".join(f"'{outcome}'" for outcome in Outcome)


class Schedule(Base):
    """A job spec and the times at which it becomes a job.

    Attributes:
        id: `sch_` and 26 characters.
        owner: Whose it is.
        key_id: The key that its jobs count for: the one that said its terms last; None for the operator's.
        name: What a person calls it.
        cron, zone: When: five fields of cron, read in an IANA time zone.
        misfire: `skip` or `run_once`: what becomes of times at which nobody was there.
        overlap: `forbid` or `allow`: whether a run may begin while another is unfinished.
        suspended: No time makes a job while it is set.
        spec: The job spec; its model may be the name of a registered one.
        options: `labels`, `priority`, `queue_deadline`, `run_deadline`, `publish` of its jobs.
        next_fire_at: The time that is due next; None while suspended, or where there is none.
        version: Grows with every change; the ETag.
    """

    __tablename__ = "schedules"
    __table_args__ = (
        CheckConstraint("misfire IN ('skip', 'run_once')", name="misfire_known"),
        CheckConstraint("overlap IN ('forbid', 'allow')", name="overlap_known"),
        CheckConstraint("NOT suspended OR next_fire_at IS NULL", name="suspended_rests"),
        Index("ix_schedules_due", "next_fire_at", postgresql_where=text("next_fire_at IS NOT NULL")),
    )
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - SQLAlchemy reads it as a plain class attribute

    id: Mapped[str] = mapped_column(String(30), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    key_id: Mapped[str | None] = mapped_column(ForeignKey("api_keys.id"))
    name: Mapped[str] = mapped_column(String(100))
    cron: Mapped[str] = mapped_column(String(100))
    zone: Mapped[str] = mapped_column(String(64))
    misfire: Mapped[str] = mapped_column(String(8))
    overlap: Mapped[str] = mapped_column(String(6))
    suspended: Mapped[bool] = mapped_column(default=False)
    spec: Mapped[dict[str, Any]]
    options: Mapped[dict[str, Any]]
    next_fire_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    version: Mapped[int] = mapped_column(BigInteger, default=1)


class Fire(Base):
    """What came of one time of a schedule; a time is dealt with once, since it is part of the key.

    Attributes:
        fire_at: The time; for a run by hand the moment of asking.
        outcome: An `Outcome`.
        by_hand: A person asked for it.
        job_id: The job that was made, while it is kept.
        reason: One line for a person: what happened, and why.
        problems: What is wrong with the spec, as `Problem.to_dict` gives it, where it was refused.
        at: When it was dealt with.
    """

    __tablename__ = "schedule_fires"
    __table_args__ = (CheckConstraint(f"outcome IN ({_OUTCOMES})", name="outcome_known"),)

    schedule_id: Mapped[str] = mapped_column(ForeignKey("schedules.id", ondelete="CASCADE"), primary_key=True)
    fire_at: Mapped[datetime] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(String(10))
    by_hand: Mapped[bool] = mapped_column(default=False)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"), index=True)
    reason: Mapped[str] = mapped_column(String(500))
    problems: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
