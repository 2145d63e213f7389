"""The rows of keys and of the audit."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, String, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from trsp_jobs.models import Base


class ApiKey(Base):
    """A key. Its text is stored nowhere.

    Attributes:
        id: `key_` and 26 characters.
        name: What its maker called it.
        owner: Whose resources it reaches.
        hint: How its text begins, to know it again.
        digest: See `tokens.digest`.
        scopes: Names of `Scope`.
        created_by: The key that made it; None for the operator's.
        expires_at: When it ends by itself; None for never.
        revoked_at: When somebody ended it.
        max_queued: Jobs that may wait at a time; None for any number.
        max_running: Jobs that are worked on at a time; further ones wait.
        max_stored_bytes: Bytes of published files at which nothing more is taken.
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("least(max_queued, max_running, max_stored_bytes) >= 0", name="quotas_not_negative"),
    )

    id: Mapped[str] = mapped_column(String(30), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    owner: Mapped[str] = mapped_column(String(64), index=True)
    hint: Mapped[str] = mapped_column(String(12))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String(32)))
    created_by: Mapped[str | None] = mapped_column(String(30))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    max_queued: Mapped[int | None]
    max_running: Mapped[int | None]
    max_stored_bytes: Mapped[int | None] = mapped_column(BigInteger)


class AuditEntry(Base):
    """One change: written in the transaction that makes it, so that there is never one without the other.

    Attributes:
        key_id: The key that made it; None for the operator's own.
        key_name: That key's name.
        owner: That key's owner.
        action: The route, as `TAG.NAME`: `jobs.cancel`.
        subject: The id of what was created or changed; the path where it has none.
        request_id: The request, as in the logs and in the answer's `X-Request-ID`.
        address: Where the request came from.
    """

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_owner_id", "owner", "id"), Index("ix_audit_subject", "subject"))

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    key_id: Mapped[str | None] = mapped_column(String(30))
    key_name: Mapped[str] = mapped_column(String(100))
    owner: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(200))
    request_id: Mapped[str] = mapped_column(String(64))
    address: Mapped[str] = mapped_column(String(45))
