"""Keys: make, find, revoke; and whether a key may take more on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Session

from trsp_jobs import key_repository, tokens
from trsp_jobs.access_models import ApiKey, AuditEntry
from trsp_jobs.callers import Caller
from trsp_jobs.errors import KeyNotFound, QuotaExceeded
from trsp_jobs.ids import new_id
from trsp_jobs.scopes import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """A key as it is asked for; see `ApiKey` for the fields."""

    name: str
    owner: str
    scopes: frozenset[Scope]
    expires_at: datetime | None = None
    max_queued: int | None = None
    max_running: int | None = None
    max_stored_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class FoundKey:
    """What a digest stands for: its holder, and why it does not let in any more (None if it does)."""

    caller: Caller
    ended: str | None


def create_key(session: Session, wanted: KeyRequest, *, secret: str, maker: Caller) -> tuple[ApiKey, str]:
    """Store a new key and return it with its text, which is not to be had again."""
    token = tokens.new_token()
    key = ApiKey(
        id=new_id("key"),
        name=wanted.name,
        owner=wanted.owner,
        hint=token[: tokens.HINT_CHARACTERS],
        digest=tokens.digest(secret, token),
        scopes=sorted(wanted.scopes),
        created_by=maker.key_id,
        expires_at=wanted.expires_at,
        max_queued=wanted.max_queued,
        max_running=wanted.max_running,
        max_stored_bytes=wanted.max_stored_bytes,
    )
    session.add(key)
    session.flush()
    return key, token


def find_key(session: Session, digest: str) -> FoundKey | None:
    """Return whose key has this digest; None if nobody's has."""
    found = key_repository.find_key(session, digest)
    if found is None:
        return None
    key, over = found
    ended = "was revoked" if key.revoked_at else "has expired" if over else None
    return FoundKey(_caller(key), ended)


def _caller(key: ApiKey) -> Caller:
    known = frozenset(scope for scope in Scope if scope in key.scopes)
    limited = key.max_queued is not None or key.max_stored_bytes is not None
    return Caller(key.id, key.name, key.owner, known, limited)


def get_key(session: Session, key_id: str, caller: Caller) -> ApiKey:
    """Return a key that the caller reaches.

    Raises:
        KeyNotFound: If there is none.
    """
    key = key_repository.get_key(session, key_id)
    if key is None or not caller.sees(key.owner):
        raise KeyNotFound(f"there is no key {key_id!r}")
    return key


def list_keys(session: Session, caller: Caller) -> Sequence[ApiKey]:
    """Return the keys that the caller reaches, newest first, those that have ended among them."""
    return key_repository.list_keys(session, caller.visible_owner)


def has_admin(session: Session) -> bool:
    """Tell whether there is a valid key that may make keys."""
    return key_repository.has_admin(session)


def revoke_key(session: Session, key_id: str, caller: Caller) -> None:
    """End a key at once; doing it again changes nothing.

    Raises:
        KeyNotFound: If there is none.
    """
    key = get_key(session, key_id, caller)
    if key.revoked_at is None:
        key.revoked_at = func.now()


def admit(session: Session, key_id: str | None) -> None:
    """Refuse a further job if its key holds as much as it may; where that is limited, others wait until it is counted.

    Args:
        session: The transaction that will queue the job.
        key_id: The key that the job counts for; None for the operator's, which has no quota.

    Raises:
        QuotaExceeded: With the quota and what counts for it.
    """
    key = None if key_id is None else key_repository.lock_quotas(session, key_id)
    if key is None:
        return
    if key.max_queued is not None:
        waiting = key_repository.count_queued(session, key.id)
        if waiting >= key.max_queued:
            limit = f"{key.max_queued} are allowed"
            raise QuotaExceeded(f"the key {key.name!r} has {waiting} jobs queued; {limit}")
    if key.max_stored_bytes is not None:
        stored = key_repository.stored_bytes(session, key.id)
        if stored >= key.max_stored_bytes:
            limit = f"{key.max_stored_bytes} are allowed; delete jobs that are no longer needed"
            raise QuotaExceeded(f"the key {key.name!r} has {stored} bytes stored; {limit}")


def may_start(session: Session, job_id: str) -> bool:
    """Tell whether a job's key may have one more at work; where that is limited, others wait for the answer."""
    key_id = key_repository.lock_limited(session, job_id)
    return key_id is None or not key_repository.is_full(session, key_id)


def usage(session: Session, caller: Caller) -> Sequence[Mapping[str, Any]]:
    """Return what each key that the caller reaches has used."""
    return key_repository.usage(session, caller.visible_owner)


def list_audit(
    session: Session, caller: Caller, *, after: int | None, subject: str | None, limit: int
) -> Sequence[AuditEntry]:
    """Return the changes made with the keys that the caller reaches, newest first."""
    return key_repository.list_audit(session, caller.visible_owner, after, subject, limit)
