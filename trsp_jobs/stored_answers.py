"""Idempotency keys: the answer to a request that created something, kept for whoever sends it again.

The answer is written by the transaction that does the work, under a lock on the key; so there is an answer
exactly where there is an effect, and nothing is left behind by a process that died.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, String, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from trsp_jobs.errors import KeyInUse, KeyReused
from trsp_jobs.models import Base

KEPT = timedelta(hours=24)


class StoredAnswer(Base):
    """The answer to a request under an idempotency key.

    Attributes:
        owner: Whose request it was; a key means nothing to others.
        request: Digest of method, address and body: the same key with another request is a mistake.
        status, location, body: The answer.
    """

    __tablename__ = "stored_answers"

    owner: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request: Mapped[str] = mapped_column(String(64))
    status: Mapped[int]
    location: Mapped[str | None] = mapped_column(String(500))
    body: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


@dataclass(frozen=True, slots=True)
class Keyed:
    """A request under an idempotency key: who sent it, the key, and the digest of what was asked."""

    owner: str
    key: str
    request: str


def find(session: Session, keyed: Keyed) -> StoredAnswer | None:
    """Return the answer that was given to a request, None if it is new.

    Raises:
        KeyReused: If another request was answered under its key.
    """
    found = session.scalar(select(StoredAnswer).where(*_same(keyed), _fresh()))
    if found is not None and found.request != keyed.request:
        raise KeyReused(keyed.key)
    return found


def begin(session: Session, keyed: Keyed) -> StoredAnswer | None:
    """Take the key for this transaction; return the answer if another one has given it meanwhile.

    Raises:
        KeyInUse: If a transaction that is still open has the key.
        KeyReused: As in `find`.
    """
    number = int.from_bytes(hashlib.sha256(f"{keyed.owner}\0{keyed.key}".encode()).digest()[:8], signed=True)
    if not session.scalar(select(func.pg_try_advisory_xact_lock(number))):
        raise KeyInUse(keyed.key)
    return find(session, keyed)


def keep(session: Session, keyed: Keyed, status: int, location: str | None, body: dict[str, Any]) -> None:
    """Store the answer; the transaction must have begun the key."""
    session.execute(delete(StoredAnswer).where(*_same(keyed)))
    session.add(
        StoredAnswer(
            owner=keyed.owner,
            key=keyed.key,
            request=keyed.request,
            status=status,
            location=location,
            body=body,
        )
    )
    session.flush()


def forget_old(session: Session) -> int:
    """Remove the answers that are no longer given; return how many."""
    return len(session.scalars(delete(StoredAnswer).where(~_fresh()).returning(StoredAnswer.key)).all())


def _same(keyed: Keyed) -> tuple[ColumnElement[bool], ...]:
    return StoredAnswer.owner == keyed.owner, StoredAnswer.key == keyed.key


def _fresh() -> ColumnElement[bool]:
    return StoredAnswer.at > func.now() - KEPT
