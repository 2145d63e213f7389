"""Requests and responses about registered models and uploaded texts, as OpenAPI shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import BaseModel, Field

from api.schemas import FromRow
from trsp_jobs.inputs.registered_models import MODEL_NAME
from trsp_jobs.inputs.rows import CalibrationSet


class ModelRequest(BaseModel):
    """A model to register."""

    name: str = Field(description="What a job may call it.", pattern=f"^{MODEL_NAME.pattern}$")
    model: str = Field(
        description="Folder, [hf:]ORG/NAME[@REVISION], gguf:FILE or demo:NAME.", min_length=1, max_length=1024
    )


class ModelOut(FromRow):
    """A registered model."""

    name: str
    reference: str = Field(description="The model as it was named, with the commit where it is the hub's.")
    revision: str = Field(description="Pins the content that was checked; a job on other content is refused.")
    model_type: str
    layers: int = Field(description="Decoder layers.")
    parameters: int = Field(description="Weights, tied ones once.")
    registered_at: datetime


class ModelPage(BaseModel):
    """One page of registered models, by name."""

    items: list[ModelOut]
    next_cursor: str | None = Field(description="Send it as `after` for the next page; null on the last.")


class CalibrationSetOut(FromRow):
    """An uploaded text."""

    id: str
    name: str
    kind: str = Field(description="text, jsonl or parquet.")
    size: int = Field(description="Bytes.")
    sha256: str
    reference: str = Field(description="What a job spec calls it.")
    created_at: datetime
    deleted_at: datetime | None
    deleted_by: str | None
    erased_at: datetime | None = Field(description="When the store confirmed that the bytes are gone.")

    @classmethod
    def of(cls, row: CalibrationSet) -> Self:
        """Return a row as the client sees it."""
        names = [name for name in cls.model_fields if name not in ("reference", "used_by")]
        return cls(**{name: getattr(row, name) for name in names}, reference=f"upload:{row.id}")


class CalibrationSetDetail(CalibrationSetOut):
    """An uploaded text with the jobs that named it; of a deleted one, the proof."""

    used_by: list[str] = Field(default_factory=list, description="Ids of the jobs that named it.")


class CalibrationSetPage(BaseModel):
    """One page of uploaded texts, newest first."""

    items: list[CalibrationSetOut]
    next_cursor: str | None = Field(description="Send it as `after` for the next page; null on the last.")


class TokenCountOut(FromRow):
    """How many tokens a text has for a model."""

    set_id: str
    revision: str = Field(description="Pins the model whose tokenizer counted.")
    tokens: int
    characters: int
    whole: bool = Field(description="False if the text is longer than what calibration draws from.")
