"""Slots: what is published under which name, since when, and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from sqlalchemy.orm import Session

from api.deps import CallerDep, JobId, JsonBody, Services, ServicesDep, refuse_foreign
from api.idempotency import Answer, OnceKey, earlier, once
from api.routes.files import find
from api.slot_schemas import (
    SLOT_PATTERN,
    DecisionOut,
    DecisionPage,
    PublishRequest,
    RollbackRequest,
    SlotOut,
    SlotPage,
)
from trsp_jobs import slots
from trsp_jobs.errors import ResourceNotFound
from trsp_jobs.slots.gate import SLOT_NAME
from trsp_jobs.slots.rows import SlotDecision

router = APIRouter(prefix="/v1", tags=["slots"])


def check_slot_name(
    name: Annotated[str, Path(description="The slot's name.")], caller: CallerDep, services: ServicesDep
) -> str:
    """Return the name; one that no slot has, or that somebody else's has, is no slot's."""
    if not SLOT_NAME.fullmatch(name):
        raise ResourceNotFound("slot", name[:80])
    refuse_foreign(services, caller, "slot", name, lambda session: slots.get_slot(session, name)[0])
    return name


SlotName = Annotated[str, Depends(check_slot_name)]


@router.get("/slots", summary="List slots")
def list_slots(
    services: ServicesDep,
    caller: CallerDep,
    after: Annotated[
        str | None, Query(description="`next_cursor` of the page before.", pattern=SLOT_PATTERN)
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> SlotPage:
    """Return one page, each slot with its current result."""
    with services.session() as session:
        page = slots.list_slots(session, after=after, limit=limit, owner=caller.visible_owner)
        items = [SlotOut.of(slot, top) for slot, top in page.items]
    return SlotPage(items=items, next_cursor=page.next_cursor)


@router.get("/slots/{name}", summary="Show a slot")
def show(name: SlotName, services: ServicesDep) -> SlotOut:
    """Return the slot and its current result."""
    with services.session() as session:
        return SlotOut.of(*slots.get_slot(session, name))


@router.get("/slots/{name}/history", summary="What was decided about a slot")
def history(
    name: SlotName,
    services: ServicesDep,
    before: Annotated[
        int | None, Query(description="`next_before` of the page before.", ge=1, le=2**53)
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> DecisionPage:
    """Return every decision with the figures that it was made by, latest first."""
    with services.session() as session:
        rows, following = slots.history(session, name, before=before, limit=limit)
        return DecisionPage(items=[DecisionOut.model_validate(row) for row in rows], next_before=following)


@router.post(
    "/jobs/{job_id}/publish",
    response_model=DecisionOut,
    dependencies=[JsonBody],
    summary="Publish a result",
)
def publish(
    job_id: JobId, body: PublishRequest, services: ServicesDep, caller: CallerDep, keyed: OnceKey
) -> Response:
    """Make a job's result the current one of a slot, whatever the gate would say; the figures are kept."""
    known = earlier(services, keyed)
    if known is not None:
        return known
    report = _report(services, job_id)
    decide = partial(slots.publish, job_id=job_id, slot_name=body.slot, report=report, by=caller.owner)
    return once(services, keyed, partial(_decided, decide))


@router.post(
    "/jobs/{job_id}/rollback",
    response_model=DecisionOut,
    dependencies=[JsonBody],
    summary="Take a published result back",
)
def rollback(
    job_id: JobId, body: RollbackRequest, services: ServicesDep, caller: CallerDep, keyed: OnceKey
) -> Response:
    """Take the current result off its slot; the one that was published before becomes current again."""
    decide = partial(slots.rollback, job_id=job_id, slot_name=body.slot, by=caller.owner)
    return once(services, keyed, partial(_decided, decide))


def _decided(decide: Callable[[Session], SlotDecision], session: Session) -> Answer:
    return Answer(200, DecisionOut.model_validate(decide(session)).model_dump(mode="json"))


def _report(services: Services, job_id: str) -> dict[str, Any]:
    row = find(services, job_id, "report.json")
    return dict(json.loads(b"".join(services.store.open_range(row.store_path))))
