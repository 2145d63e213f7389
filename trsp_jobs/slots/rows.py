"""The rows of slots: names under which results are published, and how each came to be there."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, String, func
from sqlalchemy.orm import Mapped, mapped_column

from trsp_jobs.models import Base


class Slot(Base):
    """A name under which one result is current. Its row is the lock of everything that changes it.

    Attributes:
        owner: Whose it is.
        version: Number of its latest decision; the ETag.
    """

    __tablename__ = "slots"
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - SQLAlchemy reads it as a plain class attribute

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Publication(Base):
    """A published result. Those of a slot are a stack: the highest place is current, a rollback takes it off.

    The job cannot be deleted while this row refers to it.

    Attributes:
        place: 1 for the first; grows with every publication.
        figures: What the next result is compared with, as `Figures.to_dict` gives it.
    """

    __tablename__ = "publications"

    slot: Mapped[str] = mapped_column(ForeignKey("slots.name", ondelete="CASCADE"), primary_key=True)
    place: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="RESTRICT"), index=True)
    figures: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class SlotDecision(Base):
    """One line of a slot's history; it outlives the jobs that it names.

    Attributes:
        number: 1, 2, 3 … within the slot.
        decision: `published`, `rejected` or `rolled_back`.
        job_id: The result that it is about.
        current_job: The result that was current afterwards; None for none.
        reason: One line for a person.
        comparison: Each figure beside the current one's, with its margin, as `Verdict.to_dict` gives it.
        decided_by: Who asked for it: the gate, or a person.
    """

    __tablename__ = "slot_decisions"
    __table_args__ = (
        CheckConstraint("decision IN ('published', 'rejected', 'rolled_back')", name="decision_known"),
    )

    slot: Mapped[str] = mapped_column(ForeignKey("slots.name", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    decision: Mapped[str] = mapped_column(String(12))
    job_id: Mapped[str] = mapped_column(String(30))
    current_job: Mapped[str | None] = mapped_column(String(30))
    reason: Mapped[str] = mapped_column(String(500))
    comparison: Mapped[dict[str, Any]]
    decided_by: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime] = mapped_column(server_default=func.now())
