"""Every error as RFC 9457 problem+json: one table from domain error to status, type and advice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from trsp_core import errors as core
from trsp_core.errors import Problem
from trsp_jobs import errors as jobs
from trsp_jobs.db import OUTAGES

RETRY_SECONDS = 5
QUOTA_SECONDS = 30

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem.

    Attributes:
        slug: Last part of its stable `type`, `/problems/SLUG`, a page that this server answers.
        status: HTTP status.
        title: What kind it is; the same for every occurrence.
        advice: What its reader can do.
        retry_after: Seconds after which the same request may succeed; None where it never will.
    """

    slug: str
    status: int
    title: str
    advice: str
    retry_after: int | None = None

    @property
    def uri(self) -> str:
        """The `type` that clients compare."""
        return f"/problems/{self.slug}"


KINDS: tuple[Kind, ...] = (
    Kind(
        "malformed-json",
        400,
        "The body is not JSON",
        "Send one JSON object, UTF-8, with Content-Type: application/json.",
    ),
    Kind("bad-request", 400, "The request cannot be read", "Compare the request with /openapi.json."),
    Kind(
        "unauthorized",
        401,
        "A key is needed",
        "Send Authorization: Bearer KEY; the trsp command takes it from --key or TRSP_KEY.",
    ),
    Kind(
        "cross-site",
        403,
        "The request comes from another site",
        "Send it from this server's own pages, or from a program that is no browser.",
    ),
    Kind(
        "forbidden",
        403,
        "The key does not allow this",
        "Take a key with the right that is named; whoever has keys:admin can make one.",
    ),
    Kind("not-found", 404, "There is nothing at this address", "GET /openapi.json lists every address."),
    Kind(
        "job-not-found", 404, "There is no such job", "GET /v1/jobs lists the jobs; an id starts with job_."
    ),
    Kind(
        "artifact-not-found",
        404,
        "There is no such file",
        "GET /v1/jobs/ID/artifacts lists a job's files; they appear once it has succeeded.",
    ),
    Kind(
        "link-unknown",
        404,
        "There is no such link",
        "Copy the whole link, or make a new one with POST /v1/jobs/ID/links.",
    ),
    Kind(
        "link-ended",
        410,
        "The link downloads nothing any more",
        "Ask whoever sent it for a new one; POST /v1/jobs/ID/links makes it.",
    ),
    Kind("key-not-found", 404, "There is no such key", "GET /v1/keys lists the keys."),
    Kind(
        "webhook-not-found",
        404,
        "There is no such webhook or delivery",
        "GET /v1/webhooks lists the webhooks, GET /v1/webhooks/ID/deliveries what was sent to one.",
    ),
    Kind(
        "resource-not-found",
        404,
        "There is no such thing",
        "GET the list that it would be in: schedules, slots, models or calibration sets.",
    ),
    Kind(
        "method-not-allowed",
        405,
        "The address does not take this method",
        "The Allow header names the methods that it takes.",
    ),
    Kind(
        "request-timeout",
        408,
        "The body did not arrive in time",
        "Send the body at once and without pauses; the connection is closed.",
    ),
    Kind(
        "illegal-transition",
        409,
        "The job's status does not allow this",
        "Cancel takes unfinished jobs; retry takes failed, timed out and canceled ones; delete takes those "
        "that have ended.",
    ),
    Kind(
        "key-in-use",
        409,
        "The idempotency key is in use",
        "The first request under this key is still being answered. Send this one again in a moment.",
        RETRY_SECONDS,
    ),
    Kind(
        "conflict", 409, "The state of things does not allow this", "The detail says which, and what helps."
    ),
    Kind(
        "version-conflict",
        412,
        "It has changed since it was read",
        "Get it again, look at what changed, and send its new ETag as If-Match.",
    ),
    Kind("too-large", 413, "The body is too large", "A job is a few kilobytes; its data is named, not sent."),
    Kind(
        "unsupported-media-type", 415, "The body is not JSON", "Send it with Content-Type: application/json."
    ),
    Kind(
        "range-not-satisfiable",
        416,
        "The file has no such range",
        "Content-Range tells the file's size in bytes.",
    ),
    Kind(
        "misdirected-host",
        421,
        "This server does not answer to that host name",
        "Use the address that `trsp up` printed, or set TRSP_PUBLIC_URL to the name in use.",
    ),
    Kind(
        "invalid-request",
        422,
        "A parameter is wrong",
        "Each entry of errors points at one parameter and says what would be right.",
    ),
    Kind(
        "key-reused",
        422,
        "The idempotency key was used for another request",
        "Take a new key for a new request; the same key repeats the same request.",
    ),
    Kind(
        "invalid-spec",
        422,
        "The job spec is wrong",
        "Each entry of errors points at one field and says what would be right.",
    ),
    Kind(
        "model-refused",
        422,
        "The model cannot be compressed here",
        "Take a supported safetensors or GGUF model from a place that this server allows.",
    ),
    Kind(
        "calibration-refused",
        422,
        "The calibration text cannot be used",
        "Name a registered set, or a file under a folder that this server allows.",
    ),
    Kind("output-refused", 422, "The output cannot be written there", "Name another place."),
    Kind("input-refused", 422, "This input cannot be worked on", "Each entry of errors says why."),
    Kind(
        "quota-exceeded",
        429,
        "The key holds as much as it may",
        "Wait until some of its jobs have begun or are deleted, or ask whoever made the key for more.",
        QUOTA_SECONDS,
    ),
    Kind(
        "precondition-required",
        428,
        "A change must say what it is based on",
        "Send the ETag of what was read as If-Match.",
    ),
    Kind("too-many-requests", 429, "Too many requests", "Wait as long as Retry-After says.", RETRY_SECONDS),
    Kind(
        "file-damaged",
        500,
        "The stored file is not what was stored",
        "Its bytes have another SHA-256 than when they were stored. Make the result anew, or mend the store.",
    ),
    Kind(
        "internal-error",
        500,
        "The server made a mistake",
        "Nothing was half done. Report the request id; the server's log has the rest under it.",
    ),
    Kind(
        "database-unavailable",
        503,
        "The database does not answer",
        "Nothing was lost. Try again after Retry-After seconds.",
        RETRY_SECONDS,
    ),
    Kind(
        "store-unavailable",
        503,
        "The artifact store does not answer",
        "Nothing was lost. Try again after Retry-After seconds.",
        RETRY_SECONDS,
    ),
    Kind(
        "unavailable", 503, "The service is not ready", "Try again after Retry-After seconds.", RETRY_SECONDS
    ),
)
BY_SLUG: Mapping[str, Kind] = {kind.slug: kind for kind in KINDS}

