"""Who sends a request: by the key that it shows, or by the session that a browser got for one."""

from __future__ import annotations

import hmac
from urllib.parse import quote

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from api.deps import MissingKey, Services
from api.errors import ApiError, accepts_html, send_problem
from trsp_jobs import service, tokens
from trsp_jobs.callers import OPERATOR, Caller
from trsp_jobs.db import OUTAGES, statement_scope

COOKIE = "trsp_session"
SESSION_SECONDS = 12 * 3600
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/version", "/login", "/problems", "/favicon.ico"})
OPEN_FOLDERS = ("/static/", "/problems/", "/links/")
"""What tells nothing of anybody's jobs: health, the way in, the pages' looks and the explanations of errors; and
links, which carry their own right."""


class Authenticator:
    """Knows callers by their keys. Each look goes to the database, so that a revoked key ends at once.

    Raises:
        MissingKey: If the service has no secret, or no key that could make others.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._signer = URLSafeTimedSerializer(services.secret, salt="trsp-session")
        key = services.settings.api_key
        self._operator = None if key is None else tokens.digest(services.secret, key.get_secret_value())
        if self._operator is None and not self._has_admin():
            raise MissingKey("No key lets anybody in; set TRSP_API_KEY to the operator's key.")

    def _has_admin(self) -> bool:
        """Tell whether a stored key can make others; while the database is away nobody gets in anyhow."""
        try:
            with self._services.session() as session:
                return service.has_admin(session)
        except OUTAGES:
            return True

    def by_token(self, token: str) -> Caller:
        """Return the holder of a key.

        Raises:
            ApiError: If there is none (401).
        """
        return self._by_digest(tokens.digest(self._services.secret, token), token)

    def by_session(self, cookie: str) -> Caller:
        """Return the holder of the key that a session was begun with.

        Raises:
            ApiError: If the session is over or forged, or the key does not let in any more (401).
        """
        try:
            return self._by_digest(str(self._signer.loads(cookie, max_age=SESSION_SECONDS)))
        except BadData as error:
            raise ApiError("unauthorized", "The session is over; sign in again.") from error

    def new_session(self, token: str) -> str:
        """Return the cookie of a new session for the holder of a key; the key cannot be read from it.

        Raises:
            ApiError: If the key lets nobody in (401).
        """
        self.by_token(token)
        return str(self._signer.dumps(tokens.digest(self._services.secret, token)))

    def _by_digest(self, digest: str, token: str | None = None) -> Caller:
        if self._operator is not None and hmac.compare_digest(digest, self._operator):
            return OPERATOR
        if token is not None and not tokens.is_whole(token):
            raise ApiError("unauthorized", "That is no key of this service: it is cut short or mistyped.")
        with statement_scope(self._services.sessions) as session:
            found = service.find_key(session, digest)
        if found is None:
            raise ApiError("unauthorized", "The key is not known here.")
        if found.ended is not None:
            raise ApiError("unauthorized", f"The key {found.caller.name!r} {found.ended}.")
        return found.caller


class Authentication:
    """Middleware: lets nothing but the open paths through without a caller, whom it notes for the routes."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self.app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its caller, or answer that a key is needed."""
        if scope["type"] == "http" and not is_open(scope["path"]):
            try:
                caller = await run_in_threadpool(self._identify, scope)
            except (ApiError, *OUTAGES) as error:
                await _turn_away(error, scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
        await self.app(scope, receive, send)

    def _identify(self, scope: Scope) -> Caller:
        headers = Headers(scope=scope)
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and value.strip():
            return self._authenticator.by_token(value.strip())
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        if kind or not cookie:
            raise ApiError("unauthorized", "No key was sent.")
        if scope["method"] not in ("GET", "HEAD") and not _says_where_from(headers):
            raise ApiError(
                "cross-site", "A session changes nothing for a request that does not say its origin."
            )
        return self._authenticator.by_session(cookie)


def is_open(path: str) -> bool:
    """Tell whether a path is for everybody."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)


def _says_where_from(headers: Headers) -> bool:
    return "sec-fetch-site" in headers or "origin" in headers


async def _turn_away(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Show a person who reads a page the way in; answer everybody else with the problem."""
    denied = isinstance(error, ApiError) and error.kind.slug == "unauthorized"
    page = not scope["path"].startswith("/v1/") and accepts_html(scope)
    if denied and page and scope["method"] == "GET":
        query = scope["query_string"].decode("latin-1")
        wanted = scope["path"] + (f"?{query}" if query else "")
        await RedirectResponse(f"/login?next={quote(wanted, safe='')}", 303)(scope, receive, send)
        return
    if denied and isinstance(error, ApiError):
        error.headers = {"WWW-Authenticate": 'Bearer realm="trsp"'}
    await send_problem(error, scope, receive, send)
