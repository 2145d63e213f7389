"""Which problems an operation answers with, for the OpenAPI document: by what it takes, and what its route adds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from api.authentication import is_open
from api.errors import KINDS, ProblemResponse
from api.schemas import ProblemOut

Responses = dict[int | str, dict[str, Any]]

EVERYWHERE = (400, 413, 421, 422, 500, 503)
BEHIND_A_KEY = (401, 403)
WITH_A_BODY = (408,)
WITH_A_JSON_BODY = (415,)
BY_HEADER: Mapping[str, int] = {"idempotency-key": 409, "if-match": 412}
_HEADERS: Mapping[int, tuple[str, str]] = {
    401: ("WWW-Authenticate", "How a key is sent."),
    429: ("Retry-After", "Seconds to wait."),
    503: ("Retry-After", "Seconds to wait."),
}
"""Headers that a problem of a status comes with."""


def problems(*statuses: int) -> Responses:
    """Return what a route adds to `responses` for statuses that do not follow from what it takes."""
    return {status: {"description": _title(status)} for status in statuses}


def statuses_of(path: str, operation: Mapping[str, Any]) -> Iterator[int]:
    """Return the statuses that follow from an operation's path, parameters and body."""
    yield from EVERYWHERE
    if not is_open(path):
        yield from BEHIND_A_KEY
    if "{" in path:
        yield 404
    content = operation.get("requestBody", {}).get("content", {})
    yield from WITH_A_BODY if content else ()
    yield from WITH_A_JSON_BODY if "application/json" in content else ()
    names = (parameter["name"].lower() for parameter in operation.get("parameters", ()))
    yield from (BY_HEADER[name] for name in names if name in BY_HEADER)


def refer(path: str, operation: Mapping[str, Any]) -> None:
    """Let every problem of an operation refer to the shared response of its status; `operation` is changed."""
    responses = operation["responses"]
    added = (int(name) for name, said in responses.items() if name >= "400" and "content" not in said)
    for status in sorted({*added, *statuses_of(path, operation)}):
        own = responses.get(str(status), {}).get("content", {})
        if status == 422 or not own:
            responses[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}


def components() -> dict[str, dict[str, Any]]:
    """Return the shared responses and the schemas that they are made of."""
    schema = ProblemOut.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = schema.pop("$defs")
    statuses = sorted({kind.status for kind in KINDS})
    return {
        "responses": {f"Problem{status}": _response(status) for status in statuses},
        "schemas": {"ProblemOut": schema, **parts},
    }


def _response(status: int) -> dict[str, Any]:
    content = {ProblemResponse.media_type: {"schema": {"$ref": "#/components/schemas/ProblemOut"}}}
    said: dict[str, Any] = {"description": _title(status), "content": content}
    if status in _HEADERS:
        name, about = _HEADERS[status]
        said["headers"] = {name: {"description": about, "schema": {"type": "string"}}}
    return said


def _title(status: int) -> str:
    return "; ".join(kind.title for kind in KINDS if kind.status == status)
