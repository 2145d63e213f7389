"""Signing in: a key goes in, a session in a signed cookie that no script can read comes out."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from api.authentication import COOKIE, SESSION_SECONDS, Authenticator
from api.dashboard.routes import render
from api.deps import ServicesDep
from api.errors import ApiError

router = APIRouter(include_in_schema=False, tags=["session"])

_LOCAL = re.compile(r"/(?![/\\])[^\s\\]{0,1000}")


@router.get("/login")
def show(wanted: Annotated[str, Query(alias="next")] = "/") -> HTMLResponse:
    """Ask for a key."""
    return render("login.html", wanted=local(wanted), refused="")


@router.post("/login")
async def sign_in(request: Request, services: ServicesDep) -> Response:
    """Begin a session and go to the page that was wanted; a wrong key is asked for again."""
    form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=4)
    wanted = local(form.get("next", ["/"])[0])
    authenticator: Authenticator = request.app.state.authenticator
    try:
        cookie = await run_in_threadpool(authenticator.new_session, form.get("key", [""])[0].strip())
    except ApiError as error:
        return render("login.html", error.status_code, wanted=wanted, refused=error.detail)
    answer = RedirectResponse(wanted, 303)
    secure = (services.settings.public_url or "").startswith("https://")
    answer.set_cookie(COOKIE, cookie, max_age=SESSION_SECONDS, httponly=True, secure=secure, samesite="lax")
    return answer


@router.post("/logout")
def sign_out() -> RedirectResponse:
    """End the session of this browser."""
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="lax")
    return answer


def local(path: str) -> str:
    """Return a path of this server; what would lead elsewhere becomes the first page."""
    return path if _LOCAL.fullmatch(path) else "/"
