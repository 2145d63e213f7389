"""Who changed what, and what each key has used."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.deps import CallerDep, ServicesDep
from api.key_schemas import AuditOut, AuditPage, UsageList, UsageOut
from trsp_jobs import service

router = APIRouter(prefix="/v1")


@router.get("/audit", tags=["audit"], summary="Who changed what?")
def entries(
    services: ServicesDep,
    caller: CallerDep,
    after: Annotated[
        int | None, Query(ge=0, le=2**62, description="`next_cursor` of the page before.")
    ] = None,
    subject: Annotated[str | None, Query(max_length=200, pattern="^[^\x00]*$")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditPage:
    """Return the changes made with the keys of the caller's owner, or of all for a key with owners:all."""
    with services.session() as session:
        rows = service.list_audit(session, caller, after=after, subject=subject, limit=limit + 1)
        items = [AuditOut.model_validate(row) for row in rows[:limit]]
    return AuditPage(items=items, next_cursor=items[-1].id if len(rows) > limit else None)


@router.get("/usage", tags=["usage"], summary="What has each key used?")
def usage(services: ServicesDep, caller: CallerDep) -> UsageList:
    """Return what the keys of the caller's owner, or of all for a key with owners:all, have used."""
    with services.session() as session:
        return UsageList(items=[UsageOut(**row) for row in service.usage(session, caller)])
