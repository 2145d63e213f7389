"""Links as requests ask for them and answers show them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

LONGEST_SECONDS = 7 * 86_400
MOST_PATHS = 1000

FilePath = Annotated[str, Field(min_length=1, max_length=500)]


class LinkRequest(BaseModel):
    """Which files are to be had by links, and for how long."""

    model_config = ConfigDict(extra="forbid")

    paths: list[FilePath] | None = Field(
        None, description="The files' paths; all of the job's files unless given.", max_length=MOST_PATHS
    )
    seconds: int = Field(3600, description="How long the links download.", ge=1, le=LONGEST_SECONDS)


class LinkOut(BaseModel):
    """A link to one file."""

    path: str
    size: int = Field(description="Bytes.")
    sha256: str
    media_type: str
    url: str = Field(description="Downloads the file without a key, whole or in ranges, until it expires.")
    expires_at: datetime


class LinkList(BaseModel):
    """Links to files of a job."""

    items: list[LinkOut]
