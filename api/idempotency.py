"""`Idempotency-Key`: a request that is sent again gets the answer of the first time, and changes nothing.

Every POST that creates takes one but `POST /v1/keys`, whose answer holds a secret that is stored nowhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session
from starlette.background import BackgroundTask

from api.deps import CallerDep, Services
from api.errors import invalid_request
from trsp_core.errors import Problem
from trsp_jobs import stored_answers
from trsp_jobs.stored_answers import Keyed, StoredAnswer

REPLAYED = "Idempotency-Replayed"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that can be kept: status, the Location header, and the body as JSON types."""

    status: int
    body: dict[str, Any]
    location: str | None = None

    def response(self, *, replayed: bool = False) -> JSONResponse:
        """Return it as it is sent."""
        headers = {"Location": self.location} if self.location else {}
        if replayed:
            headers[REPLAYED] = "true"
        return JSONResponse(self.body, self.status, headers)


async def get_keyed(
    request: Request,
    caller: CallerDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Your own name for this request, 1 to 255 visible ASCII characters. Sent again within "
            "24 hours with the same body, it gets the same answer; with another body, 422."
        ),
    ] = None,
) -> Keyed | None:
    """Return the request's key with what it stands for; None without one."""
    if idempotency_key is None:
        return None
    if not _KEY.fullmatch(idempotency_key):
        allowed = "1 to 255 visible ASCII characters"
        raise invalid_request(Problem("/header/idempotency-key", f"must be {allowed}.", None, allowed))
    asked = hashlib.sha256(f"{request.method} {request.url.path}\n".encode())
    asked.update(await request.body())
    return Keyed(caller.owner, idempotency_key, asked.hexdigest())


OnceKey = Annotated[Keyed | None, Depends(get_keyed)]


async def refuse_keyed(
    idempotency_key: Annotated[
        str | None, Header(description="Not taken here: the answer holds a secret, which is not kept.")
    ] = None,
) -> None:
    """Refuse a key where the answer could not be given again, rather than promise what cannot be kept."""
    if idempotency_key is not None:
        message = (
            "is not taken here: the answer holds a secret that is stored nowhere, so it cannot be given again. "
            "Send the request without it; if the answer is lost, GET /v1/keys and revoke the new key."
        )
        raise invalid_request(Problem("/header/idempotency-key", message, None, "no such header"))


NotKeyed = Depends(refuse_keyed)


def earlier(services: Services, keyed: Keyed | None) -> JSONResponse | None:
    """Return the answer that was given under the key; None if the request is new."""
    if keyed is None:
        return None
    with services.session() as session:
        found = stored_answers.find(session, keyed)
    return None if found is None else _again(found)


def nothing(_: Answer) -> None:
    """What follows work that is done with its commit."""


def once(
    services: Services,
    keyed: Keyed | None,
    work: Callable[[Session], Answer],
    then: Callable[[Answer], None] = nothing,
) -> JSONResponse:
    """Do the work and keep its answer in one transaction, or return what was answered before.

    Args:
        then: Called after the commit, once the answer has been sent; only if the work was done now.
    """
    with services.session() as session:
        known = None if keyed is None else stored_answers.begin(session, keyed)
        if known is not None:
            return _again(known)
        answer = work(session)
        if keyed is not None:
            stored_answers.keep(session, keyed, answer.status, answer.location, answer.body)
    response = answer.response()
    response.background = BackgroundTask(then, answer)
    return response


def _again(found: StoredAnswer) -> JSONResponse:
    return Answer(found.status, found.body, found.location).response(replayed=True)
