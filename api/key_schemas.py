"""Keys, usage and audit as OpenAPI shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.schemas import FromRow
from trsp_jobs.access_models import ApiKey
from trsp_jobs.scopes import DEFAULT, Scope

_NAME = r"^[^\x00-\x1f\x7f]+$"
Owner = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Count = Annotated[int, Field(ge=0, lt=2**31)]


class KeyBody(BaseModel):
    """A key as it is asked for."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        min_length=1, max_length=100, pattern=_NAME, description="What it is for, for a person."
    )
    owner: Owner | None = Field(
        None, description="Whose resources it reaches; those of the key that makes it unless given."
    )
    scopes: list[Scope] = Field(sorted(DEFAULT), min_length=1, max_length=len(Scope))
    expires_at: AwareDatetime | None = Field(None, description="When it ends by itself; never unless given.")
    max_queued: Count | None = Field(None, description="Jobs that may wait at a time.")
    max_running: Count | None = Field(None, description="Jobs that are worked on at a time; others wait.")
    max_stored_bytes: int | None = Field(
        None, ge=0, le=2**53, description="Bytes of published files at which no further job is taken."
    )


class KeyOut(FromRow):
    """A key, without its text."""

    id: str
    name: str
    owner: str
    hint: str = Field(description="How its text begins.")
    scopes: list[str]
    created_at: datetime
    created_by: str | None = Field(description="The key that made it; null for the operator's.")
    expires_at: datetime | None
    revoked_at: datetime | None
    max_queued: int | None
    max_running: int | None
    max_stored_bytes: int | None


class NewKeyOut(KeyOut):
    """A new key with its text, which is shown this once."""

    key: str = Field(description="Send it as `Authorization: Bearer KEY`. It is stored nowhere.")

    @classmethod
    def of(cls, row: ApiKey, key: str) -> Self:
        """Return a row with the key's text."""
        return cls(**KeyOut.model_validate(row).model_dump(), key=key)


class KeyList(BaseModel):
    """Keys, newest first, those that have ended among them."""

    items: list[KeyOut]


class UsageOut(BaseModel):
    """What one key has used, by the jobs that there are."""

    key_id: str | None = Field(description="null for the operator's key.")
    name: str | None
    owner: str
    jobs: int
    succeeded: int
    gradient_tokens: int = Field(description="Tokens that gradients were computed for.")
    device_seconds: float = Field(description="Time of all attempts, those at work among them.")
    stored_bytes: int = Field(description="Bytes of published files.")


class UsageList(BaseModel):
    """What each key has used; one without jobs is not among them."""

    items: list[UsageOut]


class AuditOut(FromRow):
    """One change."""

    id: int
    at: datetime
    key_id: str | None = Field(description="The key that made it; null for the operator's.")
    key_name: str
    owner: str
    action: str = Field(description="The route, TAG.NAME.")
    subject: str = Field(description="Id of what was created or changed.")
    request_id: str
    address: str


class AuditPage(BaseModel):
    """One page of changes, newest first."""

    items: list[AuditOut]
    next_cursor: int | None = Field(description="Send it as `after` for the next page; null on the last.")
