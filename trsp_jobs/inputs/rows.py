"""The rows of what jobs may work with: registered models and uploaded texts."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from trsp_jobs.models import Base


class RegisteredModel(Base):
    """A model under a name, checked once and pinned to the content that was checked.

    Attributes:
        name: What a job may call it.
        owner: Who registered it.
        reference: The model as it was named, with the commit where it comes from the hub.
        revision: What pins its content; see `ModelFacts.revision`.
        model_type, layers, parameters: What its headers tell.
    """

    __tablename__ = "registered_models"
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - SQLAlchemy reads it as a plain class attribute

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    reference: Mapped[str] = mapped_column(String(1200))
    revision: Mapped[str] = mapped_column(String(128))
    model_type: Mapped[str] = mapped_column(String(100))
    layers: Mapped[int]
    parameters: Mapped[int] = mapped_column(BigInteger)
    registered_at: Mapped[datetime] = mapped_column(server_default=func.now())


class CalibrationSet(Base):
    """An uploaded text. The row stays when the text is deleted: it is the proof.

    Attributes:
        id: `cal_` and 26 characters; a job names it `upload:ID`.
        owner: Who uploaded it.
        name: What a person calls it.
        kind: `text`, `jsonl` or `parquet`.
        size, sha256: Of the bytes as they came.
        stored_at: Since when the store has it; None while it is on its way there.
        deleted_at, deleted_by: When it was given up, and by whom; no job may use it from then on.
        erased_at: When the store confirmed that the bytes are gone.
    """

    __tablename__ = "calibration_sets"
    __table_args__ = (
        CheckConstraint("kind IN ('text', 'jsonl', 'parquet')", name="kind_known"),
        CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="deletion_whole"),
        CheckConstraint("erased_at IS NULL OR deleted_at IS NOT NULL", name="erased_after_deletion"),
        Index(
            "uq_calibration_sets_content",
            "owner",
            "sha256",
            "kind",
            unique=True,
            postgresql_where=text("stored_at IS NOT NULL AND deleted_at IS NULL"),
        ),
    )
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - SQLAlchemy reads it as a plain class attribute

    id: Mapped[str] = mapped_column(String(30), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(8))
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    stored_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    deleted_by: Mapped[str | None] = mapped_column(String(64))
    erased_at: Mapped[datetime | None]

    @property
    def store_path(self) -> str:
        """The text's path in the store."""
        return f"calibration-sets/{self.id}/text"


class CalibrationUse(Base):
    """A job that names an uploaded text. It outlives both, since it is part of the proof."""

    __tablename__ = "calibration_uses"

    set_id: Mapped[str] = mapped_column(ForeignKey("calibration_sets.id"), primary_key=True)
    job_id: Mapped[str] = mapped_column(String(30), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class TokenCount(Base):
    """How many tokens an uploaded text has for the tokenizer of one model.

    Attributes:
        field: Field or column that was read; empty for the kind's default.
        revision: Pins the model whose tokenizer counted.
        whole: Whether the whole text was counted, or only as much as a job would draw from.
    """

    __tablename__ = "token_counts"

    set_id: Mapped[str] = mapped_column(ForeignKey("calibration_sets.id"), primary_key=True)
    revision: Mapped[str] = mapped_column(String(128), primary_key=True)
    field: Mapped[str] = mapped_column(String(200), primary_key=True)
    tokens: Mapped[int] = mapped_column(BigInteger)
    characters: Mapped[int] = mapped_column(BigInteger)
    whole: Mapped[bool]
