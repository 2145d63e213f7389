"""The OpenAPI document, in which errors carry their real media type."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.errors import ProblemResponse

ERRORS = ("4XX", "5XX")


def document(app: FastAPI) -> dict[str, Any]:
    """Return the application's OpenAPI document, made once."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        for path in found["paths"].values():
            for operation in path.values():
                _mark_problems(operation["responses"])
        app.openapi_schema = found
    return app.openapi_schema


def _mark_problems(responses: dict[str, Any]) -> None:
    for name in ERRORS:
        (shape,) = responses[name]["content"].values()
        responses[name]["content"] = {ProblemResponse.media_type: shape}
