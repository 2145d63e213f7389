"""Calibration sets: uploaded texts, used by jobs as `upload:ID`, deleted with proof."""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from api.deps import CallerDep, Services, ServicesDep, refuse_foreign
from api.errors import ApiError
from api.input_schemas import CalibrationSetDetail, CalibrationSetOut, CalibrationSetPage, TokenCountOut
from api.problem_responses import problems
from api.uploads import received
from trsp_jobs.errors import ResourceNotFound, StoreUnavailable
from trsp_jobs.inputs import calibration_sets, token_counts
from trsp_jobs.inputs.calibration_sets import ReceivedText
from trsp_jobs.inputs.content import check_content

UPLOAD_PATH = "/v1/calibration-sets"
SET_ID = re.compile(r"cal_[0-9a-z]{26}")
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The text as it is.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}

router = APIRouter(prefix=UPLOAD_PATH, tags=["calibration-sets"])

_counting = threading.Lock()
"""Held while a text is counted: a second count in the same process would only slow both."""


def check_set_id(
    set_id: Annotated[str, Path(description="The text's id, `cal_…`.")],
    caller: CallerDep,
    services: ServicesDep,
) -> str:
    """Return the id; one that no text has, or that somebody else's has, is no text's."""
    if not SET_ID.fullmatch(set_id):
        raise ResourceNotFound("calibration set", set_id[:80])
    find = partial(calibration_sets.get_set, set_id=set_id)
    refuse_foreign(services, caller, "calibration set", set_id, find)
    return set_id


SetId = Annotated[str, Depends(check_set_id)]


@router.post(
    "",
    status_code=201,
    summary="Upload a text",
    openapi_extra=_BODY,
    responses={200: {"model": CalibrationSetOut, "description": "The very same text was here already."}},
)
async def upload(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    response: Response,
    name: Annotated[
        str,
        Query(
            description="What a person calls it.", min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$"
        ),
    ],
    kind: Annotated[Literal["text", "jsonl", "parquet"], Query(description="How it is read.")],
) -> CalibrationSetOut:
    """Keep a text. It is streamed to the store, counted and hashed.

    The very same bytes are kept once, so an upload whose answer was lost is simply sent again: there is
    no `Idempotency-Key` here, the text's own hash does its work.
    """
    async with received(request, services.settings.upload_dir, kind) as text:
        shown, new = await run_in_threadpool(_keep, services, caller.owner, name, text)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"{UPLOAD_PATH}/{shown.id}"
    return shown


def _keep(services: Services, owner: str, name: str, text: ReceivedText) -> tuple[CalibrationSetOut, bool]:
    check_content(text.path, text.kind)
    row, new = calibration_sets.keep(services.sessions, services.store, owner, name, text)
    return CalibrationSetOut.of(row), new


@router.get("", summary="List uploaded texts, newest first")
def list_sets(
    services: ServicesDep,
    caller: CallerDep,
    after: Annotated[
        str | None, Query(description="`next_cursor` of the page before.", pattern=f"^{SET_ID.pattern}$")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    deleted: Annotated[bool, Query(description="The deleted ones instead.")] = False,
) -> CalibrationSetPage:
    """Return one page of the texts that jobs may use, or of the deleted ones."""
    with services.session() as session:
        page = calibration_sets.list_sets(
            session, after=after, limit=limit, deleted=deleted, owner=caller.visible_owner
        )
        items = [CalibrationSetOut.of(row) for row in page.items]
    return CalibrationSetPage(items=items, next_cursor=page.next_cursor)


@router.get("/{set_id}", summary="Show an uploaded text")
def show(set_id: SetId, services: ServicesDep) -> CalibrationSetDetail:
    """Return what is known of the text, deleted or not, and the jobs that named it."""
    return _detail(services, set_id)


@router.get("/{set_id}/tokens", responses=problems(409, 429), summary="Count a text's tokens")
def count(
    set_id: SetId,
    services: ServicesDep,
    caller: CallerDep,
    model: Annotated[
        str, Query(description="The model whose tokenizer counts.", min_length=1, max_length=1024)
    ],
    field: Annotated[
        str, Query(description="Field or column to read; `text` unless given.", pattern=r"^[^\x00]*$")
    ] = "",
) -> TokenCountOut:
    """Return how many tokens the text has; counted the first time, which may take minutes, then remembered."""
    if not _counting.acquire(blocking=False):
        raise ApiError("too-many-requests", "Another text is being counted.", headers={"Retry-After": "5"})
    try:
        found = token_counts.count(
            services.sessions, services.store, services.settings, set_id, model, field, caller=caller
        )
    finally:
        _counting.release()
    return TokenCountOut.model_validate(found)


@router.delete("/{set_id}", responses=problems(409), summary="Delete an uploaded text")
def delete(set_id: SetId, services: ServicesDep, caller: CallerDep) -> CalibrationSetDetail:
    """Give the text up and remove its bytes; the answer is the proof, and stays readable.

    While the store is away `erased_at` stays null, and the bytes go when it is back.
    """
    with services.session() as session:
        calibration_sets.delete(session, set_id, by=caller.owner)
    with suppress(StoreUnavailable):
        calibration_sets.erase(services.sessions, services.store)
    return _detail(services, set_id)


def _detail(services: Services, set_id: str) -> CalibrationSetDetail:
    with services.session() as session:
        row = calibration_sets.get_set(session, set_id)
        shown = CalibrationSetDetail.of(row)
        shown.used_by = list(calibration_sets.users_of(session, set_id))
    return shown
