"""Keys: create, list, show, revoke."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from api.deps import CallerDep, JsonBody, ServicesDep
from api.errors import ApiError, invalid_request
from api.idempotency import NotKeyed
from api.key_schemas import KeyBody, KeyList, KeyOut, NewKeyOut
from trsp_core.errors import Problem
from trsp_jobs import service
from trsp_jobs.callers import Caller
from trsp_jobs.errors import KeyNotFound
from trsp_jobs.scopes import Scope
from trsp_jobs.service import KeyRequest

router = APIRouter(prefix="/v1/keys", tags=["keys"])

_ID = re.compile(r"key_[0-9a-z]{26}")


def check_key_id(key_id: Annotated[str, Path(description="The key's id, `key_…`.")]) -> str:
    """Return the id; one that no key can have is no key's."""
    if not _ID.fullmatch(key_id):
        raise KeyNotFound(f"there is no key {key_id[:80]!r}")
    return key_id


KeyId = Annotated[str, Depends(check_key_id)]


@router.post("", status_code=201, dependencies=[JsonBody, NotKeyed], summary="Create a key")
def create(body: KeyBody, services: ServicesDep, caller: CallerDep, response: Response) -> NewKeyOut:
    """Make a key and show its text, this once. Nobody can give a right, or an owner, that they lack."""
    wanted = read_request(body, caller)
    with services.session() as session:
        row, key = service.create_key(session, wanted, secret=services.secret, maker=caller)
        shown = NewKeyOut.of(row, key)
    response.headers["Location"] = f"/v1/keys/{row.id}"
    response.headers["Cache-Control"] = "no-store"
    return shown


def read_request(body: KeyBody, caller: Caller) -> KeyRequest:
    """Return the key that is to be made.

    Raises:
        ApiError: If the caller cannot give that much (403), or the key would have ended already (422).
    """
    owner = body.owner or caller.owner
    lacking = sorted(set(body.scopes) - caller.scopes)
    if lacking:
        raise ApiError(
            "forbidden", f"The key {caller.name!r} cannot give {', '.join(lacking)}, which it lacks."
        )
    if not caller.sees(owner):
        detail = f"The key {caller.name!r} makes keys of the owner {caller.owner!r} only, not of {owner!r}."
        raise ApiError("forbidden", f"{detail} {Scope.OWNERS_ALL} would allow it.")
    if body.expires_at is not None and body.expires_at <= datetime.now(UTC):
        raise invalid_request(
            Problem("/expires_at", "has passed; give a time to come.", str(body.expires_at))
        )
    chosen = body.model_dump(exclude={"owner", "scopes"})
    return KeyRequest(**chosen, owner=owner, scopes=frozenset(body.scopes))


@router.get("", summary="List the keys")
def list_keys(services: ServicesDep, caller: CallerDep) -> KeyList:
    """Return the keys of the caller's owner, or of all for a key with owners:all."""
    with services.session() as session:
        return KeyList(items=[KeyOut.model_validate(row) for row in service.list_keys(session, caller)])


@router.get("/{key_id}", summary="Show a key")
def show(key_id: KeyId, services: ServicesDep, caller: CallerDep) -> KeyOut:
    """Return a key, without its text."""
    with services.session() as session:
        return KeyOut.model_validate(service.get_key(session, key_id, caller))


@router.delete("/{key_id}", status_code=204, summary="Revoke a key")
def revoke(key_id: KeyId, services: ServicesDep, caller: CallerDep) -> None:
    """End a key at once; its row stays, for the audit. Doing it again changes nothing."""
    with services.session() as session:
        service.revoke_key(session, key_id, caller)
