"""ETags: what a client has seen, so that polls cost little and changes do not cross one another."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response

from trsp_jobs import models

NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "Nothing changed."}}
_JOB_TAG = re.compile(r'"(\d{1,18})-[0-9a-f]{8}"', re.ASCII)


def job_tag(job: models.Job, reason: str) -> str:
    """Return the row's version with a hash of the reason, which changes with other jobs and workers."""
    return f'"{job.version}-{_short_hash(reason)}"'


def content_tag(content: bytes) -> str:
    """Return the ETag of an answer that is known by its bytes alone."""
    return f'"{_short_hash(content.decode(errors="replace"))}"'


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def unchanged(request: Request, tag: str) -> Response | None:
    """Return the 304 for a client that has seen this; None for any other."""
    given = request.headers.get("if-none-match", "")
    if tag not in {item.strip().removeprefix("W/") for item in given.split(",")}:
        return None
    return Response(status_code=304, headers=cache_headers(tag))


def cache_headers(tag: str) -> dict[str, str]:
    """Return the headers of an answer that may be kept, but is to be asked for each time."""
    return {"ETag": tag, "Cache-Control": "private, no-cache"}


async def get_versions(
    if_match: Annotated[
        str | None,
        Header(description="The job's ETag; if the job has changed since, 412 and nothing is done."),
    ] = None,
) -> Collection[int] | None:
    """Return the versions of a job that the client knows; None if it does not mind which one there is."""
    if if_match is None or if_match.strip() == "*":
        return None
    tags = (_JOB_TAG.fullmatch(item.strip()) for item in if_match.split(","))
    return frozenset(int(tag[1]) for tag in tags if tag is not None)


Versions = Annotated[Collection[int] | None, Depends(get_versions)]