_DOMAIN: tuple[tuple[type[Exception], str], ...] = (
    (core.InvalidSpec, "invalid-spec"),
    (core.ModelRefused, "model-refused"),
    (core.CalibrationRefused, "calibration-refused"),
    (core.OutputRefused, "output-refused"),
    (core.InputRefused, "input-refused"),
    (jobs.JobNotFound, "job-not-found"),
    (jobs.ArtifactNotFound, "artifact-not-found"),
    (jobs.LinkUnknown, "link-unknown"),
    (jobs.LinkEnded, "link-ended"),
    (jobs.IllegalTransition, "illegal-transition"),
    (jobs.WrongCursor, "invalid-request"),
    (jobs.VersionConflict, "version-conflict"),
    (jobs.KeyInUse, "key-in-use"),
    (jobs.KeyReused, "key-reused"),
    (jobs.KeyNotFound, "key-not-found"),
    (jobs.WebhookNotFound, "webhook-not-found"),
    (jobs.QuotaExceeded, "quota-exceeded"),
    (jobs.ResourceNotFound, "resource-not-found"),
    (jobs.Conflict, "conflict"),
    (jobs.DamagedFile, "file-damaged"),
    (jobs.StoreUnavailable, "store-unavailable"),
    *((cls, "database-unavailable") for cls in OUTAGES),
)
_HTTP: Mapping[int, str] = {
    400: "bad-request",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "too-large",
    415: "unsupported-media-type",
    416: "range-not-satisfiable",
    422: "invalid-request",
    429: "too-many-requests",
    503: "unavailable",
}


