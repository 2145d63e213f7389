"""What every request passes: an id, safe headers, the host and the origin."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import SAFE_METHODS
from api.errors import ApiError, send_problem

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
}
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:@/?#\[\]\\\s,]+))(?::\d{1,5})?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Check = Callable[[Scope, Headers], ApiError | None]


class RequestId:
    """Gives each request an id, takes a well-formed one over, and sends it back with the safe headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on under its id."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        identifier = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = identifier

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                _mark(message, identifier)
            await send(message)

        await self.app(scope, receive, marked)


def _mark(message: MutableMapping[str, Any], identifier: str) -> None:
    headers = MutableHeaders(scope=message)
    headers["X-Request-ID"] = identifier
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)


class Gate:
    """Turns a request away, with a problem, when one of its checks says so."""

    def __init__(self, app: ASGIApp, checks: tuple[Check, ...]) -> None:
        self.app = app
        self.checks = checks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if every check is content."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            refusals = (check(scope, headers) for check in self.checks)
            error = next((error for error in refusals if error is not None), None)
            if error is not None:
                await send_problem(error, scope, receive, send)
                return
        await self.app(scope, receive, send)


def host_check(allowed: frozenset[str]) -> Check:
    """Refuse host names that are not this server's, so that no rebound DNS name reaches a local service."""

    def check(_: Scope, headers: Headers) -> ApiError | None:
        host = headers.get("host", "")
        if host_name(host) in allowed:
            return None
        detail = f"The Host header is {host[:100]!r}; this server answers to {', '.join(sorted(allowed))}."
        return ApiError("misdirected-host", detail)

    return check


def host_name(host: str) -> str | None:
    """Return the name in a Host header, without port and brackets, lower case; None if it is malformed."""
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]).lower() if found else None


def _place(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def site_check(scope: Scope, headers: Headers) -> ApiError | None:
    """Refuse changes that a browser sends for another site; programs send neither of the two headers."""
    if scope["method"] in SAFE_METHODS:
        return None
    site = headers.get("sec-fetch-site")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        origin = headers.get("origin")
        foreign = origin is not None and _place(origin) != headers.get("host", "")
    return ApiError("cross-site", "A page of another site sent this request.") if foreign else None
