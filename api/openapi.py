"""The OpenAPI document, in which every error that can be answered is told with its real media type."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.authentication import is_open
from api.problem_responses import components, refer

KEY = {"type": "http", "scheme": "bearer", "description": "A key of this service, `trsp_…`."}
FRAMEWORKS_OWN = ("HTTPValidationError", "ValidationError")
"""Schemas that the framework adds for validation errors, which are problems here."""


def document(app: FastAPI) -> dict[str, Any]:
    """Return the application's OpenAPI document, made once."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        for path, item in found["paths"].items():
            for operation in item.values():
                refer(path, operation)
                operation["security"] = [] if is_open(path) else [{"key": []}]
        _complete(found["components"])
        app.openapi_schema = found
    return app.openapi_schema


def _complete(parts: dict[str, Any]) -> None:
    """Add what the operations refer to; `parts` is changed."""
    shared = components()
    parts["responses"] = shared["responses"]
    parts["securitySchemes"] = {"key": KEY}
    parts["schemas"].update(shared["schemas"])
    for name in FRAMEWORKS_OWN:
        parts["schemas"].pop(name, None)
    parts["schemas"] = without_object_defaults(parts["schemas"])


def without_object_defaults(schema: Any) -> Any:
    """Return a schema in which no field has an object for its default, which generators of clients cannot read.

    The fields of the object tell their own defaults.
    """
    if isinstance(schema, list):
        return [without_object_defaults(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: without_object_defaults(item)
        for name, item in schema.items()
        if not (name == "default" and isinstance(item, dict) and "type" not in item)
    }
