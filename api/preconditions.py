"""What a change is based on: the version that its sender has read."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header

from api.errors import ApiError

_TAG = re.compile(r'(?:W/)?"(\d{1,18})"', re.ASCII)


def version_tag(version: int) -> str:
    """Return the ETag of a row by its version."""
    return f'"{version}"'


def get_based_on(
    if_match: Annotated[str | None, Header(description="The ETag that the change is based on.")] = None,
) -> int:
    """Return the version that a change is based on.

    Raises:
        ApiError: If none is given (428), or it is no ETag of this API (412).
    """
    if if_match is None:
        raise ApiError(
            "precondition-required", "If-Match is missing; a change must name the ETag that was read."
        )
    found = _TAG.fullmatch(if_match.strip())
    if found is None:
        raise ApiError(
            "version-conflict", f"If-Match is {if_match[:80]!r}, which is no ETag of this resource."
        )
    return int(found[1])


BasedOn = Annotated[int, Depends(get_based_on)]