class ApiError(HTTPException):
    """An error that the HTTP layer itself raises, by the slug of its kind."""

    def __init__(
        self, slug: str, detail: str, *problems: Problem, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(BY_SLUG[slug].status, detail, dict(headers or {}))
        self.kind = BY_SLUG[slug]
        self.problems = problems


def invalid_request(*problems: Problem) -> ApiError:
    """Return the error for parameters that are wrong, each named by its pointer."""
    return ApiError("invalid-request", "\n".join(str(problem) for problem in problems), *problems)


@dataclass(frozen=True, slots=True)
class Described:
    """An exception as its reader will see it, before it is put into JSON or a page."""

    kind: Kind
    detail: str
    problems: Sequence[Problem] = ()
    headers: Mapping[str, str] | None = None


def describe(error: Exception) -> Described:
    """Return the kind and the words of any exception; unexpected ones give nothing of themselves away."""
    if isinstance(error, RequestValidationError):
        return _describe_validation(error)
    if isinstance(error, ApiError):
        return Described(error.kind, error.detail, error.problems, error.headers)
    if isinstance(error, HTTPException):
        return _describe_http(error)
    slug = next((slug for cls, slug in _DOMAIN if isinstance(error, cls)), "internal-error")
    kind = BY_SLUG[slug]
    if slug in ("internal-error", "database-unavailable"):
        return Described(kind, kind.advice)
    return Described(kind, str(error), getattr(error, "problems", ()))


def _describe_http(error: HTTPException) -> Described:
    slug = _HTTP.get(error.status_code, "internal-error" if error.status_code >= 500 else "bad-request")
    kind = BY_SLUG[slug]
    standard = error.status_code in (404, 405)
    return Described(kind, kind.advice if standard else str(error.detail), (), error.headers)


def _describe_validation(error: RequestValidationError) -> Described:
    entries = error.errors()
    if any(entry["type"] == "json_invalid" for entry in entries):
        entry = next(entry for entry in entries if entry["type"] == "json_invalid")
        where = f"{entry['ctx']['error']} at character {entry['loc'][-1]}"
        return Described(BY_SLUG["malformed-json"], f"The body is not JSON: {where}.")
    problems = [_problem(entry) for entry in entries]
    return Described(BY_SLUG["invalid-request"], "\n".join(map(str, problems)), problems)


def _problem(entry: Mapping[str, Any]) -> Problem:
    """Return a pydantic error entry as a problem; the pointer starts with where the parameter stands."""
    place, *names = entry["loc"]
    parts = names if place == "body" else [place, *names]
    value = entry.get("input")
    plain = value if isinstance(value, (str, int, float, bool)) else None
    return Problem("".join(f"/{part}" for part in parts), f"{entry['msg']}.", plain)


def to_body(described: Described, request_id: str, instance: str) -> dict[str, Any]:
    """Return the problem+json object."""
    return {
        "type": described.kind.uri,
        "title": described.kind.title,
        "status": described.kind.status,
        "detail": described.detail,
        "instance": instance,
        "advice": described.kind.advice,
        "request_id": request_id,
        "errors": [problem.to_dict() for problem in described.problems],
    }


def to_headers(described: Described) -> dict[str, str]:
    """Return the headers that the error demands, `Retry-After` where waiting helps."""
    headers = dict(described.headers or {})
    if described.kind.retry_after is not None:
        headers.setdefault("Retry-After", str(described.kind.retry_after))
    return headers


def request_id(scope: Scope) -> str:
    """Return the id that the request-id middleware gave this request."""
    return str(scope.get("state", {}).get("request_id", ""))


class ProblemResponse(JSONResponse):
    """problem+json in ASCII, since a refused value may hold half of a surrogate pair."""

    media_type = "application/problem+json"

    def render(self, content: Any) -> bytes:
        """Return the content as JSON, every other character escaped."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def problem_response(error: Exception, scope: Scope) -> ProblemResponse:
    """Return any exception as problem+json."""
    described = describe(error)
    body = to_body(described, request_id(scope), scope["path"])
    return ProblemResponse(body, described.kind.status, to_headers(described))


async def send_problem(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a problem from inside a middleware, where no exception handler reaches."""
    await _respond(error, scope)(scope, receive, send)


def _respond(error: Exception, scope: Scope) -> Response:
    page = scope["app"].state.error_page if "app" in scope else None
    wants_page = not scope["path"].startswith("/v1/") and accepts_html(scope)
    return page(error, scope) if page is not None and wants_page else problem_response(error, scope)


def accepts_html(scope: Scope) -> bool:
    """Tell whether a page is wanted."""
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])


async def _handle(request: Request, error: Exception) -> Response:
    return _respond(error, request.scope)


class UnexpectedErrors:
    """Outermost middleware: an error nobody foresaw is logged with its request id and answered with a 500."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; answer for whatever escapes before a response was begun."""
        started = False

        async def watched(message: Any) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            log.exception("request failed", request_id=request_id(scope), path=scope["path"])
            await send_problem(error, scope, receive, send)


def install(app: FastAPI) -> None:
    """Register the table with the application."""
    for cls in (HTTPException, RequestValidationError, *(cls for cls, _ in _DOMAIN)):
        app.add_exception_handler(cls, _handle)
